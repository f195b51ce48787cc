"""The raw files of a dataset: fetched into `raw/<dataset>/`, and watched where they come from."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from rallrec_pipeline.datasets.readers import raw_folder
from rallrec_pipeline.datasets.redaction import STATE, redaction_of
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.lake.files import file_states
from rallrec_pipeline.lake.sealed import is_whole
from rallrec_pipeline.sources.archives import disk_error
from rallrec_pipeline.sources.collect import collect, require_files
from rallrec_pipeline.sources.record import RECORD, lost_files
from rallrec_pipeline.sources.source import Downloads, data_files, silent


def fetch_raw_files(
    spec: DatasetSpec,
    lake: Path,
    downloads: Downloads = silent,
    damaged: Collection[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """The raw files under `raw/<dataset>/`, fetched where they are not there yet or have changed: see `collect`.

    Of a table in parts each part is a file. Rows of forgotten users are taken out, also of files put there by hand.
    """
    redaction, folder = redaction_of(spec, lake), raw_folder(lake, spec.name)
    _remove_damaged_records(lake, spec.name)
    if redaction is not None:
        lost = lost_files(spec.origin, folder)
        for file in spec.files:
            if file.name not in damaged and (file.name not in lost or redaction.is_good(file)):
                redaction.clean(file)
    return _parts(collect(spec.origin, folder, lake, downloads, damaged, say, redaction))


def require_raw_files(spec: DatasetSpec, lake: Path) -> None:
    """Raises DataError, as `fetch_raw_files` will, where a raw file is neither in the lake nor in a local source."""
    require_files(spec.origin, raw_folder(lake, spec.name))


def source_state(spec: DatasetSpec) -> list[list[object]]:
    """Size and time of each local file, so that an edited one is noticed; empty for sources elsewhere."""
    return file_states(spec.origin.local_files)


def kept_records(lake: Path, dataset: str) -> list[Path]:
    """What lies beside the raw files and tells of them."""
    return [raw_folder(lake, dataset) / name for name in (RECORD, STATE)]


def _remove_damaged_records(lake: Path, dataset: str) -> None:
    """A damaged record says no more than none, and not every fetch writes it anew; one that is gone is no damage."""
    for path in kept_records(lake, dataset):
        try:
            if not is_whole(path):
                path.unlink()
        except OSError as error:
            raise disk_error(error, path) from error


def watched_files(spec: DatasetSpec, lake: Path) -> list[Path]:
    """The files of a local source, else those under `raw/<dataset>/`."""
    return spec.origin.local_files or _parts([raw_folder(lake, spec.name) / file.name for file in spec.files])


def _parts(paths: list[Path]) -> list[Path]:
    return [part for path in paths for part in (data_files(path) if path.is_dir() else [path])]
