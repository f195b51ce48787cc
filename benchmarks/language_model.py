"""The three uses of the LLM on real prompts of MovieLens-100K, against the way of the papers' published code.

- scoring: the test prompts of the demo, those of its adapter and those of the papers (yes or no), against one
  `generate(max_new_tokens=2)` per prompt, and against the rate of a bare matrix product in the type that the model runs
  in (bfloat16 where it is the faster one). Tokens/s are those of the prompts; for the share of the peak only tokens
  that are computed count, common beginnings once.
- embedding: item texts, against `generate` of up to 256 tokens per item to read a hidden state.
- descriptions: against `generate` item by item, and against vLLM where it is installed (`make vllm`).

Needs raw files and the predictor in the lake: `rallrec run movielens-100k --select raw_files,predictor` first (`make
bench` sees to it). Prints JSON lines. Takes about ten minutes on two cores.

    python benchmarks/language_model.py --share 0.1     a tenth of the prompts
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from movielens import MovieLens
from peak import gflop_per_token, peak_gflops
from rows import print_row
from transformers import AutoModelForCausalLM

from rallrec_pipeline.language_models.engines.choice import vllm_build
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.language_models.models import model_folder
from rallrec_pipeline.language_models.protocols import Engine, Sampling
from rallrec_pipeline.prompts.render import answer_texts
from rallrec_pipeline.settings import AnswerForm, Settings, lake_root, load_settings

PROMPTS, TEXTS, DESCRIBED = 400, 400, 256  # of ours
PEER_PROMPTS, PEER_TEXTS, PEER_DESCRIBED = 24, 3, 4  # one at a time
PUBLISHED_TOKENS = 256  # that the published code generates to read a hidden state
FORMS: dict[AnswerForm, str] = {"rating": "scoring", "yes_no": "scoring, yes/no prompts"}
SCORING, PEAK, EMBEDDING, DESCRIPTIONS, AS_VLLM = 5.0, 0.7, 100.0, 20.0, 1.0


def main() -> None:
    """Print one JSON line a comparison."""
    parser = argparse.ArgumentParser(description="Scoring, embedding and descriptions against their published ways.")
    parser.add_argument("--share", type=float, default=1.0, help="share of our prompts")
    share = parser.parse_args().share
    settings, data = load_settings("demo"), MovieLens.read()
    folder = model_folder(lake_root(), settings.model)
    engine = TransformersEngine.load(folder, settings.model)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=engine.model.dtype).eval()
    scoring(engine, plain, data, settings, round(PROMPTS * share))
    embedding(engine, plain, data, round(TEXTS * share))
    asked = data.description_prompts(round(DESCRIBED * share), settings)
    ours = descriptions(engine, plain, asked, settings)
    engine.close()
    del plain
    beside_vllm(ours, folder, asked, settings)


def scoring(engine: TransformersEngine, plain: Any, data: MovieLens, settings: Settings, count: int) -> None:
    """P(answer) of the demo's prompts, in both forms."""
    computed = [score_form(engine, plain, data, settings, count, form) for form in FORMS]
    dtype = engine.model.dtype
    useful, name = computed[0] * gflop_per_token(engine.backbone), str(dtype).removeprefix("torch.")
    print_row(
        "scoring, share of the peak", "useful GFLOP/s", useful, peak_gflops(dtype), f"{name} matrix product", PEAK
    )


def score_form(
    engine: TransformersEngine, plain: Any, data: MovieLens, settings: Settings, count: int, form: AnswerForm
) -> float:
    """Prints a row; returns tokens/s that went through the model."""
    prompts, answers = data.prompts(form, "test", count, settings)["prompt"].to_list(), answer_texts(form, data.spec)
    chat = form == "yes_no"
    engine.score(prompts[:16], answers, chat)
    tokens = [engine.prompt_tokens(prompt, chat) for prompt in prompts]
    before = engine.usage.prompt_tokens
    taken = seconds(lambda: engine.score(prompts, answers, chat))
    ours, computed = sum(map(len, tokens)) / taken, (engine.usage.prompt_tokens - before) / taken
    some = [torch.tensor([prompt]) for prompt in tokens[:PEER_PROMPTS]]
    taken = seconds(lambda: [generate(engine, plain, ids, 2) for ids in some])
    peer = sum(ids.shape[1] for ids in some) / taken
    print_row(FORMS[form], "prompt tokens/s", ours, peer, "generate of two tokens, one prompt at a time", SCORING)
    return computed


def embedding(engine: TransformersEngine, plain: Any, data: MovieLens, count: int) -> None:
    """Vectors of item texts."""
    texts = data.item_texts(count)
    engine.encode(texts[:16])
    ours = len(texts) / seconds(lambda: engine.encode(texts))
    some = [torch.tensor([engine.tokenize(text)]) for text in texts[:PEER_TEXTS]]

    def one_by_one() -> None:
        for ids in some:
            generate(engine, plain, ids, PUBLISHED_TOKENS, output_hidden_states=True, return_dict_in_generate=True)

    peer = len(some) / seconds(one_by_one)
    print_row("embedding", "items/s", ours, peer, f"generate of up to {PUBLISHED_TOKENS} tokens an item", EMBEDDING)


def descriptions(engine: TransformersEngine, plain: Any, asked: Sequence[str], settings: Settings) -> float:
    """New tokens/s of item descriptions, which is returned too."""
    engine.generate(asked[:4], sampling(settings, new_tokens=4))
    ours = new_tokens_per_second(engine, asked, settings)
    start, made = time.perf_counter(), 0
    for prompt in asked[:: len(asked) // PEER_DESCRIBED][:PEER_DESCRIBED]:
        ids = torch.tensor([engine.prompt_tokens(prompt, chat=True)])
        options = {"do_sample": True, "temperature": settings.descriptions.temperature}
        length, top_p = settings.descriptions.max_new_tokens, settings.descriptions.top_p
        output = generate(engine, plain, ids, length, top_p=top_p, **options)
        made += output.shape[1] - ids.shape[1]
    peer = made / (time.perf_counter() - start)
    print_row("descriptions", "new tokens/s", ours, peer, "generate, one item at a time", DESCRIPTIONS)
    return ours


def beside_vllm(ours: float, folder: Path, asked: Sequence[str], settings: Settings) -> None:
    """The same descriptions by vLLM on the same cores."""
    if vllm_build() is None:
        print("vLLM is not installed (make vllm): no comparison with it", file=sys.stderr)
        return
    from rallrec_pipeline.language_models.engines.vllm_engine import VllmEngine

    engine = VllmEngine.load(folder, settings.model.model_copy(update={"engine": "vllm"}))
    try:
        engine.generate(asked[:4], sampling(settings, new_tokens=4))  # loads it
        peer = new_tokens_per_second(engine, asked, settings)
    finally:
        engine.close()
    print_row("descriptions, beside vLLM", "new tokens/s", ours, peer, "vLLM on the same cores", AS_VLLM)


def new_tokens_per_second(engine: Engine, asked: Sequence[str], settings: Settings) -> float:
    """In batches of the settings' size, as the stage asks."""
    before, start, size = engine.usage.new_tokens, time.perf_counter(), settings.descriptions.batch_size
    for first in range(0, len(asked), size):
        engine.generate(asked[first : first + size], sampling(settings, settings.descriptions.max_new_tokens))
    return (engine.usage.new_tokens - before) / (time.perf_counter() - start)


def sampling(settings: Settings, new_tokens: int) -> Sampling:
    """As the stage samples."""
    return Sampling(new_tokens, settings.descriptions.temperature, settings.descriptions.top_p, seed=1)


def generate(engine: TransformersEngine, plain: Any, ids: torch.Tensor, new_tokens: int, **options: Any) -> Any:
    """`generate` of one prompt by the model as transformers loads it; greedy unless told otherwise."""
    greedy = {} if "do_sample" in options else {"do_sample": False}
    return plain.generate(ids, max_new_tokens=new_tokens, pad_token_id=engine.fill, **greedy, **options)


def seconds(work: Callable[[], object]) -> float:
    """Duration of `work`."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
