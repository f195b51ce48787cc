"""Split by date: each split lies between its days, and ratings outside the period are nowhere."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rallrec_pipeline.datasets.catalog import get_dataset, with_protocol
from rallrec_pipeline.datasets.histories import in_protocol_order, make_samples, training_interactions
from rallrec_pipeline.datasets.kcore import core_of
from rallrec_pipeline.datasets.order import second_of
from rallrec_pipeline.datasets.protocol_spec import DatesSpec, LabelSpec, ProtocolSpec
from rallrec_pipeline_tests.datasets.worlds import frame

LABEL = LabelSpec(scale=(1, 2, 3, 4, 5), like_above=3)
DAYS = DatesSpec(train=date(2001, 6, 1), valid=date(2002, 4, 1), test=date(2002, 9, 1), end=date(2003, 2, 1))
RULES = ProtocolSpec(user_core=1, item_core=1, min_history=0, split="date", dates=DAYS)
SECONDS = st.integers(second_of(date(2001, 1, 1)), second_of(date(2003, 6, 1)))
RATINGS = st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 9)), SECONDS, max_size=40)
NO_ITEMS = pl.DataFrame(schema={"item_id": pl.String})


@given(RATINGS)
def test_each_split_lies_between_its_days_and_nothing_outside_is_kept(ratings: dict[tuple[int, int], int]) -> None:
    rows = frame([(f"u{user}", f"i{item}", 1.0 + item % 5, second) for (user, item), second in ratings.items()])
    core = in_protocol_order(core_of(rows, NO_ITEMS, RULES), RULES, 0)
    samples = make_samples(core, RULES, LABEL)
    expected: dict[str, set[tuple[str, str]]] = {"train": set(), "valid": set(), "test": set()}
    for (user, item), second in ratings.items():
        day = datetime.fromtimestamp(second, UTC).date()
        if date(2001, 6, 1) <= day < date(2003, 2, 1):
            split = "train" if day < date(2002, 4, 1) else "valid" if day < date(2002, 9, 1) else "test"
            expected[split].add((f"u{user}", f"i{item}"))
    found = {split: set(samples.filter(split=split).select("user_id", "item_id").rows()) for split in expected}
    assert found == expected and core.height == samples.height
    fitted = training_interactions(core, samples)
    assert set(fitted.select("user_id", "item_id").rows()) == expected["train"]


def test_a_border_is_the_first_second_of_its_day() -> None:
    first = second_of(date(2002, 4, 1))
    rows = frame([("u", "a", 4.0, first - 1), ("u", "b", 4.0, first)])
    samples = make_samples(core_of(rows, NO_ITEMS, RULES), RULES, LABEL)
    assert samples["split"].to_list() == ["train", "valid"]


@pytest.mark.parametrize(
    ("rules", "what"),
    [
        ({"split": "date"}, "go together"),
        ({"dates": {"valid": "2002-04-01", "test": "2002-09-01"}}, "go together"),
        ({"split": "date", "dates": {"valid": "2002-09-01", "test": "2002-04-01"}}, "must ascend"),
        ({"split": "date", "dates": {"valid": "2002-09-01", "test": "2002-09-01"}}, "must ascend"),
        ({"split": "date", "dates": {"valid": "spring", "test": "2002-04-01"}}, "valid"),
    ],
)
def test_days_that_make_no_splits_are_refused(rules: dict[str, object], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        ProtocolSpec.model_validate(rules)


def test_the_days_of_movielens_1m_are_those_of_the_published_code(tmp_path: Path) -> None:
    found = with_protocol(get_dataset("movielens-1m", tmp_path), "by_date").protocol
    assert found.dates == DAYS and not found.orders_users_alone
    assert [found.expected[split] for split in ("train", "valid", "test")] == [33_891, 10_401, 7_331]
