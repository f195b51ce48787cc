"""What killed runs were writing goes with the next run of their dataset, and nothing else does."""

from __future__ import annotations

import os
from pathlib import Path

from rallrec_pipeline.lake.leftovers import is_temporary, remove_leftovers
from rallrec_pipeline.lake.locks import lake_lock

OF_SHOP = (
    "results/shop/samples/.0123.0a1b2c3d.tmp/tables/samples/shop.parquet",
    "results/shop/samples/0123/.manifest.json.0a1b2c3d.tmp",
    "results/shop/samples/.0123.0a1b2c3d.old/manifest.json",
    "refs/shop/.demo.json.0a1b2c3d.tmp",
    "refs/shop/history/.000001.json.0a1b2c3d.tmp",
    "raw/shop/.lines-abcd_123/rows",
    "raw/shop/.objects-abcd_123/rows",
    "raw/shop/.unpacked-abcd_123/rows",
    "cache/adapters/shop/rallrec/.0123.0a1b2c3d.tmp/adapter_model.safetensors",
    ".fetch-shop-abcd_123/ratings.csv",
)
OF_OTHERS = (
    "results/shop-2/samples/.0123.0a1b2c3d.tmp/tables/samples/shop-2.parquet",
    "refs/shop-2/.demo.json.0a1b2c3d.tmp",
    ".fetch-shop-2-abcd_123/ratings.csv",
    ".check-abcd_123/raw",
    "cache/.scores.sqlite.0a1b2c3d.tmp",
    "cache/.scores.sqlite.0a1b2c3d.tmp-wal",
)
OF_ALL = (
    "models/.tiny.0a1b2c3d.tmp/config.json",
    "models/.model-abcd_123/w",
    "results/_shared/writer/.9.0a1b2c3d.tmp/x",
)
WHOLE = ("results/shop/samples/0123/manifest.json", "refs/shop/demo.json", "raw/shop/ratings.csv", "raw/shop/x.tmp")


def written(lake: Path, *names: str) -> None:
    for name in names:
        (lake / name).parent.mkdir(parents=True, exist_ok=True)
        (lake / name).write_text("half", encoding="utf-8")


def linked(lake: Path, dataset: str) -> Path:
    """A link that a run was about to rename."""
    link = lake / "tables" / "samples" / f".{dataset}.parquet.0a1b2c3d.tmp"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(f"../../results/{dataset}/samples/0123/tables/samples/{dataset}.parquet")
    return link


def test_what_killed_runs_left_goes_with_the_next_run_of_their_dataset(tmp_path: Path) -> None:
    written(tmp_path, *OF_SHOP, *OF_OTHERS, *OF_ALL, *WHOLE)
    own, other = linked(tmp_path, "shop"), linked(tmp_path, "shop-2")
    assert remove_leftovers(tmp_path, "shop") == len(OF_SHOP) + 1
    assert not os.path.lexists(own) and os.path.lexists(other)
    assert all((tmp_path / name).exists() for name in (*OF_OTHERS, *OF_ALL, *WHOLE))
    left = {part for path in tmp_path.rglob("*") for part in path.relative_to(tmp_path).parts if is_temporary(part)}
    assert remove_leftovers(tmp_path, "_shared", "models") == len(OF_ALL)
    assert remove_leftovers(tmp_path, "shop") == 0 and left


def test_who_takes_a_lock_removes_what_its_last_holder_was_writing_there(tmp_path: Path) -> None:
    written(tmp_path, "locks/.shop.json.0a1b2c3d.tmp", "locks/.shop-2.json.0a1b2c3d.tmp")
    with lake_lock(tmp_path, "shop", print):
        assert [path.name for path in (tmp_path / "locks").glob(".*")] == [".shop-2.json.0a1b2c3d.tmp"]
