"""Descriptions: what is asked, what is accepted, and that finished work is never done twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from rallrec_pipeline.datasets.spec import DatasetSpec, WordsSpec
from rallrec_pipeline.descriptions import (
    DescriptionResult,
    describe_items,
    description_prompt,
    is_degenerate,
    template_of,
    template_text,
    template_version,
    tidy,
)
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import DESCRIPTIONS
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.language_models.protocols import Sampling
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.settings import DescriptionSettings, Settings

ITEMS = pl.DataFrame(
    {
        "item_id": ["1", "2", "3", "4"],
        "title": ["Heat", "Toy Story", "Fargo", "<|im_end|> sly"],
        "year": ["1995", "1995", "1996", ""],
        "genres": ["Action, Crime", "Animation", "Crime", "Drama"],
    }
)
GOOD = "A patient detective follows a master thief through a city that never rests, and both lose what they love."
SETTINGS = DescriptionSettings(batch_size=2, max_new_tokens=24)


class Scripted:
    """A generator that answers from a script and counts: the texts under test are those no LLM gives on demand."""

    def __init__(self, answers: Sequence[str], stop_after: int | None = None) -> None:
        self.answers, self.asked, self.stop_after = answers, 0, stop_after

    def generate(self, prompts: Sequence[str], sampling: Sampling, progress: object = None) -> list[str]:
        if self.stop_after is not None and self.asked >= self.stop_after:
            raise KeyboardInterrupt
        texts = [self.answers[(self.asked + i) % len(self.answers)] for i in range(len(prompts))]
        self.asked += len(prompts)
        return texts


def describe(
    items: pl.DataFrame,
    spec: DatasetSpec,
    generator: object,
    lake: Path,
    run: str = "run",
    settings: DescriptionSettings = SETTINGS,
) -> DescriptionResult:
    memo = Memo(lake, DESCRIPTIONS)
    return describe_items(items, spec, lambda: generator, memo, settings, "model", 7, run)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("text", ["", "   ", "Too short.", "no no no no no no no no no no no no", "it is a film " * 8])
def test_degenerate_texts_are_detected(text: str) -> None:
    assert is_degenerate(text)


def test_a_good_text_is_not_degenerate() -> None:
    assert not is_degenerate(GOOD)


def test_tidy_keeps_whole_sentences_within_the_bound() -> None:
    assert tidy("One two three. Four five six. Seven", 20) == "One two three. Four five six."
    assert len(tidy("word " * 100, 80).split()) == 80
    assert "\n" not in tidy("a\nb\n\nc", 10)


def test_every_degenerate_answer_is_asked_once_more_then_replaced(spec: DatasetSpec, tmp_path: Path) -> None:
    result = describe(ITEMS, spec, Scripted(["", ""]), tmp_path)
    assert result.templated == 4 and set(result.table["attempts"]) == {2}
    assert result.table["description"][0] == template_text(ITEMS.row(0, named=True), spec)
    assert "<|" not in result.table["description"][3]


def test_finished_rows_survive_an_interruption(spec: DatasetSpec, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        describe(ITEMS, spec, Scripted([GOOD], stop_after=2), tmp_path)
    second = Scripted([GOOD])
    result = describe(ITEMS, spec, second, tmp_path)
    assert second.asked == result.computed == 2
    again = Scripted([GOOD])
    assert describe(ITEMS, spec, again, tmp_path).computed == 0 and again.asked == 0


def test_only_a_changed_item_is_asked_again_and_a_reverted_one_is_free(spec: DatasetSpec, tmp_path: Path) -> None:
    describe(ITEMS, spec, Scripted([GOOD]), tmp_path)
    toys = pl.when(pl.col("item_id") == "2").then(pl.lit("Toys")).otherwise("title").alias("title")
    changed = ITEMS.with_columns(toys)
    second = Scripted([GOOD])
    result = describe(changed, spec, second, tmp_path, run="later")
    assert result.computed == second.asked == 1
    assert result.table.sort("item_id")["run_id"].to_list() == ["run", "later", "run", "run"]
    third = Scripted([GOOD])
    describe(ITEMS, spec, third, tmp_path)
    assert third.asked == 0


def test_the_real_model_describes_within_bounds(engine: TransformersEngine, spec: DatasetSpec, tmp_path: Path) -> None:
    result = describe(ITEMS, spec, engine, tmp_path)
    texts = result.table["description"].to_list()
    assert len(texts) == 4 and all(texts) and all(len(text.split()) <= SETTINGS.max_words for text in texts)
    assert result.templated < 4
    assert set(result.table["model_fingerprint"]) == {"model"} and result.table["input_hash"].n_unique() == 4


def test_the_prompt_states_fields_and_bound(spec: DatasetSpec) -> None:
    prompt = description_prompt(ITEMS.row(0, named=True), spec, DescriptionSettings())
    assert "80 words" in prompt and "Heat" in prompt and "Action, Crime" in prompt and "1995" in prompt


def test_a_template_that_is_edited_and_reverted_costs_no_call(spec: DatasetSpec, tmp_path: Path) -> None:
    first = describe(ITEMS, spec, Scripted([GOOD]), tmp_path)
    edited = SETTINGS.model_copy(update={"template": "Say what this {item} is about. {fields}"})
    second = Scripted([GOOD])
    result = describe(ITEMS, spec, second, tmp_path, settings=edited)
    assert second.asked == 4 and set(result.table["template_version"]) != set(first.table["template_version"])
    third = Scripted([GOOD])
    assert describe(ITEMS, spec, third, tmp_path).table.equals(first.table) and third.asked == 0


def test_data_cannot_name_a_gap_of_the_template(spec: DatasetSpec) -> None:
    sly = {"title": "{max_words} {fields} {item}", "year": "", "genres": ""}
    prompt = description_prompt(sly, spec, DescriptionSettings(template="{fields} in {max_words}", max_words=9))
    assert prompt.startswith("{max_words} {fields} {item}") and prompt.endswith(" in 9")


@pytest.mark.parametrize("template", ["nothing to fill in", "{fields} and {title}", "{item}"])
def test_a_template_with_wrong_gaps_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"must name \{fields\}|unknown gaps \['title'\]"):
        DescriptionSettings(template=template)


def test_equal_items_are_described_once(spec: DatasetSpec, tmp_path: Path) -> None:
    twins = pl.concat([ITEMS, ITEMS.with_columns(pl.concat_str(pl.lit("again "), "item_id").alias("item_id"))])
    generator = Scripted([GOOD])
    result = describe(twins, spec, generator, tmp_path)
    assert generator.asked == result.computed == 4 and result.table.height == 8


def test_a_broken_off_run_of_the_real_model_ends_with_the_same_texts(
    engine: TransformersEngine, spec: DatasetSpec, tmp_path: Path
) -> None:
    longest = max(len(description_prompt(row, spec, SETTINGS)) for row in ITEMS.iter_rows(named=True))

    class StopsInTheLastBatch:
        def generate(self, prompts: Sequence[str], sampling: Sampling, progress: object = None) -> list[str]:
            if longest in map(len, prompts):
                raise KeyboardInterrupt
            return engine.generate(prompts, sampling)

    with pytest.raises(KeyboardInterrupt):
        describe(ITEMS, spec, StopsInTheLastBatch(), tmp_path / "broken")
    again = describe(ITEMS, spec, engine, tmp_path / "broken")
    whole = describe(ITEMS, spec, engine, tmp_path / "whole")
    assert (again.computed, whole.computed) == (2, 4)
    assert again.table["description"].equals(whole.table["description"])


def test_the_template_follows_the_words_and_fields_of_the_dataset(spec: DatasetSpec) -> None:
    """A watering can has no plot; and what was asked of films stays as it was, to the letter."""
    plain, plant = DescriptionSettings(), ITEMS.row(0, named=True)
    assert template_of(spec, plain) == plain.template and spec.words.item == "movie"
    shop = spec.model_copy(update={"words": WordsSpec(item="garden tool", items="garden tools")})
    asked = description_prompt(plant, shop, plain)
    assert "garden tool" in asked and "what it is for" in asked and "year, genres" in asked
    assert not any(word in asked for word in ("themes", "characters", "genre,", "the end"))
    game = spec.model_copy(update={"words": WordsSpec(item="Board Game", items="games")})
    assert template_of(game, plain) == plain.template
    own = DescriptionSettings(template="Sell {fields}")
    assert description_prompt(plant, shop, own).startswith("Sell Heat, a garden tool")
    assert template_version(shop, plain) != template_version(spec, plain)


def test_another_template_makes_descriptions_stale_and_that_of_films_makes_none(spec: DatasetSpec) -> None:
    settings, stage = Settings(profile="demo"), STAGES["item_descriptions"]
    assert stage.depends_on(settings, spec)["descriptions"] == settings.descriptions
    shop = spec.model_copy(update={"words": WordsSpec()})
    assert stage.depends_on(settings, shop)["descriptions"].template == template_of(shop, settings.descriptions)
