"""Responses of the reasoner, several to a prompt, against one `generate` a response and against vLLM.

The prompts are those of the demo's test rows asked for a thought, as the stage `reasoning_traces` asks. Ours go through
`write` in batches of the settings' size, so that the responses of one prompt share its prefill. Rates are new tokens/s,
with everything that is read before them.

Needs raw files and the predictor in the lake, as `language_model.py`. Prints JSON lines.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from language_model import generate
from movielens import MovieLens
from rows import print_row
from transformers import AutoModelForCausalLM

from rallrec_pipeline.language_models.engines.choice import vllm_build
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.language_models.models import model_folder
from rallrec_pipeline.language_models.protocols import Engine, Sampling
from rallrec_pipeline.reasoning.prompts import reasoning_prompt
from rallrec_pipeline.settings import ReasoningSettings, lake_root, load_settings

PROMPTS, PEER_RESPONSES = 64, 6
ONE_AT_A_TIME, AS_VLLM = 20.0, 1.0


def main() -> None:
    """Print one JSON line a comparison."""
    settings, data = load_settings("demo"), MovieLens.read()
    folder, chosen = model_folder(lake_root(), settings.model), settings.reasoning
    plain_prompts = data.prompts("rating", "test", PROMPTS, settings)["prompt"].to_list()
    asked = [reasoning_prompt(text, "rating", data.spec, chosen.instruction) for text in plain_prompts]
    engine = TransformersEngine.load(folder, settings.model)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=engine.model.dtype).eval()
    engine.write(asked[:4], sampling(chosen, 4), thinks=True)
    read, ours = rate(engine, asked, chosen)
    notes = {"responses_a_prompt": chosen.traces, "tokens_read_a_response": round(read)}
    peer = one_at_a_time(engine, plain, asked, chosen)
    print_row("traces", "new tokens/s", ours, peer, "generate, one response at a time", ONE_AT_A_TIME, notes=notes)
    engine.close()
    if vllm_build() is None:
        print("vLLM is not installed (make vllm): no comparison with it", file=sys.stderr)
        return
    from rallrec_pipeline.language_models.engines.vllm_engine import VllmEngine

    served = VllmEngine.load(folder, settings.model.model_copy(update={"engine": "vllm"}))
    try:
        served.write(asked[:4], sampling(chosen, 4), thinks=True)  # loads it
        _, peer = rate(served, asked, chosen)
    finally:
        served.close()
    print_row("traces, beside vLLM", "new tokens/s", ours, peer, "vLLM on the same cores", AS_VLLM)


def rate(engine: Engine, asked: Sequence[str], chosen: ReasoningSettings) -> tuple[float, float]:
    """Tokens read a response, and new tokens/s, of `chosen.traces` responses to each prompt."""
    wanted = [prompt for prompt in asked for _ in range(chosen.traces)]
    read, new, start = engine.usage.prompt_tokens, engine.usage.new_tokens, time.perf_counter()
    for first in range(0, len(wanted), chosen.batch_size):
        engine.write(wanted[first : first + chosen.batch_size], sampling(chosen, chosen.max_new_tokens), thinks=True)
    taken = time.perf_counter() - start
    return (engine.usage.prompt_tokens - read) / len(wanted), (engine.usage.new_tokens - new) / taken


def one_at_a_time(engine: TransformersEngine, plain: Any, asked: Sequence[str], chosen: ReasoningSettings) -> float:
    """New tokens/s of `generate`, a response a call."""
    start, made = time.perf_counter(), 0
    for prompt in asked[:: max(1, len(asked) // PEER_RESPONSES)][:PEER_RESPONSES]:
        ids = torch.tensor([engine.prompt_tokens(prompt, chat=True, thinks=True)])
        options = {"do_sample": True, "temperature": chosen.temperature, "top_p": chosen.top_p}
        output = generate(engine, plain, ids, chosen.max_new_tokens, **options)
        made += output.shape[1] - ids.shape[1]
    return made / (time.perf_counter() - start)


def sampling(chosen: ReasoningSettings, new_tokens: int) -> Sampling:
    """As the stage samples."""
    return Sampling(new_tokens, chosen.temperature, chosen.top_p, seed=1)


if __name__ == "__main__":
    main()
