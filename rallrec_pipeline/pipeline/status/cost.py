"""What work will cost: tokens and seconds, estimated from the records of earlier runs or a calibration.

LLM work is rows × tokens per row ÷ tokens per second; both rates are those of the earlier run that comes nearest: of
the same dataset, else of another one, with this model on this machine. Without such a run the speed is that of a
calibration (`speeds.py`), else of a run with another model, else a stated default. Whole-table stages take as long as
the last time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rallrec_pipeline.lake.store import Record, all_records, recorded_datasets
from rallrec_pipeline.language_models.sizing.calibration import Calibration
from rallrec_pipeline.language_models.sizing.hardware import machine_name
from rallrec_pipeline.pipeline.readiness import fetched_model, model_record
from rallrec_pipeline.pipeline.status.pending import Pending
from rallrec_pipeline.pipeline.status.speeds import CALIBRATED, Speeds
from rallrec_pipeline.settings import ALL_ROLES

RECENT = 10  # records of an artefact that are looked at
DEFAULT_MODEL = "those of 135M parameters on two CPU cores"  # without bfloat16
DEFAULT_SPEED = {
    "item_descriptions": 160.0,
    "title_embeddings": 250.0,
    "description_embeddings": 300.0,
    "lora_adapter": 140.0,
    "predictions": 400.0,
    "new_item_descriptions": 160.0,
    "new_item_embeddings": 300.0,
    "recommendations": 400.0,
    "reasoning_traces": 160.0,
    "reasoned_predictions": 400.0,
}
THIS_DATASET, OTHERS = "this dataset's runs", "other datasets' runs"
OTHER_MODEL = "runs with another model or on another machine"
DEFAULT = "a default: no such run has been recorded"


@dataclass(frozen=True)
class Amount:
    """Rows and tokens for the LLM, and seconds; None where nothing is known."""

    rows: int | None = 0
    tokens: int | None = 0
    seconds: float | None = 0.0

    def __add__(self, other: Amount) -> Amount:
        """The sum of what is known."""
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return Amount(*((a or 0) + (b or 0) for a, b in pairs))


@dataclass(frozen=True)
class Estimate:
    """The cost `now`, if stale inputs turn out as they were, and `at_most`; both are the same if no input is stale.

    `basis` says where the rates are from, `is_exact` whether rows are counted and not bounded.
    """

    now: Amount = Amount()
    at_most: Amount = Amount()
    basis: str = ""
    is_exact: bool = True


UNKNOWN = Estimate(Amount(None, None, None), Amount(None, None, None), "nothing to count yet", is_exact=False)


@dataclass(frozen=True)
class Work:
    """What one run of a stage asked of the LLM."""

    rows: int
    tokens: int
    seconds: float


def estimate_llm(dataset: str, stage: str, pending: Pending, is_exact: bool, speeds: Speeds) -> Estimate:
    """Cost of the rows that are pending; `is_exact` says that no input is stale."""
    is_known = fetched_model(speeds.lake, speeds.settings) is not None
    basis, work = _nearest(speeds, dataset, stage, here=True) if is_known else (DEFAULT, None)
    calibration = speeds.calibration() if work is None and pending.at_most else None
    if calibration is not None:
        return Estimate(*_calibrated(stage, pending, calibration, speeds), CALIBRATED, is_exact)
    if work is None:
        basis, work = _nearest(speeds, dataset, stage, here=False)
    per_row, speed = pending.tokens + pending.new_tokens, DEFAULT_SPEED[stage]
    if work is not None:
        per_row, speed = work.tokens / work.rows, work.tokens / work.seconds

    def amount(rows: int) -> Amount:
        tokens = round(rows * per_row)
        return Amount(rows, tokens, round(tokens / speed, 1))

    return Estimate(amount(pending.rows), amount(pending.at_most), basis, is_exact)


def _calibrated(stage: str, pending: Pending, speed: Calibration, speeds: Speeds) -> tuple[Amount, Amount]:
    """Amounts at measured speeds, for the rows as they are and at most; the loading of each engine is counted."""

    def seconds(rows: int) -> float:
        tokens, length = rows * pending.tokens, pending.length or pending.tokens
        if stage == "lora_adapter":
            checked = pending.checked * rows / max(1, pending.at_most)
            validation = speed.reading_seconds(checked * pending.tokens, length)
            return speed.training_seconds(tokens, length) + validation
        written = speed.writing_seconds(rows * pending.new_tokens, speeds.settings.descriptions.batch_size)
        return speed.reading_seconds(tokens, length) + (written if pending.new_tokens else 0.0)

    def amount(rows: int) -> Amount:
        took = seconds(rows) + speed.load_seconds * pending.loads if rows else 0.0
        return Amount(rows, round(rows * (pending.tokens + pending.new_tokens)), round(took, 1))

    return amount(pending.rows), amount(pending.at_most)


def estimate_whole(lake: Path, dataset: str, stage: str, certain: bool, is_exact: bool) -> Estimate:
    """Cost of a whole-table stage; it is `certain` to run, or only if an input changes.

    It is exact, as far as the last run tells, when no input is stale.
    """
    others = [name for name in recorded_datasets(lake) if name != dataset]
    for basis, names in ((THIS_DATASET, [dataset]), (OTHERS, others)):
        for name in names:
            if (record := next(_recent(lake, [name], stage), None)) is not None:
                most = Amount(seconds=record.seconds)
                return Estimate(most if certain else Amount(), most, basis, is_exact)
    unknown = Amount(seconds=None)
    return Estimate(unknown if certain else Amount(), unknown, DEFAULT, is_exact)


def total(estimates: Iterable[Estimate]) -> Estimate:
    """The sum of what is known."""
    known = list(estimates)
    now, at_most = (sum((getattr(e, name) for e in known), Amount()) for name in ("now", "at_most"))
    return Estimate(now, at_most, is_exact=all(e.is_exact for e in known))


def work_of(record: Record) -> Work | None:
    """The LLM work that a record tells of; None where there was none. A description that was asked twice is one row."""
    metadata = record.metadata
    tuned = [value for value in metadata.values() if isinstance(value, dict) and value.get("examples")]
    if tuned:
        rows = sum(adapter["examples"] * len(adapter["epochs"]) for adapter in tuned)
        return Work(rows, sum(a["tokens"] for a in tuned), max(sum(a["seconds"] for a in tuned), 1e-3))
    usage = metadata.get("llm") or {}
    rows = metadata.get("rows_computed", usage.get("rows", 0))
    if not rows:
        return None
    return Work(rows, usage["prompt_tokens"] + usage["new_tokens"], max(record.seconds, 1e-3))


def _nearest(speeds: Speeds, dataset: str, stage: str, here: bool) -> tuple[str, Work | None]:
    """The largest of the closest matching runs, because loading a model distorts its speed least.

    With `here` only runs of this model on this machine match; a record that names no machine counts as of this one.
    """
    lake, fetched = speeds.lake, model_record(speeds.lake, speeds.settings)
    model, machine = fetched.data_version if fetched else None, machine_name()
    others = [name for name in recorded_datasets(lake) if name != dataset]
    own, foreign = list(_recent(lake, [dataset], stage)), list(_recent(lake, others, stage))

    def is_alike(record: Record) -> bool:
        same = any(given.data_version == model for name, given in record.inputs.items() if name in ALL_ROLES)
        return same and record.metadata.get("machine", machine) == machine

    alike = ((THIS_DATASET, list(filter(is_alike, own))), (OTHERS, list(filter(is_alike, foreign))))
    for basis, records in alike if here else ((OTHER_MODEL, [*own, *foreign]),):
        works = [work for record in records if (work := work_of(record)) is not None and work.tokens]
        if works:
            return basis, max(works, key=lambda work: work.rows)
    return DEFAULT, None


def _recent(lake: Path, datasets: Iterable[str], stage: str) -> Iterator[Record]:
    """The newest records."""
    for dataset in datasets:
        yield from all_records(lake, dataset, stage)[:RECENT]
