"""A dataset's files as its TOML file names them, fetched to where its readers look for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from rallrec_pipeline.datasets.file_spec import FileSpec
from rallrec_pipeline.datasets.raw_files import fetch_raw_files, source_state, watched_files
from rallrec_pipeline.sources.source import SourceFile
from rallrec_pipeline_tests.datasets.worlds import make_spec

NAMES = ["s.inter", "s.item", "s.user"]


@pytest.mark.parametrize(
    "name", ["../../evil.txt", "/etc/evil", "..", ".hidden", "a/../b", "a/.b", "a//b", "a\\b", "a\nb", ""]
)
def test_the_name_of_a_file_leads_nowhere_else(name: str) -> None:
    with pytest.raises(ValidationError):
        FileSpec(name=name, member="good.txt")


@pytest.mark.parametrize("named", [True, False])
def test_a_local_source_is_fetched_and_watched_where_it_lies(tmp_path: Path, named: bool) -> None:
    place, lake = tmp_path / "mine", tmp_path / "lake"
    place.mkdir()
    for name in NAMES:
        (place / name).write_text(f"of {name}", encoding="utf-8")
    files = [{"name": name} for name in NAMES] if named else []
    spec = make_spec(source={"kind": "folder", "location": str(place), "files": files})
    assert spec.files == tuple(map(SourceFile, NAMES)), "without a list they are what the tables name"
    before = source_state(spec)
    paths = fetch_raw_files(spec, lake)
    assert paths == [lake / "raw" / "small" / name for name in NAMES]
    assert [path.read_text(encoding="utf-8") for path in paths] == [f"of {name}" for name in NAMES]
    assert watched_files(spec, lake) == [place / name for name in NAMES] and source_state(spec) == before
    (place / "s.item").write_text("edited", encoding="utf-8")
    assert source_state(spec) != before


def test_a_source_elsewhere_is_watched_in_the_lake(tmp_path: Path) -> None:
    files = [{"name": name, "member": f"deep/{name}", "sha256": "0" * 64} for name in NAMES]
    spec = make_spec(source={"kind": "wheel", "location": "some-package==1.0", "files": files, "sha256": "1" * 64})
    assert spec.origin.files[0] == SourceFile("s.inter", "deep/s.inter", sha256="0" * 64)
    assert spec.origin.sha256 == "1" * 64 and source_state(spec) == []
    assert watched_files(spec, tmp_path) == [tmp_path / "raw" / "small" / name for name in NAMES]
