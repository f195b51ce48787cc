"""A lake with small datasets of the user's own and no model, for what Dagster does around the stages."""

from __future__ import annotations

from pathlib import Path

from rallrec_pipeline_tests.pipeline.tiny import add_datasets


def make_shop(root: Path, *names: str) -> Path:
    """The lake `root`/lake with a dataset of one rating for each of `names`."""
    lake = root / "lake"
    add_datasets(lake, *names)
    for name in names:
        write_ratings(lake, name, "u,i,5,10\n")
    return lake


def write_ratings(lake: Path, name: str, rows: str) -> None:
    """Raw files of a dataset with the ratings `rows`."""
    folder = lake / "files" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ratings.csv").write_text("user_id,item_id,rating,timestamp\n" + rows, encoding="utf-8")
    (folder / "items.csv").write_text("item_id,title\ni,Title\n", encoding="utf-8")


def make_instance(root: Path) -> Path:
    """A folder for DAGSTER_HOME whose runs are stored."""
    home = root / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    return home
