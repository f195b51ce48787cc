"""Batched sampling: what prompts share is computed once, and finished texts leave the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers.cache_utils import Cache

from rallrec_pipeline.language_models.kernels.prefix import compute_prefix, expand_prefix
from rallrec_pipeline.language_models.kernels.sections import distinct_rows, shared_prefix
from rallrec_pipeline.language_models.protocols import CANDIDATES, Progress, Sampling

SHRINK_AT = 0.75  # the batch is compacted when less than this share of it is still unfinished


class Sampled(NamedTuple):
    """New tokens of a prompt without the end token, and whether that came."""

    tokens: list[int]
    ended: bool


def sample_batch(
    model: Any,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    end_tokens: Sequence[int],
    fill: int,
    progress: Progress | None = None,
) -> list[Sampled]:
    """New tokens of each prompt; all prompts decode together, and equal ones are read once.

    The temperature comes first; then a token is drawn from the smallest set whose probability reaches `top_p`. All
    texts end at about the same step, so `progress` tells how many texts the steps so far would make.
    """
    device = next(model.parameters()).device
    generator = torch.Generator(device=device).manual_seed(sampling.seed)
    read, rows = distinct_rows(prompts)
    shared = shared_prefix(read)
    longest = max(map(len, read)) - shared  # at least one token of each prompt is its own
    with torch.inference_mode():
        prefix = compute_prefix(model, [read[0][:shared]])
        cache = expand_prefix(prefix, len(read), shared + longest + sampling.max_new_tokens)
        rests = [prompt[shared:] for prompt in read]
        ids = torch.tensor([[fill] * (longest - len(r)) + r for r in rests], device=device)  # (b, longest)
        pads = torch.tensor([longest - len(r) for r in rests], device=device)
        own = torch.arange(longest, device=device) >= pads[:, None]
        mask = torch.cat([torch.ones(len(read), shared, dtype=torch.bool, device=device), own], 1)
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)[:, shared:]
        logits = _last_logits(model, ids, mask, positions, cache)
        if len(rows) > len(read):
            again = torch.tensor(rows, device=device)
            logits, mask, positions = logits[again], mask[again], positions[again]
            cache.batch_select_indices(again)
        return _decode(model, logits, mask, positions[:, -1:], cache, sampling, end_tokens, generator, progress)


def _decode(
    model: Any,
    logits: torch.Tensor,
    mask: torch.Tensor,
    positions: torch.Tensor,
    cache: Cache,
    sampling: Sampling,
    end_tokens: Sequence[int],
    generator: torch.Generator,
    progress: Progress | None,
) -> list[Sampled]:
    ends = torch.tensor(list(end_tokens), device=logits.device)
    texts: list[list[int]] = [[] for _ in range(len(logits))]
    active = torch.arange(len(logits), device=logits.device)  # row of the batch -> prompt
    finished = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
    ended = [False] * len(logits)
    for step in range(sampling.max_new_tokens):
        if progress is not None:
            progress(len(texts) * step // sampling.max_new_tokens, len(texts))
        tokens = _sample(logits, sampling, generator)
        finished |= torch.isin(tokens, ends)
        for row, token, done in zip(active.tolist(), tokens.tolist(), finished.tolist(), strict=True):
            if not done:
                texts[row].append(token)
            ended[row] = done
        if finished.all() or step == sampling.max_new_tokens - 1:
            break
        if (~finished).sum() < SHRINK_AT * len(finished):
            rows = (~finished).nonzero().squeeze(1)
            active, tokens, mask, positions = active[rows], tokens[rows], mask[rows], positions[rows]
            finished = finished[rows]
            cache.batch_select_indices(rows)
        mask = torch.cat([mask, torch.ones(len(mask), 1, dtype=torch.bool, device=mask.device)], 1)
        positions = positions + 1
        logits = _last_logits(model, tokens[:, None], mask, positions, cache)
    return list(map(Sampled, texts, ended))


def _sample(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> torch.Tensor:
    """One token per row of `logits` (b, vocabulary); returns (b,)."""
    top, tokens = logits.topk(min(CANDIDATES, logits.shape[1]))
    whole = torch.logsumexp(logits.float() / sampling.temperature, dim=1, keepdim=True)
    probabilities = (top.float() / sampling.temperature - whole).exp()
    before = probabilities.cumsum(1) - probabilities
    kept = probabilities.masked_fill(before >= sampling.top_p, 0.0)
    choice = torch.multinomial(kept, 1, generator=generator)
    return tokens.gather(1, choice).squeeze(1)


def _last_logits(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Cache
) -> torch.Tensor:
    """Logits after the last token, (b, vocabulary)."""
    return model(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1
    ).logits[:, -1]
