"""Small datasets for the tests: settings, raw files and random ratings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import strategies as st

from rallrec_pipeline.datasets.order import exact_times, global_order, id_codes, take
from rallrec_pipeline.datasets.spec import DatasetSpec

INTERACTIONS_HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
ITEMS_HEADER = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
USERS_HEADER = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token"
SCHEMA = {"user_id": pl.String, "item_id": pl.String, "rating": pl.Float32, "timestamp": pl.Int64}


def in_global_order(interactions: pl.DataFrame) -> pl.DataFrame:
    """Sorted by (time, user, item); rows without a time come first."""
    users, items = id_codes(interactions["user_id"]), id_codes(interactions["item_id"])
    return take(interactions, global_order(exact_times(interactions), users, items))


def make_spec(**changes: Any) -> DatasetSpec:
    """Settings of a dataset `small` in three files; `changes` replace whole parts."""
    values: dict[str, Any] = {
        "name": "small",
        "title": "Small",
        "source": {
            "kind": "folder",
            "location": "nowhere",
            "files": [{"name": name, "member": name} for name in ("s.inter", "s.item", "s.user")],
        },
        "interactions": {"file": "s.inter", "columns": {"rating": "rating", "timestamp": "timestamp"}},
        "items": {
            "file": "s.item",
            "columns": {
                "title": {"column": "movie_title", "move_article": True},
                "year": {"column": "release_year", "numeric": True},
                "genres": {"column": "class", "split": " "},
            },
        },
        "users": {"file": "s.user", "columns": {"gender": "gender", "age": "age"}},
        "label": {"scale": [1, 2, 3, 4, 5], "like_above": 3},
    }
    return DatasetSpec.model_validate(values | changes)


def write_raw(lake: Path, inter: bytes | None = None, item: bytes | None = None, user: bytes | None = None) -> Path:
    """Raw files of `small` under `lake`; what is not given is a header with a few good rows."""
    folder = lake / "raw" / "small"
    folder.mkdir(parents=True, exist_ok=True)
    items = "\n".join([ITEMS_HEADER, *(f"{i}\tTitle {i}\t199{i}\tDrama Comedy" for i in range(1, 4)), ""])
    users = "\n".join([USERS_HEADER, "1\t24\tM\twriter\t85711", "2\t53\tF\tother\t94043", ""])
    (folder / "s.inter").write_bytes(inter if inter is not None else f"{INTERACTIONS_HEADER}\n1\t1\t5\t10\n".encode())
    (folder / "s.item").write_bytes(item if item is not None else items.encode())
    (folder / "s.user").write_bytes(user if user is not None else users.encode())
    return folder


def frame(rows: list[tuple[str, str, float, int]]) -> pl.DataFrame:
    """Ratings (user, item, rating, time) as the table `interactions`."""
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def with_ratings(core: pl.DataFrame, rows: pl.DataFrame, rating: float) -> pl.DataFrame:
    """`core` with another rating of `rows`: users and items."""
    new, pair = rows.with_columns(pl.lit(rating, pl.Float32).alias("new")), ["user_id", "item_id"]
    marked = core.join(new, on=pair, how="left", maintain_order="left")
    return marked.with_columns(pl.coalesce("new", "rating").alias("rating")).drop("new")


@st.composite
def ratings(draw: st.DrawFn, users: int = 6, items: int = 6, most: int = 36) -> pl.DataFrame:
    """Random ratings, at most one for a user and item, many with equal times, in any order."""
    pairs = st.tuples(st.integers(1, users), st.integers(1, items))
    chosen = draw(st.lists(pairs, unique=True, max_size=most))
    # ids of one and two digits, so that the order of text differs from the order of numbers
    return frame([(str(7 * u), str(4 * i), draw(st.integers(1, 5)), draw(st.integers(0, 12))) for u, i in chosen])


@st.composite
def cores(draw: st.DrawFn, users: int = 5, items: int = 12, most: int = 50) -> pl.DataFrame:
    """Random ratings in global order, as the table `core_interactions`."""
    return in_global_order(draw(ratings(users=users, items=items, most=most)))
