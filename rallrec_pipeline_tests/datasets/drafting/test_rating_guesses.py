"""`rallrec new`: ratings are found in the languages of shops and by values, and nothing is left out in silence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from rallrec_pipeline.cli import app
from rallrec_pipeline.datasets.catalog import load_dataset
from rallrec_pipeline.datasets.drafting.new import NewDataset, new_dataset
from rallrec_pipeline.datasets.drafting.ratings import Likeness, likeness_of
from rallrec_pipeline_tests.datasets.brought import delimited, tables, titles, told, world, write

Value = Callable[[int, int], object]
"""A value from the number of a row and its rating, 1 to 5."""


def amount(row: int, rating: int) -> str:
    return f"{10 + row * 37 % 90},{row * 13 % 100:02}"


def half(row: int, rating: int) -> str:
    return f"{rating - 1},5" if rating > 1 and row % 2 else f"{rating},0"


def orders(**further: Value) -> bytes:
    """A shop's export with German names, and further columns."""
    header = ("Bestellnummer", "Kundennr", "Artikelnummer", *further, "Datum", "Betrag")
    rows = []
    for row, (user, item, rating, time) in enumerate(world()):
        day = datetime.fromtimestamp(time, UTC).strftime("%d.%m.%Y")
        values = [value(row, rating) for value in further.values()]
        rows.append((9000 + row, user, item, *values, day, amount(row, rating)))
    return delimited(header, rows, ";")


def new(root: Path, ratings: bytes) -> NewDataset:
    items = delimited(("Artikelnummer", "Bezeichnung"), list(titles().items()), ";")
    folder = write(root, {"bestellungen.csv": ratings, "artikel.csv": items})
    out = root / "lake" / "catalog" / "shopb.toml"
    out.parent.mkdir(parents=True)
    return new_dataset([folder / "bestellungen.csv", folder / "artikel.csv"], out, root / "lake")


@pytest.mark.parametrize(
    ("name", "value", "scale"),
    [
        ("Bewertung", half, (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5)),
        ("Sterne", lambda _, rating: f"{rating},0", (1, 2, 3, 4, 5)),
        ("Bewertung", lambda _, rating: rating, (1, 2, 3, 4, 5)),
    ],
)
def test_a_german_shop_keeps_its_ratings(tmp_path: Path, name: str, value: Value, scale: tuple[float, ...]) -> None:
    done = new(tmp_path, orders(**{name: value}))
    assert (done.decisions, done.report.problems) == ([], [])
    spec, read = load_dataset(done.path), tables(done.path).interactions
    assert {role: column.column for role, column in spec.interactions.columns.items()} == {
        "user_id": "Kundennr", "item_id": "Artikelnummer", "rating": name, "timestamp": "Datum",
    }  # fmt: skip
    assert not spec.is_implicit and spec.scale == scale
    wanted = [float(str(value(row, rating)).replace(",", ".")) for row, (_, _, rating, _) in enumerate(world())]
    assert sorted(read["rating"].to_list()) == sorted(wanted)
    assert "# Columns of bestellungen.csv that are left out: Bestellnummer, Betrag" in done.path.read_text("utf-8")


@pytest.mark.parametrize(
    "name",
    ["Note", "note", "évaluation", "valoración", "Puntuación", "calificación", "voto", "Valutazione", "beoordeling",
     "waardering", "avaliação", "nota", "stars", "score", "rate", "grade", "points", "Bewertung."],
)  # fmt: skip
def test_names_of_ratings_are_known_in_the_languages_of_shops(tmp_path: Path, name: str) -> None:
    done = new(tmp_path, orders(**{name: lambda _, rating: rating}))
    text = done.path.read_text("utf-8")
    assert done.decisions == [] and load_dataset(done.path).interactions.columns["rating"].column == name
    assert "a guess" not in text.split("[items]")[0].split("[interactions]")[1]


def test_a_rating_that_no_name_tells_is_guessed_with_a_comment(tmp_path: Path) -> None:
    done = new(tmp_path, orders(Zufriedenheit=half, Bewertung=lambda row, _: "sehr gut, gerne wieder"))
    assert done.decisions == [] and done.report.problems == []
    assert load_dataset(done.path).interactions.columns["rating"].column == "Zufriedenheit"
    lines = done.path.read_text("utf-8").splitlines()
    assert told(lines, 'rating = "Zufriedenheit"  # a guess: no name tells the rating')
    assert told(lines, "left out: Bestellnummer, Bewertung, Betrag")


def test_guesses_of_ids_and_times_have_a_comment_too(tmp_path: Path) -> None:
    rows = [(rating, user, item, time) for user, item, rating, time in world()]
    known = new(tmp_path / "users", delimited(("wie", "Kunde", "wozu", "wann"), rows, ";"))
    lines = known.path.read_text("utf-8").splitlines()
    assert known.report.problems == [] and known.decisions == []
    assert told(lines, 'item_id = "wozu"  # a guess: another file lists its values')
    assert told(lines, 'rating = "wie"  # a guess') and told(lines, '"wann"', "# a guess: its values read as times")
    known = new(tmp_path / "items", delimited(("wie", "wen", "Artikel", "wann"), rows, ";"))
    lines = known.path.read_text("utf-8").splitlines()
    assert known.report.problems == [] and known.decisions == []
    assert told(lines, 'user_id = "wen"  # a guess: its values stand in several rows')
    assert told(lines, 'rating = "wie"  # a guess')


def test_amounts_are_no_ratings_and_a_comment_says_what_is_read_instead(tmp_path: Path) -> None:
    prices: dict[str, Value] = {"#": lambda row, _: 1000 + row, "count": lambda row, _: 1 + row % 3, "value": amount}
    prices |= {"Menge": lambda row, _: 1 + row % 5, "Porto": lambda row, _: f"{3 + row % 4},99"}
    done = new(tmp_path, orders(**prices))
    text = done.path.read_text("utf-8")
    assert done.decisions == [] and done.report.problems == [] and load_dataset(done.path).is_implicit
    assert "# No rating was found, so that what happened is a like (implicit feedback)." in text
    assert "something else than ratings: Bestellnummer, #, count, value, Menge, Porto," in text


@pytest.mark.parametrize(
    ("value", "held"),
    [
        (lambda row, _: 1 + (row % 10 > 5) + (row % 10 > 8), "1, 2, 3"),  # a long tail, as of a count
        (lambda row, rating: rating + row % 3, "1, 2, 3, 4, 5, 6, 7"),  # no usual scale
        (lambda row, rating: f"{rating - 1},{row % 100:02}", "values from 0"),  # continuous
    ],
)
def test_numbers_that_may_be_ratings_are_one_question_of_the_command(tmp_path: Path, value: Value, held: str) -> None:
    done = new(tmp_path, orders(Wert=value))
    assert len(done.decisions) == 1 and told(done.decisions, "is one of its columns the rating? Wert holds", held)
    assert load_dataset(done.path).is_implicit
    assert told(done.path.read_text("utf-8").splitlines(), "# To decide:", held)
    out, data = tmp_path / "lake" / "catalog" / "again.toml", tmp_path / "data"
    arguments = ["new", str(data), "-o", str(out)]
    shown = CliRunner().invoke(app, arguments, env={"RALLREC_LAKE": str(tmp_path / "lake")})
    assert sum(line.startswith("? to decide: ") for line in shown.output.splitlines()) == 1


def test_a_yes_or_no_is_taken_but_asked_for_and_never_before_a_scale(tmp_path: Path) -> None:
    gift: Value = lambda row, _: row % 2  # noqa: E731
    done = new(tmp_path / "alone", orders(Geschenk=gift))
    assert told(done.decisions, "is Geschenk the rating?", "it holds 0, 1")
    assert load_dataset(done.path).scale == (0, 1)
    done = new(tmp_path / "both", orders(Geschenk=gift, Urteil=lambda _, rating: rating))
    assert done.decisions == [] and load_dataset(done.path).interactions.columns["rating"].column == "Urteil"
    done = new(tmp_path / "rivals", orders(Urteil=lambda _, rating: rating, Tempo=lambda row, _: 1 + row * 7 % 5))
    assert told(done.decisions, "is Urteil the rating?", "Tempo may be it as well")


def test_what_is_the_same_in_all_rows_of_an_item_is_no_rating(tmp_path: Path) -> None:
    levels = [1 + int(item[1:]) % 5 for _, item, _, _ in world()]
    done = new(tmp_path, orders(Klasse=lambda row, _: levels[row]))
    assert done.decisions == [] and load_dataset(done.path).is_implicit


def test_ratings_in_words_and_german_grades_are_asked_for(tmp_path: Path) -> None:
    done = new(tmp_path / "words", orders(Bewertung=lambda _, rating: ("schlecht", "gut")[rating > 3]))
    assert told(done.decisions, "Bewertung is named like a rating, but it holds words such as")
    done = new(tmp_path / "grades", orders(Note=lambda row, rating: rating + row % 2))
    assert told(done.decisions, "is 1 the best of column Note")


def test_the_scale_and_the_shares_tell_ratings() -> None:
    def of(*values: float) -> Likeness:
        return likeness_of(pl.Series("x", values, dtype=pl.Float64))

    for usual in ([1, 2, 3, 4, 5, 5], [0.5, 4, 5], [0, 1], [1, 7, 10], [0, 30, 100], [0, 4, 5], [1, 1, 1, 2, 3, 5, 5]):
        assert of(*usual) is Likeness.RATING, usual
    for unclear in ([1, 2], [1, 1, 1, 2, 2, 5], [1, 4, 7], [-1, 0, 1], [n / 10 for n in range(50)]):
        assert of(*unclear) is Likeness.UNSURE, unclear
    for other in ([], [3, 3], [9.99, 19.99], [100, 250], list(range(40)), [n * 1.37 for n in range(40)]):
        assert of(*other) is Likeness.NONE, other
