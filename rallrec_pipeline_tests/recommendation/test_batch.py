"""All users at once: the table, who is worked on again, and what stands behind an item."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.parquet import check_schema
from rallrec_pipeline.recommendation.batch import Batch, Recommended
from rallrec_pipeline.recommendation.recommender import Recommender
from rallrec_pipeline.recommendation.table import BEFORE_ITEM, Maker, for_user, write_lines
from rallrec_pipeline.recommendation.today import Codes, Ratings, Visits
from rallrec_pipeline.retrieval.histories import Retriever
from rallrec_pipeline.retrieval.rankings import by_vectors
from rallrec_pipeline.settings import RetrievalSettings
from rallrec_pipeline_tests.baselines.worlds import world
from rallrec_pipeline_tests.datasets.worlds import SCHEMA
from rallrec_pipeline_tests.recommendation.worlds import SMALL, changed, rated, recommender


def batch(one: Recommender, **others: object) -> Batch:
    retriever = Retriever(by_vectors(one.catalogue.mixture), RetrievalSettings(history_length=3), alpha=0.5)
    texts = [""] * len(one.catalogue.item_ids)
    return replace(Batch(one, retriever, Maker("factorisation", "fit"), "common", texts), **others)  # type: ignore[arg-type]


def run(made: Batch, previous: pl.DataFrame | None = None) -> Recommended:
    return made.run(made.recommender.ratings.visits, previous, lambda done, total: None)


def test_each_user_gets_n_unseen_items_with_lines_of_the_own_history(tmp_path: Path) -> None:
    made = world()
    found = run(batch(recommender(made, users=("nobody",))))
    check_schema(found.table, tables.RECOMMENDATIONS, "world")
    assert found.computed == found.rows.height == 41
    for user, rows in found.table.group_by("user_id"):
        own = rated(made, str(user[0]))
        assert rows["rank"].to_list() == [1, 2, 3, 4] and not own.intersection(rows["item_id"])
        assert all(set(lines) <= own and len(lines) == min(3, len(own)) for lines in rows["because"])
        assert rows["p_yes"].is_between(0, 1).all()
    lines = write_lines(found.table, tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    assert len(lines) == 41 and [item["rank"] for item in first["items"]] == [1, 2, 3, 4]
    assert for_user(found.table, first["user_id"], 2)["item_id"].to_list() == [i["item_id"] for i in first["items"][:2]]
    assert for_user(found.table, "stranger", 2).is_empty()


def test_a_new_rating_redoes_its_user_alone() -> None:
    made = world()
    one = recommender(made)
    before = run(batch(one))
    unseen = next(item for item in made.item_ids if item not in rated(made, "u7"))
    rating = pl.DataFrame([("u7", unseen, 5.0, None)], schema=made.core.select(list(SCHEMA)).schema, orient="row")
    core = pl.concat([made.core.select(rating.columns), rating])
    grown = replace(one, ratings=Ratings.of(core, made.item_ids, (), is_sampled=False))
    after = run(batch(grown), before.table)
    assert after.computed == 1
    others = pl.col("user_id") != "u7"
    assert after.table.filter(others).equals(before.table.filter(others))
    assert unseen not in for_user(after.table, "u7", 9)["item_id"]
    assert run(batch(grown), after.table).computed == 0
    assert run(batch(grown)).table.equals(after.table)


def test_another_profile_redoes_its_user_alone() -> None:
    one = recommender(world())
    before = run(batch(one, profiles={"u7": "age: 30", "u8": "age: 40"}))
    after = run(batch(one, profiles={"u7": "age: 31", "u8": "age: 40"}), before.table)
    assert after.computed == 1 and after.table.drop("input_hash").equals(before.table.drop("input_hash"))


def test_what_was_rated_outside_the_histories_is_not_recommended() -> None:
    made = world()
    one = recommender(made)
    before = run(batch(one))
    gone = for_user(before.table, "u7", 1)["item_id"][0]
    others = pl.DataFrame({"user_id": ["u7", "stranger", "u8"], "item_id": [gone, "i1", "unknown"]})
    after = run(batch(replace(one, ratings=one.ratings.with_seen(others))), before.table)
    assert gone not in for_user(after.table, "u7", 9)["item_id"] and after.computed == 1


def test_a_changed_item_redoes_those_whom_it_may_reach() -> None:
    made = world(items=60, each=10)
    one = recommender(made, SMALL.model_copy(update={"new_share": 0.0}))
    before = run(batch(one))
    vectors = changed(one.catalogue.mixture, 3)
    other = replace(one, catalogue=replace(one.catalogue, mixture=vectors))
    after = run(batch(other), before.table)
    reached = {user for user in one.ratings.sequences.user_ids if "i3" in rated(made, user)}
    candidates = one.candidates(one.ratings.visits).items
    names = np.array(one.ratings.sequences.user_ids)
    reached |= set(names[(candidates == made.item_ids.index("i3")).any(axis=1)])
    assert 0 < after.computed < after.rows.height
    assert after.computed <= len(reached) + 3  # the index may find another neighbour for a few


def test_a_dearer_method_is_asked_about_the_shortlist_and_nothing_else() -> None:
    made = world()
    asked: list[Codes] = []

    def rescoring(visits: Visits, items: Codes, p_yes: np.ndarray) -> np.ndarray:
        asked.append(items)
        return np.where(items % 2 == 0, 0.9, 0.1) + items / 1000

    found = run(batch(recommender(made, SMALL.model_copy(update={"n": 2, "order": "p_yes"})), rescoring=rescoring))
    assert asked[0].shape == (40, 4) and found.steps["shortlist"].predictions == 160
    shortlists = dict(zip(recommender(made).ratings.sequences.user_ids, asked[0], strict=True))
    for user, rows in found.table.group_by("user_id"):
        items = [made.item_ids.index(item) for item in rows["item_id"]]
        best = sorted(shortlists[str(user[0])], key=lambda i: -((0.9 if i % 2 == 0 else 0.1) + i / 1000))
        assert items == best[:2]


def test_an_item_without_a_rating_can_be_recommended_and_says_so() -> None:
    made = world(users=80, each=20)
    core = made.core.filter(pl.col("item_id") != "i0")
    samples = made.samples.filter(pl.col("item_id") != "i0")
    one = recommender(replace(made, core=core, samples=samples), SMALL.model_copy(update={"new_share": 0.3}))
    found = run(batch(one)).table.filter(pl.col("fit") == BEFORE_ITEM)
    assert not one.catalogue.has_ratings[0] and set(found["item_id"]) == {"i0"}
    assert all("new" in sources or "index" in sources for sources in found["sources"])


def test_a_user_with_three_ratings_is_folded_in() -> None:
    made = world(users=80, each=20)
    one = recommender(made)
    liked = [("late", f"i{item}", 5.0, 20_000 + item) for item in (0, 1, 2)]
    core = pl.concat([made.core, pl.DataFrame(liked, schema=made.core.schema, orient="row")])
    grown = replace(one, ratings=Ratings.of(core, made.item_ids, (), is_sampled=False))
    rows = for_user(run(batch(grown)).table, "late", 4)
    of_kind = [made.item_ids.index(item) < 12 for item in rows["item_id"]]
    assert all(of_kind) and set(rows["because"].explode()) == {"i0", "i1", "i2"}
