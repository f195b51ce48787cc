"""Single requests: candidates of one history, answers over HTTP, and what the deterministic mode costs.

- one history, 50 candidates: P(answer) of the demo's prompts with K lines, K of the demo and of the papers, against one
  prompt at a time.
- deterministic scoring: the demo's test prompts, each read by itself, against the engine's own batches.
- requests: 95th percentile of a warm server, one caller at a time, against the limits of 20 and 400 ms.

Needs raw files and the predictor in the lake: `rallrec run movielens-100k --select raw_files,predictor` first (`make
bench` sees to it). Prints JSON lines. Takes about five minutes on two cores.

    python benchmarks/serving.py --dtype float32 --parts candidates     not the type that this machine prefers
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import uvicorn
from movielens import SEED, MovieLens
from rows import print_row

from rallrec_pipeline.baselines.expectation import Expectation
from rallrec_pipeline.baselines.folded import FoldedExpert
from rallrec_pipeline.baselines.rating_log import RatingLog
from rallrec_pipeline.inference.methods import methods
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.language_models.models import model_folder
from rallrec_pipeline.prompts.render import answer_texts
from rallrec_pipeline.serving.app import make_app
from rallrec_pipeline.serving.catalogue import ByUser, Catalogue
from rallrec_pipeline.serving.known_facts import KnownFacts
from rallrec_pipeline.serving.methods import ExpertMethod, LlmMethod
from rallrec_pipeline.serving.prompting import Prompter, ServedRetriever
from rallrec_pipeline.serving.questions import question_of
from rallrec_pipeline.serving.requests import Item, ScoreRequest
from rallrec_pipeline.serving.snapshot import Recommendations, ServedMethod, Snapshot
from rallrec_pipeline.serving.work import Work
from rallrec_pipeline.settings import RetrievalSettings, ServingSettings, Settings, lake_root, load_settings

CANDIDATES, PAPERS_K, ASKED = 50, 30, 10
PARTS = ("candidates", "deterministic", "requests")
FASTER, PRECOMPUTED_MS, LLM_MS = 8.0, 20.0, 400.0
PROMPTS, REQUESTS, LLM_REQUESTS = 48, 300, 30
ALONE = 10  # of the candidates, one at a time


def main() -> None:
    """Print one JSON line a comparison."""
    parser = argparse.ArgumentParser(description="Single requests against batches and limits.")
    parser.add_argument("--dtype", default="auto", help="type of the model")
    parser.add_argument("--parts", nargs="*", default=PARTS, choices=PARTS, help="what is measured; default: all")
    chosen, settings, data = parser.parse_args(), load_settings("demo"), MovieLens.read()
    model = settings.model.model_copy(update={"dtype": chosen.dtype})
    engine = TransformersEngine.load(model_folder(lake_root(), model), model)
    log = RatingLog.of(data.core, data.samples, data.items["item_id"].to_list())
    catalogue = catalogue_of(data)
    user = most_active(catalogue)
    asked = unseen(catalogue, user, CANDIDATES)
    for k in (settings.retrieval.history_length, PAPERS_K) if "candidates" in chosen.parts else ():
        candidates(engine, llm_method(engine, data, log, settings, k), catalogue, asked, k)
    if "deterministic" in chosen.parts:
        deterministic(engine, data, settings)
    if "requests" in chosen.parts:
        requests(engine, data, log, settings, catalogue, user)


def candidates(
    engine: TransformersEngine, method: LlmMethod, catalogue: Catalogue, asked: ScoreRequest, k: int
) -> None:
    """The prompts of one history with `k` lines together, and one by one."""
    question = question_of(asked, catalogue)
    prompter = method.prompter
    prompts = prompter.prompts(prompter.histories(question), prompter.context(question))
    answers, chat = answer_texts(prompter.method.answer_form, prompter.spec), False
    engine.score(prompts[:8], answers, chat)
    some, found = prompts[:: len(prompts) // ALONE], engine.score(prompts, answers, chat)[:: len(prompts) // ALONE]
    together = best(lambda: engine.score(prompts, answers, chat))
    alone = best(lambda: [engine.score([prompt], answers, chat) for prompt in some])
    single = np.concatenate([engine.score([prompt], answers, chat) for prompt in some])
    tokens = [len(engine.prompt_tokens(prompt, chat)) for prompt in prompts]
    notes = {
        "tokens_a_prompt": round(float(np.mean(tokens))),
        "largest_difference": float(np.abs(found - single).max()),
        "dtype": str(engine.model.dtype).removeprefix("torch."),
    }
    rates = len(prompts) / together, len(some) / alone
    print_row(f"one history, {CANDIDATES} candidates, K={k}", "prompts/s", *rates, "one at a time", FASTER, notes=notes)


def deterministic(engine: TransformersEngine, data: MovieLens, settings: Settings) -> None:
    """Prompts of as many users, each read by itself, against batches."""
    prompts = data.prompts("rating", "test", PROMPTS, settings)["prompt"].to_list()
    answers = answer_texts("rating", data.spec)
    batched = best(lambda: engine.score(prompts, answers, False))
    engine.deterministic = True
    alone = best(lambda: engine.score(prompts, answers, False))
    pairs = [
        (engine.score(prompts[n:], answers, False)[0], engine.score([prompts[n]], answers, False)[0]) for n in (1, 9)
    ]
    engine.deterministic = False
    notes = {"bit_for_bit": all(np.array_equal(*pair) for pair in pairs), "dtype": str(engine.model.dtype)}
    rates = PROMPTS / alone, PROMPTS / batched
    print_row("deterministic scoring", "prompts/s", *rates, "batches as they fit", None, notes=notes)


def requests(
    engine: TransformersEngine,
    data: MovieLens,
    log: RatingLog,
    settings: Settings,
    catalogue: Catalogue,
    user: str,
) -> None:
    """One caller asks a warm server."""
    k = settings.retrieval.history_length
    expert = ExpertMethod(FoldedExpert.of(log, data.spec.label.like_above, SEED, settings.experts.rows))
    served = {
        "factorisation": ServedMethod("bench", catalogue, expert),
        "recent": ServedMethod("bench", catalogue, llm_method(engine, data, log, settings, k)),
    }
    users = data.core["user_id"].unique(maintain_order=True).to_list()
    snapshot = Snapshot(data.spec.name, "bench", "", recommended(users, data), served)
    asked = unseen(catalogue, user, ASKED).model_dump(exclude_none=True)
    with_expert, with_llm = ({**asked, "method": name} for name in served)
    with running(snapshot) as ask:
        paths = [f"/users/{name}/recommendations" for name in users]
        rows: list[tuple[str, Callable[[int], None], int, float]] = [
            ("request, precomputed", lambda n: ask(paths[n % len(paths)], None), REQUESTS, PRECOMPUTED_MS),
            (f"request, {ASKED} targets by the expert", lambda n: ask("/score", with_expert), REQUESTS, PRECOMPUTED_MS),
            (f"request, {ASKED} targets by the LLM", lambda n: ask("/score", with_llm), LLM_REQUESTS, LLM_MS),
        ]
        for name, call, times, limit in rows:
            for number in range(5):
                call(number)
            taken = [1000 * seconds(partial(call, number)) for number in range(times)]
            notes = {"median_ms": float(np.median(taken)), "history_lines": len(catalogue.ratings.rows(user))}
            p95 = float(np.percentile(taken, 95))
            print_row(name + ", p95", "ms", p95, limit, "limit", 1.0, faster_is_less=True, notes=notes)


class Fixed:
    """A snapshot that stays."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    async def watch(self, poll_s: float) -> None:
        """Nothing will come."""


class running:
    """A server on a free port within the block; gives a function that asks it for a path, with a body or without."""

    def __init__(self, snapshot: Snapshot) -> None:
        limits = ServingSettings()
        app = make_app(Fixed(snapshot), Work(limits), limits, lake_root())  # type: ignore[arg-type]
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", access_log=False))
        self.thread = threading.Thread(target=self.server.run)

    def __enter__(self) -> Callable[[str, dict[str, Any] | None], None]:
        import http.client

        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        connection = http.client.HTTPConnection("127.0.0.1", port)

        def ask(path: str, body: dict[str, Any] | None) -> None:
            connection.request("POST" if body else "GET", path, json.dumps(body) if body else None)
            answer = connection.getresponse()
            told = answer.read()
            assert answer.status == 200, told

        return ask

    def __exit__(self, *failure: object) -> None:
        self.server.should_exit = True
        self.thread.join()


def catalogue_of(data: MovieLens) -> Catalogue:
    """The core's items and users."""
    place = {item: row for row, item in enumerate(data.items["item_id"])}
    rated = ByUser(data.core.select("user_id", "item_id", "rating"))
    return Catalogue(data.spec, data.items, place, data.items.height, ByUser(data.users), rated)


def llm_method(engine: TransformersEngine, data: MovieLens, log: RatingLog, settings: Settings, k: int) -> LlmMethod:
    """`recent` of the demo without its adapter, with `k` lines."""
    method = replace(next(one for one in methods(settings) if one.name == "recent"), adapter=None)
    sizes = RetrievalSettings(history_length=k)
    retriever = ServedRetriever(settings.retrievers[method.retriever], sizes, 0.5, None, {})
    fit = Expectation.of(log, data.spec.label.like_above, SEED)
    facts = KnownFacts.of(data.core, data.samples, data.spec.is_implicit, None, fit)
    return LlmMethod(Prompter(method, data.spec, retriever, facts, lambda items: {}), engine, None)


def recommended(users: Sequence[str], data: MovieLens) -> Recommendations:
    """Random items for every user."""
    draw = np.random.default_rng(SEED)
    rows = [
        {"user_id": user, "rank": rank, "item_id": item, "p_yes": 0.5, "because": ["1", "2", "3"], "sources": ["index"]}
        for user in users
        for rank, item in enumerate(draw.choice(data.items["item_id"].to_numpy(), 10, replace=False), 1)
    ]
    told = {name: pl.lit("bench") for name in ("method", "fit", "model_fingerprint")}
    titles = dict(data.items.select("item_id", "title").iter_rows())
    return Recommendations("bench", ByUser(pl.DataFrame(rows).with_columns(**told)), titles)


def most_active(catalogue: Catalogue) -> str:
    """The user with most ratings: the longest history."""
    counts = catalogue.ratings.frame["user_id"].value_counts(sort=True)
    return str(counts["user_id"][0])


def unseen(catalogue: Catalogue, user: str, count: int) -> ScoreRequest:
    """A known user, and `count` items without a rating of theirs."""
    seen = set(catalogue.ratings.rows(user)["item_id"])
    items = [item for item in catalogue.items["item_id"] if item not in seen][:count]
    return ScoreRequest(user_id=user, targets=[Item(item_id=item) for item in items])


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def best(work: Callable[[], object], times: int = 2) -> float:
    """The shortest of some times, because what disturbs only adds."""
    return min(seconds(work) for _ in range(times))


if __name__ == "__main__":
    main()
