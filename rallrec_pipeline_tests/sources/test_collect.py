"""A source is fetched again when it has changed, never otherwise; what nobody knows the source of is left alone."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import read_json
from rallrec_pipeline.sources.collect import collect
from rallrec_pipeline.sources.source import Kind, Source, SourceFile, silent
from rallrec_pipeline_tests.sources.test_fetch import CONTENTS, SUMS, collected, contents_of, left, zipped

CHANGED = CONTENTS | {"s.item": b"other items\n"}
BY_HAND = dict.fromkeys(CONTENTS, b"by hand")

Put = Callable[[dict[str, bytes]], None]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


@pytest.fixture
def raw(lake: Path) -> Path:
    return lake / "raw" / "small"


@pytest.fixture(params=["folder", "zip"])
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@pytest.fixture
def place(tmp_path: Path, kind: Kind) -> Path:
    return tmp_path / ("exports" if kind == "folder" else "exports.zip")


@pytest.fixture
def source(kind: Kind, place: Path) -> Source:
    return source_of(kind, place)


@pytest.fixture
def put(place: Path, kind: Kind) -> Put:
    """Writes the source; each time it is of another moment."""
    moments = iter(range(1_600_000_000, 1_700_000_000, 60))

    def write(contents: dict[str, bytes]) -> None:
        if kind == "zip":
            place.write_bytes(zipped(contents))
        else:
            place.mkdir(exist_ok=True)
            for name, content in contents.items():
                (place / name).write_bytes(content)
        moment = next(moments)
        for path in [place, *place.glob("*")]:
            os.utime(path, (moment, moment))

    return write


def source_of(kind: Kind, place: str | Path) -> Source:
    """A source whose files have no pinned checksum."""
    return Source(kind, str(place), tuple(map(SourceFile, CONTENTS)))


def by_hand(raw: Path, contents: dict[str, bytes] = BY_HAND) -> None:
    raw.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (raw / name).write_bytes(content)


def fetched(source: Source, lake: Path) -> dict[str, bytes]:
    return contents_of(collected(source, lake))


def test_a_source_that_has_changed_is_fetched_again(source: Source, lake: Path, put: Put) -> None:
    for contents in (CONTENTS, CHANGED, CONTENTS):
        put(contents)
        assert fetched(source, lake) == contents


def test_an_unchanged_or_touched_source_is_not(source: Source, lake: Path, raw: Path, put: Put) -> None:
    put(CONTENTS)
    collected(source, lake)
    by_hand(raw)
    assert fetched(source, lake) == BY_HAND
    put(CONTENTS)
    assert fetched(source, lake) == BY_HAND, "only its time is another"
    put(CHANGED)
    assert fetched(source, lake) == CHANGED


def test_an_edited_file_with_a_pinned_checksum_is_kept_and_told_when_the_published_one_comes_back(
    kind: Kind, place: Path, lake: Path, raw: Path, put: Put
) -> None:
    put(CONTENTS)
    source = Source(kind, str(place), tuple(SourceFile(name, name, sha256=SUMS[name]) for name in CONTENTS))
    assert fetched(source, lake) == CONTENTS
    (raw / "s.item").write_bytes(b"edited")
    (raw / "s.user").write_bytes(b"bits turned over")
    said: list[str] = []
    assert contents_of(collect(source, raw, lake, silent, {"s.user"}, said.append)) == CONTENTS
    assert (raw / "s.item.edited").read_bytes() == b"edited" and not (raw / "s.user.edited").exists()
    assert len(said) == 1 and said[0].startswith(f"warning: {raw / 's.item'} is not as published")
    (raw / "s.item").write_bytes(b"again")
    assert fetched(source, lake) == CONTENTS
    assert (raw / "s.item.edited").read_bytes() == b"edited" and (raw / "s.item.2.edited").read_bytes() == b"again"


def test_files_of_nobody_knows_where_stay_until_there_is_a_source(
    source: Source, lake: Path, raw: Path, put: Put
) -> None:
    by_hand(raw)
    assert fetched(source, lake) == BY_HAND, "there is no source at all"
    put(CONTENTS)
    assert fetched(source, lake) == CONTENTS, "as after an upgrade from a version without records"
    (raw / ".source.json").unlink()
    put(CHANGED)
    assert fetched(source, lake) == CHANGED


def test_another_kind_of_source_is_fetched(lake: Path, raw: Path, tmp_path: Path) -> None:
    folder, archive = tmp_path / "exports", tmp_path / "exports.zip"
    by_hand(folder, CONTENTS)
    archive.write_bytes(zipped(CHANGED))
    elsewhere = source_of("url", "https://nowhere.invalid/x.zip")
    by_hand(raw)
    assert fetched(elsewhere, lake) == BY_HAND, "a source elsewhere is not asked for files that are there"
    assert fetched(source_of("folder", folder), lake) == CONTENTS
    assert fetched(source_of("zip", archive), lake) == CHANGED
    with pytest.raises(DataError, match="cannot download"):
        collected(elsewhere, lake)
    assert contents_of([raw / name for name in CONTENTS]) == CHANGED


def test_a_source_that_is_gone_changes_nothing_and_one_of_another_place_does(
    source: Source, lake: Path, put: Put, place: Path, kind: Kind
) -> None:
    put(CONTENTS)
    collected(source, lake)
    elsewhere = place.rename(place.with_name(f"other-{place.name}"))
    assert fetched(source, lake) == CONTENTS
    put(CHANGED)
    assert fetched(source, lake) == CHANGED
    assert fetched(source_of(kind, elsewhere), lake) == CONTENTS
    with pytest.raises(DataError, match=r"correct source\.location"):
        collected(source_of(kind, place.with_name("nowhere")), lake)


def test_a_changed_source_that_is_broken_says_how_to_go_on_without_it(
    source: Source, lake: Path, raw: Path, put: Put, place: Path
) -> None:
    put(CONTENTS)
    collected(source, lake)
    if place.is_dir():
        (place / "s.item").unlink()
        assert fetched(source, lake) == CONTENTS, "a file that is gone changes nothing"
        (place / "s.inter").write_bytes(b"2")
    else:
        put({"s.inter": b"1"})
    before = contents_of(left(raw))
    with pytest.raises(DataError) as caught:
        collected(source, lake)
    hint = f"or put s.inter, s.item, s.user into {raw} by hand and delete .source.json there and take the source away"
    assert hint in str(caught.value)
    assert contents_of(left(raw)) == before, "what was there still is, the record too"
    (raw / ".source.json").unlink()
    place.rename(place.with_name("away"))
    assert fetched(source, lake) == CONTENTS


def test_the_record_is_no_raw_file_and_its_loss_is_no_fault(source: Source, lake: Path, raw: Path, put: Put) -> None:
    put(CONTENTS)
    assert [path.name for path in collected(source, lake)] == list(CONTENTS)
    record = raw / ".source.json"
    assert left(raw) == sorted([record, *(raw / name for name in CONTENTS)])
    assert read_json(record)["source"]["location"] == source.location
    for text in ("", "[]", "{}", '{"source": 1, "files": [2]}', '{"source": 1, "files": {"a": [1]}}'):
        record.write_text(text, encoding="utf-8")
        assert fetched(source, lake) == CONTENTS
        assert read_json(record)["files"]


def test_a_file_that_is_missing_is_fetched_with_the_others(source: Source, lake: Path, raw: Path, put: Put) -> None:
    put(CONTENTS)
    collected(source, lake)
    (raw / "s.user").unlink()
    assert fetched(source, lake) == CONTENTS


def test_a_source_elsewhere_is_never_read_again(lake: Path, raw: Path) -> None:
    address = source_of("url", "http://127.0.0.1:1/a.zip")
    for contents in (BY_HAND, CONTENTS):
        by_hand(raw, contents)
        assert fetched(address, lake) == contents
        assert read_json(raw / ".source.json")["source"]["location"] == "http://127.0.0.1:1/a.zip"
    shutil.rmtree(raw)
    with pytest.raises(DataError, match="cannot download"):
        collected(address, lake)


@pytest.mark.parametrize("name", ["ratings.csv", "ratings.csv.gz"])
def test_a_local_file_that_is_no_zip_is_taken_as_the_one_table_and_left_where_it_is(
    lake: Path, tmp_path: Path, name: str
) -> None:
    place = tmp_path / name
    place.write_bytes(gzip.compress(CONTENTS["s.inter"]) if name.endswith("gz") else CONTENTS["s.inter"])
    before = left(tmp_path), place.read_bytes()
    assert fetched(Source("zip", str(place), (SourceFile("s.inter"),)), lake) == {"s.inter": CONTENTS["s.inter"]}
    shutil.rmtree(lake)
    assert (left(tmp_path), place.read_bytes()) == before
