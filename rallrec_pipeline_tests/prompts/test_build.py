"""Prompts from retrieved histories: order of lines, facts that know no answer, samples that nest."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.datasets.statistics import SHRINKAGE
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.prompts.build import build_prompts, prompt_context, without_titles
from rallrec_pipeline.prompts.facts import Facts, make_facts
from rallrec_pipeline.prompts.sampling import choose_samples
from rallrec_pipeline.settings import AnswerForm, PromptSettings, SeedSettings

ITEMS = pl.DataFrame({"item_id": list("abcd"), "title": ["Alien", "Big", "Cube", "Dune"]})
USERS = pl.DataFrame(
    {"user_id": ["u"], "gender": ["F"], "age": ["30"], "occupation": [None]}, schema_overrides={"occupation": pl.String}
)
HISTORY = {"recent": list("ab"), "relevant": list("ba"), "sequential": list("ab"), "reranked": list("ba")}
RATINGS = {"a": 4.0, "b": 2.0}
SAMPLE = {"sample_id": 7, "user_id": "u", "item_id": "c", "split": "test", "rating": 5.0, "label": 1}


def histories() -> pl.DataFrame:
    lists = {name: [ids] for name, ids in HISTORY.items()}
    ratings = {f"{name}_ratings": [[RATINGS[i] for i in ids]] for name, ids in HISTORY.items()}
    return pl.DataFrame({**{k: [v] for k, v in SAMPLE.items()}, **lists, **ratings})


@pytest.mark.parametrize(
    ("form", "lines"),
    [("recent", "Alien:4\nBig:2\n"), ("relevance", "Alien:4\nBig:2\n"), ("reranked", "Alien:4\nBig:2\n")],
)
def test_in_the_rating_form_the_most_relevant_line_stands_last(form: str, lines: str, spec: DatasetSpec) -> None:
    context = prompt_context(spec, ITEMS, USERS, Facts())
    row = build_prompts(histories(), context, [form], ["rating"]).row(0, named=True)  # type: ignore[list-item]
    assert row["prompt"].endswith(lines + "Cube:") and row["answer"] == "5"
    assert [row["prompt"][offset] for offset in row["answer_offsets"]] == ["4", "2"]


def test_longer_titles_are_cut_where_the_settings_say_so(spec: DatasetSpec) -> None:
    items = ITEMS.with_columns(pl.col("title") + " the rating is 1")
    for length, shown in ((160, "Cube the rating is 1"), (8, "Cube th…")):
        context = prompt_context(spec, items, USERS, Facts(), length)
        assert build_prompts(histories(), context, ["recent"], ["rating"])["prompt"][0].endswith(f"\n{shown}:")


def test_in_the_yes_no_form_the_most_relevant_stands_first(spec: DatasetSpec) -> None:
    context = prompt_context(spec, ITEMS, USERS, Facts())
    row = build_prompts(histories(), context, ["relevance"], ["yes_no"]).row(0, named=True)
    assert "Big (2 stars), Alien (4 stars)" in row["prompt"] and row["answer"] == "Yes"
    assert "gender: F; age: 30." in row["prompt"] and "occupation" not in row["prompt"]


def test_every_sample_enters_in_every_form(spec: DatasetSpec) -> None:
    context = prompt_context(spec, ITEMS, USERS, Facts())
    made = build_prompts(histories(), context, ["relevance", "sequential", "recent"], ["yes_no", "rating"])
    assert made.height == 6 and made.select("prompt_form", "answer_form").is_unique().all()


@pytest.mark.parametrize("form", ["yes_no", "rating"])
def test_without_titles_ratings_are_all_that_a_prompt_tells(form: AnswerForm, spec: DatasetSpec) -> None:
    context = prompt_context(spec, ITEMS, USERS, Facts())
    (shown,) = build_prompts(histories(), context, ["recent"], [form])["prompt"]
    (hidden,) = build_prompts(histories(), without_titles(context), ["recent"], [form])["prompt"]
    titles = context.titles["title"].to_list()
    assert any(title in shown for title in titles) and not any(title in hidden for title in titles)
    assert hidden.count(f"A {spec.words.item}") == sum(shown.count(title) for title in titles)


def test_an_expected_rating_stands_beside_the_mean_of_target_and_history(spec: DatasetSpec) -> None:
    foretold = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "c"], "expected": [4.26, 2.0]})
    training = pl.DataFrame({"user_id": ["v"], "item_id": ["c"], "rating": [3.0]})
    statistics = pl.DataFrame({"sample_id": [7], "item_mean": [3.14], "user_mean": [3.0]})
    for wanted, line, asked, called in (
        (["item_mean", "expected_rating"], "Alien (3.0, 4.3):4", "Cube (3.1, 2.0):", "average and expected rating in"),
        (["expected_rating"], "Alien (4.3):4", "Cube (2.0):", "5, expected rating in brackets"),
    ):
        facts = make_facts(wanted, statistics, histories(), training, foretold)
        context = prompt_context(spec, ITEMS, USERS, facts)
        (made,) = build_prompts(histories(), context, ["recent"], ["rating"])["prompt"]
        assert line in made and made.endswith(asked) and called in made


def test_facts_leave_the_own_rating_out() -> None:
    training = pl.DataFrame(
        {"user_id": ["u", "v", "w"], "item_id": ["a", "a", "b"], "rating": [4.0, 1.0, 3.0], "timestamp": [1, 2, 3]}
    )
    statistics = pl.DataFrame({"sample_id": [7], "item_mean": [3.3], "user_mean": [2.2]})
    asked = pl.DataFrame({"user_id": ["u", "u", "u"], "item_id": ["a", "b", "c"], "rating": [4.0, 2.0, 5.0]})
    facts = make_facts(["item_mean"], statistics, histories(), training)
    prior = SHRINKAGE * 8 / 3
    expected = [(1.0 + prior) / (1 + SHRINKAGE), (3.0 + prior) / (1 + SHRINKAGE), prior / SHRINKAGE]
    assert facts.history_mean(asked).to_list() == pytest.approx(expected)
    samples = pl.Series([7, 8])
    assert facts.target_mean(samples).to_list() == [pytest.approx(3.3), None]
    assert facts.user_mean(samples).to_list() == [None, None]
    none = make_facts([], statistics, histories(), training)
    assert none.history_mean(asked).to_list() == [None] * 3 and none.target_mean(samples).to_list() == [None] * 2


def test_a_sample_without_history_and_one_with_another_order_of_rows_keep_their_places(spec: DatasetSpec) -> None:
    bare = histories().with_columns(pl.lit([], pl.List(pl.String)).alias("recent"), sample_id=pl.lit(8))
    bare = bare.with_columns(pl.lit([], pl.List(pl.Float64)).alias("recent_ratings"), item_id=pl.lit("d"))
    both = pl.concat([bare, histories().with_columns(pl.col("sample_id").cast(pl.Int32))])
    context = prompt_context(spec, ITEMS, USERS, Facts())
    made = build_prompts(both, context, ["recent"], ["rating", "yes_no"])
    assert made["sample_id"].to_list() == [8, 7, 8, 7]
    assert made["prompt"][0].endswith("from 1 to 5.\nDune:") and made["answer_offsets"][0].to_list() == []
    assert made["prompt"][1].endswith("Alien:4\nBig:2\nCube:")
    assert "rated" not in made["prompt"][2] and "Alien (4 stars), Big (2 stars)" in made["prompt"][3]


def test_an_item_without_a_title_in_the_core_is_one_line(spec: DatasetSpec) -> None:
    context = prompt_context(spec, ITEMS.head(2), USERS, Facts())
    with pytest.raises(DataError, match="item 'c' is not in core_items"):
        build_prompts(histories(), context, ["recent"], ["rating"])


def samples(n: int) -> pl.DataFrame:
    splits = ["train"] * n + ["valid"] * n + ["test"] * n
    return pl.DataFrame(
        {
            "sample_id": range(3 * n),
            "user_id": [f"u{i % 7}" for i in range(3 * n)],
            "item_id": [f"i{i}" for i in range(3 * n)],
            "split": splits,
            "label": [i % 2 for i in range(3 * n)],
        }
    )


def of(seed: int) -> SeedSettings:
    """Four seeds that are one."""
    return SeedSettings(data=seed, sampling=seed, fits=seed, tuning=seed)


def chosen(seeds: SeedSettings, split: str) -> list[int]:
    settings = PromptSettings(train_samples=5, validation_samples=4, test_samples=6)
    found = choose_samples(samples(60), settings, seeds).filter(pl.col("split") == split)
    return found["sample_id"].to_list()


@pytest.mark.parametrize(
    ("seed", "train", "valid", "test"),
    [
        (2025, [14, 16, 36, 37, 41], [66, 75, 114, 115], [126, 132, 137, 141, 164, 177]),
        (7, [0, 2, 5, 7, 32], [70, 79, 94, 114], [140, 145, 149, 152, 160, 163]),
    ],
)
def test_four_equal_seeds_draw_what_one_drew(seed: int, train: list[int], valid: list[int], test: list[int]) -> None:
    """The rows that the code drew before there were four seeds."""
    assert [chosen(of(seed), split) for split in ("train", "valid", "test")] == [train, valid, test]


@given(st.builds(SeedSettings, **{name: st.integers(0, 9) for name in SeedSettings.model_fields}), st.integers(10, 99))
def test_replicates_are_compared_on_the_same_rows(seeds: SeedSettings, other: int) -> None:
    replicate = seeds.model_copy(update={"sampling": other, "fits": other, "tuning": other})
    assert chosen(replicate, "valid") == chosen(seeds, "valid") and chosen(replicate, "test") == chosen(seeds, "test")
    assert chosen(replicate, "train") == chosen(of(other), "train")


@given(st.integers(10, 60), st.integers(1, 30), st.integers(1, 30), st.integers(0, 9))
def test_a_smaller_choice_is_part_of_a_larger_one(n: int, few: int, more: int, seed: int) -> None:
    few, more = sorted((few, more))
    small, large = (
        choose_samples(samples(n), PromptSettings(train_samples=k, validation_samples=5, test_samples=7), of(seed))
        for k in (few, more)
    )
    assert set(small["sample_id"]) <= set(large["sample_id"])
    assert small.filter(pl.col("split") != "train").equals(large.filter(pl.col("split") != "train"))
    assert small["sample_id"].is_sorted() and small.filter(pl.col("split") == "train").height == min(few, n)


def test_a_choice_changes_by_no_more_rows_than_the_data() -> None:
    settings = PromptSettings(train_samples=100, validation_samples=50, test_samples=60)
    later = samples(1000)
    earlier = later.filter(pl.int_range(pl.len()) % 30 != 7)
    before, after = (choose_samples(rows, settings, of(1)) for rows in (earlier, later))
    assert earlier.height == 2900 and after.height == before.height == 210
    new = after.join(before, on="sample_id", how="anti")
    assert 0 < new.height < 30 and new.join(earlier, on="sample_id", how="semi").is_empty()


def test_another_seed_chooses_other_rows_and_both_look_random() -> None:
    settings = PromptSettings(train_samples=300, validation_samples=50, test_samples=60)
    one, two = (choose_samples(samples(1000), settings, of(seed)).filter(pl.col("split") == "train") for seed in (1, 2))
    shared = one.join(two, on="sample_id", how="semi").height
    assert 50 < shared < 130  # 90 are expected of two independent choices
    assert abs(one["sample_id"].mean() - 500) < 60  # type: ignore[operator]


def test_zero_takes_the_whole_split_and_one_class_is_refused() -> None:
    settings = PromptSettings(train_samples=3, validation_samples=3, test_samples=0)
    assert choose_samples(samples(20), settings, of(1)).filter(pl.col("split") == "test").height == 20
    with pytest.raises(DataError, match="1 class"):
        choose_samples(samples(20).with_columns(label=pl.lit(1)), settings, of(1))
