"""Group `descriptions`: the base model and what it writes about each item."""

from __future__ import annotations

import polars as pl

from rallrec_pipeline.descriptions import DescriptionResult, describe_items
from rallrec_pipeline.evaluation.pages.markdown import plain
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.memo_rows import DESCRIPTIONS
from rallrec_pipeline.pipeline.context import Made, Markdown, StageRun
from rallrec_pipeline.pipeline.stages.engine import OneEngine, model_version
from rallrec_pipeline.pipeline.stages.rows import item_versions, with_increment, with_sources


def item_descriptions(run: StageRun) -> Made:
    items = run.read(tables.CORE_ITEMS)
    result, engines = described(run, items, "descriptions")
    examples = result.table.sample(min(5, items.height), seed=run.seeds.data).join(items, on="item_id")
    lines = [
        f"**{plain(t)}** ({s}): {plain(d)}" for t, s, d in examples.select("title", "status", "description").rows()
    ]
    made = run.write(
        result.table,
        tables.ITEM_DESCRIPTIONS,
        retried=result.retried,
        template_instead=result.templated,
        engine=engines.used,
        examples=Markdown("\n\n".join(lines)),
    )
    rows = with_sources(result.table.drop("description"), core_items=item_versions(items))
    return with_increment(run, made, rows, result.computed, engines.usage)


def described(run: StageRun, items: pl.DataFrame, told: str) -> tuple[DescriptionResult, OneEngine]:
    """What is written about `items`, and the engine that wrote what was missing; progress is `told` under a name."""
    with OneEngine(run, "generate") as engines:
        result = describe_items(
            items,
            run.spec,
            engines.base,
            run.memo(DESCRIPTIONS),
            run.settings.descriptions,
            model_version(run),
            run.seeds.sampling,
            run.run_id,
            run.progress(told),
        )
    return result, engines
