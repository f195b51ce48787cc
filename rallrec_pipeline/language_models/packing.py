"""Frozen weights in the order in which oneDNN's products read them: on a CPU faster than PyTorch's own way.

PyTorch multiplies float32 by MKL, which leaves a processor that is not Intel's half idle, and hands bfloat16 to oneDNN
with weights that it lays out anew in every product (docs/experiments.md). The operators are those of PyTorch's own
compiler; where they are missing, or the processor is not fit for them, the model stays as it is.
"""

from __future__ import annotations

from typing import Any

import torch

ROWS = 1024  # of the products that the order is chosen for; it serves fewer as well
FORMATS = (torch.float32, torch.bfloat16)


class PackedLinear(torch.nn.Module):
    """A linear layer whose weights do not change."""

    def __init__(self, linear: torch.nn.Linear, keep: bool = False) -> None:
        """With `keep` the weights stay readable as `weight` besides."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.packed = _packed(linear.weight)
        self.weight = linear.weight if keep else None
        self.bias = linear.bias
        self._transposed: torch.Tensor | None = None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(…, in) -> (…, out)."""
        if torch.is_grad_enabled() and inputs.requires_grad:
            return _Product.apply(inputs, self)
        return _product(inputs, self.packed, self.bias)

    def unpacked(self) -> torch.nn.Linear:
        """The layer that it was made of, number by number."""
        linear = torch.nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        linear.weight = torch.nn.Parameter(self.packed.to_dense(), requires_grad=False)
        linear.bias = self.bias
        return linear

    @property
    def transposed(self) -> torch.Tensor:
        """The weights for products with gradients; made when it is first asked for."""
        if self._transposed is None:
            self._transposed = _packed(self.packed.to_dense().T)
        return self._transposed


class PackedGatedMLP(torch.nn.Module):
    """down(silu(gate(x)) · up(x)), where no gradient is asked for with silu and · within the matrix products."""

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
    def forward(ctx: Any, inputs: torch.Tensor, layer: PackedLinear) -> torch.Tensor:
        ctx.layer = layer
        return _product(inputs, layer.packed, layer.bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _product(gradients[0], ctx.layer.transposed, None), None


def quickest(layer: torch.nn.Linear) -> torch.nn.Module:
    """The layer packed, or itself where that cannot be."""
    with torch.inference_mode(False), torch.no_grad():
        return PackedLinear(layer) if _can_pack(layer) else layer


def pack_weights(model: Any) -> None:
    """Pack the linear layers of a model on a CPU, but for its output head and adapters."""
    head = model.get_output_embeddings()
    names = [name for name, module in model.named_modules() if _is_frozen_linear(name, module) and module is not head]
    for name in names:  # one by one: what is packed is no longer held twice
        model.set_submodule(name, quickest(model.get_submodule(name)))
    for name in [name for name, module in model.named_modules() if _is_gated(module)]:
        model.set_submodule(name, PackedGatedMLP(model.get_submodule(name)))


def unpack_weights(model: Any) -> None:
    """Undo `pack_weights`."""
    for name, module in list(model.named_modules()):
        if type(module) is PackedGatedMLP:
            model.set_submodule(name, module.plain)
    packed = [name for name, module in model.named_modules() if type(module) is PackedLinear and module.weight is None]
    for name in packed:
        model.set_submodule(name, model.get_submodule(name).unpacked())


def pack_head(model: Any) -> None:
    """The same for the output head, whose weights stay readable: parts of it are used alone."""
    head = model.get_output_embeddings()
    with torch.inference_mode(False), torch.no_grad():
        if _is_frozen_linear("", head) and _can_pack(head):
            model.set_output_embeddings(PackedLinear(head, keep=True))


def _is_frozen_linear(name: str, module: torch.nn.Module) -> bool:
    return type(module) is torch.nn.Linear and ".lora_" not in name


def _can_pack(layer: torch.nn.Linear) -> bool:
    """Whether this processor, and this PyTorch, give the product that PyTorch gives itself."""
    weight = layer.weight[:16]
    if weight.device.type != "cpu" or weight.dtype not in FORMATS:
        return False
    inputs = torch.linspace(-1, 1, 2 * layer.in_features).view(2, -1).to(weight.dtype)
    try:
        found = _product(inputs, _packed(weight), None)
    except (RuntimeError, AttributeError):
        return False
    expected = torch.nn.functional.linear(inputs, weight)
    return torch.allclose(found.float(), expected.float(), rtol=0.02, atol=0.02 * float(expected.abs().max()))


def _is_gated(module: torch.nn.Module) -> bool:
    """Whether it is the feed-forward part of Llama and its kin, none of its layers adapted."""
    parts = (getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj"))
    activation, some = getattr(module, "act_fn", None), torch.linspace(-4, 4, 9)
    return all(type(part) is PackedLinear for part in parts) and (
        activation is not None and torch.equal(activation(some), torch.nn.functional.silu(some))
    )


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
