"""A process that uses vLLM and waits to be ended: prints its answers, then the processes it has started.

`python -m ….vllm_worker MODEL [ADAPTER]`, a folder each.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import psutil

from rallrec_pipeline.language_models.vllm_engine import VllmEngine
from rallrec_pipeline.settings import ModelSettings

RATINGS = [
    "Ratings from 1 to 5:\n" + "".join(f"A film of {1900 + year}:{year % 5 + 1}\n" for year in range(years)) + "Heat:"
    for years in (3, 20, 60)
]
FIVE = [str(value) for value in range(1, 6)]


def main() -> None:
    """Score, and stay until somebody ends this process."""
    model, *adapters = map(Path, sys.argv[1:])
    engine = VllmEngine.load(model, ModelSettings(dtype="float32", engine="vllm"), *adapters)
    try:
        answers = engine.score(RATINGS, FIVE, chat=False).tolist()
        pids = [child.pid for child in psutil.Process().children(recursive=True)]
        print(json.dumps({"answers": answers, "children": pids}), flush=True)
        time.sleep(600)
    finally:
        engine.close()


if __name__ == "__main__":
    main()
