"""The hostile set goes through a whole run, beside a twin of plain texts: it is data at the end of every way."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from rallrec_pipeline.cli import app
from rallrec_pipeline.evaluation.pages.csv_tables import FORMULA
from rallrec_pipeline.lake.vectors import vectors_of
from rallrec_pipeline.language_models.tokens import TokenizedModel
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline.pipeline.load import load
from rallrec_pipeline_tests.browser import chromium, needs_chromium
from rallrec_pipeline_tests.pipeline.hostile_world import (
    HOSTILE_NAMES,
    IDS,
    NAME,
    PLAIN_NAMES,
    Names,
    make_lake,
    write_model,
)
from rallrec_pipeline_tests.test_hostile import obeyed

pytestmark = pytest.mark.slow  # two whole runs
HEX = re.compile(r"[0-9a-f]{12,}|\d{6}")


@dataclass(frozen=True)
class Done:
    """A finished run: its lake, what it said, and which of the tokenizer's own tokens its texts became."""

    lake: Path
    said: str
    own: set[str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Done, Done]]:
    """The hostile world and its twin."""
    root = tmp_path_factory.mktemp("hostile")
    model = write_model(root / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        yield _done(root / "a", HOSTILE_NAMES, model, patch), _done(root / "b", PLAIN_NAMES, model, patch)


def _done(root: Path, names: Names, model: Path, patch: pytest.MonkeyPatch) -> Done:
    lake, own, said = make_lake(root, names, model, patch), set[str](), list[str]()
    plain = TokenizedModel.tokenize

    def watched(self: TokenizedModel, text: str) -> list[int]:
        tokens = plain(self, text)
        special = set(self.tokenizer.all_special_ids)
        own.update(text for token in tokens if token in special)
        return tokens

    with pytest.MonkeyPatch.context() as inner:
        inner.setattr(TokenizedModel, "tokenize", watched)
        inner.setattr("builtins.print", lambda *words, **_: said.append(" ".join(map(str, words))))
        summary = materialize_dataset(NAME)
    assert summary.error is None and all(summary.worked.values())
    return Done(lake, "\n".join(said), own)


def table(done: Done, name: str) -> pl.DataFrame:
    return load(name, NAME, lake=done.lake)


def test_they_are_in_the_tables_and_reach_the_llm_as_plain_tokens(runs: tuple[Done, Done]) -> None:
    hostile, plain = runs
    items = table(hostile, "tables/core_items")
    assert set(IDS) <= set(items["item_id"]) and items.height == 10 + len(HOSTILE_NAMES.items)
    prompts = table(hostile, "prompts/evaluation")["prompt"]
    assert any("im_start" in prompt for prompt in prompts) and any("previous instructions" in p for p in prompts)
    assert not hostile.own and not plain.own, "no text became one of the tokens that the tokenizer knows as its own"


def test_answers_of_other_rows_do_not_change_by_a_bit(runs: tuple[Done, Done]) -> None:
    """Float32, each prompt in a batch of its own: the prompts without a hostile text have the twin's answers."""
    hostile, plain = runs
    same = _answers(hostile).join(_answers(plain), on=["sample_id", "prompt"], suffix="_plain")
    assert same.height >= 10 and same["probabilities"].n_unique() > 5
    assert same["probabilities"].equals(same["probabilities_plain"]), "before the calibration, which is a fit"


def test_nor_do_descriptions_vectors_and_baselines_of_the_others(runs: tuple[Done, Done]) -> None:
    for name in ("tables/item_descriptions", "embeddings/title"):
        ours, theirs = (table(done, name).filter(pl.col("item_id").str.contains(r"^i\d$")) for done in runs)
        assert ours.height == 10
        if name.startswith("tables"):
            assert ours["description"].equals(theirs["description"])
        else:
            assert (vectors_of(ours) == vectors_of(theirs)).all()
    for baseline in ("item_mean", "logistic_regression", "factorisation"):
        ours, theirs = (table(done, f"predictions/{baseline}").select("sample_id", "p_yes") for done in runs)
        both = ours.join(theirs, on="sample_id", suffix="_plain")  # validation rows are drawn by their users' ids
        near = 1e-3 if baseline == "factorisation" else 1e-9  # whose sums are in the order of the users' ids
        assert both.height > 50 and both["p_yes"].to_list() == pytest.approx(both["p_yes_plain"].to_list(), abs=near)


def _answers(done: Done) -> pl.DataFrame:
    """Of the method whose prompts no vector decides."""
    asked = table(done, "prompts/evaluation").filter(pl.col("prompt_form") == "recent")
    return table(done, "predictions/zero_shot_recent").join(asked.select("sample_id", "prompt"), on="sample_id")


def test_no_file_is_named_after_them(runs: tuple[Done, Done]) -> None:
    names = [{HEX.sub("#", path.relative_to(done.lake).as_posix()) for path in done.lake.rglob("*")} for done in runs]
    assert names[0] == names[1]


def test_terminals_obey_none(runs: tuple[Done, Done], monkeypatch: pytest.MonkeyPatch) -> None:
    hostile, _ = runs
    assert not obeyed(hostile.said)
    monkeypatch.setenv("RALLREC_LAKE", str(hostile.lake))
    monkeypatch.setenv("RALLREC_SETTINGS", str(hostile.lake.parent / "settings.toml"))
    commands = [["status", NAME], ["report", NAME], ["datasets"], *(["lineage", NAME, "--", one] for one in IDS[::4])]
    for command in [*commands, ["lineage", NAME, "h7", "--json"], ["forget", NAME, "\x1b[31mred", "--plan"]]:
        told = CliRunner().invoke(app, command)
        assert told.exit_code == 0, (command, told.output, told.exception)
        assert not obeyed(told.output), command


def test_spreadsheets_find_no_formula(runs: tuple[Done, Done]) -> None:
    files = sorted((runs[0].lake / "reports" / NAME).glob("*.csv"))
    assert files
    for file in files:
        for cell in (cell for row in csv.reader(file.open(encoding="utf-8", newline="")) for cell in row):
            assert re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", cell) or not cell.lstrip().startswith(FORMULA), cell[:80]


def pages(done: Done) -> list[Path]:
    return sorted((done.lake / "reports" / NAME).glob("*.html"))


def test_pages_have_no_tag_or_attribute_of_theirs(runs: tuple[Done, Done]) -> None:
    assert len(pages(runs[0])) >= 3
    for ours, theirs in zip(*(map(kinds, pages(done)) for done in runs), strict=True):
        assert ours <= theirs


def kinds(page: Path) -> set[tuple[str, str]]:
    """Tags with their attributes' names, and addresses that are no pictures."""
    found: set[tuple[str, str]] = set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.add((tag, ""))
            found.update((tag, name) for name, _ in attrs)
            found.update(
                ("address", str(value))
                for name, value in attrs
                if name in ("href", "src") and "data:" not in str(value)
            )

    Reader().feed(page.read_text(encoding="utf-8"))
    return found


@pytest.mark.process
@needs_chromium
def test_a_browser_runs_none_of_them(runs: tuple[Done, Done]) -> None:
    with chromium() as browser:
        for file in pages(runs[0]):
            shown, heard = browser.new_page(), list[str]()
            shown.on("dialog", lambda dialog, heard=heard: (heard.append(dialog.message), dialog.dismiss()))
            shown.on("request", lambda asked, heard=heard: heard.append(asked.url))
            shown.goto(file.as_uri())
            shown.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
            assert [what for what in heard if not what.startswith(("file:", "data:"))] == []
            assert shown.evaluate("document.querySelectorAll('iframe, object, embed, [onload], [onerror]').length") == 0
