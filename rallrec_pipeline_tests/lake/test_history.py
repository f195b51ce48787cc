"""Earlier records of an artefact: found by run, kept apart from the current one, and never in the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from rallrec_pipeline.lake.history import (
    has_history,
    history_folder,
    latest_rows,
    past_records,
    read_rows,
    record_at,
    record_run,
    write_rows,
)
from rallrec_pipeline.lake.provenance import Sidecar, artefact_states, content_version, read_sidecar, sidecar_path

BASE = Sidecar("items", "small", "f1", "v1", {}, {}, "1", "run-1", "2026-11-21T08:00:00+00:00", 1.0)
LATER = replace(BASE, fingerprint="f2", data_version="v2", run_id="run-2", created_at="2026-11-21T09:00:00+00:00")


def test_the_newest_record_is_the_current_one(tmp_path: Path) -> None:
    assert not has_history(tmp_path, "items", "small")
    record_run(tmp_path, BASE)
    record_run(tmp_path, LATER)
    assert read_sidecar(tmp_path, "items", "small") == LATER
    assert [record.run_id for record in past_records(tmp_path, "items", "small")] == ["run-2", "run-1"]
    assert has_history(tmp_path, "items", "small")


def test_a_state_is_found_by_run_or_by_moment(tmp_path: Path) -> None:
    record_run(tmp_path, BASE)
    record_run(tmp_path, LATER)

    def at(run: str, moment: str) -> str | None:
        found = record_at(tmp_path, "items", "small", run, moment)
        return found and found.run_id

    assert at("run-1", BASE.created_at) == "run-1"
    assert at("another", "2026-11-21T08:30:00+00:00") == "run-1"  # that run found the artefact up to date
    assert at("another", "2026-11-21T10:00:00+00:00") == "run-2"
    assert at("another", "2026-11-21T07:00:00+00:00") is None


def test_numbers_go_on_after_a_lost_record_and_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    for record in (BASE, LATER, BASE):
        record_run(tmp_path, record)
    folder = history_folder(tmp_path, "items", "small")
    (folder / "000001.json").unlink()
    (folder / "000003.json").write_text("{", encoding="utf-8")
    record_run(tmp_path, replace(BASE, run_id="run-4"))
    assert sorted(path.name for path in folder.iterdir()) == ["000002.json", "000003.json", "000004.json"]
    assert [record.run_id for record in past_records(tmp_path, "items", "small")] == ["run-4", "run-2"]


def test_rows_are_stored_once_and_found_while_a_new_run_is_under_way(tmp_path: Path) -> None:
    rows = pl.DataFrame({"item_id": ["1"], "input_hash": ["x"]})
    names = [write_rows(tmp_path, "items", "small", rows) for _ in range(2)]
    assert names[0] == names[1] and len(list((tmp_path / names[0]).parent.iterdir())) == 1
    record_run(tmp_path, replace(BASE, rows_file=names[0]))
    sidecar_path(tmp_path, "items", "small").unlink()  # as a stage does before it works
    found = latest_rows(tmp_path, "items", "small")
    assert found is not None and found.equals(rows)
    (tmp_path / names[0]).write_bytes(b"")
    assert latest_rows(tmp_path, "items", "small") is None
    assert read_rows(tmp_path, None) is None


def test_a_touched_file_is_whole_and_an_edited_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "a" / "t.parquet"
    file.parent.mkdir()
    file.write_bytes(b"rows")
    record = replace(
        BASE,
        files=["a"],
        data_version="of the content",
        bytes_version=content_version([file.parent]),
        states=artefact_states([file.parent]),
    )
    assert record.is_whole(tmp_path)
    file.write_bytes(b"rows")
    assert artefact_states([file.parent]) != record.states and record.is_whole(tmp_path)
    file.write_bytes(b"other")
    assert not record.is_whole(tmp_path)


def test_a_temporary_file_is_no_part_of_an_artefact(tmp_path: Path) -> None:
    """What a killed run left behind may go without making anything stale."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "t.parquet").write_bytes(b"rows")
    (tmp_path / "a" / ".t.parquet.1234.tmp").write_bytes(b"half")
    with_it = content_version([tmp_path / "a"]), artefact_states([tmp_path / "a"])
    (tmp_path / "a" / ".t.parquet.1234.tmp").unlink()
    assert (content_version([tmp_path / "a"]), artefact_states([tmp_path / "a"])) == with_it
