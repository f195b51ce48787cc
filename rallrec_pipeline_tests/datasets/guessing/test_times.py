"""The form of times is told by examples."""

from __future__ import annotations

import polars as pl
import pytest

from rallrec_pipeline.datasets.guessing.times import time_forms
from rallrec_pipeline_tests.datasets.brought import check, dataset, delimited, told, world

FORMS = [
    "%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S UTC", "%a %b %d %H:%M:%S +0000 %Y", "%d.%m.%Y %H:%M",
    "%m/%d/%Y", "%d/%m/%Y", "%d/%m/%y", "%m/%d/%Y %I:%M %p", "%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%S+00:00",
    "%m %d, %Y",
    "%B %d, %Y", "%d %b %Y", "%Y%m%d", "%Y%m%d%H%M%S", "%Y/%m/%d %H:%M", "%d-%b-%Y", "%a, %d %b %Y %H:%M:%S GMT",
    "%Y年%m月%d日", "%H:%M %d.%m.%Y",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_form_that_ten_lines_show_is_the_one_that_reads_all(form: str) -> None:
    moments = pl.from_epoch(pl.Series(range(1_600_000_000, 1_600_000_000 + 300 * 86_461, 86_461)), "s").to_list()
    texts = pl.Series([moment.strftime(form) for moment in moments])
    (found,) = time_forms(texts)
    asked = form.replace("+0000", "%z").replace("+00:00", "%z")
    assert found.count == texts.len() and not found.rival
    assert found.column.time_format in (asked, asked.replace(".%fZ", ".%f%z")), found.column.time_format


@pytest.mark.parametrize(("digits", "unit"), [(10, "s"), (13, "ms"), (16, "us"), (19, "ns")])
def test_numbers_are_times_of_a_unit(digits: int, unit: str) -> None:
    (found,) = time_forms(pl.Series(["16" + "0" * (digits - 2), "15" + "9" * (digits - 2)]))
    assert found.column.unit == unit and found.column.time_format is None


def test_what_is_no_time_has_no_form() -> None:
    assert time_forms(pl.Series(["", "hello", "2020", "12:26", "-", "%Y"])) == []


def test_day_and_month_that_cannot_be_told_apart_are_told_so(tmp_path) -> None:  # type: ignore[no-untyped-def]
    rows = [(u, i, r, f"{n % 9 + 1:02}/{n % 11 + 1:02}/2020") for n, (u, i, r, _) in enumerate(world())]
    found = check(dataset(tmp_path, {"ratings.csv": delimited(("user_id", "item_id", "rating", "timestamp"), rows)}))
    assert told(found.problems, 'time_format = "%m/%d/%Y"', '"%d/%m/%Y" reads as many')


def test_mixed_forms_are_named_as_mixed(tmp_path) -> None:  # type: ignore[no-untyped-def]
    rows = [(u, i, r, "2020-09-13" if n % 3 else "13.09.2020") for n, (u, i, r, _) in enumerate(world())]
    files = {"ratings.csv": delimited(("user_id", "item_id", "rating", "timestamp"), rows)}
    words = ("times are mixed", "96 as '2020-09-13' (time_format = \"%Y-%m-%d\")", "48 as '13.09.2020'")
    assert told(check(dataset(tmp_path, files)).problems, *words)
