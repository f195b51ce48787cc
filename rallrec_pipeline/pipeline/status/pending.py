"""How many rows the LLM would have to work on for a stage, without any work: the stage's own keys against the memo."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from rallrec_pipeline.descriptions import description_keys, description_prompt
from rallrec_pipeline.embeddings.text import text_keys
from rallrec_pipeline.inference.methods import Method, adapters, methods, rescoring_method
from rallrec_pipeline.inference.score import score_keys
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.increments import Increment, compare_rows
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import DESCRIPTIONS, TRACES, VECTORS, Kind
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.readiness import fetched_model
from rallrec_pipeline.pipeline.stages.embeddings import description_texts, title_texts
from rallrec_pipeline.pipeline.stages.engine import model_version
from rallrec_pipeline.pipeline.stages.model import is_tuned, score_store, scored_rows, tuning_rows
from rallrec_pipeline.pipeline.stages.new_items import new_items
from rallrec_pipeline.pipeline.stages.reasoning import reasoning_prompts
from rallrec_pipeline.pipeline.stages.recommendations import every_user
from rallrec_pipeline.pipeline.status.text_lengths import SAMPLE, Length, mean_length
from rallrec_pipeline.prompts.render import answer_texts
from rallrec_pipeline.reasoning.traces import TraceStore, Wanted, trace_keys

TOKENS_PER_WORD = 1.4


@dataclass(frozen=True)
class Pending:
    """Rows that the LLM would have to work on, and what one of them is. `increment` is known when no input is stale."""

    rows: int
    """As the inputs are now."""
    at_most: int
    """Whatever stale inputs turn out to be, as long as they have as many rows."""
    increment: Increment | None = None
    tokens: float = 0.0
    """Mean of a row that the LLM reads, without a prefix that it reads once for all."""
    length: float = 0.0
    """The same with that prefix: how long a sequence is."""
    new_tokens: int = 0
    """The most that is written for a row."""
    checked: int = 0
    """Rows that are scored besides those at most, for validation."""
    loads: int = 1
    """How often the model is loaded."""


def pending_rows(stage: str, run: StageRun, stale: Collection[str]) -> Pending | None:
    """What `stage` would ask of the LLM, when of its inputs those in `stale` are not fresh; None without an LLM.

    Raises StaleArtefactError when a table that it reads was never made, DataError when a file is damaged.
    """
    count = _COUNTS.get(stage)
    return None if count is None else count(run, frozenset(stale))


def _item_descriptions(run: StageRun, stale: frozenset[str]) -> Pending:
    items, settings = run.read(tables.CORE_ITEMS), run.settings.descriptions
    keys = _description_keys(run, items)
    sample = items.gather_every(max(1, items.height // SAMPLE))
    prompts = [description_prompt(row, run.spec, settings) for row in sample.iter_rows(named=True)]
    length = mean_length(run, prompts, chat=True)
    counted = _counted(run, items, keys, DESCRIPTIONS, stale, length)
    return replace(counted, new_tokens=settings.max_new_tokens)


def _title_embeddings(run: StageRun, stale: frozenset[str]) -> Pending:
    items = run.read(tables.CORE_ITEMS)
    texts = title_texts(run, items)
    keys = text_keys(texts, _model(run))
    return _counted(run, items, keys, VECTORS, stale, _of_texts(run, texts))


def _description_embeddings(run: StageRun, stale: frozenset[str]) -> Pending:
    """Where only the descriptions are stale, those that the LLM has written before are known by their keys."""
    items = run.read(tables.CORE_ITEMS)
    model, at_most = _model(run), items.height
    if stale == {"item_descriptions"}:
        asked = set(_description_keys(run, items))
        found = Memo(run.lake, DESCRIPTIONS).find(asked)
        texts_known = text_keys(found["text"].to_list(), model)
        at_most = len(asked) - found.height + len(Memo(run.lake, VECTORS).missing(texts_known))
    if not run.has(tables.ITEM_DESCRIPTIONS):
        length = description_tokens(run)
        return Pending(at_most, at_most, tokens=length, length=length)
    texts = description_texts(items, run.read(tables.ITEM_DESCRIPTIONS))
    keys = text_keys(texts, model)
    read = _of_texts(run, [text or "" for text in texts])
    counted = _counted(run, items, keys, VECTORS, stale, read)
    return replace(counted, at_most=at_most if stale else counted.rows)


def _lora_adapter(run: StageRun, stale: frozenset[str]) -> Pending:
    """Examples times epochs, of the adapters that are not those of the prompts."""
    rows = {adapter: tuning_rows(run, adapter) for adapter in adapters(run.settings)}
    examples = {adapter: prompts.height * run.settings.tuning.epochs for adapter, prompts in rows.items()}
    lacking = [
        adapter for adapter, prompts in rows.items() if not (_is_fetched(run) and is_tuned(run, adapter, prompts))
    ]
    wanted = sum(examples[adapter] for adapter in lacking)
    worked = list(rows) if stale else lacking
    texts = [prompt for prompts in rows.values() for prompt in prompts["prompt"].to_list()]
    length = mean_length(run, texts, run.settings.prompts.answer_form == "yes_no").whole
    return Pending(
        wanted,
        sum(examples.values()) if stale else wanted,
        tokens=length,
        length=length,
        checked=run.settings.prompts.validation_samples * run.settings.tuning.epochs * len(worked),
        loads=len(worked),
    )


def _predictions(run: StageRun, stale: frozenset[str]) -> Pending:
    """A zero-shot method does not wait for an adapter; a prompt that two methods share is scored once."""
    lacking, exact = set[str](), set[str]()
    bounded = 0
    lengths: list[tuple[int, Length]] = []
    for method in methods(run.settings):
        rows = scored_rows(run, method)
        missing = _unscored(run, method, rows)
        lacking |= missing
        if stale - ({"lora_adapter"} if method.adapter is None else set()):
            bounded += rows.height
        else:
            exact |= missing
        length = mean_length(run, rows["prompt"].to_list(), method.answer_form == "yes_no")
        lengths.append((len(missing) or rows.height, length))
    weight = max(1, sum(count for count, _ in lengths))
    own, whole = (sum(n * getattr(length, part) for n, length in lengths) / weight for part in ("own", "whole"))
    loads = len({method.adapter for method in methods(run.settings)})
    return Pending(len(lacking), len(exact) + bounded, tokens=own, length=whole, loads=loads)


def _reasoning_traces(run: StageRun, stale: frozenset[str]) -> Pending:
    """Responses that were never written to the prompts as they are now."""
    settings, prompts = run.settings.reasoning, reasoning_prompts(run)["prompt"].to_list()
    wanted = [Wanted(prompt, trace) for prompt in prompts for trace in range(settings.traces)]
    store = TraceStore(Memo(run.lake, TRACES), _model(run), run.seeds.sampling, run.run_id)
    missing = len(store.memo.missing(trace_keys(wanted, settings, store)))
    length = mean_length(run, prompts, chat=True)
    most = len(wanted) if stale else missing
    return Pending(missing, most, None, length.own / settings.traces, length.own, settings.max_new_tokens)


def _reasoned_predictions(run: StageRun, stale: frozenset[str]) -> Pending:
    """Every response is read, and each sample once without a thought; how many were read before is not counted."""
    prompts, traces = run.read(tables.REASONING_PROMPTS), run.read(tables.TRACES)
    rows = prompts.height + traces.height
    thought = float(traces["tokens"].mean() or 0.0)  # type: ignore[arg-type]
    length = mean_length(run, prompts["prompt"].to_list(), chat=True)
    shared = length.own * prompts.height / max(1, rows)
    return Pending(rows, rows, None, shared + thought, length.own + thought)


def _new_item_descriptions(run: StageRun, stale: frozenset[str]) -> Pending:
    items, settings = new_items(run), run.settings.descriptions
    keys = _description_keys(run, items)
    prompts = [description_prompt(row, run.spec, settings) for row in items.head(SAMPLE).iter_rows(named=True)]
    counted = _counted(run, items, keys, DESCRIPTIONS, stale, mean_length(run, prompts, chat=True))
    return replace(counted, new_tokens=settings.max_new_tokens)


def _new_item_embeddings(run: StageRun, stale: frozenset[str]) -> Pending:
    """A title and a description of each; descriptions that are to come are counted whole."""
    items = new_items(run)
    titles = title_texts(run, items)
    written = run.read(tables.NEW_ITEM_DESCRIPTIONS) if run.has(tables.NEW_ITEM_DESCRIPTIONS) else None
    described = [] if written is None else [text or "" for text in description_texts(items, written)]
    lacking = Memo(run.lake, VECTORS).missing(text_keys([*titles, *described], _model(run)))
    length = _of_texts(run, [*titles, *described])
    return Pending(len(lacking), 2 * items.height if stale else len(lacking), None, length.own, length.whole)


def _recommendations(run: StageRun, stale: frozenset[str]) -> Pending:
    """The whole shortlist of each user and of the report's users, at most.

    Which prompts are known already is only seen while they are made.
    """
    settings = run.settings.recommendations
    name, _ = rescoring_method(run.settings)
    if name is None:
        return Pending(0, 0)
    users = len(every_user(run))
    samples = run.read(tables.SAMPLES)
    rows = (min(users, settings.users or users) + asked_users(samples, settings.report_users)) * settings.shortlist
    method = next((one for one in methods(run.settings) if one.name == name), None)
    if method is None:
        return Pending(rows, rows)
    texts, chat = scored_rows(run, method)["prompt"].to_list(), method.answer_form == "yes_no"
    length = mean_length(run, texts, chat)
    own = length.own
    if method.prompt_form == "recent":  # the history is read once for a shortlist, and of each candidate its own end
        lines = 2 if chat else 1
        end = mean_length(run, ["\n".join(text.rsplit("\n", lines)[1:]) for text in texts], chat).whole
        own = end + max(0.0, own - end) / settings.shortlist
    if settings.tokens_per_user:
        own = min(own, settings.tokens_per_user / settings.shortlist)
    return Pending(rows, rows, tokens=own, length=length.whole)


def asked_users(samples: pl.DataFrame, most: int) -> int:
    """Users of the validation and the test split who liked something: the report asks the LLM about them too."""
    liked = samples.filter(pl.col("split").is_in(["valid", "test"]), pl.col("label") == 1)
    counts = liked.group_by("split").agg(pl.col("user_id").n_unique())["user_id"].to_list()
    return sum(min(count, most or count) for count in counts)


_COUNTS: Mapping[str, Callable[[StageRun, frozenset[str]], Pending]] = {
    "item_descriptions": _item_descriptions,
    "title_embeddings": _title_embeddings,
    "description_embeddings": _description_embeddings,
    "lora_adapter": _lora_adapter,
    "predictions": _predictions,
    "new_item_descriptions": _new_item_descriptions,
    "new_item_embeddings": _new_item_embeddings,
    "recommendations": _recommendations,
    "reasoning_traces": _reasoning_traces,
    "reasoned_predictions": _reasoned_predictions,
}


def _counted(
    run: StageRun,
    items: pl.DataFrame,
    keys: Sequence[str],
    kind: Kind,
    stale: frozenset[str],
    length: Length,
) -> Pending:
    lacking = len(Memo(run.lake, kind).missing(keys))
    wanted = pl.DataFrame({"item_id": items["item_id"], "input_hash": keys})
    increment = None if stale else compare_rows(wanted, run.previous_rows(), lacking)
    at_most = items.height if stale else lacking
    return Pending(lacking, at_most, increment, length.own, length.whole)


def _description_keys(run: StageRun, items: pl.DataFrame) -> list[str]:
    return description_keys(items, run.spec, run.settings.descriptions, _model(run), run.seeds.sampling)


def _unscored(run: StageRun, method: Method, rows: pl.DataFrame) -> set[str]:
    """Keys of a method's prompts that were never scored with the adapter that is there, if there is one."""
    answers = answer_texts(method.answer_form, run.spec)
    if not _is_fetched(run):
        return {stable_hash(prompt, answers, method.adapter) for prompt in rows["prompt"].to_list()}
    store = score_store(run, method)
    return store.memo.missing(score_keys(rows["prompt"].to_list(), method.answer_form, answers, store))


def description_tokens(run: StageRun) -> float:
    """The most tokens of a description that is not yet written."""
    settings = run.settings.descriptions
    return min(settings.max_words * TOKENS_PER_WORD, settings.max_new_tokens)


def _model(run: StageRun) -> str:
    """The model's version; one that nothing was ever made with where the model of the settings is not in the lake."""
    return model_version(run) if _is_fetched(run) else ""


def _is_fetched(run: StageRun) -> bool:
    return fetched_model(run.lake, run.settings) is not None


def _of_texts(run: StageRun, texts: Sequence[str]) -> Length:
    """Of texts that are encoded, each on its own."""
    length = mean_length(run, texts)
    return replace(length, own=length.whole)
