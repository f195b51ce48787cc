"""Prompts and texts of real MovieLens users, without the stages that would make them."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.descriptions import template_text
from rallrec_pipeline.language_models.agreement import Questions
from rallrec_pipeline.prompts.build import build_prompts, prompt_context
from rallrec_pipeline.prompts.facts import Facts
from rallrec_pipeline.prompts.render import answer_texts, is_liked
from rallrec_pipeline.settings import AnswerForm

HISTORY = 5


def real_questions(movielens: Path, spec: DatasetSpec, form: AnswerForm, count: int) -> Questions:
    """Each of `count` users' last rating, asked for from the ratings before it."""
    ratings = _read(movielens / "ml-100k.inter").with_columns(pl.col("rating", "timestamp").cast(pl.Float64))
    items = _read(movielens / "ml-100k.item").select("item_id", title="movie_title")
    rows = ratings.sort("timestamp", "item_id").group_by("user_id", maintain_order=True).tail(HISTORY + 1)
    users = rows.group_by("user_id", maintain_order=True).agg("item_id", "rating").head(count)
    last, before = pl.all().list.last(), pl.all().list.slice(0, pl.col("item_id").list.len() - 1)
    histories = pl.concat(
        [
            users.select(pl.int_range(pl.len()).alias("sample_id"), "user_id", split=pl.lit("test"), label=pl.lit(0)),
            users.select("item_id", "rating").select(last),
            users.select("item_id", "rating").select(before).rename({"item_id": "recent", "rating": "recent_ratings"}),
        ],
        how="horizontal",
    )
    context = prompt_context(spec, items, pl.DataFrame(schema={"user_id": pl.String}), Facts())
    prompts = build_prompts(histories, context, ["recent"], [form])["prompt"].to_list()
    return Questions(prompts, answer_texts(form, spec), is_liked(form, spec), form == "yes_no")


def real_texts(movielens: Path, spec: DatasetSpec, count: int) -> list[str]:
    """What the title embedding encodes of the first items."""
    items = _read(movielens / "ml-100k.item").head(count)
    fields = items.select(title="movie_title", year="release_year", genres="class")
    return [template_text({name: value or "" for name, value in row.items()}, spec) for row in fields.to_dicts()]


def _read(file: Path) -> pl.DataFrame:
    frame = pl.read_csv(file, separator="\t", quote_char=None, infer_schema=False)
    return frame.rename(lambda name: name.split(":")[0])
