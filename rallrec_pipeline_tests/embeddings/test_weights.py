"""Fitted weights on disk: the same bytes for the same fit, and a damaged file is never taken for a whole one."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

from rallrec_pipeline.embeddings.weights import (
    Weights,
    fit_id,
    read_ids,
    read_weights,
    write_ids,
    write_weights,
)
from rallrec_pipeline.errors import DataError

SMALL = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
RECORD = {"fit": "a", "warm_started_from": None, "space": "a", "scores": [0.1, 1 / 3], "graph": ["signed", 3]}


def weights() -> Weights:
    rng = np.random.default_rng(0)
    return Weights({"weights": rng.normal(size=(4, 3)).astype(np.float32), "input.mean": rng.normal(size=3)}, RECORD)


@SMALL
@given(hn.arrays(np.float32, (3, 2), elements=st.floats(-9, 9, width=32)), st.floats(allow_nan=False, width=64))
def test_what_is_read_is_what_was_written(tmp_path: Path, array: np.ndarray, score: float) -> None:
    score = score if np.isfinite(score) else 0.0
    write_weights(tmp_path / "w", Weights({"a": array, "b": array.T}, {"fit": "é", "score": score}))
    found = read_weights(tmp_path / "w")
    assert found is not None and found.record == {"fit": "é", "score": score}
    np.testing.assert_array_equal(found.tensors["a"], array)
    np.testing.assert_array_equal(found.tensors["b"], array.T)


def test_equal_weights_are_equal_bytes(tmp_path: Path) -> None:
    files = [write_weights(tmp_path / str(number), weights()).read_bytes() for number in range(8)]
    turned = Weights(dict(reversed(weights().tensors.items())), dict(reversed(RECORD.items())))
    assert len({*files, write_weights(tmp_path / "turned", turned).read_bytes()}) == 1
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_no_file_is_no_error(tmp_path: Path) -> None:
    assert read_weights(tmp_path / "none") is None


@SMALL
@given(st.data())
def test_a_flipped_bit_or_a_cut_is_noticed(tmp_path: Path, data: st.DataObject) -> None:
    path = write_weights(tmp_path / "w", weights())
    good = path.read_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    flipped = bytearray(good)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    for bad in (bytes(flipped), good[:place], good + b"\0"):
        path.write_bytes(bad)
        with pytest.raises(DataError, match="damaged"):
            read_weights(path)


class Attack:
    """Would write a file when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return (exec, ("import pathlib; pathlib.Path('attacked').touch()",))


def test_pickle_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(DataError, match="damaged"):
        read_weights(tmp_path / "w")
    assert not (tmp_path / "attacked").exists()


def test_weights_that_are_not_finite_are_damaged(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "w", Weights({"a": np.array([1, np.nan], np.float32)}, {"fit": "a"}))
    with pytest.raises(DataError, match="not finite"):
        read_weights(path)


def test_ids_belong_to_their_weights(tmp_path: Path) -> None:
    path = write_ids(tmp_path / "ids.json", "a", ["u1", "ü"], ["i1"])
    assert read_ids(path, "a") == (["u1", "ü"], ["i1"])
    with pytest.raises(DataError, match="not those"):
        read_ids(path, "b")
    for broken in (
        "",
        "[]",
        "{}",
        '{"fit": "a", "users": [1], "items": []}',
        '{"fit": "a", "users": "u", "items": []}',
    ):
        path.write_text(broken, encoding="utf-8")
        with pytest.raises(DataError):
            read_ids(path, "a")


def test_a_fit_is_told_by_all_that_goes_into_it() -> None:
    array = np.arange(4, dtype=np.float32)
    one = fit_id("lightgcn", {"layers": 3}, array)
    assert one == fit_id("lightgcn", {"layers": 3}, array.copy())
    others = [array.astype(np.float64), array.reshape(2, 2), array + 1]
    assert (
        len({one, fit_id("lightgcn", {"layers": 2}, array), *(fit_id("lightgcn", {"layers": 3}, a) for a in others)})
        == 5
    )
