"""What a request names is looked up, and nothing of it is lost."""

from __future__ import annotations

import polars as pl

from rallrec_pipeline.serving.catalogue import ByUser, Catalogue
from rallrec_pipeline.serving.questions import question_of
from rallrec_pipeline.serving.requests import ScoreRequest
from rallrec_pipeline_tests.datasets.worlds import make_spec


def test_every_new_item_keeps_its_fields_however_many_there_are() -> None:
    items = pl.DataFrame({"item_id": ["i1"], "title": ["One"], "year": ["1990"], "genres": ["Drama"]})
    nobody = ByUser(pl.DataFrame(schema={"user_id": pl.String, "item_id": pl.String, "rating": pl.Float32}))
    known = Catalogue(make_spec(), items, {"i1": 0}, 1, nobody, nobody)
    targets = [{"title": f"New {number}"} for number in range(149)]
    targets += [{"title": "Last", "fields": {"year": "2026", "genres": "Comedy"}}]  # type: ignore[dict-item]
    asked = {"history": [{"item_id": "i1", "rating": 4}], "targets": targets}
    found = question_of(ScoreRequest.model_validate(asked), known).items
    assert found.row(0) == ("0", "One", "1990", "Drama")
    assert found.row(1) == ("1", "New 0", "", "")
    assert found.row(150) == ("150", "Last", "2026", "Comedy")
