"""A program: every stage of a tiny lake on a disk with so few free pages, then with one more, until it works.

Started by `test_full_disk.py` in a namespace that may mount. It prints JSON: for each stage how many pages it was given
in each try and how that ended.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path

from rallrec_pipeline.errors import RallrecError
from rallrec_pipeline.lake.leftovers import is_temporary
from rallrec_pipeline.pipeline.context import SHARED
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.pipeline.status.verify import verify_lake
from rallrec_pipeline.settings import load_settings
from rallrec_pipeline_tests.faults.small_disk import SmallDisk
from rallrec_pipeline_tests.pipeline.given import in_force_now, make_stages
from rallrec_pipeline_tests.pipeline.tiny import SMALL

MOST_PAGES = 4096


def main(source: Path, disk_folder: Path, pages: Sequence[int]) -> None:
    """Copy the lake `source`, in which nothing was made, to a small disk and make it there."""
    disk = SmallDisk(disk_folder)
    lake = shutil.copytree(source, disk_folder / "lake", symlinks=True)
    os.environ["RALLREC_LAKE"] = str(lake)
    tries = {name: list(_make(disk, lake, name, pages)) for name in STAGES}
    told = {
        "tries": tries,
        "damages": [str(damage) for damage in verify_lake(lake, SMALL, "demo").damages],
        "again": [name for name, worked in make_stages(lake, SMALL, load_settings()).items() if worked],
        "versions": {name: in_force_now(lake, SMALL, name).data_version for name in STAGES if "report" not in name},
    }
    print(json.dumps(told))


def _make(disk: SmallDisk, lake: Path, stage: str, pages: Sequence[int]) -> Iterator[dict[str, object]]:
    """One try after another of a stage, until it works."""
    for free in chain(pages, (2**n for n in count(7))):
        assert free <= MOST_PAGES, stage
        disk.leave(free)
        before = _whole(lake)
        error = ""
        try:
            make_stages(lake, SMALL, load_settings(), stage)
        except RallrecError as found:
            error = str(found)
        disk.empty()
        left = [str(path.relative_to(lake)) for path in lake.rglob(".*") if is_temporary(path.name)]
        lost = sorted(before - _whole(lake))
        yield {"pages": free, "error": error, "left": left, "lost": lost}
        if not error:
            return


def _whole(lake: Path) -> set[str]:
    """What can be read at this moment: results with a name, and what the paths of the contract lead to."""
    results = (path for name in (SMALL, SHARED) for path in (lake / "results" / name).glob("*/[!.]*"))
    links = (path for path in lake.rglob("*") if path.is_symlink() and path.exists())
    return {str(path.relative_to(lake)) for path in chain(results, links)}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
