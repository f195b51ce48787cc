"""`rallrec new` on files as people bring them: a folder of cases beside the repository, each with its outcome."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from rallrec_pipeline.datasets.drafting.new import new_dataset
from rallrec_pipeline.errors import ConfigError

CASES = Path(os.environ.get("RALLREC_CASES") or Path(__file__).parents[4] / "shared" / "cases")
READY = "ready"
OUTCOMES = {
    "01-recbole-space-separator": READY,
    "06-implicit-user-has-all-items": READY,
    "07-one-row-per-user-sequences": "a row holds a whole list",
    "12-ml100k-original-u-item": READY,
    "14-tsv-stray-quotes": READY,
    "15-python-literals-not-json": READY,
    "16-nested-category-lists": READY,
    "18-dataset-names": READY,
    "19-one-class-test-split": "all of them liked",
    "20-constant-ratings": READY,
    "23-parquet-folder-and-hive": READY,
    "25-goodreads-interactions": READY,
    "28-movielens-25m-layout": READY,
    "30-excel-sep-line-decimal-comma": READY,
    "33-continuous-ratings": READY,
    "36-repeated-ratings": READY,
    "38-gzipped-folder": READY,
    "40-zstd": READY,
    "44-json-nan": READY,
    "48-ecommerce-events-utc": READY,
    "52-file-names-with-spaces": READY,
    "53-emoji-rtl-long-titles": READY,
    "62-nan-and-missing-ratings": READY,
    "64-parquet-float-ids-and-binary": READY,
    "66-two-records-merged-by-stray-quotes": READY,
    "68-times-zero-for-unknown": READY,
    "69-boolean-ratings": "nothing is left after the core",
    "71-null-words-as-ids": READY,
}
"""Of each case that the file is ready, or the words of the one thing that a person has to decide."""


@pytest.mark.parametrize("case", sorted(OUTCOMES))
def test_a_case_becomes_a_ready_file_or_one_question(tmp_path: Path, case: str) -> None:
    if not (CASES / case).is_dir():
        pytest.skip(f"no case {case} in {CASES}: set RALLREC_CASES to a folder that has it")
    shutil.copytree(CASES / case / "data", tmp_path / "data")
    lake, files = tmp_path / "lake", sorted((tmp_path / "data").iterdir())
    try:
        done = new_dataset(files, lake / "catalog" / "shop.toml", lake)
    except ConfigError as question:
        asked, problems = [str(question)], list[str]()
    else:
        asked, problems = done.decisions, done.report.problems
    if OUTCOMES[case] == READY:
        assert (asked, problems) == ([], [])
    else:
        assert (told := asked or problems) and all(OUTCOMES[case] in line for line in told)
