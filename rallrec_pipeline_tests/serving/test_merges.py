"""Merges and cascades over HTTP: both members are asked in the request, and what cannot be served says why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from rallrec_pipeline.errors import ConfigError, StaleArtefactError
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.parquet import read_table, write_table
from rallrec_pipeline.language_models.protocols import Engine
from rallrec_pipeline.pipeline.stages.engine import load_engine
from rallrec_pipeline.serving import loading
from rallrec_pipeline.serving.loading import Loader
from rallrec_pipeline.serving.merging import served_member
from rallrec_pipeline.serving.methods import CascadeMethod, MergedMethod
from rallrec_pipeline.serving.snapshot import ServedMethod
from rallrec_pipeline.settings import MergeSettings, Settings, load_settings
from rallrec_pipeline_tests.pipeline.given import in_force_now
from rallrec_pipeline_tests.pipeline.tiny import SMALL
from rallrec_pipeline_tests.serving.served import Served, serving

MERGES = """
[merges.mean_of_two]
kind = "mean"
members = ["factorisation", "zero_shot"]

[merges.stacked]
kind = "logistic"
members = ["factorisation", "zero_shot"]

[merges.doubtful]
kind = "cascade"
members = ["factorisation", "zero_shot"]

[serving]
methods = ["factorisation", "zero_shot", "mean_of_two", "stacked", "doubtful"]
"""
BODY: dict[str, Any] = {
    "history": [{"item_id": "i1", "rating": 5}, {"item_id": "i2", "rating": 2}],
    "targets": [{"item_id": "i4"}, {"item_id": "i5"}, {"title": "Of tomorrow"}],
}


@pytest.fixture(scope="module")
def merging(finished_world: Path, finished_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = tmp_path_factory.mktemp("settings") / "settings.toml"
    settings.write_text((finished_world / "settings.toml").read_text() + MERGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RALLREC_SETTINGS", str(settings))
        with serving() as found:
            yield found


def p_yes(served: Served, method: str) -> np.ndarray:
    return np.array([target["p_yes"] for target in served.score(BODY | {"method": method})["targets"]])


def test_a_merge_is_made_of_what_both_members_say(merging: Served) -> None:
    by_expert, by_llm = p_yes(merging, "factorisation"), p_yes(merging, "zero_shot")
    assert np.allclose(p_yes(merging, "mean_of_two"), (by_expert + by_llm) / 2, atol=1e-9)
    _, loaded = merging.current.snapshot.method("stacked", None)
    assert isinstance(loaded.answerer, MergedMethod)
    stacked = p_yes(merging, "stacked")
    assert np.allclose(stacked, loaded.answerer.merged(by_expert, by_llm), atol=1e-9)
    assert ((stacked > 0) & (stacked < 1)).all() and not np.allclose(stacked, (by_expert + by_llm) / 2)


def test_a_cascade_asks_the_llm_where_that_paid_and_nowhere_else(merging: Served) -> None:
    _, loaded = merging.current.snapshot.method("doubtful", None)
    cascade = loaded.answerer
    assert isinstance(cascade, CascadeMethod)
    by_expert, by_llm = p_yes(merging, "factorisation"), p_yes(merging, "zero_shot")
    for least, whole in ((float("-inf"), by_llm), (float("inf"), by_expert)):
        part = replace(loaded, answerer=replace(cascade, asking=replace(cascade.asking, least=least)))
        snapshot = merging.current.snapshot
        merging.current.snapshot = replace(snapshot, methods={**snapshot.methods, "doubtful": part})
        try:
            assert np.allclose(p_yes(merging, "doubtful"), whole, atol=1e-9)
        finally:
            merging.current.snapshot = snapshot
    found = p_yes(merging, "doubtful")
    assert all(min(abs(p - a), abs(p - b)) < 1e-9 for p, a, b in zip(found, by_expert, by_llm, strict=True))
    assert 0 <= cascade.asking.share <= 1


@pytest.mark.parametrize("method", ["stacked", "doubtful"])
def test_lines_of_a_merge_are_not_explained(merging: Served, method: str) -> None:
    fault = merging.score(BODY | {"method": method, "explain": 1}, 422)["error"]
    assert "ask the method 'zero_shot'" in fault


def test_a_merge_has_a_fingerprint_of_its_own_and_is_fitted_anew_under_other_settings(
    merging: Served, finished_world: Path, own_lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = merging.get("/version")["parts"]
    names = ("zero_shot", "mean_of_two", "stacked", "doubtful")
    assert len({parts[name]["fingerprint"] for name in names}) == len(names)
    settings = tmp_path / "merges.toml"
    text = (finished_world / "settings.toml").read_text() + MERGES
    monkeypatch.setenv("RALLREC_SETTINGS", str(settings))
    settings.write_text(text)
    loader, found = Loader(own_lake, SMALL, None, print), []
    for kind in ("mean", "mean", "logistic"):
        settings.write_text(text.replace('kind = "mean"', f'kind = "{kind}"'))
        found.append(loader.load()[0].methods["mean_of_two"])
    first, again, other = found
    assert isinstance(first, ServedMethod) and isinstance(other, ServedMethod)
    assert first is again and first.fingerprint == parts["mean_of_two"]["fingerprint"] != other.fingerprint
    assert isinstance(first.answerer, MergedMethod) and isinstance(other.answerer, MergedMethod)
    both = np.array([0.1]), np.array([0.7])
    assert first.answerer.merged(*both) == pytest.approx(0.4) != other.answerer.merged(*both)


@pytest.mark.parametrize("method", ["stacked", "doubtful"])
def test_a_merge_that_cannot_be_fitted_loads_no_engine(
    finished_world: Path, own_lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    settings = tmp_path / "merges.toml"
    served = MERGES.partition("[serving]")[0] + f'[serving]\nmethods = ["{method}"]\n'
    settings.write_text((finished_world / "settings.toml").read_text() + served)
    monkeypatch.setenv("RALLREC_SETTINGS", str(settings))
    table, folder = tables.predictions_table("zero_shot"), in_force_now(own_lake, SMALL, "predictions").folder(own_lake)
    write_table(read_table(table, folder, SMALL).filter(pl.col("split") == "test"), table, folder, SMALL)
    loaded = list[Engine]()
    monkeypatch.setattr(loading, "load_engine", lambda *given: loaded.append(load_engine(*given)) or loaded[-1])
    found = Loader(own_lake, SMALL, None, print).load()[0].methods[method]
    assert isinstance(found, StaleArtefactError) and "raise prompts.validation_samples" in str(found)
    assert not loaded


def with_merge(**chosen: Any) -> Settings:
    settings = load_settings()
    return settings.model_copy(update={"merges": {**settings.merges, "mine": MergeSettings(**chosen)}})


@pytest.mark.parametrize(
    ("chosen", "why"),
    [
        ({"kind": "mean", "members": ("rallrec", "reasoned_told")}, "the reasoner writes several long responses"),
        ({"kind": "cascade", "members": ("text_trees", "merged_expert")}, "the reasoner writes several long responses"),
        ({"kind": "mean", "members": ("text_trees", "rallrec")}, "of 'factorisation' first and a method of the LLM"),
        ({"kind": "cascade", "members": ("rallrec", "factorisation")}, "of 'factorisation' first"),
        ({"kind": "best", "members": ("factorisation", "rallrec")}, "take a 'mean'"),
        ({"kind": "cascade", "members": ("factorisation", "rallrec"), "budget": 3.0}, "without budget"),
    ],
)
def test_what_cannot_be_served_says_why_in_one_line(chosen: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        served_member("mine", with_merge(**chosen))
    assert "\n" not in str(caught.value)


def test_a_reasoned_method_is_not_served_online_and_the_line_says_so(
    finished_world: Path, finished_lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text((finished_world / "settings.toml").read_text() + '\n[serving]\nmethods = ["reasoned"]\n')
    monkeypatch.setenv("RALLREC_SETTINGS", str(settings))
    with pytest.raises(ConfigError, match="'reasoned' cannot be served: the reasoner writes") as caught:
        Loader(finished_lake, SMALL, None, print).load()
    assert "\n" not in str(caught.value)
