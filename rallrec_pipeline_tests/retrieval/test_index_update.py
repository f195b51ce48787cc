"""The approximate index: building, updating, and what is done with a damaged or unfinished one."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rallrec_pipeline.errors import DataError, StaleArtefactError
from rallrec_pipeline.retrieval import index as index_module
from rallrec_pipeline.retrieval.index import (
    build_index,
    load_index,
    max_disagreement_with_brute_force,
    nearest_items,
    number_of_lists,
    read_index,
    recall,
    search,
    write_index,
)
from rallrec_pipeline.retrieval.index_update import MAX_CHANGED, Refreshed, refresh_index
from rallrec_pipeline.retrieval.inverted_lists import has_lists
from rallrec_pipeline.settings import IndexSettings

ALL_LISTS = IndexSettings(kind="ivf", probes=10_000)
SEED = 7
Vectors = NDArray[np.float32]


def random_vectors(seed: int, n: int = 200, d: int = 6) -> Vectors:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def names(vectors: Vectors) -> list[str]:
    """Item ids; what they are does not matter here."""
    return [f"item {row}" for row in range(len(vectors))]


def refresh(path: Path, vectors: Vectors, chosen: IndexSettings = ALL_LISTS) -> Refreshed:
    """One run of the stage: refresh and store."""
    fresh = refresh_index(path, vectors, chosen, SEED)
    write_index(fresh.index, names(vectors), path)
    return fresh


def a_few_changed(vectors: Vectors, rng: np.random.Generator) -> Vectors:
    """`vectors` with some rows gone, some changed, some new, some twice, in another order."""
    some = len(vectors) // 20
    kept = np.delete(vectors, rng.choice(len(vectors), some, replace=False), axis=0)
    kept[rng.choice(len(kept), some, replace=False)] *= -1.5
    new = rng.normal(size=(int(rng.integers(0, some)), vectors.shape[1])).astype(np.float32)
    twice = kept[rng.integers(len(kept), size=2)]
    return rng.permutation(np.concatenate([kept, new, twice]))


@given(st.integers(0, 10_000), st.integers(1, 5))
@settings(max_examples=25)
def test_after_any_updates_the_index_answers_like_a_fresh_one(seed: int, updates: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = random_vectors(seed)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "movies.faiss"
        assert refresh(path, vectors).work == "built"
        for _ in range(updates):
            before, vectors = len(vectors), a_few_changed(vectors, rng)
            done = refresh(path, vectors)
            assert done.work == "updated" and done.kept >= before * (1 - MAX_CHANGED)
            assert done.kept + done.removed == before and done.kept + done.added == len(vectors)
            updated, _ = read_index(path)
            queries = random_vectors(seed + 1, 8)
            assert max_disagreement_with_brute_force(updated, vectors, queries, 10) < 1e-5
            fresh = build_index(vectors, ALL_LISTS, SEED)
            assert np.allclose(search(updated, queries, 10)[1], search(fresh, queries, 10)[1], atol=1e-5)
            assert recall(updated, vectors, np.arange(len(vectors))) == 1


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    vectors = random_vectors(0, 3000, 16)
    changed = a_few_changed(vectors, np.random.default_rng(1))
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        path = folder / "movies.faiss"
        refresh(path, vectors)
        built = path.read_bytes()
        assert refresh(path, changed).work == "updated"
        contents.append((built, path.read_bytes(), path.with_suffix(".json").read_bytes()))
    assert contents[0] == contents[1] and contents[0][0] != contents[0][1]


def test_the_number_of_threads_changes_nothing(tmp_path: Path) -> None:
    import faiss

    vectors, threads = random_vectors(0, 3000, 16), faiss.omp_get_max_threads()
    refresh(tmp_path / "one.faiss", vectors)
    try:
        faiss.omp_set_num_threads(threads + 2)
        refresh(tmp_path / "more.faiss", vectors)
        assert faiss.omp_get_max_threads() == threads + 2
    finally:
        faiss.omp_set_num_threads(threads)
    assert (tmp_path / "one.faiss").read_bytes() == (tmp_path / "more.faiss").read_bytes()


def test_an_unchanged_index_is_written_with_the_same_bytes(tmp_path: Path) -> None:
    path, vectors = tmp_path / "movies.faiss", random_vectors(0)
    refresh(path, vectors)
    before = path.read_bytes()
    done = refresh(path, vectors)
    assert (done.work, done.added, done.removed, done.kept) == ("unchanged", 0, 0, 200)
    assert path.read_bytes() == before


def test_rows_follow_the_order_of_the_items(tmp_path: Path) -> None:
    path, vectors = tmp_path / "movies.faiss", random_vectors(0)
    refresh(path, vectors)
    done = refresh(path, vectors[::-1])
    assert (done.work, done.added, done.removed, done.kept) == ("updated", 0, 0, 200)
    positions, _ = search(read_index(path)[0], vectors[:3] * 100, 200)
    assert (positions[:, 0] == np.argmax(vectors[:3] @ vectors[::-1].T, axis=1)).all()


def test_other_probes_need_no_training(tmp_path: Path) -> None:
    path, vectors = tmp_path / "movies.faiss", random_vectors(0)
    refresh(path, vectors)
    done = refresh(path, vectors, IndexSettings(kind="ivf", probes=50))
    index, _ = read_index(path)
    assert (done.work, done.added, done.removed) == ("updated", 0, 0)
    assert has_lists(index) and index.nprobe == 50


@pytest.mark.parametrize("written", ["neither file", "the index only", "both files"])
def test_a_killed_update_is_continued_to_the_same_bytes(tmp_path: Path, written: str) -> None:
    vectors = random_vectors(3)
    changed = a_few_changed(vectors, np.random.default_rng(3))
    whole, killed = tmp_path / "whole.faiss", tmp_path / "killed.faiss"
    for path in (whole, killed):
        refresh(path, vectors)
    refresh(whole, changed)
    if written != "neither file":
        killed.write_bytes(whole.read_bytes())
        killed.with_suffix(".json").unlink()  # as it is between the two
        with pytest.raises(StaleArtefactError, match="unfinished"):
            read_index(killed)
    if written == "both files":
        killed.with_suffix(".json").write_bytes(whole.with_suffix(".json").read_bytes())
    refresh(killed, changed)
    assert killed.read_bytes() == whole.read_bytes()
    assert killed.with_suffix(".json").read_bytes() == whole.with_suffix(".json").read_bytes()


def test_a_writer_that_dies_leaves_no_index_beside_the_ids_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, vectors = tmp_path / "movies.faiss", random_vectors(0)
    write_index(build_index(vectors), names(vectors), path)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(index_module, "write_json", die)
    with pytest.raises(KeyboardInterrupt):
        write_index(build_index(-vectors), names(vectors)[::-1], path)
    with pytest.raises(StaleArtefactError, match="unfinished"):
        read_index(path)


def test_a_reader_that_is_overtaken_takes_no_mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, vectors = tmp_path / "movies.faiss", random_vectors(0)
    write_index(build_index(vectors), names(vectors), path)

    def after_a_writer(path: Path) -> object:
        write_index(build_index(-vectors), names(vectors)[::-1], path)
        return load_index(path)

    monkeypatch.setattr(index_module, "load_index", after_a_writer)
    with pytest.raises(DataError, match="disagree"):
        read_index(path)


def test_a_damaged_index_is_built_again(tmp_path: Path) -> None:
    path, vectors = tmp_path / "movies.faiss", random_vectors(0)
    refresh(path, vectors)
    good = path.read_bytes()
    for damaged in (b"", good[:40], good[:-5], b"x" * len(good), good[:8] + b"\xff" + good[9:], other_ids(good)):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="--select item_index"):
            read_index(path)
        done = refresh(path, vectors)
        assert (done.work, done.why) == ("built", "the old one is damaged")
        assert path.read_bytes() == good


def other_ids(content: bytes) -> bytes:
    """An index file whose last id, the last 8 bytes, is that of no row."""
    return content[:-8] + (1_000_000).to_bytes(8, "little")


def test_a_damaged_vector_is_replaced(tmp_path: Path) -> None:
    path, vectors = tmp_path / "movies.faiss", random_vectors(0)
    refresh(path, vectors)
    content = path.read_bytes()
    place = content.index(vectors[11].tobytes())
    path.write_bytes(content[:place] + b"\x07" + content[place + 1 :])
    done = refresh(path, vectors)
    assert (done.work, done.added, done.removed, done.kept) == ("updated", 1, 1, 199)
    assert max_disagreement_with_brute_force(read_index(path)[0], vectors, vectors, 10) < 1e-5


def test_what_an_update_is_not_for(tmp_path: Path) -> None:
    path, vectors = tmp_path / "movies.faiss", random_vectors(0)
    assert refresh(path, vectors).why == "there is no old one"
    many = vectors.copy()
    many[: int(200 * MAX_CHANGED) + 1] += 1
    assert refresh(path, many).why == "41 rows are new and 41 gone, of 200"
    assert refresh(path, random_vectors(0, d=7)).why == "the old one has 6 dimensions"
    assert refresh(path, vectors, IndexSettings(kind="flat")).why == "an exact index is always built"
    assert refresh(path, vectors).why == "the old one is of another kind"
    fewer = vectors
    while len(fewer) > 45:  # little by little, so that each step alone would be an update
        fewer = fewer[: -len(fewer) // 6]
        done = refresh(path, fewer)
        lists = number_of_lists(200)
        assert done.work == ("updated" if number_of_lists(len(fewer)) * 2 >= lists else "built")
    assert done.why == f"the old one has {lists} lists"
    with pytest.raises(DataError, match="not finite"):
        refresh(path, np.full((5, 7), np.nan, np.float32))


def test_an_update_that_finds_too_little_is_given_up(tmp_path: Path) -> None:
    path, vectors = tmp_path / "movies.faiss", random_vectors(0, 2000, 16)
    one = IndexSettings(kind="ivf", probes=1)
    refresh(path, vectors, one)
    assert recall(read_index(path)[0], vectors, np.arange(64)) < 0.5
    changed = vectors.copy()
    changed[5] += 1
    done = refresh(path, changed, one)
    assert done.work == "built" and "of the nearest" in done.why
    assert path.read_bytes() == write_index(build_index(changed, one, SEED), names(changed), path)[0].read_bytes()


def test_the_size_of_the_catalogue_chooses_the_kind() -> None:
    vectors = random_vectors(0, 21)
    kinds = {
        (kind, limit): has_lists(build_index(vectors, IndexSettings(kind=kind, flat_items=limit)))
        for kind in ("auto", "flat", "ivf")
        for limit in (20, 21)
    }
    assert {choice for choice, approximate in kinds.items() if approximate} == {
        ("auto", 20),
        ("ivf", 20),
        ("ivf", 21),
    }
    assert not has_lists(build_index(vectors[:0], IndexSettings(kind="ivf")))
    assert [number_of_lists(n) for n in (1, 9, 10_000, 1_000_000)] == [1, 9, 400, 4000]


def test_recall_counts_what_is_found() -> None:
    vectors = random_vectors(4, 400)
    rows = np.arange(50)
    assert recall(build_index(vectors), vectors, rows) == 1
    narrow = build_index(vectors, IndexSettings(kind="ivf", probes=1), SEED)
    positions, _ = nearest_items(narrow, vectors[rows], 10, exclude=rows)
    every = vectors[rows] @ vectors.T
    every[rows, rows] = -np.inf
    best = np.argsort(-every, axis=1)[:, :10]
    expected = np.mean([len(set(found) & set(true)) / 10 for found, true in zip(positions, best, strict=True)])
    assert 0 < expected < 1 and recall(narrow, vectors, rows) == pytest.approx(expected)
    assert recall(narrow, vectors[:-1], rows) == 0
    assert recall(build_index(vectors[:1]), vectors[:1], rows[:1]) == 1
