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
from rallrec_pipeline.sources.collect import collect, require_files
from rallrec_pipeline.sources.source import Kind, Source, SourceFile, silent
from rallrec_pipeline_tests.lake.flips import rewrite
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
    def copies() -> list[int]:
        return [path.stat().st_ino for path in collected(source, lake)]

    put(CONTENTS)
    before = copies()
    assert copies() == before
    put(CONTENTS)
    assert copies() == before, "only its time is another"
    for name in CONTENTS:
        os.utime(raw / name)
    assert copies() == before, "the copies were only touched"
    put(CHANGED)
    assert not set(copies()) & set(before) and contents_of(collected(source, lake)) == CHANGED


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def turn_over(path: Path) -> None:
    """As a tired disk does it: size and time stay."""
    rewrite(path, path.read_bytes()[::-1])


def overwrite(path: Path) -> None:
    path.write_bytes(b"something else, and longer than it was\n" * 100)


@pytest.mark.parametrize("harm", [cut, empty, turn_over, overwrite, Path.unlink])
def test_a_copy_that_is_not_what_was_fetched_is_fetched_again(
    source: Source, lake: Path, raw: Path, put: Put, harm: Callable[[Path], None], place: Path
) -> None:
    """Nobody else has to know what it was: the record of `raw_files` may be lost, too."""
    put(CONTENTS)
    collected(source, lake)
    harm(raw / "s.item")
    harmed = contents_of([raw / "s.item"]) if harm in (cut, overwrite) else {}
    said: list[str] = []
    assert contents_of(collect(source, raw, lake, silent, say=said.append)) == CONTENTS
    kept = {path.name.removesuffix(".edited"): path.read_bytes() for path in raw.glob("*.edited")}
    assert kept == harmed, "what may be somebody's work is kept"
    assert [line.startswith(f"warning: {raw / 's.item'} is another than its source") for line in said] == [True] * len(
        harmed
    )
    place.rename(place.with_name("away"))
    harm(raw / "s.item")
    if harm in (cut, overwrite):
        assert fetched(source, lake) == CONTENTS | contents_of([raw / "s.item"]), "then nobody can tell it from an edit"
    else:
        with pytest.raises(DataError, match=r"correct source\.location"):
            collected(source, lake)


@pytest.mark.parametrize("harm", [cut, empty, turn_over, overwrite, Path.unlink])
def test_an_empty_or_damaged_file_of_a_source_elsewhere_is_fetched_again_and_an_edited_one_is_told(
    lake: Path, raw: Path, harm: Callable[[Path], None]
) -> None:
    address = source_of("url", "http://127.0.0.1:1/a.zip")
    by_hand(raw, CONTENTS)
    collected(address, lake)
    harm(raw / "s.item")
    said: list[str] = []
    if harm in (cut, overwrite):
        wanted = CONTENTS | contents_of([raw / "s.item"])
        assert contents_of(collect(address, raw, lake, silent, say=said.append)) == wanted
        assert "is another than was fetched and is taken as it is: delete it to fetch it" in said[0]
        collect(address, raw, lake, silent, say=said.append)
        assert len(said) == 1, "now it is known"
    else:
        with pytest.raises(DataError, match="cannot download"):
            collected(address, lake)


def test_of_a_table_in_parts_a_part_that_is_lost_or_changed_is_fetched_again(lake: Path, tmp_path: Path) -> None:
    parts = {"a.csv": b"1\n", "b.csv": b"2\n", "c.csv": b""}
    for name, content in parts.items():
        place = tmp_path / "exports" / "ratings" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    source, raw = Source("folder", str(tmp_path / "exports"), (SourceFile("ratings"),)), lake / "raw" / "small"

    def found() -> dict[str, bytes]:
        (folder,) = collected(source, lake)
        return contents_of(left(folder))

    assert found() == parts
    inode = (raw / "ratings").stat().st_ino
    assert found() == parts and (raw / "ratings").stat().st_ino == inode, "an empty part may have been empty before"
    (raw / "ratings" / "a.csv").unlink()
    assert found() == parts
    empty(raw / "ratings" / "b.csv")
    assert found() == parts and not list(raw.glob("*.edited"))
    (raw / "ratings" / "b.csv").write_bytes(b"by hand\n")
    assert found() == parts
    assert (raw / "ratings.edited" / "b.csv").read_bytes() == b"by hand\n"


@pytest.mark.parametrize("harm", [empty, turn_over, Path.unlink])
def test_a_table_in_parts_is_kept_where_one_was_edited_though_another_is_lost(
    lake: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    parts = {"a.csv": b"1,2\n", "b.csv": b"2,3\n"}
    by_hand(tmp_path / "exports" / "ratings", parts)
    source, raw = Source("folder", str(tmp_path / "exports"), (SourceFile("ratings"),)), lake / "raw" / "small"
    collected(source, lake)
    harm(raw / "ratings" / "a.csv")
    (raw / "ratings" / "b.csv").write_bytes(b"by hand\n")
    said: list[str] = []
    (folder,) = collect(source, raw, lake, silent, say=said.append)
    assert contents_of(left(folder)) == parts and len(said) == 1
    assert (raw / "ratings.edited" / "b.csv").read_bytes() == b"by hand\n"


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


def test_a_local_source_that_is_needed_and_not_there_is_told_at_once_in_the_same_words(
    source: Source, lake: Path, raw: Path, put: Put, place: Path, kind: Kind
) -> None:
    def is_told(source: Source) -> None:
        with pytest.raises(DataError, match=r"correct source\.location; or put s\.inter") as late:
            collected(source, lake)
        with pytest.raises(DataError) as at_once:
            require_files(source, raw)
        assert str(at_once.value) == str(late.value)

    is_told(source)
    put(CONTENTS)
    require_files(source, raw)
    collected(source, lake)
    place.rename(place.with_name("away"))
    require_files(source, raw)  # the copies are taken
    is_told(source_of(kind, place.with_name("nowhere")))
    pinned = tuple(SourceFile(name, sha256=SUMS[name]) for name in CONTENTS)
    require_files(Source(kind, str(place.with_name("nowhere")), pinned), raw)
    (raw / "s.user").unlink()
    is_told(source)
    require_files(source_of("url", "http://127.0.0.1:1/a.zip"), raw)  # nobody knows before it is asked


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
