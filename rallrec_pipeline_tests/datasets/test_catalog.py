"""The catalogue: every fault of a file is one line that names it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.datasets.catalog import BUILT_IN, get_dataset, load_catalog, load_dataset
from rallrec_pipeline.errors import ConfigError

GOOD = (BUILT_IN / "movielens-100k.toml").read_text(encoding="utf-8")


def put(lake: Path, text: str, name: str = "mine") -> Path:
    path = lake / "catalog" / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_built_in_datasets_are_complete_and_pinned(tmp_path: Path) -> None:
    catalog = load_catalog(tmp_path)
    assert "movielens-100k" in catalog
    for name, spec in catalog.items():
        assert spec.name == name
        assert all(file.sha256 for file in spec.source.files)


def test_the_users_own_dataset_joins_the_catalogue_and_may_replace_a_built_in_one(tmp_path: Path) -> None:
    put(tmp_path, GOOD.replace("MovieLens-100K", "Mine"))
    put(tmp_path, GOOD.replace('"MovieLens-100K"', '"Changed"'), "movielens-100k")
    assert get_dataset("mine", tmp_path).protocol == get_dataset("movielens-100k", tmp_path).protocol
    assert get_dataset("movielens-100k", tmp_path).title == "Changed"


@pytest.mark.parametrize("name", ["movielens", "", "../movielens-100k", "movielens-100k.toml"])
def test_an_unknown_dataset_lists_the_known_ones(tmp_path: Path, name: str) -> None:
    put(tmp_path, GOOD)
    with pytest.raises(ConfigError, match=r"unknown dataset .*: known are mine, movielens-100k"):
        get_dataset(name, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("[source]", "[source", "line 7"),
        ('kind = "wheel"', 'kind = "torrent"', "source.kind"),
        ("user_core = 5", "user_core = 0", "protocol.user_core"),
        ("user_core = 5", "usercore = 5", "protocol.usercore"),
        ("[0.8, 0.1, 0.1]", "[0.8, 0.1, 0.2]", "sum to 1"),
        ("[0.8, 0.1, 0.1]", "[1.2, -0.1, -0.1]", "sum to 1"),
        ("[0.8, 0.1, 0.1]", "[nan, 0.1, 0.1]", "protocol.fractions.0"),
        ("like_above = 3", "like_above = nan", "label.like_above"),
        ("like_above = 3", "like_above = 5", "must split the scale"),
        ("[1, 2, 3, 4, 5]", "[5, 4, 3, 2, 1]", "must ascend"),
        ("[1, 2, 3, 4, 5]", "[1, 1, 5]", "must ascend"),
        ('interactions = "ml-100k.inter"', 'interactions = "ratings"', "every file of the reader"),
        ('name = "ml-100k.user"', 'name = "ml-100k.item"', "every file of the reader once"),
        ('name = "ml-100k.user"', 'name = "../../ml-100k.user"', "source.files.2.name"),
        ('sha256 = "4', 'sha256 = "x', "source.files.0.sha256"),
        ('["year", "genres"]', '["year", "title"]', "must differ"),
        ('["year", "genres"]', '["year", "line"]', "must differ"),
        ("title =", 'name = "../elsewhere"\ntitle =', "named after its file"),
        ('title = "MovieLens-100K"', "", "title: Field required"),
    ],
)
def test_each_fault_of_a_file_is_one_line_that_names_it(tmp_path: Path, old: str, new: str, what: str) -> None:
    assert old in GOOD
    path = put(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_catalog(tmp_path)
    assert str(path) in str(caught.value) and what in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["Mine", "my data", ".mine", "m" * 65])
def test_a_file_name_that_is_no_dataset_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="file name"):
        load_dataset(put(tmp_path, GOOD, name))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60) | st.integers(1, 2000).map(lambda n: b"a = " + b"[" * n))
def test_arbitrary_bytes_raise_nothing_but_a_one_line_config_error(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mine.toml"
        path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            load_dataset(path)
    assert len(str(caught.value).splitlines()) == 1
