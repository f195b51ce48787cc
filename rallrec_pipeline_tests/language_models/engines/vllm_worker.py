"""A process that uses vLLM and waits to be ended: prints its answers, its texts and the processes it has started.

`python -m ….vllm_worker MODEL [ADAPTER]`, a folder each.
"""

from __future__ import annotations

import faulthandler
import json
import signal
import sys
import time
from pathlib import Path

import psutil

from rallrec_pipeline.language_models.engines.vllm_engine import VllmEngine
from rallrec_pipeline.language_models.protocols import Sampling
from rallrec_pipeline.settings import ModelSettings

RATINGS = [
    "Ratings from 1 to 5:\n" + "".join(f"A film of {1900 + year}:{year % 5 + 1}\n" for year in range(years)) + "Heat:"
    for years in (3, 20, 200)
]
ASKED = ["Describe the movie Heat in ten words.", "What is a movie?"]
NEARLY_GREEDY = Sampling(12, 1e-3, 1.0, seed=1)
FIVE = [str(value) for value in range(1, 6)]


def main() -> None:
    """Score, and stay until somebody ends this process."""
    faulthandler.register(signal.SIGUSR1)  # tells where it hangs
    model, *adapters = map(Path, sys.argv[1:])
    engine = VllmEngine.load(model, ModelSettings(dtype="float32", engine="vllm"), *adapters)
    try:
        answers = engine.score(RATINGS, FIVE, chat=False).tolist()
        texts = engine.generate(ASKED, NEARLY_GREEDY)
        pids = [child.pid for child in psutil.Process().children(recursive=True)]
        print(json.dumps({"answers": answers, "texts": texts, "children": pids}), flush=True)
        for _ in range(6000):  # a signal that comes just before one long sleep would wait for its end
            time.sleep(0.1)
    finally:
        engine.close()


if __name__ == "__main__":
    main()
