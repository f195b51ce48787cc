"""A lake with prompts and texts of real MovieLens users, without the stages that would make them."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.descriptions import template_text
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.store import put_in_force
from rallrec_pipeline.lake.tables import PROVENANCE
from rallrec_pipeline.prompts.build import build_prompts, prompt_context
from rallrec_pipeline.prompts.facts import Facts
from rallrec_pipeline.settings import MIXTURE, load_settings
from rallrec_pipeline_tests.pipeline.given import give, give_model, looking_run

HISTORY = 5
OF_A_RUN = [pl.lit("here").alias(name) for name in PROVENANCE]


def write_real_prompts(lake: Path, movielens: Path, spec: DatasetSpec, users: int, texts: int) -> None:
    """Each of `users` users' last rating, asked for in both answer forms from the ratings before it, as test prompts of
    the dataset `spec`; and its first `texts` items, with the plain template's text for a description."""
    items = _read(movielens / "ml-100k.item").rename({"movie_title": "title", "release_year": "year"})
    context = prompt_context(spec, items, pl.DataFrame(schema={"user_id": pl.String}), Facts())
    prompts = build_prompts(_histories(movielens, users), context, ["reranked"], ["yes_no", "rating"])
    asked = prompts.with_columns(retriever=pl.lit(MIXTURE), facts=pl.lit(""), titles=pl.lit(True))
    first = items.head(texts)
    fields = first.select("title", "year", genres="class").fill_null("").to_dicts()
    described = first.select(
        "item_id",
        pl.Series("description", [template_text(row, spec) for row in fields]),
        pl.lit("template").alias("status"),
        pl.lit(0, pl.Int8).alias("attempts"),
        *OF_A_RUN,
    )
    run = looking_run(lake, spec.name, load_settings("demo", lake=lake))
    give(run, tables.prompts_table("evaluation"), asked)
    give(run, tables.CORE_ITEMS, first)
    give(run, tables.ITEM_DESCRIPTIONS, described)
    give_model(run, run.settings.model)
    for record in run.inputs.values():
        put_in_force(lake, record, run.settings.profile, run.run_id, {})


def _histories(movielens: Path, users: int) -> pl.DataFrame:
    ratings = _read(movielens / "ml-100k.inter").with_columns(pl.col("rating", "timestamp").cast(pl.Float64))
    rows = ratings.sort("timestamp", "item_id").group_by("user_id", maintain_order=True).tail(HISTORY + 1)
    last = rows.group_by("user_id", maintain_order=True).agg("item_id", "rating").head(users)
    before = pl.all().list.slice(0, pl.col("item_id").list.len() - 1)
    history = last.select("item_id", "rating").select(before)
    return pl.concat(
        [
            last.select(pl.int_range(pl.len()).alias("sample_id"), "user_id", split=pl.lit("test"), label=pl.lit(0)),
            last.select("item_id", "rating").select(pl.all().list.last()),
            history.rename({"item_id": "reranked", "rating": "reranked_ratings"}),
        ],
        how="horizontal",
    )


def _read(file: Path) -> pl.DataFrame:
    frame = pl.read_csv(file, separator="\t", quote_char=None, infer_schema=False)
    return frame.rename(lambda name: name.split(":")[0])
