"""What a study's file may say, and that each mistake in it is one line which stops only that study."""

from __future__ import annotations

from pathlib import Path

import pytest

from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.inference.methods import methods
from rallrec_pipeline.pipeline.reporting.scored import made_by
from rallrec_pipeline.pipeline.studies.definition import ONE, Study, known_studies, load_study, study_variants
from rallrec_pipeline.settings import PROFILES, Settings

pytestmark = pytest.mark.usefixtures("built_in_settings_only")
BUILT_IN = "retrieval_vectors"
GOOD = """
title = "Does it help?"
methods = ["rallrec", "recent"]
reference = "recent"
"""
TABLE_1 = 'published = "rallrec_table_1_main"'


def write(lake: Path, name: str, text: str) -> Path:
    """A study of the user's own."""
    path = lake / "studies" / f"{name}.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def load(lake: Path, name: str, profile: str = "demo") -> tuple[Study, dict[str, Settings]]:
    study = load_study(name, lake)
    return study, study_variants(name, study, profile, lake)


def refusal(lake: Path, name: str) -> str:
    """The one line that a user reads."""
    with pytest.raises(ConfigError) as told:
        load(lake, name)
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", known_studies(Path("nowhere")))
def test_a_built_in_study_is_valid_under_every_profile(name: str, profile: str, tmp_path: Path) -> None:
    study, variants = load(tmp_path, name, profile)
    assert variants
    for settings in variants.values():
        assert [method.name for method in methods(settings)] == [
            name for name in study.methods if made_by(name, settings) == "predictions"
        ]


def test_there_is_a_built_in_study(tmp_path: Path) -> None:
    assert BUILT_IN in known_studies(tmp_path)


def test_a_study_without_variants_has_one(tmp_path: Path) -> None:
    write(tmp_path, "mine", GOOD)
    study, variants = load(tmp_path, "mine")
    (settings,) = variants.values()
    assert (
        list(variants) == [ONE]
        and settings.only_methods == study.methods
        and settings.profile == f"study-demo-mine-{ONE}"
    )


def test_a_variant_lies_over_the_study_and_the_study_over_the_profile(tmp_path: Path) -> None:
    own = "[settings.retrieval]\nhistory_length = 9\n[settings.seeds]\nfits = 1\n"
    write(tmp_path, "mine", GOOD + own + "[variants.a]\n[variants.b.seeds]\nfits = 2")
    _, variants = load(tmp_path, "mine")
    assert {name: (s.retrieval.history_length, s.seeds.fits) for name, s in variants.items()} == {
        "a": (9, 1),
        "b": (9, 2),
    }
    assert variants["a"].prompts.train_samples == 256  # of the demo profile


def test_a_study_lies_over_the_settings_file_too(tmp_path: Path) -> None:
    path = write(tmp_path, "mine", GOOD + "[settings.seeds]\nfits = 1")
    (file := tmp_path / "settings.toml").write_text("[seeds]\nfits = 2\ntuning = 2", encoding="utf-8")
    (settings,) = study_variants("mine", load_study("mine", path.parents[1]), "demo", tmp_path, file).values()
    assert (settings.seeds.fits, settings.seeds.tuning) == (1, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace('"rallrec"', '"ralrec"'), "methods: 'ralrec' does not exist, did you mean 'rallrec'?"),
        (GOOD.replace('"recent"]', '"recentt"]'), "methods: 'recentt' does not exist, did you mean 'recent'?"),
        (GOOD.replace('"recent"]', '"qqqq"]'), "methods: 'qqqq' does not exist: there are "),
        (
            GOOD + '[settings.tuning]\nnote = "x"',
            "tuning.note: there is no such key: it belongs above the first [table]",
        ),
        ("[settings.tuning]\nrank = 4" + GOOD, "methods: it is missing above the first [table]"),
        (GOOD + "[settings.tuning]\nrang = 4", "tuning.rang: there is no such key, did you mean rank?"),
        (GOOD + "[variants.a.tuning]\nrank = 0", "tuning.rank: it must be greater than 0"),
        (GOOD + '[settings.methods.recent]\nretriever = "txt"', "methods.recent: retriever 'txt' does not exist"),
        (GOOD.replace("title", "titel"), "titel: there is no such key, did you mean title?"),
        (GOOD.replace('title = "Does it help?"', ""), "title: it is missing"),
        (GOOD.replace('reference = "recent"', 'reference = "best"'), "reference: 'best' is none of its methods"),
        (GOOD.replace('"rallrec", "recent"', '"recent", "recent"'), "methods: a method is named twice"),
        (GOOD + 2 * '[[claims]]\nsays = "A"\nbetter = "rallrec"\nthan = "recent"\n', "claims: two claims say 'A'"),
        (GOOD + '[variants."a/b"]', "variants.a/b"),
        (GOOD + "[variants.a]\n[variants.b.seeds]\ndata = 7", "its variants differ in seeds.data"),
        (GOOD + "[variants.a]\n[variants.b]\nseed = 7", "its variants differ in seeds.data"),
        (GOOD + "[variants.a]\n[variants.b.prompts]\ntest_samples = 7", "its variants differ in prompts.test_samples"),
        (GOOD + '[settings]\nseed = "x"', "seed: it must be a whole number"),
        (GOOD + '[variants.a]\nprofile = "demo"', "profile: it cannot be set in a file"),
        (
            GOOD + '[tables.t]\ntitle = "T"\nrows = { recnt = "" }',
            "tables.t: the study has no row 'recnt', did",
        ),
        (GOOD + '[tables.t]\ntitle = "T"\npublished = "t9"\nrows = { recent = "" }', "the papers have no table 't9'"),
        (GOOD + f'[tables.t]\ntitle = "T"\n{TABLE_1}\nrows = {{ recent = "deepf" }}', "'deepf' is no row of rallrec"),
        (
            GOOD + '[figures.f]\ntitle = "F"\nx = "K"\nlines = { a = { 1 = "b" } }',
            "figures.f: the study has no row",
        ),
        ("title = ", "cannot read the study"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file(text: str, words: str, tmp_path: Path) -> None:
    path = write(tmp_path, "mine", text)
    told = refusal(tmp_path, "mine")
    assert words in told
    assert str(path) in told and "only_methods" not in told and "study-demo" not in told


def test_a_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, "mine", "")
    path.write_bytes(b"\xff\xfe")
    assert f"cannot read the study {path}: it is not UTF-8 text" in refusal(tmp_path, "mine")


def test_an_unknown_study_lists_the_known_ones_and_suggests_a_near_one(tmp_path: Path) -> None:
    write(tmp_path, "mine", GOOD)
    told = refusal(tmp_path, "mime")
    assert "unknown study 'mime', did you mean 'mine'?" in told
    assert ", ".join(known_studies(tmp_path)) in told


@pytest.mark.parametrize("name", ["My study", "a-b", "x" * 49, "../mine"])
def test_a_name_that_is_no_asset_is_no_study(name: str, tmp_path: Path) -> None:
    write(tmp_path, Path(name).name, GOOD)
    assert name not in known_studies(tmp_path)
    assert "small letters, digits and _" in refusal(tmp_path, name)


def test_a_faulty_file_stops_no_other_study(tmp_path: Path) -> None:
    """Definitions name every study when they are loaded, so a fault must wait until that study is asked for."""
    write(tmp_path, "good", GOOD)
    write(tmp_path, "broken", "title = ")
    write(tmp_path, "no study!", GOOD)
    own = write(tmp_path, BUILT_IN, GOOD)
    assert known_studies(tmp_path) == sorted(["broken", "good", *known_studies(Path("nowhere"))])
    load(tmp_path, "good")
    assert "cannot read the study" in refusal(tmp_path, "broken")
    told = refusal(tmp_path, BUILT_IN)
    assert f"two studies are called {BUILT_IN!r}" in told and str(own) in told and "rename" in told


def test_what_was_added_to_studies_later_changes_no_address() -> None:
    for name in known_studies(Path("nowhere")):
        told = load_study(name, Path("nowhere")).told()
        assert ("beside" in told) is name.startswith("split_")
        assert not any("measure" in figure for figure in told["figures"].values())
    given = load_study("figures", Path("nowhere"))
    figures = {key: one.model_copy(update={"measure": "uauc"}) for key, one in given.figures.items()}
    told = given.model_copy(update={"figures": figures}).told()
    assert {figure["measure"] for figure in told["figures"].values()} == {"uauc"}
