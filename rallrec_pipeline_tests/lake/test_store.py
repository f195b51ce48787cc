"""Results under their fingerprint, and refs that say which are in force."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.errors import StaleArtefactError
from rallrec_pipeline.lake.sealed import read_sealed, write_sealed
from rallrec_pipeline.lake.store import (
    Given,
    Record,
    all_records,
    finish_result,
    in_force,
    past_refs,
    put_in_force,
    read_record,
    read_ref,
    recorded_datasets,
    result_folder,
    unfinished_result,
    whole,
)


def make(
    lake: Path, fingerprint: str, text: str = "text", stage: str = "items", inputs: dict[str, Given] | None = None
) -> Record:
    """One finished result of one table and one folder."""
    record = Record(
        stage, "ml", fingerprint, "", inputs or {}, {}, "1", "run-1", f"2026-01-01T00:00:{len(text):02}", 0.1
    )
    with unfinished_result(lake, "ml", stage, fingerprint) as draft:
        file = draft / "tables" / stage / "ml.txt"
        file.parent.mkdir(parents=True)
        file.write_text(text)
        folder = draft / "embeddings" / stage / "ml.parquet"
        folder.mkdir(parents=True)
        (folder / "shard-0").write_text(text * 2)
        return finish_result(lake, draft, record, [file, folder], pl.DataFrame({"input_hash": [text]}))


def test_a_result_lies_under_its_fingerprint_with_the_checksum_of_each_file(tmp_path: Path) -> None:
    made = make(tmp_path, "f1")
    assert read_record(tmp_path, "ml", "items", "f1") == made
    assert (tmp_path / "results/ml/items/f1/tables/items/ml.txt").read_text() == "text"
    assert {len(digest) for _, _, digest in made.files.values()} == {64}
    assert made.rows(tmp_path) is not None
    assert recorded_datasets(tmp_path) == ["ml"]


def test_the_data_version_is_that_of_the_bytes_wherever_they_lie(tmp_path: Path) -> None:
    first, other, changed = make(tmp_path, "f1"), make(tmp_path, "f2"), make(tmp_path, "f3", "other")
    assert first.data_version == other.data_version != changed.data_version


def test_what_fails_leaves_no_result(tmp_path: Path) -> None:
    def fail() -> None:
        with unfinished_result(tmp_path, "ml", "items", "f1") as draft:
            (draft / "half").write_text("half")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fail()
    assert list((tmp_path / "results/ml/items").iterdir()) == []
    assert read_record(tmp_path, "ml", "items", "f1") is None


@pytest.mark.process
def test_a_killed_process_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    code = dedent(
        f"""
        import time
        from pathlib import Path
        from rallrec_pipeline.lake.store import unfinished_result
        with unfinished_result(Path({str(tmp_path)!r}), "ml", "items", "f1") as draft:
            (draft / "half").write_text("half")
            print("at work", flush=True)
            time.sleep(60)
        """
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        process.kill()
    assert not result_folder(tmp_path, "ml", "items", "f1").exists()
    assert all_records(tmp_path, "ml", "items") == []
    assert make(tmp_path, "f1").is_whole(tmp_path)


def test_two_that_make_the_same_at_once_do_not_touch_each_other(tmp_path: Path) -> None:
    with unfinished_result(tmp_path, "ml", "items", "f1") as first:
        (first / "manifest.json").write_text("first")
        with unfinished_result(tmp_path, "ml", "items", "f1") as second:
            assert second != first
            (second / "manifest.json").write_text("second")
        assert (first / "manifest.json").read_text() == "first"
    assert (result_folder(tmp_path, "ml", "items", "f1") / "manifest.json").read_text() == "first"


def test_links_lead_to_what_is_in_force(tmp_path: Path) -> None:
    demo, full = make(tmp_path, "f1", "demo"), make(tmp_path, "f2", "full")
    link = tmp_path / "tables/items/ml.txt"
    for record, variant in ((demo, "demo"), (full, "full"), (demo, "demo")):
        put_in_force(tmp_path, record, variant, f"run-{variant}", {})
        assert link.read_text() == variant
        assert link.is_symlink() and not os.path.isabs(os.readlink(link))
        assert (tmp_path / "embeddings/items/ml.parquet/shard-0").read_text() == variant * 2
    assert read_ref(tmp_path, "ml", "demo").results == {"items": "f1"}  # type: ignore[union-attr]
    assert read_ref(tmp_path, "ml", "full").results == {"items": "f2"}  # type: ignore[union-attr]
    assert in_force(tmp_path, "ml").variant == "demo"  # type: ignore[union-attr]


def test_a_link_of_what_the_new_result_has_not_goes(tmp_path: Path) -> None:
    first, second = make(tmp_path, "f1"), make(tmp_path, "f2")
    put_in_force(tmp_path, first, "demo", "run-1", {})
    put_in_force(tmp_path, replace(second, outputs=second.outputs[:1]), "demo", "run-2", {})
    assert not (tmp_path / "embeddings/items/ml.parquet").is_symlink()
    assert (tmp_path / "tables/items/ml.txt").exists()


def test_a_link_takes_the_place_of_a_file_or_folder_of_an_older_lake(tmp_path: Path) -> None:
    old = tmp_path / "embeddings/items/ml.parquet"
    old.mkdir(parents=True)
    (old / "shard-of-old").write_text("old")
    file = tmp_path / "tables/items/ml.txt"
    file.parent.mkdir(parents=True)
    file.write_text("old")
    put_in_force(tmp_path, make(tmp_path, "f1"), "demo", "run-1", {})
    assert file.read_text() == "text"
    assert [path.name for path in old.iterdir()] == ["shard-0"]
    assert [path.name for path in old.parent.iterdir()] == ["ml.parquet"]


def test_the_history_is_the_list_of_what_runs_left_behind(tmp_path: Path) -> None:
    first, second = make(tmp_path, "f1"), make(tmp_path, "f2")
    samples = make(tmp_path, "s1", stage="samples")
    put_in_force(tmp_path, first, "demo", "run-1", {})
    put_in_force(tmp_path, samples, "demo", "run-1", {"writer": "w1"})
    put_in_force(tmp_path, first, "demo", "run-2", {})  # changes nothing
    put_in_force(tmp_path, second, "demo", "run-3", {})
    found = [(ref.run_id, dict(ref.results)) for ref in past_refs(tmp_path, "ml")]
    assert found == [
        ("run-3", {"items": "f2", "samples": "s1", "writer": "w1"}),
        ("run-1", {"items": "f1", "samples": "s1", "writer": "w1"}),
    ]


def test_an_edited_file_is_noticed_and_a_touched_or_copied_one_is_not(tmp_path: Path) -> None:
    made = make(tmp_path, "f1")
    file = tmp_path / made.outputs[0]
    os.utime(file, ns=(1, 1))
    renewed = whole(tmp_path, made)
    assert renewed is not None
    assert renewed.files[made.outputs[0]][1] == 1
    assert read_record(tmp_path, "ml", "items", "f1") == renewed
    file.write_text("TEXT")
    assert whole(tmp_path, renewed) is None
    file.unlink()
    assert whole(tmp_path, renewed) is None


def test_what_a_newer_version_wrote_is_refused_in_one_line(tmp_path: Path) -> None:
    made = make(tmp_path, "f1")
    document = read_sealed(made.manifest(tmp_path))
    write_sealed(made.manifest(tmp_path), document | {"format": 99, "more": 1})
    with pytest.raises(StaleArtefactError, match="newer version of this program"):
        read_record(tmp_path, "ml", "items", "f1")


@settings(max_examples=25)
@given(st.data())
def test_a_damaged_manifest_is_as_good_as_none(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    lake = tmp_path_factory.mktemp("lake")
    path = make(lake, "f1").manifest(lake)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    path.write_bytes(bytes(content[:at]) + data.draw(st.binary(max_size=3)))
    try:
        found = read_record(lake, "ml", "items", "f1")
    except StaleArtefactError:
        return
    assert found is None or found.fingerprint == "f1"


def test_records_of_a_stage_come_newest_first(tmp_path: Path) -> None:
    make(tmp_path, "f1", "a")
    make(tmp_path, "f2", "aaa")
    assert [record.fingerprint for record in all_records(tmp_path, "ml", "items")] == ["f2", "f1"]
