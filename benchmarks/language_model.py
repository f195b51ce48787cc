"""The three uses of the LLM against the plainest way to do the same with transformers.

Needs the base model in the lake: `rallrec run movielens-100k --select base_model` first (`make bench` sees to it).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from rallrec_pipeline.language_models.models import model_folder
from rallrec_pipeline.language_models.protocols import Sampling
from rallrec_pipeline.language_models.transformers_engine import TransformersEngine
from rallrec_pipeline.settings import lake_root, load_settings

ROWS, GENERATED, NEW_TOKENS, ONE_BY_ONE = 96, 64, 32, 4
WORDS = ("night", "city", "river", "father", "winter", "train", "garden", "letter", "island", "doctor", "music", "war")


def titles(n: int, rng: np.random.Generator) -> list[str]:
    """Made-up titles of two to five words."""
    return [" ".join(rng.choice(WORDS, rng.integers(2, 6))).title() for _ in range(n)]


def rating_prompts(n: int, rng: np.random.Generator) -> list[str]:
    """Prompts of the rating form with ten history lines."""
    head = "Movie ratings of one user from 1 to 5, average in brackets.\n"
    lines = [[f"{t} (3.{rng.integers(10)}):{rng.integers(1, 6)}\n" for t in titles(10, rng)] for _ in range(n)]
    return [head + "".join(history) + f"{titles(1, rng)[0]} (3.4):" for history in lines]


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Best of a few runs, after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def row(name: str, unit: str, ours: float, peer: float, peer_name: str, target: float) -> None:
    """Print one result."""
    found = {"name": name, "unit": unit, "ours": round(ours, 1), "peer": round(peer, 1), "peer_name": peer_name}
    print(json.dumps(found | {"ratio": round(ours / peer, 3), "target": target}), flush=True)


def bare_forward(engine: TransformersEngine, texts: Sequence[str]) -> float:
    """Tokens/s of the backbone alone, on full batches of the mean length and nothing else."""
    width = round(float(np.mean([len(engine.tokenize(text)) for text in texts])))
    rows = max(1, engine.tokens_per_batch // width)
    ids = torch.randint(5, 40_000, (rows, width))
    with torch.inference_mode():
        once = seconds(lambda: engine.backbone(input_ids=ids, use_cache=False))
    return rows * width / once


def main() -> None:
    """Print one JSON line per use."""
    settings = load_settings("demo")
    engine = TransformersEngine.load(model_folder(lake_root(), settings.model), settings.model)
    rng = np.random.default_rng(1)

    prompts = rating_prompts(ROWS, rng)
    tokens = sum(len(engine.tokenize(prompt)) for prompt in prompts)
    scale = [str(n) for n in range(1, 6)]
    ours = tokens / seconds(lambda: engine.score(prompts, scale, chat=False), 2)
    row("scoring", "prompt tokens/s", ours, bare_forward(engine, prompts), "bare forward pass, same batch shape", 0.8)

    texts = [f"{title}, a movie (year: 1995; genres: Drama, Comedy)." for title in titles(ROWS, rng)]
    tokens = sum(len(engine.tokenize(text)) for text in texts)
    ours = tokens / seconds(lambda: engine.encode(texts), 2)
    row("embedding", "tokens/s", ours, bare_forward(engine, texts), "bare forward pass, same batch shape", 0.8)

    asked = [f"Describe this movie in at most 40 words, in plain sentences.\n{text}" for text in texts[:GENERATED]]
    start = time.perf_counter()
    written = engine.generate(asked, Sampling(NEW_TOKENS, 0.8, 0.9, 1))
    ours = sum(len(engine.tokenize(text)) for text in written) / (time.perf_counter() - start)
    start, made = time.perf_counter(), 0
    for prompt in asked[:ONE_BY_ONE]:
        ids = torch.tensor([engine.prompt_tokens(prompt, chat=True)])
        output = engine.model.generate(ids, do_sample=True, top_p=0.9, max_new_tokens=NEW_TOKENS, pad_token_id=0)
        made += output.shape[1] - ids.shape[1]
    peer = made / (time.perf_counter() - start)
    row("descriptions", "new tokens/s", ours, peer, "generate, one item at a time", 3)


if __name__ == "__main__":
    main()
