"""The methods of the settings: three are built in, and a file may add others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.inference.methods import (
    Method,
    adapters,
    chosen_methods,
    merges,
    methods,
    reasoned_methods,
    retrievers,
    tuning_asked,
    validation_method,
)
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.settings import (
    DEFAULT_METHODS,
    MIXTURE,
    PROFILES,
    AnswerForm,
    Fact,
    PromptForm,
    Settings,
    load_settings,
)

pytestmark = pytest.mark.usefixtures("built_in_settings_only")
FACTS: tuple[Fact, ...] = ("item_mean", "expected_rating")
OTHER = """
[retrievers.text]
parts = { text = 1 }
k = 7

[methods.rallrec_text]
retriever = "text"
adapter = "rallrec"
"""


def with_file(folder: Path, text: str) -> Settings:
    """The demo profile under a file."""
    (file := folder / "settings.toml").write_text(text, encoding="utf-8")
    return load_settings("demo", overrides=file)


def built_in(answer: AnswerForm, facts: tuple[Fact, ...]) -> list[Method]:
    """The three methods with the answer form and the facts of a profile."""
    return [
        Method("rallrec", "RALLRec: tuned, retrieved and reranked", "reranked", answer, "rallrec", MIXTURE, facts),
        Method("recent", "tuned, recent history (no retrieval)", "recent", answer, "recent", MIXTURE, facts),
        Method("zero_shot", "without tuning (zero-shot)", "reranked", answer, None, MIXTURE, facts),
    ]


BUILT_IN = {
    "demo": built_in("rating", FACTS),
    "full": built_in("rating", FACTS),
    "paper": built_in("yes_no", ()),
}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_has_three_methods_of_its_own_answer_form(profile: str) -> None:
    settings = load_settings(profile)
    assert methods(settings) == BUILT_IN[profile]
    assert list(adapters(settings)) == ["recent", "rallrec"] and list(retrievers(settings)) == [MIXTURE]
    assert [asked.prompt_form for asked in tuning_asked("recent", settings)] == ["recent"]
    assert [asked.prompt_form for asked in tuning_asked("rallrec", settings)] == ["relevance", "sequential", "recent"]
    asked = {name: validation_method(name, settings) for name in adapters(settings)}
    assert {name: method.prompt_form for name, method in asked.items()} == {"recent": "recent", "rallrec": "reranked"}
    assert all(method.answer_form == settings.prompts.answer_form for method in asked.values())
    assert all(method.facts == settings.prompts.facts and method.adapter == name for name, method in asked.items())


def test_a_method_in_a_file_comes_after_the_built_in_ones(tmp_path: Path) -> None:
    settings = with_file(tmp_path, OTHER)
    *before, added = methods(settings)
    assert before == BUILT_IN["demo"]
    title = "tuned (rallrec), rating list with item mean and expected rating, retrieved history by text"
    assert added == Method("rallrec_text", title, "reranked", "rating", "rallrec", "text", FACTS)
    assert list(retrievers(settings)) == [MIXTURE, "text"] and retrievers(settings)["text"].k == 7


@pytest.mark.parametrize(
    ("form", "answer", "title", "facts"),
    [
        ("reranked", "rating", "zero-shot, rating list with item mean and expected rating, retrieved history", FACTS),
        ("recent", "rating", "zero-shot, rating list with item mean and expected rating, recent history", FACTS),
        ("reranked", "yes_no", "zero-shot, yes/no, retrieved history", ()),
        ("recent", "yes_no", "zero-shot, yes/no, recent history", ()),
    ],
)
def test_a_method_without_a_title_says_what_it_is(
    form: PromptForm, answer: AnswerForm, title: str, facts: tuple[Fact, ...], tmp_path: Path
) -> None:
    added = methods(with_file(tmp_path, f'[methods.mine]\nprompt_form = "{form}"\nanswer_form = "{answer}"\n'))[-1]
    assert added == Method("mine", title, form, answer, None, MIXTURE, facts)


def test_a_file_replaces_a_built_in_method_as_a_whole(tmp_path: Path) -> None:
    text = '[methods.recent]\ntitle = "mine"\nanswer_form = "yes_no"\nfacts = ["user_mean"]\n'
    found = {method.name: method for method in methods(with_file(tmp_path, text))}
    assert list(found) == list(DEFAULT_METHODS)
    assert found["recent"] == Method("recent", "mine", "reranked", "yes_no", None, MIXTURE, ("user_mean",))


def test_only_methods_says_which_are_scored_and_in_which_order(tmp_path: Path) -> None:
    settings = with_file(tmp_path, 'only_methods = ["zero_shot", "rallrec_text"]\n' + OTHER)
    assert [method.name for method in methods(settings)] == ["zero_shot", "rallrec_text"]


def test_adapters_and_retrievers_that_no_scored_method_uses_are_left_out(tmp_path: Path) -> None:
    zero_shot = with_file(tmp_path, 'only_methods = ["zero_shot"]\n' + OTHER)
    assert adapters(zero_shot) == {} and list(retrievers(zero_shot)) == [MIXTURE]
    text = with_file(tmp_path, 'only_methods = ["rallrec_text"]\n' + OTHER)
    assert list(adapters(text)) == ["rallrec"]
    assert list(retrievers(text)) == [MIXTURE, "text"], "the adapter was tuned on histories of the mixture"


def test_another_retriever_of_a_method_leaves_the_prompts_of_its_adapter_as_they_are(
    tmp_path: Path, spec: DatasetSpec
) -> None:
    before, after = load_settings("demo"), with_file(tmp_path, OTHER)

    def depends(stage: str, settings: Settings) -> str:
        return stable_hash(dict(STAGES[stage].depends_on(settings, spec)))

    changed = {name for name in STAGES if depends(name, before) != depends(name, after)}
    assert changed == {"retrieved_histories", "evaluation_prompts", "predictions", "evaluation_report"}
    assert adapters(before) == adapters(after)


@pytest.mark.parametrize("name", ["A", "a b", "../a", "a/b", "", "-a", "x" * 65, "a\\n"])
@pytest.mark.parametrize("section", ["retrievers", "adapters", "methods"])
def test_a_name_that_is_no_folder_everywhere_is_refused(section: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{section}.*a name is up to 64 small letters") as told:
        with_file(tmp_path, f'[{section}."{name}"]\n')
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[methods.mine]\nretriever = "text"', "methods.mine: retriever 'text' does not exist"),
        ('[methods.mine]\nadapter = "rallrek"', "adapter 'rallrek' does not exist, did you mean 'rallrec'?"),
        ('[adapters.mine]\nretriever = "text"', "adapters.mine: retriever 'text' does not exist"),
        ('only_methods = ["mine"]', "only_methods 'mine' does not exist"),
    ],
)
def test_a_name_that_nothing_has_is_one_line(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as told:
        with_file(tmp_path, text)
    assert words in str(told.value) and "\n" not in str(told.value)


# merges


def test_members_are_made_before_the_merges_that_take_them() -> None:
    given = {
        "cascade": {"kind": "cascade", "members": ["text_trees", "late"]},
        "late": {"kind": "mean", "members": ["rallrec", "item_mean"]},
    }
    settings = Settings.model_validate({"profile": "x", "merges": given})
    order = list(merges(settings))
    assert order.index("late") < order.index("cascade") and set(order) == set(settings.merges)
    only = settings.model_copy(update={"only_methods": ("cascade",)})
    assert chosen_methods(only) == ("text_trees", "rallrec", "item_mean", "late", "cascade")
    assert [method.name for method in methods(only)] == ["rallrec"] and not reasoned_methods(only)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (
            {"a": {"kind": "mean", "members": ["b", "rallrec"]}, "b": {"kind": "mean", "members": ["a", "recent"]}},
            "made of",
        ),
        ({"a": {"kind": "mean", "members": ["ralrec", "recent"]}}, "did you mean 'rallrec'"),
        ({"a": {"kind": "consistency", "members": ["rallrec", "recent", "reasoned"]}}, "takes two members"),
        ({"rallrec": {"kind": "mean", "members": ["recent", "reasoned"]}}, "taken"),
    ],
)
def test_a_merge_that_cannot_be_is_refused_in_one_line(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Settings.model_validate({"profile": "x", "merges": given})


def test_a_merge_refuses_what_its_kind_does_not_look_at() -> None:
    given = {"a": {"kind": "mean", "members": ["rallrec", "recent"], "budget": 3.0}}
    with pytest.raises(ValueError, match="'mean' does not look at budget"):
        Settings.model_validate({"profile": "x", "merges": given})
