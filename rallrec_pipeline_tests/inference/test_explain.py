"""What a line of a history is said to do is what scoring the prompt without it gives."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from rallrec_pipeline.inference.explain import explain_lines
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine

WORTH = {"a": 0.3, "b": -0.2, "c": 0.05}


def histories(*shown: list[str]) -> pl.DataFrame:
    ratings = [[float(len(one) - n) for n in range(len(one))] for one in shown]
    return pl.DataFrame(
        {"sample_id": range(len(shown)), "recent": list(shown), "recent_ratings": ratings},
        schema_overrides={"recent": pl.List(pl.String), "recent_ratings": pl.List(pl.Float32)},
    )


def test_lines_are_told_with_the_change_they_make_the_strongest_first() -> None:
    calls = []

    def scores(rows: pl.DataFrame) -> NDArray[np.float64]:
        calls.append(rows.height)
        assert all(len(row["recent"]) == len(row["recent_ratings"]) for row in rows.iter_rows(named=True))
        return np.array([0.5 + sum(WORTH[item] for item in shown) for shown in rows["recent"]])

    found = explain_lines(histories(["a", "b", "c"], [], ["c"]), "recent", scores, most=2)
    assert calls == [3 + 4]
    assert found.p_yes == pytest.approx([0.65, 0.5, 0.55])
    assert [[line.item_id for line in lines] for lines in found.lines] == [["a", "b"], [], ["c"]]
    assert [line.change for line in found.lines[0]] == pytest.approx([0.3, -0.2])
    assert [line.rating for line in found.lines[0]] == [3.0, 2.0]


def test_the_changes_are_those_of_direct_scoring_by_the_real_llm(engine: TransformersEngine) -> None:
    titles = ["Heat", "Toy Story", "Fargo"]

    def prompt(shown: list[str], ratings: list[float]) -> str:
        lines = [f"{title}:{rating:g}\n" for title, rating in zip(shown, ratings, strict=True)]
        return "Movie ratings of one user from 1 to 5.\n" + "".join(lines) + "Casino:"

    def scores(rows: pl.DataFrame) -> NDArray[np.float64]:
        prompts = [prompt(*row) for row in rows.select("recent", "recent_ratings").iter_rows()]
        return np.asarray(engine.score(prompts, list("12345"), chat=False)[:, 3:].sum(axis=1))

    asked = histories(titles)
    found = explain_lines(asked, "recent", scores, most=3)
    ratings = asked["recent_ratings"][0].to_list()
    for line in found.lines[0]:
        place = titles.index(line.item_id)
        without = prompt(titles[:place] + titles[place + 1 :], ratings[:place] + ratings[place + 1 :])
        (whole, part) = (
            engine.score([text], list("12345"), chat=False)[0, 3:].sum() for text in (prompt(titles, ratings), without)
        )
        assert line.change == pytest.approx(whole - part, abs=1e-5)
