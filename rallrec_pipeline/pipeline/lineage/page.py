"""The lineage of an item for people: a section per link of the chain, printed with rich.

Text from data is never read as markup, and comes without control characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rallrec_pipeline.pipeline.lineage.model import (
    Adapter,
    Counts,
    Description,
    Index,
    Lineage,
    Place,
    Predictions,
    Provenance,
    RecommendedTo,
    Step,
    Uses,
    Vector,
)
from rallrec_pipeline.pipeline.lineage.state import PREDICTORS
from rallrec_pipeline.text import clean_text

HASH, RUN = 12, 8  # characters that are shown; `--at` and other commands know a run by them
LONG, NAME = 600, 60
LABEL_WIDTH = 19
MAX_REASONS = 3
TRAINING = ("training_interactions", "epochs", "best_epoch", "loss_first", "loss_last")


@dataclass(frozen=True)
class Section:
    """One link: the stages that made it, lines of a label and a value, and what is to be known."""

    title: str
    stages: Sequence[str]
    lines: list[tuple[str, str]]
    notes: Sequence[str] = field(default_factory=list)
    table: Table | None = None


def print_lineage(lineage: Lineage, console: Console) -> None:
    """Print the whole chain, as far as it goes."""
    title = (lineage.item.fields or {}).get("title", "")
    name = f": {_clean(title)}" if title else ""
    console.print(Text(f"{lineage.dataset}, item {_clean(lineage.item_id)}{name}", style="bold"))
    moment = f"as run {lineage.at.run_id} left it at {_time(lineage.at.ended_at)}" if lineage.at else "as it is now"
    console.print(Text(f"profile {lineage.profile}, protocol {lineage.protocol}, {moment}"))
    for section in _sections(lineage):
        made = [lineage.stages[name] for name in section.stages if lineage.stages[name].run_id]
        if made or section.notes:
            _print_section(section, made, console)
    if lineage.ends is not None:
        advice = f": run `{lineage.ends.command}`" if lineage.ends.command else ""
        console.print(Text(f"\nthe chain ends here: {lineage.ends.reason}{advice}", style="yellow"))


def _print_section(section: Section, made: Sequence[Step], console: Console) -> None:
    console.print(Text(f"\n{section.title}", style="bold"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=LABEL_WIDTH, no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for label, value in section.lines:
        grid.add_row(Text(f"  {label}"), Text(value))
    for note in section.notes:
        grid.add_row(Text("  note"), Text(_clean(note, LONG), style="yellow"))
    for step in made:
        grid.add_row(Text("  made by"), _step(step))
    console.print(grid)
    if section.table is not None and section.table.row_count:
        console.print(section.table)


def _step(step: Step) -> Text:
    """Stage, run, time, fingerprint and state on one line."""
    text = Text(f"{step.stage}, run {_short(step.run_id, RUN)}, {_time(step.created_at)}, {_short(step.fingerprint)}: ")
    if step.fresh:
        return text.append("up to date", style="green")
    waits = f"waits for {_few(step.waits_for)}" if step.waits_for else ""
    return text.append(f"stale, {_few(step.reasons)}" if step.reasons else waits, style="yellow")


def _few(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - MAX_REASONS} more" if len(texts) > MAX_REASONS else ""
    return ", ".join(_clean(text) for text in texts[:MAX_REASONS]) + more


def _sections(lineage: Lineage) -> Iterator[Section]:
    raw, ratings, item = lineage.raw, lineage.ratings, lineage.item
    lines = [*_place("item", raw.item), *([] if raw.same_file else _place("ratings", raw.ratings))]
    yield Section("Raw line", ["raw_files"], lines, raw.notes)
    counted = [("raw", ratings.raw), ("accepted", ratings.accepted), ("in the core", ratings.core)]
    counted += [("for training", ratings.training), ("fitted by LightGCN", ratings.fitted)]
    known = ", ".join(f"{number:,} {what}" for what, number in counted if number is not None)
    stages = ["interactions", "core_interactions", "samples"]
    yield Section("Ratings", stages, [("ratings", known), ("samples", _counts(ratings.samples))], ratings.notes)
    fields = [(_clean(name, LABEL_WIDTH - 2), _clean(value, LONG)) for name, value in (item.fields or {}).items()]
    yield Section("Fields", ["items", "core_items"], fields, item.notes)
    if item.in_core is False:
        yield _recommended(lineage.uses.recommended)
        return
    written = lineage.description
    yield Section("Description", ["writer", "item_descriptions"], _description(written), written.notes)
    yield from _vectors(lineage)
    yield _index(lineage.index, lineage.stages["item_index"].figures.get("index", "flat"))
    yield from _uses(lineage.uses)
    yield _recommended(lineage.uses.recommended)


def _place(label: str, place: Place | None) -> list[tuple[str, str]]:
    if place is None or not place.count:
        return []
    numbers = ", ".join(str(line["line"]) for line in place.lines)
    more = f" and {place.count - len(place.lines):,} more" if place.count > len(place.lines) else ""
    unit = place.unit if place.count == 1 else f"{place.unit}s"
    where = f"{place.file}, {unit} {numbers}{more} (SHA-256 {_short(place.sha256)})"
    return [(label, where), *([("", _clean(place.lines[0]["text"], LONG))] if label == "item" else [])]


def _description(found: Description) -> list[tuple[str, str]]:
    if found.provenance.input_hash is None:
        return []
    sampling = ", ".join(f"{name} {value}" for name, value in (found.sampling or {}).items())
    lines = [("text", _clean(found.text or "", LONG) or "–")]
    lines += [("status", f"{found.status}, attempts {found.attempts}, text from the {found.stored_in or 'past'}")]
    lines += [("prompt", _lines(found.prompt))] if found.prompt else []
    lines += [("sampling", f"{sampling}, seed {found.seed}")] if sampling else []
    return [*lines, *_row(found.provenance)]


def _vectors(lineage: Lineage) -> Iterator[Section]:
    names = {
        "title": "Title vector",
        "description": "Description vector",
        "text": "Text vector (both, reduced)",
        "collaborative": "Collaborative vector (LightGCN)",
        "aligned": "Aligned vector (projector)",
        "item": "Item vector (mixture)",
    }
    for kind, title in names.items():
        vector, stage = lineage.vectors[kind], f"{kind}_embeddings"
        lines = _vector(vector)
        told = lineage.stages[stage].figures
        figures = [f"{name.replace('_', ' ')} {_figure(told[name])}" for name in TRAINING if name in told]
        lines += [("training", ", ".join(figures))] if figures else []
        if kind == "item" and lineage.index.weights:
            lines += [("mixture", _numbers(lineage.index.weights))]
        yield Section(title, [stage], lines, vector.notes)


def _vector(vector: Vector) -> list[tuple[str, str]]:
    if vector.provenance.data_version is None:
        return []
    size = f"{vector.dimensions} dimensions, " if vector.dimensions else ""
    norm = f"norm {vector.norm:.4f}" if vector.norm is not None else "norm unknown"
    checked = {True: ", its hash holds", False: ", its hash does not hold", None: ""}[vector.verified]
    return [("vector", f"{size}{norm}, from the {vector.stored_in or 'past'}{checked}"), *_row(vector.provenance)]


def _row(row: Provenance) -> list[tuple[str, str]]:
    """Hashes and origin of a row."""
    model = f", model {_short(row.model_fingerprint)}" if row.model_fingerprint else ""
    template = f", template {row.template_version}" if row.template_version else ""
    hashes = f"input {_short(row.input_hash)}, output {_short(row.data_version)}{template}{model}"
    return [("hashes", hashes), ("row made by", f"run {_short(row.run_id, RUN)}, {_time(row.created_at)}")]


def _index(index: Index, kind: object) -> Section:
    lines = [] if index.row is None else [("row", f"{index.row:,} of 0 to {(index.rows or 1) - 1:,}, {kind} index")]
    table = Table(title=Text("nearest neighbours"), title_justify="left")
    for name in ("item", "title", "similarity", "text", "collaborative", "aligned"):
        table.add_column(name, justify="left" if name in ("item", "title") else "right", overflow="fold")
    for near in index.neighbours:
        parts = [_number(near.parts.get(part)) for part in ("text", "collaborative", "aligned")]
        cells = [_clean(near.item_id, NAME), _clean(near.title, NAME), _number(near.similarity), *parts]
        table.add_row(*(Text(cell) for cell in cells))
    return Section("Index", ["item_index"], lines, index.notes, table)


def _uses(uses: Uses) -> Iterator[Section]:
    lines = []
    if uses.histories is not None:
        lines = [("target of", _counts(uses.histories.target))]
        lines += [(f"shown {form}", _counts(found)) for form, found in uses.histories.shown.items()]
    yield Section("Histories", ["retrieved_histories"], lines, uses.notes)
    told = uses.tuning_prompts or {}
    roles = "{all:,} name it: {as_target:,} as target, {in_history:,} in the history"
    lines = [("prompts", roles.format(**told))] if told else []
    lines += [line for adapter in uses.adapters for line in _adapter(adapter)]
    yield Section("Tuning", ["tuning_prompts", "lora_adapter"], lines)
    yield _predictions(uses.predictions)


def _adapter(adapter: Adapter) -> list[tuple[str, str]]:
    base = (adapter.base_model or {}).get("name")
    parts = [
        f"run {_short(adapter.run_id, RUN)}, {_time(adapter.created_at)}" if adapter.run_id else "",
        {None: "not stored any more", "cache": "set aside in the cache"}.get(adapter.stored_in, ""),
        f"base model {_clean(base)}" if base else "",
        f"validation AUC {adapter.validation_auc:.4f}" if adapter.validation_auc is not None else "",
        f"{adapter.prompts:,} of its prompts name the item" if adapter.prompts is not None else "",
    ]
    return [(_clean(adapter.name, LABEL_WIDTH - 2), ", ".join(part for part in parts if part))]


def _predictions(found: Sequence[Predictions]) -> Section:
    table = Table(title=Text("predictions"), title_justify="left")
    for name in ("method", "run", "targets", "mean P(yes) of targets", "in the history"):
        table.add_column(name, overflow="fold")
    for one in found:
        of = f" (of {', '.join(one.made_of)})" if one.made_of else ""
        cells = [one.method + of, _short(one.run_id, RUN), _counts(one.targets), _numbers(one.mean_p_yes)]
        table.add_row(*(Text(cell) for cell in (*cells, "–" if one.in_history is None else _counts(one.in_history))))
    return Section("Predictions", ["evaluation_prompts", *PREDICTORS], [], [], table)


def _recommended(found: RecommendedTo | None) -> Section:
    """Nothing, where nothing is recommended yet."""
    if found is None:
        return Section("Recommendations", [], [])
    best = f", best rank {found.best_rank}" if found.best_rank else ""
    lines = [("recommended to", f"{found.users:,} user{'' if found.users == 1 else 's'}{best}")]
    lines += [("fit", f"{found.fit} ({found.method})")] if found.fit else []
    lines += [("described as", _clean(found.description, LONG))] if found.description else []
    return Section("Recommendations", ["recommender_fit", "recommendations"], lines)


def _counts(found: Counts | None) -> str:
    if found is None:
        return "unknown"
    return ", ".join(f"{number:,} {split}" for split, number in found.items()) or "none"


def _numbers(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in values.items()) or "–"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _figure(value: str | float) -> str:
    return f"{value:.4f}" if isinstance(value, float) else _clean(str(value))


def _short(text: str | None, characters: int = HASH) -> str:
    return _clean(text or "–")[:characters]


def _time(moment: str | None) -> str:
    """ISO 8601 in UTC, for people."""
    return (moment or "–").replace("T", " ").replace("+00:00", " UTC")


def _lines(text: str) -> str:
    return "\n".join(_clean(line, LONG) for line in text.split("\n"))


def _clean(text: str, characters: int = 300) -> str:
    return clean_text(text, characters)
