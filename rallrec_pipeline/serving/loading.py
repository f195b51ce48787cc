"""Loads what is in force, and keeps of the last snapshot what is still the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rallrec_pipeline.baselines.folded import FoldedExpert
from rallrec_pipeline.baselines.rating_log import RatingLog
from rallrec_pipeline.errors import ConfigError, RallrecError, StaleArtefactError
from rallrec_pipeline.inference.methods import Method, methods
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.files import file_states
from rallrec_pipeline.lake.provenance import now, stable_hash
from rallrec_pipeline.lake.sound import require_sound
from rallrec_pipeline.lake.store import Record, Ref, read_ref, record_of, ref_file, with_inputs
from rallrec_pipeline.lake.tombstones import tombstone_file
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.graph import EVERY_STAGE
from rallrec_pipeline.pipeline.readiness import require_fit_model
from rallrec_pipeline.pipeline.reporting.scored import method_calibration
from rallrec_pipeline.pipeline.stage import changes, decisive_settings, looking
from rallrec_pipeline.pipeline.stages.engine import load_engine
from rallrec_pipeline.pipeline.stages.model import checkpoint
from rallrec_pipeline.serving.catalogue import ByUser, Catalogue
from rallrec_pipeline.serving.known_facts import KnownFacts
from rallrec_pipeline.serving.merging import NOT_ONLINE, fitted_merge, served_member
from rallrec_pipeline.serving.methods import EXPERT, ExpertMethod, LlmMethod
from rallrec_pipeline.serving.new_items import NewItems
from rallrec_pipeline.serving.prompting import Prompter, ServedRetriever
from rallrec_pipeline.serving.snapshot import Recommendations, ServedMethod, Snapshot, without_lake
from rallrec_pipeline.settings import Settings, essential, load_settings

RECOMMENDED = "recommendations"
SETTLED = ("raw", "data", "models", "reports")
"""Groups whose results are data: what made them is not made again here, so other settings do not matter."""


@dataclass(frozen=True)
class Loaded:
    """A part, what it was made from, and how its engines are closed when it is no longer used."""

    part: Recommendations | ServedMethod
    versions: Mapping[str, str]
    close: Callable[[], None] = lambda: None


class Loader:
    """Loads snapshots of one dataset and variant."""

    def __init__(self, lake: Path, dataset: str, profile: str | None, log: Callable[[str], None]) -> None:
        self.lake, self.dataset, self.profile, self.log = lake, dataset, profile, log
        self.variant = load_settings(profile, lake=lake).profile
        self._loaded: dict[str, Loaded] = {}
        self._failed: dict[str, str] = {}
        self._catalogue: tuple[tuple[object, ...], Catalogue] | None = None

    @property
    def has_failed(self) -> bool:
        """Whether a part could not be loaded the last time."""
        return bool(self._failed)

    def state(self) -> list[list[object]]:
        """Cheap to compare: changes whenever another result is put in force, or a user is forgotten."""
        return file_states([ref_file(self.lake, self.dataset, self.variant), tombstone_file(self.lake, self.dataset)])

    def load(self) -> tuple[Snapshot, list[Callable[[], None]]]:
        """What is in force now, and what closes the engines of parts that were replaced or are no longer asked for.

        A part that cannot be loaded stays what it was; it is an error where it never was.
        """
        settings = load_settings(self.profile, lake=self.lake)
        run = replace(looking(self.lake, self.dataset, settings), log=self.log)
        ref = read_ref(self.lake, self.dataset, settings.profile)
        made_by = {
            name: _made_by(name, settings) for name in settings.serving.methods
        }  # raises before anything is loaded
        before = dict(self._loaded)
        recommended = self._part(RECOMMENDED, RECOMMENDED, run, ref)
        served = {name: self._part(name, stage, run, ref) for name, stage in made_by.items()}
        for name in self._loaded.keys() - {RECOMMENDED, *served}:  # taken out of the settings
            del self._loaded[name]
        self._failed = {name: why for name, why in self._failed.items() if name in (RECOMMENDED, *served)}
        gone = [one.close for name, one in before.items() if self._loaded.get(name) is not one]
        versions = {name: one.versions for name, one in self._loaded.items()}
        snapshot = Snapshot(self.dataset, settings.profile, now(), recommended, served, versions, dict(self._failed))
        return snapshot, gone

    def _part(self, name: str, stage: str, run: StageRun, ref: Ref | None) -> Any:
        before = self._loaded.get(name)
        try:
            record = record_of(self.lake, self.dataset, ref, stage)
            if record is None:
                raise StaleArtefactError(f"{stage} of {self.dataset!r} was never made: run `{command_of(run)}` first")
            if before is None or before.part.fingerprint != part_fingerprint(name, record, run):
                self._loaded[name] = self._load(name, record, run)
        except Exception as error:  # memory that runs out, or a record of an older version: other parts are served
            found = StaleArtefactError(without_lake(one_line(error), self.lake))
            if self._failed.get(name) != str(found):  # it is tried again and again, and told once
                self.log(f"{name}: {found}" + ("; what was loaded before is kept" if before else ""))
            self._failed[name] = str(found)
            return before.part if before else found
        self._failed.pop(name, None)
        return self._loaded[name].part

    def _load(self, name: str, record: Record, run: StageRun) -> Loaded:
        inputs = with_inputs(self.lake, record)
        versions = {stage: one.fingerprint for stage, one in inputs.items()}
        run = replace(run, inputs=inputs)
        if name == RECOMMENDED:
            titles = (
                dict(run.read(tables.ITEMS).select("item_id", "title").iter_rows()) if run.has(tables.ITEMS) else {}
            )
            rows = ByUser(run.read(tables.RECOMMENDATIONS))
            return Loaded(Recommendations(record.fingerprint, rows, titles), versions)
        require_same_settings(run)
        catalogue, fingerprint = self._catalogue_of(run), part_fingerprint(name, record, run)
        if name in run.settings.merges:
            method = _scored(served_member(name, run.settings), run)
            merged = fitted_merge(name, record, run, _expert(run))  # may fail: before there is an engine to close
            llm, close = _llm_method(method, record, run)
            return Loaded(ServedMethod(fingerprint, catalogue, merged(llm)), versions, close)
        if record.stage == "predictions":
            llm, close = _llm_method(_scored(name, run), record, run)
            return Loaded(ServedMethod(fingerprint, catalogue, llm), versions, close)
        return Loaded(ServedMethod(fingerprint, catalogue, _expert(run)), versions)

    def _catalogue_of(self, run: StageRun) -> Catalogue:
        """Methods that know the same items, users and ratings share one."""
        stages = ("core_interactions", "core_items", "items", "users")
        key = (run.spec, *(run.given(stage).fingerprint for stage in stages))
        if self._catalogue is None or self._catalogue[0] != key:
            self._catalogue = (key, Catalogue.read(run))
        return self._catalogue[1]


def part_fingerprint(name: str, record: Record, run: StageRun) -> str:
    """What pins an answer of a part: its record, and of a merge also all that it is fitted with when it is loaded."""
    merge = run.settings.merges.get(name)
    if merge is None:
        return record.fingerprint
    return stable_hash(record.fingerprint, essential(merge), essential(run.settings.experts), run.seeds.fits)


def require_same_settings(run: StageRun) -> None:
    """Raises StaleArtefactError when an input was made with other settings, or by other code, than those at hand.

    Then a prompt made now would not be one that the result was evaluated on.
    """
    for name, record in run.inputs.items():
        stage = EVERY_STAGE.get(name)
        if stage is None or stage.group in SETTLED:
            continue
        settings = decisive_settings(stage, run)
        if (record.code_version, dict(record.settings)) != (stage.code_version, settings):
            given = {source: one.data_version for source, one in record.inputs.items()}
            why = ", ".join(changes(record, given, settings, stage.code_version))
            raise StaleArtefactError(f"{name} of {run.dataset!r} is stale ({why}): run `{command_of(run)}`")


def command_of(run: StageRun) -> str:
    """What brings the results of a dataset and variant up to date."""
    return f"rallrec run {run.dataset} --profile {run.settings.profile}"


def _made_by(name: str, settings: Settings) -> str:
    if name in settings.methods:
        return "predictions"
    if name == EXPERT:
        return "expert_predictions"
    if name in settings.merges:
        served_member(name, settings)
        return "predictions"
    if name in settings.reasoned:
        raise ConfigError(f"serving.methods: {name!r} cannot be served: {NOT_ONLINE}")
    raise ConfigError(
        f"serving.methods: {name!r} cannot be served: take methods of the LLM, {EXPERT!r}, or merges of the two"
    )


def _scored(name: str, run: StageRun) -> Method:
    method = next((one for one in methods(run.settings) if one.name == name), None)
    if method is None:
        raise StaleArtefactError(f"{name} is not scored in this variant: `only_methods` leaves it out")
    return method


def _llm_method(method: Method, record: Record, run: StageRun) -> tuple[LlmMethod, Callable[[], None]]:
    """The method, and what closes its engines."""
    facts = KnownFacts.read(run, method.facts) if method.facts else None
    retriever, longest = ServedRetriever.read(run, method), run.settings.prompts.title_characters
    new_items = NewItems(run)
    prompter = Prompter(method, run.spec, retriever, facts, new_items, longest)
    calibration = (
        method_calibration(method, record, run.lake, run.spec) if run.settings.scoring.calibration == "platt" else None
    )
    adapter = checkpoint(run, method.adapter) if method.adapter else None
    if adapter is not None:
        require_sound(adapter.iterdir())
    predictor = run.in_role("predictor")
    require_fit_model(predictor, tunes=False)
    engine = load_engine(predictor, "score", adapter)

    def close() -> None:
        try:
            engine.close()
        finally:
            new_items.close()

    return LlmMethod(prompter, engine, calibration, run.settings.serving.targets), close


def _expert(run: StageRun) -> ExpertMethod:
    item_ids = run.read(tables.CORE_ITEMS)["item_id"].to_list()
    log = RatingLog.of(run.read(tables.CORE_INTERACTIONS), run.read(tables.SAMPLES), item_ids)
    like_above = run.spec.label.like_above
    return ExpertMethod(FoldedExpert.of(log, like_above, run.seeds.fits, run.settings.experts.rows))


def one_line(error: Exception) -> str:
    """What an error says; of one that is not ours its class and first line."""
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(lines) if isinstance(error, RallrecError) else f"{type(error).__name__}: {''.join(lines[:1])}"
