"""The server answers what is in force, and every fault in one line."""

from __future__ import annotations

from rallrec_pipeline_tests.pipeline.tiny import SMALL
from rallrec_pipeline_tests.serving.served import Served

HISTORY = [{"item_id": f"i{number}", "rating": 4} for number in range(4)]


def test_targets_are_scored_by_each_method_in_their_order(served: Served) -> None:
    assert served.current.snapshot.dataset == SMALL
    for method in ("factorisation", "rallrec"):
        asked = {"method": method, "history": HISTORY, "targets": [{"item_id": "i7"}, {"item_id": "i8"}]}
        found = served.score(asked)
        assert found["method"] == method
        assert [row["item_id"] for row in found["targets"]] == ["i7", "i8"]
        assert all(0 < row["p_yes"] < 1 for row in found["targets"])
        turned = served.score(asked | {"targets": asked["targets"][::-1]})
        assert [row["p_yes"] for row in turned["targets"][::-1]] == [row["p_yes"] for row in found["targets"]]
    print(served.get("/version"), served.get("/healthz"), served.lines)
