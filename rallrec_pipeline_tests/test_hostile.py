"""Hostile texts on each of their ways out: to the LLM, pages, terminals, spreadsheets, JSON, names of files."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rallrec_pipeline.errors import RallrecError
from rallrec_pipeline.evaluation.pages.csv_tables import FORMULA, methods_csv, slices_csv
from rallrec_pipeline.evaluation.pages.evaluation_page import render_html
from rallrec_pipeline.evaluation.pages.markdown import code, plain
from rallrec_pipeline.lake.files import read_json, write_json
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.language_models.tokens import TokenizedModel
from rallrec_pipeline.sources.source import SourceFile
from rallrec_pipeline.terminal import PlainConsole
from rallrec_pipeline.text import clean_text, escaped_json, visible
from rallrec_pipeline_tests.evaluation.examples import report as example
from rallrec_pipeline_tests.hostile import ALIKE, FAMILIES, FORMULAS, HOSTILE, TOKENS
from rallrec_pipeline_tests.language_models.small_llama import byte_tokenizer

HARMLESS = ("Toy Story", "七人の侍", "1 < 2 & 3 > 2", "Heat (3.7): 4!")
OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def obeyed(text: str) -> set[str]:
    """Characters that a terminal obeys or hides; a soft hyphen or a joiner of a script is none of them."""
    return {c for c in text if unicodedata.category(c) in OBEYED and c not in "\n\t" and visible(c) != c}


def test_there_are_enough_of_them_and_all_differ() -> None:
    assert len(HOSTILE) >= 120 and len(set(HOSTILE)) == len(HOSTILE) and len(FAMILIES) >= 10
    assert max(map(len, HOSTILE)) == 1_000_000


def of_family(name: str) -> Any:
    """A tokenizer that knows the tokens of a family as its own."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(FAMILIES[name])})
    return TokenizedModel(tokenizer, 10**9, None)


def assert_no_special(model: TokenizedModel, texts: tuple[str, ...]) -> None:
    own = {id for id, token in model.tokenizer.added_tokens_decoder.items() if token.special}
    own |= set(model.tokenizer.all_special_ids)
    for text in texts:
        for chat in (True, False):
            frame = [token for token in model.prompt_tokens("", chat) if token in own]
            assert [token for token in model.prompt_tokens(text, chat) if token in own] == frame, text[:80]
        assert not set(model.text_tokens(text)[len(model.begin_tokens) :]) & own or not text, text[:80]
        assert len(model.harmless(text)) == len(text)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_text_becomes_a_special_token_of_any_family(family: str) -> None:
    model = of_family(family)
    assert_no_special(model, tuple(text[:20_000] for text in HOSTILE))
    own = set(model.tokenizer.all_special_ids) | set(model.tokenizer.added_tokens_decoder)
    assert all(set(model.tokenize(token)) & own for token in FAMILIES[family]), "as they are they would be"
    for text in HARMLESS:
        assert model.harmless(text) == text, "what is harmless keeps its tokens"


def test_no_text_becomes_a_special_token_of_the_real_llm(engine: TransformersEngine) -> None:
    assert_no_special(engine, tuple(text[:20_000] for text in HOSTILE))
    for text in HARMLESS:
        assert engine.prompt_tokens(text, chat=True) == engine.tokenize(engine.chat_text(text))


def test_cleaned_they_are_one_short_line_without_tokens_of_templates() -> None:
    for text in HOSTILE:
        cleaned = clean_text(text)
        assert len(cleaned) <= 160 and not obeyed(cleaned) and len(cleaned.splitlines()) <= 1
        assert not [token for token in TOKENS if token in cleaned and (token[0] == "<" or "INST" in token)], cleaned


def test_pages_hold_them_as_text() -> None:
    """A page with a hostile text wherever data may be has the tags and attributes of one without."""
    benign, hostile = (render_html(report_with(text), {}) for text in ("plain", "\n".join(HOSTILE[:-4])))
    assert tags(hostile) == tags(benign) and "alert(1)" in hostile


def report_with(text: str) -> dict[str, Any]:
    report = deepcopy(example())
    report["dataset_title"] = text
    for figures in report["methods"].values():
        figures["title"] = text
    return report


def tags(page: str) -> list[tuple[str, tuple[str, ...]]]:
    from html.parser import HTMLParser

    found: list[tuple[str, tuple[str, ...]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, tuple(name for name, _ in attrs)))

    Reader().feed(page)
    return found


def test_a_terminal_shows_them_and_obeys_none() -> None:
    for text in HOSTILE[:-4]:
        out = io.StringIO()
        console = PlainConsole(file=out, force_terminal=False, width=200)
        table = Table("a", title=Text(text))
        table.add_row(Text(text))
        for shown in (Text(text), table, Panel(Text(text))):
            console.print(shown)
        console.print(text, markup=False, highlight=False)
        assert not obeyed(out.getvalue()), repr(text)
    coloured = io.StringIO()
    PlainConsole(file=coloured, force_terminal=True, color_system="standard").print(Text("red", style="red"))
    assert "\x1b[31m" in coloured.getvalue(), "its own styles stay"


def test_markdown_of_the_ui_holds_them_as_text() -> None:
    for text in HOSTILE[:-4]:
        for shown in (plain(text), code(text)):
            assert ("\n" not in shown and "<" not in shown.replace("`", "")) or shown.startswith("`"), text
        assert not re.search(r"(?<!\\)[\[\]|`*]", plain(text)), text


def test_no_cell_of_a_table_is_a_formula_or_a_line_more() -> None:
    texts, report = [text for text in HOSTILE if len(text) < 2000], deepcopy(example())
    methods = list(report["methods"].values())
    for start in range(0, len(texts), len(methods)):
        for figures, text in zip(methods, texts[start:], strict=False):
            figures["title"] = text
        rows = list(csv.reader(io.StringIO(methods_csv(report))))
        assert len(rows) == len(methods) + 1
        for cell in (cell for row in rows for cell in row):
            number = re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", cell)
            assert number or not cell.lstrip().startswith(FORMULA), cell[:80]
    rows = list(csv.reader(io.StringIO(slices_csv(report))))
    assert any(cell.startswith("-") for row in rows for cell in row) or len(rows) > 1
    report["methods"]["rallrec"]["title"] = FORMULAS[0]
    told = list(csv.DictReader(io.StringIO(methods_csv(report))))
    assert "'=1+1" in [row["title"] for row in told]
    assert any(cell.startswith("-") for row in told for cell in row.values()), "numbers below zero stay"


def test_json_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "texts.json"
    write_json(path, list(HOSTILE))
    assert read_json(path) == list(HOSTILE)
    document = json.dumps(list(HOSTILE), ensure_ascii=False)
    assert json.loads(escaped_json(document)) == list(HOSTILE) and not obeyed(escaped_json(document))


def test_ids_that_look_alike_stay_apart() -> None:
    from rallrec_pipeline.lake.provenance import stable_hash

    assert len({stable_hash(text) for text in ALIKE}) == len(ALIKE)
    assert all(visible(text) == text for text in ALIKE)


def test_names_of_files_never_come_from_them(tmp_path: Path) -> None:
    from rallrec_pipeline.datasets.catalog import get_dataset
    from rallrec_pipeline.settings import load_settings

    for text in HOSTILE:
        if text.isidentifier() and text.isascii():
            continue
        for ask in (lambda name: get_dataset(name, tmp_path), load_settings):
            with pytest.raises(RallrecError) as told:
                ask(text or "?")
            assert "\n" not in str(told.value)
    assert not list(tmp_path.rglob("*")) and SourceFile("ratings.csv", "../../x").name == "ratings.csv"
