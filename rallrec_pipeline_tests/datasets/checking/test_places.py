"""Where the files lie, and whether they are there."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from rallrec_pipeline.datasets.catalog import load_dataset
from rallrec_pipeline.datasets.checking.report import check_dataset
from rallrec_pipeline.datasets.raw_files import fetch_raw_files
from rallrec_pipeline_tests.datasets.brought import told
from rallrec_pipeline_tests.datasets.checking.good_dataset import TABLES, changed, check, make


def test_a_file_that_is_missing_is_one_problem_and_the_others_are_checked(tmp_path: Path) -> None:
    path = make(tmp_path, **changed("ratings", "stars", "9"))
    (tmp_path / "data" / "items.csv").unlink()
    (tmp_path / "data" / "users.csv").rename(tmp_path / "data" / "people.csv")
    found = check(path)
    assert told(found.problems, f"the folder {tmp_path / 'data'} lacks items.csv, users.csv", "'people.csv'")
    assert told(found.problems, "off the scale") and found.figures["protocols"]


def test_a_folder_that_is_missing_is_a_problem(tmp_path: Path) -> None:
    found = check(make(tmp_path, toml=(("/data", "/elsewhere"),)))
    assert found.problems == [f"there is no folder {tmp_path / 'elsewhere'}: correct source.location"]


@pytest.mark.parametrize("in_catalogue", [False, True])
def test_a_source_that_is_not_fetched_is_one_problem_that_says_how(tmp_path: Path, in_catalogue: bool) -> None:
    path = make(tmp_path, toml=(('kind = "folder"', 'kind = "zip"'),))
    lake = tmp_path / "lake"
    if in_catalogue:
        (lake / "catalog").mkdir(parents=True)
        path = path.rename(lake / "catalog" / path.name)
    found = check_dataset(path, lake)
    assert len(found.problems) == 1
    assert f"{lake / 'raw' / 'mine'} lacks ratings.csv, items.csv, users.csv: not fetched yet" in found.problems[0]
    assert "run `rallrec run mine --select raw_files`" in found.problems[0]
    assert (f"put mine.toml into {lake / 'catalog'}" in found.problems[0]) != in_catalogue
    (lake / "raw").mkdir(parents=True)
    (tmp_path / "data").rename(lake / "raw" / "mine")
    assert check_dataset(path, lake).problems == []


def test_a_zip_that_has_changed_since_it_was_unpacked_is_a_warning(tmp_path: Path) -> None:
    toml = (('kind = "folder"', 'kind = "zip"'), (f"{tmp_path.as_posix()}/data", f"{tmp_path.as_posix()}/data.zip"))
    path, lake = make(tmp_path, toml=toml), tmp_path / "lake"
    (tmp_path / "data" / "more.csv").write_text("more", encoding="utf-8")
    for names, warned in ((TABLES, False), ((*TABLES, "more"), True)):
        with zipfile.ZipFile(tmp_path / "data.zip", "w") as packed:
            for name in names:
                packed.write(tmp_path / "data" / f"{name}.csv", f"{name}.csv")
        if not warned:
            fetch_raw_files(load_dataset(path), lake)
        found = check_dataset(path, lake)
        assert found.problems == [] and bool(found.warnings) == warned
    assert told(found.warnings, "is of another zip than", "run `rallrec run mine --select raw_files`")


def test_a_checksum_that_differs_is_a_problem(tmp_path: Path) -> None:
    files = ", ".join(f'{{ name = "{name}.csv", sha256 = "{"0" * 64}" }}' for name in TABLES)
    found = check(make(tmp_path, toml=(('kind = "folder"', f'kind = "folder"\nfiles = [{files}]'),)))
    assert len(found.problems) == 3 and all("has SHA-256" in line for line in found.problems)


def test_a_member_of_a_folder_is_read_under_its_name(tmp_path: Path) -> None:
    names = ("ratings", "items", "users")
    files = ", ".join(f'{{ name = "{name}.csv", member = "deep/{name}.txt" }}' for name in names)
    path = make(tmp_path, toml=(('kind = "folder"', f'kind = "folder"\nfiles = [{files}]'),))
    (tmp_path / "data" / "deep").mkdir()
    for name in names:
        (tmp_path / "data" / f"{name}.csv").rename(tmp_path / "data" / "deep" / f"{name}.txt")
    assert check(path).problems == []
    (tmp_path / "data" / "deep" / "items.txt").unlink()
    assert told(check(path).problems, "lacks deep/items.txt")


def test_a_relative_place_is_a_warning_until_the_file_is_in_the_catalogue(tmp_path: Path) -> None:
    path = make(tmp_path, toml=((f"{tmp_path.as_posix()}/data", "data"),))
    found = check(path)
    assert not found.problems and told(found.warnings, "source.location 'data'", str(tmp_path / "data"))


def test_a_toml_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = make(tmp_path)
    path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8-sig")
    found = check(path)
    assert (found.problems, found.warnings) == ([], [])


@pytest.mark.parametrize("has_lake", [False, True])
def test_nothing_is_left_behind(tmp_path: Path, has_lake: bool) -> None:
    path = make(tmp_path, **changed("ratings", "stars", "9"))
    if has_lake:
        (tmp_path / "lake").mkdir()
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    check(path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file != tmp_path / "lake"} == {
        file: time for file, time in before.items() if file != tmp_path / "lake"
    }
