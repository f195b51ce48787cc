"""What is recommended to one user, read from the table in force: nothing is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import polars as pl

from rallrec_pipeline.errors import ConfigError, StaleArtefactError
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.store import Record
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.pipeline.stage import Plan, everything, looking, plan_stages
from rallrec_pipeline.pipeline.stages.recommendations import of_recommended
from rallrec_pipeline.recommendation.table import for_user
from rallrec_pipeline.settings import Settings
from rallrec_pipeline.text import clean_text

STAGE = "recommendations"
SUGGESTED = 3
SHOWN = 3  # reasons
CANDIDATES = 20_000  # ids that are compared letter by letter


@dataclass(frozen=True)
class Recommended:
    """The rows of `RECOMMENDATIONS` of one user, the titles of all items in them, and what to know about them."""

    dataset: str
    variant: str
    user_id: str
    rows: pl.DataFrame
    titles: Mapping[str, str]
    ratings: Mapping[str, float]
    """What the user gave the items that `because` names."""
    notes: list[str]
    fingerprint: str
    made_at: str
    is_fresh: bool
    """Whether the settings of today are those that made the rows."""


def recommended_to(lake: Path, dataset: str, user_id: str, settings: Settings, n: int) -> Recommended:
    """The first `n` recommendations of a user.

    Raises ConfigError for an unknown dataset or user, StaleArtefactError when there is no table, DataError when a file
    is damaged.
    """
    run = looking(lake, dataset, settings)
    _ = run.spec  # an unknown dataset is told first
    plans = plan_stages(run, STAGES, [STAGE])
    plan, command = plans[STAGE], _command(dataset, settings)
    if plan.record is None:
        raise StaleArtefactError(f"nothing is recommended to users of {dataset!r} in {lake} yet: run `{command}` first")
    run = everything(run, plans)
    history = _history_length(run, plan.record, user_id)
    own = run.scan(tables.RECOMMENDATIONS).filter(pl.col("user_id") == user_id).collect()  # of millions of rows a few
    rows = for_user(own, user_id, n)
    named = set(rows["item_id"]) | set(rows["because"].explode().drop_nulls())
    items = run.scan(tables.ITEMS).filter(pl.col("item_id").is_in(list(named))).select("item_id", "title")
    notes = [*_stale(plan, command), *_few(rows, history, n, int(plan.record.metadata.get("n", n)))]
    titles = dict(items.collect().iter_rows())
    rated = run.scan(tables.INTERACTIONS).filter(pl.col("user_id") == user_id).select("item_id", "rating")
    ratings = {item: rating for item, rating in rated.collect().iter_rows() if item in named}
    made = plan.record.fingerprint, plan.record.created_at
    return Recommended(dataset, settings.profile, user_id, rows, titles, ratings, notes, *made, plan.is_fresh)


def as_json(found: Recommended) -> dict[str, Any]:
    """For programs; what is missing is an empty list."""
    rows = found.rows.drop("user_id").rows(named=True)
    items = [row | {"title": found.titles.get(row["item_id"])} for row in rows]
    return {
        "dataset": found.dataset,
        "variant": found.variant,
        "user_id": found.user_id,
        "items": items,
        "rated": found.ratings,
        "notes": found.notes,
        "fingerprint": found.fingerprint,
        "made_at": found.made_at,
    }


def _command(dataset: str, settings: Settings) -> str:
    return f"rallrec run {dataset} --profile {settings.profile}"


def _history_length(run: StageRun, record: Record, user_id: str) -> int:
    """Ratings that the user had. Raises ConfigError for one who is unknown, or was not drawn."""
    rows = record.rows(run.lake)
    if rows is None:
        raise StaleArtefactError(
            f"who was recommended what in {run.dataset!r} cannot be read: run `{_command(run.dataset, run.settings)}`"
        )
    rows = of_recommended(rows)
    own = rows.filter(pl.col("user_id") == user_id)
    if own.height:
        return int(own["history_length"][0])
    name = clean_text(user_id)
    if any(_has(run, table, user_id) for table in (tables.INTERACTIONS, tables.USERS)):
        command = _command(run.dataset, run.settings)
        raise ConfigError(
            f"user {name!r} of {run.dataset!r} came later, or was not drawn (setting recommendations.users):"
            f" run `{command}`"
        )
    near = get_close_matches(user_id, rows["user_id"].head(CANDIDATES).to_list(), SUGGESTED)
    hint = f": did you mean {', '.join(map(clean_text, near))}?" if near else ""
    raise ConfigError(f"{run.dataset!r} has no user {name!r}{hint}")


def _has(run: StageRun, table: tables.Table, user_id: str) -> bool:
    return bool(run.scan(table).filter(pl.col("user_id") == user_id).head(1).collect().height)


def _stale(plan: Plan, command: str) -> list[str]:
    """Why the rows may not be those of today."""
    if plan.is_fresh:
        return []
    more = f"; and {len(plan.reasons) - SHOWN} more" if len(plan.reasons) > SHOWN else ""
    why = "; ".join(plan.reasons[:SHOWN]) + more or f"{', '.join(plan.waits_for)} changed"
    return [f"these are stale ({why}): `{command}` brings them up to date"]


def _few(rows: pl.DataFrame, history: int, n: int, made: int) -> list[str]:
    notes = ["the user has rated no item of the catalogue: these are what many rate"] if not history else []
    if rows.height < min(n, made):
        notes.append(f"only {rows.height} of {n}: the user has rated, or the catalogue has, no others")
    elif rows.height < n:
        notes.append(f"only {rows.height} of {n}: {made} a user are kept (setting recommendations.n)")
    return notes
