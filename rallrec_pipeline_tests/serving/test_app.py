"""The server answers what is in force, and every fault in one line."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.parquet import read_table
from rallrec_pipeline.pipeline.forgetting.forget import forget_user
from rallrec_pipeline.serving.methods import LlmMethod
from rallrec_pipeline.serving.server import _bound
from rallrec_pipeline_tests.hostile import CONTROLS, TOKENS, TURNS
from rallrec_pipeline_tests.pipeline.tiny import RARE, SMALL
from rallrec_pipeline_tests.serving.served import Served, put_recommendations, serving, until

HISTORY = [{"item_id": f"i{number}", "rating": 4} for number in range(4)]
ASKED: dict[str, Any] = {"history": HISTORY, "targets": [{"item_id": "i7"}, {"item_id": "i8"}]}


def test_targets_are_scored_by_each_method_in_their_order(served: Served) -> None:
    assert served.score(ASKED)["method"] == "factorisation"
    for method in ("factorisation", "rallrec"):
        asked = ASKED | {"method": method}
        found = served.score(asked)
        assert (found["dataset"], found["variant"], found["method"]) == (SMALL, "demo", method)
        assert [row["item_id"] for row in found["targets"]] == ["i7", "i8"]
        assert all(0 < row["p_yes"] < 1 for row in found["targets"])
        turned = served.score(asked | {"targets": asked["targets"][::-1]})["targets"][::-1]
        assert [row["p_yes"] for row in turned] == pytest.approx([row["p_yes"] for row in found["targets"]], abs=1e-4)


def test_a_new_item_is_scored_by_its_text_and_one_outside_the_core_by_its_id(served: Served) -> None:
    history = [*HISTORY, {"title": "A film of today", "rating": 5}, {"item_id": "i77", "rating": 1}]
    targets = [{"title": "Another one"}, {"item_id": "i88"}, {"item_id": "i7"}]
    for method in ("factorisation", "rallrec"):
        rows = served.score({"method": method, "history": history, "targets": targets})["targets"]
        assert [row["item_id"] for row in rows] == [None, "i88", "i7"]
        assert all(0 < row["p_yes"] < 1 for row in rows)


def test_an_explanation_is_what_scoring_without_the_line_gives(served: Served) -> None:
    rows = served.score(ASKED | {"method": "rallrec", "explain": 5})["targets"]
    assert [row["p_yes"] for row in rows] == pytest.approx(
        [row["p_yes"] for row in served.score(ASKED | {"method": "rallrec"})["targets"]], abs=1e-4
    )
    for row in rows:
        changes = [abs(line["change"]) for line in row["lines"]]
        assert len(changes) == 2 and changes == sorted(changes, reverse=True)  # K is 2
        assert all(HISTORY[line["line"]]["item_id"] == line["item_id"] for line in row["lines"])
    _, loaded = served.current.snapshot.method("rallrec", None)
    assert isinstance(loaded.answerer, LlmMethod)
    assert "factorisation reads no prompt" in served.score(ASKED | {"explain": 1}, 422)["error"]


def test_recommendations_are_those_that_the_batch_has_made(served: Served, finished_lake: Path) -> None:
    made = read_table(tables.RECOMMENDATIONS, finished_lake, SMALL)
    for user in made["user_id"].unique():
        found = served.get(f"/users/{user}/recommendations?n=1000")["recommendations"]
        wanted = made.filter(pl.col("user_id") == user).sort("rank")
        assert [row["item_id"] for row in found] == wanted["item_id"].to_list()
        assert [row["p_yes"] for row in found] == wanted["p_yes"].to_list()


def test_recommendations_are_those_in_force_and_a_new_result_needs_no_restart(own_lake: Path) -> None:
    shutil.rmtree(own_lake / "results" / SMALL / "recommendations")
    with serving(methods=("factorisation",)) as served:
        assert "was never made" in served.get("/users/u1/recommendations", 503)["error"]
        first = put_recommendations(own_lake, {"u1": ["i3", "i4"], "a/b ü": ["i77"]})
        found = until(served, "/users/u1/recommendations", lambda answer: answer.get("fingerprint") == first)
        rows = found["recommendations"]
        assert [(row["rank"], row["item_id"]) for row in rows] == [(1, "i3"), (2, "i4")]
        assert rows[0]["title"] == "[red]Third[/red] title"  # JSON: markup means nothing in it
        one = served.get("/users/u1/recommendations?n=1")
        assert len(one["recommendations"]) == 1 and one["kept"] == 2
        odd = served.get("/users/a%2Fb%20%C3%BC/recommendations")["recommendations"]
        assert "\x1b" not in odd[0]["title"] and "\u202e" not in odd[0]["title"] and "\x1b" in RARE
        second = put_recommendations(own_lake, {"u1": ["i5"]})
        until(served, "/users/u1/recommendations", lambda answer: answer["fingerprint"] == second)
        assert "no recommendations for the user" in served.get("/users/a%2Fb%20%C3%BC/recommendations", 404)["error"]
        stale = served.get(f"/users/u1/recommendations?fingerprint={first}", 409)["error"]
        assert first in stale and second in stale
        served.get(f"/users/u1/recommendations?fingerprint={second}")


def test_a_running_server_knows_nothing_more_of_a_user_who_is_forgotten(own_lake: Path) -> None:
    with serving(methods=("factorisation",)) as served:
        known, asked = "/users/u1/recommendations", {"user_id": "u1", "targets": [{"item_id": "i88"}]}
        assert served.get(known)["recommendations"] and served.score(asked)["targets"]
        forget_user(own_lake, SMALL, "u1", print)
        assert "unknown user" in served.get(known, 404)["error"] and "unknown user" in served.score(asked, 404)["error"]
        assert served.get("/users/u2/recommendations")["recommendations"], "what was loaded of others is kept"
        served.score(asked | {"user_id": "u2"})


@pytest.mark.parametrize("fault", ["settings", "dataset", "refs"])
def test_a_user_is_forgotten_also_where_nothing_can_be_loaded_any_more(
    own_lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    settings = tmp_path / "own.toml"
    settings.write_text(Path(os.environ["RALLREC_SETTINGS"]).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setenv("RALLREC_SETTINGS", str(settings))
    harmed = {
        "settings": settings,
        "dataset": own_lake / "catalog" / f"{SMALL}.toml",
        "refs": own_lake / "refs" / SMALL / "demo.json",
    }[fault]
    known, asked = "/users/u1/recommendations", {"user_id": "u1", "targets": [{"item_id": "i88"}]}
    with serving(methods=("factorisation",)) as served:
        assert served.get(known)["recommendations"]
        whole = harmed.read_text(encoding="utf-8")
        if fault != "dataset":
            harmed.write_text("[[[ no longer what it was", encoding="utf-8")
        forget_user(own_lake, SMALL, "u1", print)  # which reads the dataset's file itself
        harmed.write_text("[[[ no longer what it was", encoding="utf-8")
        for number in range(400):  # at once, and when the watch has tried to load
            assert "unknown user" in served.get(known, 404)["error"]
            assert "unknown user" in served.score(asked, 404)["error"]
            if any("is kept" in line for line in served.lines) or (fault == "dataset" and number > 5):
                break  # a dataset's file that is harmed just after the user was forgotten may have been read before
            time.sleep(0.05)
        else:
            raise AssertionError(served.lines)
        assert served.get("/users/u2/recommendations")["recommendations"]
        harmed.write_text(whole, encoding="utf-8")
        assert "unknown user" in served.get(known, 404)["error"]


def test_nobody_is_answered_while_nobody_knows_who_was_forgotten(own_lake: Path) -> None:
    with serving(methods=("factorisation",)) as served:
        forget_user(own_lake, SMALL, "u1", print)
        file = own_lake / "tombstones" / f"{SMALL}.json"
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        for user in ("u1", "u2"):
            told = served.get(f"/users/{user}/recommendations", 503)["error"]
            assert f"tombstones/{SMALL}.json is damaged, so nobody knows whom to leave out" in told
        served.score(ASKED)  # that names no user
        file.write_bytes(whole)
        served.get("/users/u1/recommendations", 404)
        assert served.get("/users/u2/recommendations")["recommendations"]


def test_what_cannot_be_loaded_leaves_what_was_loaded_before(own_lake: Path) -> None:
    first = put_recommendations(own_lake, {"u1": ["i3"]})
    with serving(methods=("factorisation",)) as served:
        second = put_recommendations(own_lake, {"u1": ["i4"]})
        until(served, "/users/u1/recommendations", lambda answer: answer["fingerprint"] == second)
        third = put_recommendations(own_lake, {"u1": ["i5"]})
        damaged = own_lake / "results" / SMALL / "recommendations" / third / "tables" / "recommendations"
        (damaged / f"{SMALL}.parquet").write_bytes(b"no table")
        for _ in range(20):
            assert served.get("/users/u1/recommendations")["fingerprint"] in (second, third)
        assert first != second
        part = until(served, "/version", lambda answer: "newer_failed" in answer["parts"]["recommendations"])
        assert third in part["parts"]["recommendations"]["newer_failed"]


def test_a_method_whose_settings_have_changed_is_not_served(
    own_lake: Path, finished_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "changed.toml"
    text = (finished_world / "settings.toml").read_text()
    changed.write_text(text.replace("history_length = 2", "history_length = 3"))
    monkeypatch.setenv("RALLREC_SETTINGS", str(changed))
    with serving() as served:
        told = served.score(ASKED | {"method": "rallrec"}, 503)["error"]
        assert "is stale" in told and "history_length" in told and f"rallrec run {SMALL}" in told


def test_a_result_whose_source_was_pruned_is_told(own_lake: Path) -> None:
    folder = own_lake / "results" / SMALL / "retrieved_histories"
    for one in folder.iterdir():
        (one / "manifest.json").unlink()
    with serving() as served:
        assert "was removed" in served.score(ASKED | {"method": "rallrec"}, 503)["error"]
        assert served.get("/version")["parts"]["rallrec"]["missing"]
        assert "nothing can be answered" in served.get("/healthz", 503)["error"]


def rating(**line: Any) -> dict[str, Any]:
    return ASKED | {"history": [{"item_id": "i1", "rating": 4} | line]}


BAD: list[tuple[Any, int, str]] = [
    (b"", 400, "no JSON"),
    (b"{", 400, "no JSON"),
    (b"\xff\xfe\x00", 400, "no JSON: it is not UTF-8 text"),
    (b"[" * 100_000, 400, "nested too deeply"),
    (b'{"targets": NaN}', 400, "NaN"),
    (b'{"explain": 1e999, "targets": [{"item_id": "i1"}]}', 422, "explain"),
    (b'{"explain": ' + b"9" * 5000 + b"}", 400, "no JSON: a number of 5,000 digits"),
    (b'{"targets": [], "targets": []}', 400, "'targets' is there twice"),
    (b"[]", 422, "the body must be a JSON object"),
    ({}, 422, "targets: it is missing"),
    (ASKED | {"targets": []}, 422, "targets: it must have at least 1 entry"),
    ({"target": [{"item_id": "i7"}]}, 422, "target: there is no such key, did you mean targets?"),
    (ASKED | {"history": []}, 422, "history: it is empty"),
    ({"targets": ASKED["targets"]}, 422, "history: it is missing"),
    (ASKED | {"history": HISTORY * 2500}, 422, "history: 10,000 entries, at most 1,000"),
    (ASKED | {"targets": [{"item_id": "i7"}] * 201}, 422, "targets: 201 entries, at most 200"),
    (ASKED | {"targets": [{"title": "x" * 2_000_000}]}, 413, "more than 1,000,000 bytes"),
    (ASKED | {"targets": [{"title": "x" * 500_000}]}, 422, "a text has 500,000 characters"),
    (ASKED | {"targets": [{"item_id": "nobody"}]}, 404, "targets.0: unknown item 'nobody'"),
    (ASKED | {"user_id": "nobody"}, 404, "unknown user 'nobody'"),
    (ASKED | {"method": "nobody"}, 404, "no method 'nobody' is served"),
    (ASKED | {"fingerprint": "stale"}, 409, "'stale' is not in force"),
    (ASKED | {"targets": [{"item_id": "i1"}]}, 422, "targets.0: this item is in the history"),
    (ASKED | {"targets": [{}]}, 422, "give either item_id or title"),
    (ASKED | {"targets": [{"title": "x", "fields": {"colour": "red"}}]}, 422, "there is no field 'colour'"),
    (ASKED | {"profile": {"colour": "red"}}, 422, "there is no field 'colour'"),
    (rating(rating=6), 422, "history.0.rating: 6 is not on the scale: 1, 2, 3, 4, 5"),
    (rating(rating="4"), 422, "history.0.rating"),
    (rating(rating=None), 422, "history.0.rating: it is missing"),
    (rating(item_id=7), 422, "history.0.item_id"),
    (ASKED | {"history": [HISTORY[0], HISTORY[0]]}, 422, "history.1: the item 'i0' is there twice"),
    (ASKED | {"explain": 51}, 422, "explain"),
    (ASKED | {"method": ""}, 404, "no method '' is served"),
    (ASKED | {"targets": [{"title": " \u200b "}]}, 422, "targets.0: the title is empty"),
    (b'{"history": [], "targets": [{"title": "a\\ud800"}]}', 422, "half of a surrogate pair"),
    (b'{"\\ud800": 1}', 422, "half of a surrogate pair"),
    (
        ASKED | {"method": "rallrec", "explain": 1, "targets": [{"item_id": "i7"}] * 67},
        422,
        "explain: a prompt for each target, and one without each of its lines, are 201 prompts: at most 200 are read",
    ),
]


@pytest.mark.parametrize(("body", "status", "words"), BAD, ids=range(len(BAD)))
def test_a_wrong_request_is_told_what_is_wrong(served: Served, body: Any, status: int, words: str) -> None:
    assert words in served.score(body, status)["error"]


def test_a_wrong_address_is_one_line_too(served: Served) -> None:
    for path, status in (
        ("/", 404),
        ("/score", 405),
        ("/users/u1", 404),
        *((f"/users/u1/recommendations?{query}", 422) for query in ("n=0", "m=3", "n=2&n=3")),
    ):
        assert served.get(path, status)["error"], path


def test_an_unknown_address_is_told_where_the_addresses_are(served: Served) -> None:
    assert served.get("/", 404)["error"] == "Not Found: GET /openapi.json tells the addresses"


def test_a_taken_port_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f":{port}: the address is in use, choose another --port"):
            _bound("127.0.0.1", port)


def test_control_tokens_of_a_title_reach_no_prompt(served: Served) -> None:
    titles = [text for text in (*TOKENS, *TURNS, *CONTROLS) if text.strip()]
    targets = [{"title": title} for title in titles]
    found = served.score({"method": "rallrec", "history": HISTORY, "targets": targets})["targets"]
    assert len(found) == len(titles) and all(0 < row["p_yes"] < 1 for row in found)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from([*ASKED, "user_id", "profile", "method", "explain", "fingerprint"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(names, anything, max_size=3))
def test_no_body_breaks_the_server(served: Served, changed: dict[str, Any]) -> None:
    answer = served.client.post("/score", content=json.dumps(ASKED | changed).encode("utf-8", "replace"))
    assert answer.status_code in (200, 400, 404, 409, 422), answer.text


def test_too_many_requests_at_once_and_one_that_takes_too_long_are_turned_away(finished_lake: Path) -> None:
    with serving(waiting=1, timeout_s=0.0001) as served:
        told = served.score(ASKED | {"method": "rallrec", "targets": [{"item_id": "i7"}] * 200}, 503)["error"]
        assert "no answer within" in told or "try again later" in told


def test_the_openapi_document_is_valid_and_names_every_address(served: Served) -> None:
    from openapi_spec_validator import validate

    found = served.get("/openapi.json")
    validate(found)
    assert set(found["paths"]) == {
        *("/users/{user_id}/recommendations", "/score", "/healthz", "/version", "/openapi.json"),
    }
    assert found["components"]["schemas"]["ScoreRequest"]["properties"]["method"]["examples"] == [
        "factorisation",
        "rallrec",
    ]
