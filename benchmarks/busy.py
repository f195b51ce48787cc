"""Two processes that score at once on the same cores, against one alone.

Each scores the demo's test prompts. Cores that are shared fairly take twice the time of one process; what is more is
lost between them. The third row is the same without workers, as PyTorch divides each pass among its threads.

Needs raw files and the predictor in the lake, as `language_model.py`. Prints JSON lines. Takes about three minutes.
"""

from __future__ import annotations

import subprocess
import sys
import time

from movielens import MovieLens
from rows import print_row

from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.language_models.kernels.workers import Workers
from rallrec_pipeline.language_models.models import model_folder
from rallrec_pipeline.settings import lake_root, load_settings

PROMPTS, RATINGS = 200, ["1", "2", "3", "4", "5"]
FAIR_SHARE = 0.87  # two at once take at most 2.3 times as long as one
START_LEAD = 30.0  # seconds, in which both processes load the model


def main() -> None:
    """Print one JSON line a comparison; with a time as argument, score then and print the seconds taken."""
    if len(sys.argv) > 2:
        score_at(float(sys.argv[1]), sys.argv[2] == "workers")
        return
    alone, both = rate(1, "workers"), rate(2, "workers")
    print_row("two runs at once, to one", "prompts/s of both", both, alone, "one run alone", FAIR_SHARE)
    plain = rate(2, "threads")
    print_row("two runs at once, workers", "prompts/s of both", both, plain, "a pass divided among threads", None)


def rate(processes: int, how: str) -> float:
    """Prompts/s of all `processes` together, until the last has ended."""
    start = str(time.time() + START_LEAD)
    running = [
        subprocess.Popen([sys.executable, __file__, start, how], stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    taken = [float(process.communicate()[0].split()[-1]) for process in running]
    return processes * PROMPTS / max(taken)


def score_at(start: float, with_workers: bool) -> None:
    """Score the prompts from the time `start` on, and print the seconds that it took."""
    settings, data = load_settings("demo"), MovieLens.read()
    prompts = data.prompts("rating", "test", PROMPTS, settings)["prompt"].to_list()
    engine = TransformersEngine.load(model_folder(lake_root(), settings.model), settings.model)
    if not with_workers:
        engine.passes = Workers(engine.device, 1)
    engine.score(prompts[:16], RATINGS, chat=False)
    time.sleep(max(0.0, start - time.time()))
    begun = time.perf_counter()
    engine.score(prompts, RATINGS, chat=False)
    print(time.perf_counter() - begun)


if __name__ == "__main__":
    main()
