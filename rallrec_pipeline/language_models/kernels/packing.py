"""Frozen weights in the order in which oneDNN's products read them: on a CPU that is faster than PyTorch's own way.

PyTorch multiplies float32 by MKL, which leaves a processor that is not Intel's half idle, and hands bfloat16 to oneDNN
with weights that it lays out anew in every product (docs/experiments.md). The operators are those of PyTorch's own
compiler; where they are missing, or the processor is not fit for them, the model stays as it is.
"""

from __future__ import annotations

from typing import Any

import torch

ROWS = 1024  # of the products that the order is chosen for; it serves products of fewer rows as well
FORMATS = (torch.float32, torch.bfloat16)
ADAPTER = ".lora_"  # in the names of an adapter's own layers


class PackedLinear(torch.nn.Module):
    """A linear layer whose weights do not change. It cannot be copied or pickled."""

    def __init__(self, linear: torch.nn.Linear, keep: bool = False) -> None:
        """With `keep` the weights as they were stay in memory too, because they are read often."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.dtype, self.bias = linear.weight.dtype, linear.bias
        self.packed = _packed(linear.weight)
        self._kept = [linear.weight] if keep else []  # in a list: it is no parameter of this module
        self._transposed: torch.Tensor | None = None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(…, in) -> (…, out)."""
        if torch.is_autocast_enabled("cpu"):
            inputs = inputs.to(self.dtype)
        if torch.is_grad_enabled() and inputs.requires_grad:
            return _Product.apply(inputs, self)
        return _product(inputs, self.packed, self.bias)

    @property
    def weight(self) -> torch.Tensor:
        """The weights as they were, (out, in); unless they are kept, each call makes them anew."""
        return self._kept[0] if self._kept else self.packed.to_dense()

    def unpacked(self) -> torch.nn.Linear:
        """The layer that it was made of."""
        linear = torch.nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        kept = self.weight
        linear.weight = kept if isinstance(kept, torch.nn.Parameter) else torch.nn.Parameter(kept, requires_grad=False)
        linear.bias = self.bias
        return linear

    @property
    def transposed(self) -> torch.Tensor:
        """The weights for products with gradients; made when it is first asked for."""
        if self._transposed is None:
            self._transposed = _packed(self.weight.T)
        return self._transposed


class PackedGatedMLP(torch.nn.Module):
    """down(silu(gate(x)) · up(x)); without gradients the matrix products compute silu and · too."""

    def __init__(self, plain: Any) -> None:
        """`plain` is the module that it stands for, its linear layers packed."""
        super().__init__()
        self.plain = plain

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(…, hidden) -> (…, hidden)."""
        plain = self.plain
        if torch.is_grad_enabled() and inputs.requires_grad:
            return plain(inputs)
        gated = _product(inputs, plain.gate_proj.packed, plain.gate_proj.bias, "swish")
        return plain.down_proj(_times_product(gated, inputs, plain.up_proj.packed, plain.up_proj.bias))


class _Product(torch.autograd.Function):
    """A packed product and its gradient with respect to the input."""

    @staticmethod
    def forward(context: Any, inputs: torch.Tensor, layer: PackedLinear) -> torch.Tensor:
        context.layer = layer
        return _product(inputs, layer.packed, layer.bias)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _product(gradients[0], context.layer.transposed, None), None


def packed_if_possible(layer: torch.nn.Linear, keep: bool = False) -> torch.nn.Module:
    """The layer packed, or itself where that cannot be."""
    with torch.inference_mode(False), torch.no_grad():
        return PackedLinear(layer, keep) if _can_pack(layer) else layer


def pack_weights(model: Any) -> None:
    """Pack the frozen linear layers of a model on a CPU, but for its output head and adapters."""
    head = model.get_output_embeddings()
    spared = set(head.modules()) if head is not None else set()  # an adapted head has layers within
    names = [name for name, module in model.named_modules() if ADAPTER not in name and _is_frozen_linear(module)]
    for name in names:  # one by one: what is packed is no longer held twice
        layer = model.get_submodule(name)
        if layer not in spared:
            model.set_submodule(name, packed_if_possible(layer))
    done = {module.plain for module in model.modules() if type(module) is PackedGatedMLP}
    for name in [name for name, module in model.named_modules() if module not in done and _is_gated(module)]:
        model.set_submodule(name, PackedGatedMLP(model.get_submodule(name)))


def pack_head(model: Any) -> None:
    """Pack the output head too; its weights are kept, because some of their rows are also used alone."""
    head = model.get_output_embeddings()
    if head is not None and _is_frozen_linear(head):
        model.set_output_embeddings(packed_if_possible(head, keep=True))


def unpack_weights(model: Any) -> None:
    """Undo `pack_weights` and `pack_head`."""
    for name in [name for name, module in model.named_modules() if type(module) is PackedGatedMLP]:
        model.set_submodule(name, model.get_submodule(name).plain)
    for name in [name for name, module in model.named_modules() if type(module) is PackedLinear]:
        model.set_submodule(name, model.get_submodule(name).unpacked())


def _is_frozen_linear(module: torch.nn.Module) -> bool:
    return type(module) is torch.nn.Linear and not any(parameter.requires_grad for parameter in module.parameters())


def _can_pack(layer: torch.nn.Linear) -> bool:
    """Whether a packed product equals PyTorch's own, on this processor and with this PyTorch."""
    weight = layer.weight[:16]
    if weight.device.type != "cpu" or weight.dtype not in FORMATS:
        return False
    inputs = torch.linspace(-1, 1, 2 * layer.in_features).view(2, -1).to(weight.dtype)
    try:
        found = _product(inputs, _packed(weight), None)
    except (RuntimeError, AttributeError):
        return False
    return _agree(found, torch.nn.functional.linear(inputs, weight))


def _is_gated(module: Any) -> bool:
    """Whether it gives what `PackedGatedMLP` gives, as in Llama and its kin, and none of its layers is adapted."""
    parts = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    packed = [part for part in parts if isinstance(part, PackedLinear)]
    if len(packed) < len(parts):
        return False
    spread = torch.linspace(-9, 9, packed[0].in_features).sin()
    sizes = torch.tensor([[0.1], [1.0], [30.0]])  # small and large: some models bound what comes out
    inputs = (spread * sizes)[None].to(packed[0].dtype)
    with torch.inference_mode():
        try:
            expected = module(inputs)
        except (RuntimeError, TypeError, ValueError):  # it needs other arguments too
            return False
        found = PackedGatedMLP(module)(inputs)
    return isinstance(expected, torch.Tensor) and all(
        _agree(of_found, of_expected) for of_found, of_expected in zip(found[0], expected[0], strict=True)
    )


def _agree(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether both are equal but for rounding in the coarser of the two formats."""
    return bool((found.float() - expected.float()).norm() <= 0.02 * expected.float().norm())


def _packed(weight: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), ROWS)


def _product(
    inputs: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None, after: str = "none"
) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(inputs, packed, bias, after, [], "")


def _times_product(
    factor: torch.Tensor, inputs: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """factor · (inputs @ weights + bias), element by element."""
    return torch.ops.mkldnn._linear_pointwise.binary(inputs, factor, packed, bias, "mul")
