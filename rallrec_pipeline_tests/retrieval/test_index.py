from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rallrec_pipeline.errors import DataError, StaleArtefactError
from rallrec_pipeline.retrieval.index import (
    build_index,
    max_disagreement_with_brute_force,
    nearest_items,
    read_index,
    search,
    write_index,
)


def random_vectors(seed: int, n: int = 30, d: int = 6) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@given(st.integers(0, 1000), st.integers(1, 30))
@settings(max_examples=30)
def test_search_is_brute_force(seed: int, k: int) -> None:
    vectors, queries = random_vectors(seed), random_vectors(seed + 1, n=5)
    positions, scores = search(build_index(vectors), queries, k)
    every = queries @ vectors.T
    assert (positions == np.argsort(-every, axis=1)[:, :k]).all()
    assert np.allclose(scores, -np.sort(-every, axis=1)[:, :k], atol=1e-5)
    assert max_disagreement_with_brute_force(build_index(vectors), vectors, queries, k) < 1e-5


def test_disagreement_is_seen() -> None:
    vectors = random_vectors(0)
    changed = vectors.copy()
    changed[4] *= 10
    assert max_disagreement_with_brute_force(build_index(vectors), changed, vectors, 5) > 1
    assert max_disagreement_with_brute_force(build_index(vectors[:-1]), vectors, vectors, 5) == float("inf")


def test_nearest_items_leaves_the_item_itself_out() -> None:
    vectors = random_vectors(2)
    rows = np.array([3, 8])
    positions, scores = nearest_items(build_index(vectors), vectors[rows], 4, exclude=rows)
    assert positions.shape == scores.shape == (2, 4)
    assert not (positions == rows[:, None]).any()
    every = vectors[rows] @ vectors.T
    every[[0, 1], rows] = -np.inf
    assert (positions == np.argsort(-every, axis=1)[:, :4]).all()


def test_beyond_the_last_item_is_padding() -> None:
    vectors = random_vectors(0, n=3)
    positions, scores = search(build_index(vectors), vectors, 5)
    assert (positions[:, 3:] == -1).all()
    assert not scores[:, 3:].any()
    positions, _ = nearest_items(build_index(vectors), vectors, 5, exclude=np.arange(3))
    assert (np.sort(positions, axis=1)[:, :3] == -1).all()
    assert (positions[:, 2:] == -1).all()


def test_written_index_reads_back(tmp_path: Path) -> None:
    vectors, path = random_vectors(1), tmp_path / "index" / "movies.faiss"
    names = [f"é{i}" for i in range(30)]
    files = write_index(build_index(vectors), names, path)
    index, read_names = read_index(path)
    assert read_names == names
    assert sorted(path.parent.iterdir()) == sorted(files)
    assert (search(index, vectors, 3)[0] == search(build_index(vectors), vectors, 3)[0]).all()


def test_bad_files_and_vectors_are_one_line_errors(tmp_path: Path) -> None:
    path = tmp_path / "movies.faiss"
    with pytest.raises(StaleArtefactError, match="item_index"):
        read_index(path)
    index = build_index(random_vectors(1))
    with pytest.raises(DataError, match="30 vectors for 1 items"):
        write_index(index, ["a"], path)
    assert not path.exists()
    write_index(index, [str(i) for i in range(30)], path)
    with pytest.raises(DataError, match="dimensions"):
        search(index, random_vectors(1, d=5), 3)
    path.with_suffix(".json").write_text("[]")
    with pytest.raises(DataError, match="disagree"):
        read_index(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="cannot read"):
        read_index(path)
    with pytest.raises(DataError, match="not finite"):
        build_index(np.array([[1, np.nan]], np.float32))
