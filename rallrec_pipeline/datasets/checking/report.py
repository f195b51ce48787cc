"""All that is wrong with a dataset at once, and what the stages would make of it.

The readers stop at the first fault; here each one is told, with its share, the first bad line and examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from rallrec_pipeline.datasets.catalog import parse_dataset, with_protocol
from rallrec_pipeline.datasets.checking.catalogues import check_items, check_users
from rallrec_pipeline.datasets.checking.columns import check_settings
from rallrec_pipeline.datasets.checking.examples import examples_of
from rallrec_pipeline.datasets.checking.findings import Findings, share_of
from rallrec_pipeline.datasets.checking.ids import likeness
from rallrec_pipeline.datasets.checking.places import check_place, linked_files
from rallrec_pipeline.datasets.checking.protocols import check_protocol
from rallrec_pipeline.datasets.checking.ratings import check_ratings
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.datasets.tables import IDS


@dataclass(frozen=True)
class CheckReport:
    """What is wrong (`problems`), what to know (`warnings`), and what the dataset holds. Each message is one line."""

    problems: list[str]
    warnings: list[str]
    figures: dict[str, Any]


def check_dataset(path: Path, lake: Path, seed: int = 0) -> CheckReport:
    """Compare the dataset of one TOML file with its real files; nothing is fetched, copied or left behind.

    `seed` draws what the stages draw: splits of users, sampled negatives.
    """
    found = Findings()
    spec = parse_dataset(path)
    if isinstance(spec, DatasetSpec):
        found.figures.update(rows={}, refused={}, protocols={})
        check_place(spec, path, lake, found)
        check_settings(spec, found)
        with linked_files(spec, path, lake, found) as place:
            _check_tables(spec, place, seed, found)
    else:
        for problem in spec:
            found.problem(f"{path.name}: {problem}")
        if path.is_file():
            found.warning(f"the data were not looked at: mend {path.name} and check again")
    return CheckReport(found.problems, found.warnings, found.figures)


def _check_tables(spec: DatasetSpec, place: Path, seed: int, found: Findings) -> None:
    items = _with_categories(check_items(spec, place, found), "item_id")
    users = _with_categories(check_users(spec, place, found), "user_id")
    ratings = check_ratings(spec, place, items, found)
    if ratings is None:
        return
    found.figures.update(users=ratings["user_id"].n_unique(), items=ratings["item_id"].n_unique())
    if spec.users and users is not None:
        _check_raters(spec.users.file, ratings, users, found)
    if ratings.is_empty():
        found.problem(f"{spec.interactions.file}: no rating is left to check the protocols with")
        return
    for name in spec.protocols:
        check_protocol(with_protocol(spec, name), name, ratings, items, seed, found)


def _with_categories(catalogue: pl.DataFrame | None, key: str) -> pl.DataFrame | None:
    """Its ids as those of the ratings are, so that both can be compared."""
    return catalogue.with_columns(pl.col(key).cast(IDS)) if catalogue is not None else None


def _check_raters(file: str, ratings: pl.DataFrame, users: pl.DataFrame, found: Findings) -> None:
    """Users who have ratings but no row of their own."""
    raters = ratings.select("user_id").unique(maintain_order=True)
    lone = raters.join(users, on="user_id", how="anti", maintain_order="left")["user_id"]
    if lone.len():
        share = share_of(lone.len(), found.figures["users"], "users")
        alike = likeness(lone, users["user_id"])
        ids = f"as {examples_of(lone)} (it lists {examples_of(users['user_id'])}){f'; {alike}' if alike else ''}"
        found.warning(f"{file}: {share} with ratings have no row, {ids}: prompts tell nothing about them")
