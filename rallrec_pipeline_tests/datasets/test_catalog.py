"""The catalogue: every fault of a file is one line that names it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from rallrec_pipeline.cli import app
from rallrec_pipeline.datasets.catalog import BUILT_IN, get_dataset, load_catalog, load_dataset, with_protocol
from rallrec_pipeline.errors import ConfigError

GOOD = (BUILT_IN / "movielens-100k.toml").read_text(encoding="utf-8")


def put(lake: Path, text: str, name: str = "mine") -> Path:
    path = lake / "catalog" / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_built_in_datasets_are_complete_and_pinned(tmp_path: Path) -> None:
    catalog = load_catalog(tmp_path, on_fault=pytest.fail)
    assert set(catalog) == {
        "movielens-100k", "movielens-1m", "bookcrossing", "amazon-movies", "amazon-movies-2023",
    }  # fmt: skip
    for name, spec in catalog.items():
        others = set() if name == "bookcrossing" else {"leave_last_out", "by_date"}  # it has no times
        assert spec.name == name and set(spec.protocols) == {"five_core", "published", *others}
        for protocol in spec.protocols:
            assert with_protocol(spec, protocol).protocol == spec.protocols[protocol]
    assert all(file.sha256 for file in catalog["movielens-100k"].files)
    assert catalog["movielens-1m"].source.sha256


def test_the_users_own_dataset_joins_the_catalogue_and_may_replace_a_built_in_one(tmp_path: Path) -> None:
    put(tmp_path, GOOD.replace("MovieLens-100K", "Mine"))
    put(tmp_path, GOOD.replace('"MovieLens-100K"', '"Changed"'), "movielens-100k")
    assert get_dataset("mine", tmp_path).protocol == get_dataset("movielens-100k", tmp_path).protocol
    assert get_dataset("movielens-100k", tmp_path).title == "Changed"


@pytest.mark.parametrize("name", ["movielens", "MovieLens-100K", "", "../movielens-100k", "movielens-100k.toml"])
def test_an_unknown_dataset_lists_the_known_ones(tmp_path: Path, name: str) -> None:
    put(tmp_path, GOOD)
    meant = r", did you mean 'movielens-1(00k|m)'\?" if name else ":"
    with pytest.raises(
        ConfigError,
        match=rf"unknown dataset .*{meant} known are amazon-movies, amazon-movies-2023, bookcrossing, mine, movielens-",
    ):
        get_dataset(name, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("[source]", "[source", "line 5"),
        ('kind = "wheel"', 'kind = "torrent"', "source.kind"),
        ("user_core = 5", "user_core = 0", "protocols.five_core.user_core"),
        ("user_core = 5", "usercore = 5", "protocols.five_core.usercore"),
        ("user_core = 5", "fractions = [0.8, 0.1, 0.2]", "sum to 1"),
        ("user_core = 5", "fractions = [1.2, -0.1, -0.1]", "sum to 1"),
        ("user_core = 5", "fractions = [nan, 0.1, 0.1]", "protocols.five_core.fractions.0"),
        ("like_above = 3", "like_above = nan", "label.like_above"),
        ("like_above = 3", "like_above = 5", "must split the scale"),
        ("[1, 2, 3, 4, 5]", "[5, 4, 3, 2, 1]", "must ascend"),
        ("[1, 2, 3, 4, 5]", "[1, 1, 5]", "must ascend"),
        ('file = "ml-100k.inter"', 'file = "ratings"', "the ending of 'ratings' is unknown"),
        ('file = "ml-100k.inter"', 'file = "ratings.csv"', "every file of the tables once"),
        ('name = "ml-100k.user"', 'name = "ml-100k.item"', "every file of the tables once"),
        ('name = "ml-100k.user"', 'name = "../../ml-100k.user"', "source.files.2.name"),
        ('sha256 = "4', 'sha256 = "x', "source.files.0.sha256"),
        ("year = {", "line = {", "items.columns: line cannot be"),
        ('rating = "rating"', 'stars = "rating"', "not stars"),
        ('rating = "rating", ', "", "feedback is implicit"),
        (', timestamp = "timestamp"', "", 'it must be "user"'),
        ("numeric = true", "pick = 0", "pick counts from 1"),
        ("numeric = true", 'pattern = "("', "no regular expression"),
        ("numeric = true", 'pattern = "x"', "needs a group"),
        ("numeric = true", "buckets = [3, 2]", "must ascend"),
        ('file = "ml-100k.item"', 'file = "ml-100k.item"\nencoding = "klingon"', "encoding 'klingon' is unknown"),
        ('file = "ml-100k.item"', 'file = "ml-100k.item"\nencoding = "hex"', "encoding 'hex' is unknown"),
        ('file = "ml-100k.item"', 'file = "ml-100k.item"\nencoding = "undefined"', "encoding 'undefined' is unknown"),
        ('file = "ml-100k.item"', 'file = "ml-100k.item"\nencoding = "idna"', "encoding 'idna' is unknown"),
        ('file = "ml-100k.item"', 'file = "ml-100k.item"\nencoding = "punycode"', "encoding 'punycode' is unknown"),
        ('file = "ml-100k.item"', 'file = "ml-100k.item"\nquote = \'"\'\nseparator = "::"', "must be one character"),
        ("user_core = 5", 'require = ["director"]', "director is no item field"),
        ("title =", 'extends = "nothing"\ntitle =', "must name a built-in dataset"),
        ("like_above = 3", "like_above = 3\nnegatives = 1", "this dataset has ratings"),
        ("title =", 'name = "../elsewhere"\ntitle =', "named after its file"),
        ('title = "MovieLens-100K"', "", "title: it is missing"),
    ],
)
def test_each_fault_of_a_file_is_one_line_that_names_it(tmp_path: Path, old: str, new: str, what: str) -> None:
    assert old in GOOD
    path = put(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_dataset(path)
    assert str(path) in str(caught.value) and what in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("columns", "rules", "what"),
    [
        ('rating = "rating", ', "", ""),
        (
            'rating = "rating", ',
            "negatives = 2",
            "protocols.other.label.negatives is for implicit feedback, this dataset has ratings",
        ),
        ("", "negatives = 2", ""),
        ("", "scale = [0, 1, 2]\nnegatives = 2", "feedback is implicit: protocols.other.label must be {negatives = N}"),
        ("", "negatives = 0", "feedback is implicit: protocols.other.label must be {negatives = N}"),
    ],
)
def test_the_label_of_a_protocol_obeys_the_rules_of_the_dataset_s_own(
    tmp_path: Path, columns: str, rules: str, what: str
) -> None:
    own = "scale = [1, 2, 3, 4, 5]\nlike_above = 3"
    text = GOOD.replace('rating = "rating", ', columns)
    text = text.replace(own, own if columns else "negatives = 1")
    path = put(tmp_path, f"{text}\n[protocols.other.label]\n{rules or (own if columns else 'negatives = 3')}\n")
    if not what:
        assert load_dataset(path).protocols["other"].label is not None
        return
    with pytest.raises(ConfigError) as caught:
        load_dataset(path)
    assert what in str(caught.value) and ";" not in str(caught.value)


def test_a_faulty_file_stops_no_other_dataset_and_lets_no_built_in_one_take_its_place(tmp_path: Path) -> None:
    put(tmp_path, GOOD)
    whole = load_catalog(tmp_path, on_fault=pytest.fail)
    faulty = tmp_path / "catalog" / "bookcrossing.toml"
    faulty.write_text("title = ", encoding="utf-8")
    faults: list[ConfigError] = []
    assert whole.keys() - load_catalog(tmp_path, faults.append).keys() == {"bookcrossing"}
    assert len(faults) == 1 and str(faulty) in str(faults[0])
    listed = CliRunner().invoke(app, ["datasets"], env={"RALLREC_LAKE": str(tmp_path)})
    assert listed.exit_code == 0 and "left out" in listed.output and "movielens-1m" in listed.output
    with pytest.raises(ConfigError, match="unknown dataset 'nothing': known are"):
        get_dataset("nothing", tmp_path)


def test_a_file_that_extends_a_dataset_changes_only_what_it_says(tmp_path: Path) -> None:
    text = 'extends = "bookcrossing"\n[source]\nkind = "folder"\nlocation = "../books"\n[label]\nlike_above = 6\n'
    mine, parent = load_dataset(put(tmp_path, text)), get_dataset("bookcrossing", tmp_path)
    assert mine.source.location == str(tmp_path / "books") and mine.label.like_above == 6
    assert mine.items == parent.items and mine.protocols == parent.protocols
    assert [file.name for file in mine.files] == ["BX-Book-Ratings.csv", "BX-Books.csv", "BX-Users.csv"]


def test_the_only_protocol_may_have_its_own_label_rule_too(tmp_path: Path) -> None:
    text = 'extends = "movielens-100k"\n[protocol]\nlabel = { scale = [1, 2, 3, 4, 5], like_above = 1 }\n'
    put(tmp_path, text)
    assert get_dataset("mine", tmp_path, "five_core").label.like_above == 1


def test_a_protocol_may_have_its_own_label_rule(tmp_path: Path) -> None:
    explicit = get_dataset("bookcrossing", tmp_path, "five_core")
    published = get_dataset("bookcrossing", tmp_path, "published")
    assert (explicit.label.like_above, published.label.like_above) == (7, 4)
    assert explicit.scale == published.scale == tuple(range(11))
    with pytest.raises(ConfigError, match="it has five_core, published"):
        get_dataset("bookcrossing", tmp_path, "ten_core")


@pytest.mark.parametrize("name", ["Mine", "my data", ".mine", "m" * 65, "shop...old", "-shop", "bücher", "a,b"])
def test_a_file_name_that_is_no_dataset_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="file name"):
        load_dataset(put(tmp_path, GOOD, name))


def test_a_misnamed_file_says_so_and_stops_no_other_dataset(tmp_path: Path) -> None:
    for name in ("My Shop", "shop...old", "a\nb", "\udcff"):
        put(tmp_path, GOOD, name)
    (tmp_path / "catalog" / "folder.toml").mkdir()
    put(tmp_path, GOOD, "shop")
    faults: list[ConfigError] = []
    assert "shop" in load_catalog(tmp_path, faults.append)
    assert len(faults) == 5 and all(len(str(fault).splitlines()) == 1 for fault in faults)
    assert all(str(fault).isprintable() for fault in faults)
    with pytest.raises(ConfigError, match=r"My Shop\.toml is there, but .* rename the file"):
        get_dataset("My Shop", tmp_path)


def test_a_path_of_windows_is_explained(tmp_path: Path) -> None:
    put(tmp_path, GOOD + '\n[source2]\nlocation = "C:\\Users\\me"\n')
    with pytest.raises(ConfigError, match="between single quotes"):
        get_dataset("mine", tmp_path)


@settings(max_examples=60)
@given(st.binary(max_size=60) | st.integers(1, 2000).map(lambda n: b"a = " + b"[" * n))
def test_arbitrary_bytes_raise_nothing_but_a_one_line_config_error(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mine.toml"
        path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            load_dataset(path)
    assert len(str(caught.value).splitlines()) == 1
