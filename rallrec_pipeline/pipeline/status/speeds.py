"""The calibration behind an estimate: the stored one of this machine and model, or a new one of about five seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from rallrec_pipeline.errors import RallrecError
from rallrec_pipeline.lake.locks import LLM, lock_holder
from rallrec_pipeline.lake.store import Record
from rallrec_pipeline.language_models.dtypes import fetched_dtype
from rallrec_pipeline.language_models.engines.choice import is_sentence_encoder
from rallrec_pipeline.language_models.sizing.architecture import Architecture, find_architecture
from rallrec_pipeline.language_models.sizing.calibration import (
    Calibration,
    CalibrationKey,
    store_calibration,
    stored_calibration,
)
from rallrec_pipeline.language_models.sizing.hardware import machine_name
from rallrec_pipeline.pipeline.readiness import fetched_model, model_record
from rallrec_pipeline.settings import Role, Settings

Measuring = Literal["never", "once", "anew"]
FETCHING = "`rallrec run DATASET --select predictor`"
CALIBRATED = "a calibration: the model was run here for some seconds"


def _silent(_: str) -> None:
    """Says nothing."""


@dataclass
class Speeds:
    """The calibration of a lake's model, looked for when it is first asked for.

    `measuring` says whether one may be measured: `never`, `once` where none is stored, or `anew`. `notes` say why there
    is none.
    """

    lake: Path
    settings: Settings
    measuring: Measuring = "never"
    say: Callable[[str], None] = _silent
    notes: list[str] = field(default_factory=list)
    _found: Calibration | None = None
    _was_asked: bool = False
    _by_role: dict[Role, Speeds] = field(default_factory=dict)

    def calibration(self) -> Calibration | None:
        """The calibration, or None where there is none and none may or can be measured."""
        if not self._was_asked:
            self._was_asked = True
            self._found = self._find()
        return self._found

    def of(self, role: Role) -> Speeds:
        """The speeds of the model that plays a role; notes are told together."""
        if role not in self._by_role:
            own = replace(self, settings=self.settings.in_role(role), _found=None, _was_asked=False)
            same = (other for other in self._by_role.values() if other.settings.model == own.settings.model)
            self._by_role[role] = next(same, own)
        return self._by_role[role]

    def architecture(self) -> Architecture | None:
        """Sizes of the model, if they are known."""
        folder = fetched_model(self.lake, self.settings) or Path(self.settings.model.source)
        return find_architecture(folder, self.settings.model.source)

    def dtype(self) -> str:
        """Number type of the model; `auto` is what it was when the model was fetched."""
        return fetched_dtype(self.settings.model, self._base_model())

    def _find(self) -> Calibration | None:
        key, folder = self._key(), fetched_model(self.lake, self.settings)
        stored = stored_calibration(self.lake, key)
        if self.measuring == "never" or (stored is not None and self.measuring == "once"):
            return stored
        if (holder := lock_holder(self.lake, LLM)) is not None:
            self.notes.append(f"no calibration: the LLM is in use by {holder}, which would spoil it")
            return stored
        if folder is not None and is_sentence_encoder(folder):
            return None  # small, and soon done
        if folder is None:
            self.notes.append(f"no calibration: the model is not in the lake yet ({FETCHING} fetches it)")
            return None
        return self._measure(key, folder) or stored

    def _measure(self, key: CalibrationKey, folder: Path) -> Calibration | None:
        from rallrec_pipeline.language_models.sizing.measure import calibrate

        name = self.settings.model.name
        self.say(f"measuring how fast {name} runs here: some seconds, once (`--calibrate` does it again)")
        try:
            found = calibrate(key, self.settings, folder)
            if lock_holder(self.lake, LLM) is not None:
                self.notes.append("a run took the LLM during the calibration, which is not kept")
                return None
            store_calibration(self.lake, found)
        except RallrecError as error:  # an estimate is no reason to fail
            self.notes.append(f"no calibration: {error}")
            return None
        return found

    def _base_model(self) -> Record | None:
        return model_record(self.lake, self.settings) if fetched_model(self.lake, self.settings) else None

    def _key(self) -> CalibrationKey:
        model, record = self.settings.model, self._base_model()
        version = record.data_version if record else f"{model.source} as published"
        return CalibrationKey(machine_name(), version, self.dtype(), model.load_in_8bit)
