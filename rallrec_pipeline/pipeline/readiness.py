"""Whether the LLM of the settings can run here at all, asked before a weight is fetched or loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from rallrec_pipeline.datasets.catalog import get_dataset
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.descriptions import description_prompt
from rallrec_pipeline.errors import DataError, ModelError, StaleArtefactError
from rallrec_pipeline.inference.methods import retrievers, shown_items
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.checksums import is_damaged
from rallrec_pipeline.lake.files import file_states
from rallrec_pipeline.lake.parquet import read_table
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.lake.store import Record, all_records, in_force, record_of
from rallrec_pipeline.language_models.dtypes import fetched_dtype, resolve_dtype
from rallrec_pipeline.language_models.engines.choice import is_sentence_encoder
from rallrec_pipeline.language_models.engines.vllm_process import CPU_CACHE_BYTES
from rallrec_pipeline.language_models.models import is_as_fetched, model_folder
from rallrec_pipeline.language_models.sizing.architecture import KNOWN, architecture_of, read_config
from rallrec_pipeline.language_models.sizing.capacity import (
    CERTAIN,
    LongPrompt,
    ModelCheck,
    longest_by_use,
    token_counts,
)
from rallrec_pipeline.language_models.sizing.footprint import Use, footprint, served_footprint
from rallrec_pipeline.language_models.sizing.hardware import find_hardware
from rallrec_pipeline.language_models.sizing.model_files import ModelFiles, local_files, small_files
from rallrec_pipeline.language_models.sizing.preflight import check_model
from rallrec_pipeline.pipeline.context import SHARED, StageRun
from rallrec_pipeline.prompts.render import YES_NO, answer_texts
from rallrec_pipeline.settings import ALL_ROLES, ROLES, RetrievalSettings, RetrieverSettings, Role, Settings

LONGEST = 8  # texts of a kind that are counted in tokens: the longest in characters
# Where there is no prompt yet: its frame, each item of the history, and an item's title and fields.
FRAME_TOKENS, HISTORY_TOKENS, ITEM_TOKENS = 150, 24, 160
ANSWER_TOKENS = 4
WEIGHTS = ".safetensors"
SCALE = ("1", "2", "3", "4", "5")

_passed: set[str] = set()


USES_OF: dict[Role, tuple[Use, ...]] = {
    "writer": ("generate",),
    "encoder": ("encode",),
    "predictor": ("score", "tune"),
    "reasoner": ("generate", "score"),
}


def require_fit_model(run: StageRun, tunes: bool = True) -> None:
    """Raise ModelError with every problem of the model in its role, a line each.

    `tunes` says whether memory to tune is needed.

    What passed once in this process is not asked again: later on the process itself holds memory that was free then.
    """
    settings, dataset = run.settings, None if run.dataset == SHARED else run.dataset
    key = _key(run.lake, settings, dataset, tunes, run.role)
    if key in _passed:
        return
    found = check_run_model(run.lake, settings, dataset, tunes, (run.role,))
    if found.problems:
        lines = "\n".join(f"  - {problem}" for problem in found.problems)
        plural = "" if len(found.problems) == 1 else "s"
        raise ModelError(
            f"the model {settings.model.name} cannot run here, {len(found.problems)} problem{plural} to mend:\n{lines}"
        )
    for warning in found.warnings:
        run.log(f"note: {warning}")
    _passed.add(key)


def check_run_model(
    lake: Path, settings: Settings, dataset: str | None = None, tunes: bool = True, roles: Sequence[Role] = ROLES
) -> ModelCheck:
    """Everything that is wrong with `settings.model` in its roles here; `dataset` gives the real prompts."""
    folder = fetched_model(lake, settings)
    if tuple(roles) == ("encoder",) and is_sentence_encoder(folder or Path(settings.model.source)):
        return ModelCheck([], [], {"model": settings.model.name, "kind": "sentence encoder"})
    uses = tuple(use for role in roles for use in USES_OF[role] if tunes or use != "tune")
    spec = get_dataset(dataset, lake, settings.protocol) if dataset else None
    prompts = list(long_prompts(lake, settings, spec))
    answers = [answer_texts("yes_no", spec), answer_texts("rating", spec)] if spec else [YES_NO, SCALE]
    hardware, published = find_hardware(settings.model.tensor_parallel), KNOWN.get(settings.model.source)
    settings = _with_dtype(lake, settings)

    def check(files: ModelFiles | None) -> ModelCheck:
        local = tuple(use for use in uses if use == "tune" or not settings.ray.address)
        return check_model(files, settings, hardware, prompts, answers, published, local)

    if folder is not None:
        return check(local_files(folder))
    try:
        with small_files(settings.model.source) as files:
            return check(files)
    except ModelError as error:  # of the hub; what follows from the settings is told all the same
        found = check(None)
        found.problems.insert(0, str(error))
        return found


def roles_by_model(settings: Settings) -> list[tuple[tuple[Role, ...], Settings]]:
    """Each distinct model with the roles that it plays, as `settings.model` of its own settings."""
    found: dict[str, tuple[tuple[Role, ...], Settings]] = {}
    for role in ROLES:
        own = settings.in_role(role)
        before, _ = found.get(own.model.model_dump_json(), ((), own))
        found[own.model.model_dump_json()] = (*before, role), own
    return list(found.values())


def engine_memory(lake: Path, settings: Settings, use: Use) -> int:
    """Bytes of main memory that an engine of the fetched model surely takes for `use` on a processor, not to tune."""
    architecture = architecture_of(read_config(model_folder(lake, settings.model)))
    typed, prompts = _with_dtype(lake, settings), list(long_prompts(lake, settings, None))
    tokens = longest_by_use(prompts, token_counts(prompts, None)).get(use, 0)
    if settings.model.engine == "vllm":
        return round(CERTAIN * served_footprint(architecture, typed, "cpu", tokens).total) + CPU_CACHE_BYTES
    return round(CERTAIN * footprint(use, architecture, typed, "cpu", tokens).total)


def fetched_model(lake: Path, settings: Settings) -> Path | None:
    """The folder of the model within the lake; None where it is another one, was never fetched, or is damaged.

    Of the weights nothing is read here, unless the model has no record, as in a copied folder.
    """
    folder, record = model_folder(lake, settings.model), model_record(lake, settings)
    if record is None:
        return folder if is_as_fetched(settings.model, lake) else None
    if not folder.is_dir():
        return None
    small = ((lake / name, state) for name, state in record.files.items() if not name.endswith(WEIGHTS))
    return None if any(is_damaged(path, state) for path, state in small) else folder


def model_record(lake: Path, settings: Settings) -> Record | None:
    """The record of the fetched model; None where another one lies in its folder, or it was never fetched."""
    model = settings.model
    known = (record for role in ALL_ROLES for record in all_records(lake, SHARED, role))
    asked = {"name": model.name, "source": model.source}
    named = [record for record in known if asked.items() <= record.settings.items()]
    # Whose files lie there, and not whose time is the latest: a clock may go backwards.
    newest_first = sorted(named, key=lambda record: record.created_at, reverse=True)
    return next((record for record in newest_first if record.is_whole(lake)), None)


def _with_dtype(lake: Path, settings: Settings) -> Settings:
    """The settings with the number type that `auto` is here, or was when the model was fetched."""
    dtype = resolve_dtype(fetched_dtype(settings.model, model_record(lake, settings)))
    return settings.model_copy(update={"model": settings.model.model_copy(update={"dtype": dtype})})


def long_prompts(lake: Path, settings: Settings, spec: DatasetSpec | None) -> Iterator[LongPrompt]:
    """The longest prompt of each kind: those in the lake, else about what the settings allow."""
    yield from _descriptions(lake, settings, spec)
    longest = max(retrievers(settings), key=lambda name: shown_items(name, settings))
    estimate = FRAME_TOKENS + shown_items(longest, settings) * HISTORY_TOKENS
    advice = f"retrievers.{longest}.k" if settings.retrievers[longest].k else "retrieval.history_length"
    for split, limited in (("evaluation", False), ("tuning", True)):
        rest = {
            "what": f"{split} prompts",
            "use": "tune" if limited else "score",
            "advice": advice,
            "added": ANSWER_TOKENS,
            "limit": settings.tuning.cutoff_tokens if limited else None,
            "limit_name": "tuning.cutoff_tokens",
        }
        rows = _prompts(lake, shown_items(longest, settings), spec, split)
        if rows is None:
            yield LongPrompt(**rest, tokens=estimate)  # type: ignore[arg-type]
            continue
        for (form,), kind in rows.group_by(["answer_form"]):
            for text in _longest(kind["prompt"]):
                yield LongPrompt(**rest, text=text, chat=form == "yes_no")  # type: ignore[arg-type]


def _prompts(lake: Path, shown: int, spec: DatasetSpec | None, split: str) -> pl.DataFrame | None:
    """The prompts in the lake, where the longest of them show as many items as `shown`."""
    if spec is None:
        return None
    record = record_of(lake, spec.name, in_force(lake, spec.name), "retrieved_histories")
    if record is None:
        return None
    common = RetrievalSettings.model_validate(record.settings["retrieval"]).history_length
    own = [RetrieverSettings.model_validate(known).k for known in record.settings.get("retrievers", {}).values()]
    if max((k or common for k in own), default=common) != shown:
        return None
    return _read(tables.prompts_table(split), lake, spec.name)


def _descriptions(lake: Path, settings: Settings, spec: DatasetSpec | None) -> Iterator[LongPrompt]:
    chosen = settings.descriptions
    what, advice, added = "description prompts", "descriptions.max_new_tokens", chosen.max_new_tokens
    items = _read(tables.CORE_ITEMS, lake, spec.name) if spec else None
    if items is None or spec is None:
        tokens = len(chosen.template) // 3 + ITEM_TOKENS
        yield LongPrompt(what, "generate", advice, tokens=tokens, added=added)
        return
    prompts = pl.Series([description_prompt(row, spec, chosen) for row in items.iter_rows(named=True)], dtype=pl.String)
    for text in _longest(prompts):
        yield LongPrompt(what, "generate", advice, text=text, added=added)


def _longest(texts: pl.Series) -> list[str]:
    frame = pl.DataFrame({"text": texts})
    return frame.top_k(LONGEST, by=pl.col("text").str.len_chars())["text"].to_list()


def _read(table: tables.Table, lake: Path, dataset: str) -> pl.DataFrame | None:
    """A table, or None where there is none that can be read."""
    try:
        return read_table(table, lake, dataset)
    except (StaleArtefactError, DataError):
        return None


def _key(lake: Path, settings: Settings, dataset: str | None, tunes: bool, role: Role) -> str:
    """Hash of what the answer depends on, the memory left out."""
    names = [tables.CORE_ITEMS, tables.prompts_table("tuning"), tables.prompts_table("evaluation")]
    states = file_states([table.file(lake, dataset) for table in names]) if dataset else []
    record = model_record(lake, settings)
    version = record.data_version if record else None
    return stable_hash(_decisive(settings), str(lake), dataset, tunes, role, states, version)


def _decisive(settings: Settings) -> dict[str, object]:
    """The settings that the model's fitness depends on."""
    named = {"model", "tuning", "descriptions", "retrieval", "retrievers", "adapters", "methods", "only_methods", "ray"}
    return settings.model_dump(mode="json", include=named)
