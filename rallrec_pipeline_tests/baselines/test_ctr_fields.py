from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from rallrec_pipeline.baselines.ctr_fields import MAX_ENTRIES, CtrFields, Vocabulary, ctr_fields
from rallrec_pipeline.errors import DataError
from rallrec_pipeline_tests.baselines.worlds import films

SPEC = films({"studio": "s"}, {"age": "a"})
ITEMS = pl.DataFrame(
    {
        "item_id": ["a", "b", "c"],
        "title": ["A", "B", "C"],
        "genres": ["Drama, War", "", "War"],
        "studio": ["North, Ltd", "South", None],
    }
)
CORE = pl.DataFrame(
    {
        "user_id": ["x", "y", "x", "x"],
        "item_id": ["a", "c", "b", "c"],
        "rating": pl.Series([5, 4, 2, 4], dtype=pl.Float32),
        "timestamp": [1, 2, 3, 4],
    }
)
USERS = pl.DataFrame({"user_id": ["x", "z"], "age": ["18-24", "25+"]})
SAMPLES = pl.DataFrame(
    {
        "user_id": ["x", "x", "x", "y"],
        "item_id": ["a", "b", "c", "c"],
        "history_length": pl.Series([0, 1, 2, 0], dtype=pl.Int32),
    }
)


def _fields(history_length: int = 2) -> CtrFields:
    return ctr_fields(SAMPLES, CORE, ITEMS, USERS, SPEC, history_length)


def _columns(fields: CtrFields, name: str) -> np.ndarray:
    """Codes of one field within the field, counted from 1: (n, width)."""
    before = 0
    for field in fields.fields:
        if field.name == name:
            codes = fields.rows(np.arange(len(fields)))[:, before : before + field.width]
            assert ((codes == 0) | ((codes >= field.first) & (codes < field.first + field.values))).all()
            return np.where(codes == 0, 0, codes - field.first + 1)
        before += field.width
    raise AssertionError(f"no field {name}")


def test_fields_are_the_ids_the_profile_what_items_have_and_the_history_without_the_title() -> None:
    named = {field.name: (field.values, field.width) for field in _fields().fields}
    assert named == {
        "user_id": (2, 1),
        "age": (1, 1),
        "item_id": (3, 1),
        "genres": (2, 2),
        "studio": (2, 1),
        "history": (6, 2),
    }


def test_no_code_is_in_two_fields_and_nothing_known_is_0() -> None:
    fields = _fields()
    assert [field.first for field in fields.fields] == [1, 3, 4, 7, 9, 11] and fields.values == 17
    assert _columns(fields, "age").tolist() == [[1], [1], [1], [0]]  # y has no profile
    assert _columns(fields, "genres").tolist() == [[1, 2], [0, 0], [2, 0], [2, 0]]
    assert _columns(fields, "studio").tolist() == [[1], [2], [0], [0]]  # a comma in a name makes no list


def test_the_history_is_what_the_user_rated_before_with_the_answer_and_the_latest_first() -> None:
    a_liked, b_disliked = 2, 3  # pairs of item and answer: a no, a yes, b no, …
    expected = [[0, 0], [a_liked, 0], [b_disliked, a_liked], [0, 0]]
    assert _columns(_fields(), "history").tolist() == expected
    assert _columns(_fields(history_length=1), "history").tolist() == [[0], [a_liked], [b_disliked], [0]]


def test_a_vocabulary_knows_the_values_of_its_rows_alone() -> None:
    fields = _fields()
    vocabulary = Vocabulary.of(fields, np.array([0, 1]))
    assert vocabulary.sizes == (2, 2, 3, 3, 3, 2)  # each with the 0
    numbers = vocabulary.number[fields.rows(np.arange(4))]
    assert numbers[:, 0].tolist() == [1, 1, 1, 0] and numbers[:, 2].tolist() == [1, 2, 0, 0]
    assert all(numbers[:, column].max() < size for column, size in ((0, 2), (1, 2), (2, 3), (5, 3), (6, 2)))


def test_values_of_too_few_rows_are_unknown() -> None:
    fields = _fields()
    vocabulary = Vocabulary.of(fields, np.arange(4), fewest=2)
    assert vocabulary.sizes[0] == 2 and vocabulary.sizes[2] == 2
    assert vocabulary.number[fields.rows(np.arange(4))][:, 2].tolist() == [0, 0, 1, 1]


def test_a_dataset_without_users_has_no_profile_fields() -> None:
    fields = ctr_fields(SAMPLES, CORE, ITEMS, None, SPEC)
    assert [field.name for field in fields.fields] == ["user_id", "item_id", "genres", "studio", "history"]


def test_long_lists_end_after_the_first_entries() -> None:
    many = ITEMS.with_columns(genres=pl.lit(", ".join(f"g{place:02}" for place in range(MAX_ENTRIES + 5))))
    fields = ctr_fields(SAMPLES, CORE, many, USERS, SPEC)
    assert _columns(fields, "genres")[0].tolist() == list(range(1, MAX_ENTRIES + 1))


def test_a_sample_of_an_item_that_the_catalogue_lacks_is_refused() -> None:
    with pytest.raises(DataError, match="'d' is not in the table"):
        ctr_fields(SAMPLES.with_columns(item_id=pl.lit("d")), CORE, ITEMS, USERS, SPEC)
