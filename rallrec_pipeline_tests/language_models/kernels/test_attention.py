"""Two plain products give what PyTorch's attention gives, with and without a mask, for one token and for many."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from rallrec_pipeline.language_models.kernels import attention
from rallrec_pipeline.language_models.kernels.attention import grouped_attention
from rallrec_pipeline.language_models.kernels.prefix import RoomyLayer

HEADS, GROUPS, WIDTH = 6, 2, 16
ROUNDED = {torch.float32: 1e-6, torch.bfloat16: 2e-2}


def states(dtype: torch.dtype, rows: int, tokens: int, context: int) -> tuple[torch.Tensor, ...]:
    """Queries as a decoder makes them, token by token; keys and values."""
    made = torch.Generator().manual_seed(1)
    query = torch.randn(rows, tokens, HEADS, WIDTH, generator=made).to(dtype).transpose(1, 2)
    return query, *(torch.randn(rows, GROUPS, context, WIDTH, generator=made).to(dtype) for _ in range(2))


def wanted(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float | None
) -> torch.Tensor:
    """The same by PyTorch in float64, keys repeated; (rows, tokens, heads, d)."""
    repeated = [t.double().repeat_interleave(HEADS // GROUPS, 1) for t in (key, value)]
    causal = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril(key.shape[2] - query.shape[2])
    seen = causal if mask is None else mask
    return scaled_dot_product_attention(query.double(), *repeated, attn_mask=seen, scale=scale).transpose(1, 2)


def padded_mask(rows: int, tokens: int, context: int) -> torch.Tensor:
    """Causal, the first places of the second row hidden: its first tokens see nothing."""
    mask = torch.ones(tokens, context, dtype=torch.bool).tril(context - tokens).repeat(rows, 1, 1, 1)
    mask[1, :, :, : context - tokens + 2] = False
    return mask


@pytest.mark.parametrize("dtype", list(ROUNDED))
@pytest.mark.parametrize(("tokens", "context"), [(7, 7), (1, 12), (1, 1)])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_causal_attention_is_that_of_pytorch(
    dtype: torch.dtype, tokens: int, context: int, scale: float | None
) -> None:
    query, key, value = states(dtype, 3, tokens, context)
    with torch.inference_mode():
        assert attention._is_short(query, key)
        found, nothing = grouped_attention(torch.nn.Module(), query, key, value, None, scale)
    assert nothing is None and found.dtype == dtype
    torch.testing.assert_close(found.double(), wanted(query, key, value, None, scale), rtol=0, atol=ROUNDED[dtype])


def test_a_place_that_sees_nothing_is_a_number_and_changes_no_other() -> None:
    query, key, value = states(torch.float32, 2, 7, 12)
    mask = padded_mask(2, 7, 12)
    with torch.inference_mode():
        found, _ = grouped_attention(torch.nn.Module(), query, key, value, mask)
    seeing = mask.any(-1)[:, 0]
    assert not seeing.all() and found.isfinite().all()
    theirs = wanted(query, key, value, mask, None)
    torch.testing.assert_close(found.double()[seeing], theirs[seeing], rtol=0, atol=1e-6)


@pytest.mark.parametrize("most", [attention.MOST_SCORES, 0], ids=["products", "kernel"])
def test_keys_of_a_cache_may_lie_in_any_order(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is much to do PyTorch's kernels get the same keys."""
    monkeypatch.setattr(attention, "MOST_SCORES", most)
    query, key, value = states(torch.float32, 3, 4, 9)
    layer = RoomyLayer(key[:1, :, :5], value[:1, :, :5], batch=3, capacity=12)
    key[:, :, :5], value[:, :, :5] = key[:1, :, :5], value[:1, :, :5]
    held = layer.update(key[:, :, 5:], value[:, :, 5:])
    assert torch.equal(held[0], key) and torch.equal(held[1], value)
    mask = torch.ones(4, 9, dtype=torch.bool).tril(5).expand(3, 1, 4, 9)
    with torch.inference_mode():
        found, _ = grouped_attention(grouped_module(), query, *held, mask)
        layer.batch_select_indices(torch.tensor([2, 0]))
        few = query[[2, 0], :, :1]
        later, _ = grouped_attention(grouped_module(), few, layer._keys[:, :, :6], layer._values[:, :, :6], None)
    torch.testing.assert_close(found.double(), wanted(query, key, value, mask, None), rtol=0, atol=1e-6)
    assert layer._keys.stride(2) == 1 and layer.batch == 2
    one = wanted(few, key[[2, 0], :, :6], value[[2, 0], :, :6], None, None)
    torch.testing.assert_close(later.double(), one, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", ["gradient", "float16", "long", "much", "not causal", "bias"])
def test_all_else_goes_to_pytorch(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_two_products", lambda *given: pytest.fail("not for this"))
    monkeypatch.setattr(attention, "SHORT", {torch.float32: 4 if case == "long" else 5})
    monkeypatch.setattr(attention, "MOST_SCORES", 2 * HEADS * 5 * 5 - (case == "much"))
    dtype = torch.float16 if case == "float16" else torch.float32
    query, key, value = states(dtype, 2, 5, 5)
    options = {"not causal": {"is_causal": False}, "bias": {"position_bias": torch.zeros(2, HEADS, 5, 5)}}
    with torch.set_grad_enabled(case == "gradient"):
        found, _ = grouped_attention(grouped_module(), query, key, value, None, **options.get(case, {}))
    seen = torch.ones(5, 5, dtype=torch.bool) if case == "not causal" else None
    close = 2e-3 if dtype == torch.float16 else 1e-6
    torch.testing.assert_close(found.double(), wanted(query, key, value, seen, None), rtol=0, atol=close)


def test_up_to_the_bounds_it_is_two_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SHORT", {torch.float32: 5})
    monkeypatch.setattr(attention, "MOST_SCORES", 2 * HEADS * 5 * 5)
    monkeypatch.setattr(attention, "sdpa_attention_forward", lambda *given, **more: pytest.fail("not for this"))
    query, key, value = states(torch.float32, 2, 5, 5)
    with torch.inference_mode():
        found, _ = grouped_attention(grouped_module(), query, key, value, None)
    torch.testing.assert_close(found.double(), wanted(query, key, value, None, None), rtol=0, atol=1e-6)


@pytest.mark.parametrize("groups", [1, HEADS])
def test_heads_may_share_all_keys_or_none(groups: int) -> None:
    query, key, value = states(torch.float32, 2, 5, 8)
    key, value = (t[:, :1].repeat(1, groups, 1, 1) * torch.arange(1, groups + 1)[:, None, None] for t in (key, value))
    mask = torch.ones(5, 8, dtype=torch.bool).tril(3).expand(2, 1, 5, 8)
    with torch.inference_mode():
        found, _ = grouped_attention(torch.nn.Module(), query, key, value, mask)
    repeated = [t.repeat_interleave(HEADS // groups, 1) for t in (key, value)]
    theirs = scaled_dot_product_attention(query, *repeated, attn_mask=mask).transpose(1, 2)
    torch.testing.assert_close(found, theirs, rtol=1e-5, atol=1e-6)


def grouped_module() -> torch.nn.Module:
    module = torch.nn.Module()
    module.num_key_value_groups = HEADS // GROUPS  # type: ignore[assignment]
    return module
