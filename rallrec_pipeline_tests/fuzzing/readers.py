"""Functions that read bytes from outside as the commands do: each raises nothing but RallrecError, of one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from rallrec_pipeline.datasets.catalog import load_dataset
from rallrec_pipeline.datasets.checking.report import check_dataset
from rallrec_pipeline.datasets.drafting.new import new_dataset
from rallrec_pipeline.datasets.raw_files import fetch_raw_files
from rallrec_pipeline.datasets.readers import read_raw
from rallrec_pipeline.errors import RallrecError
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.lake.sealed import SEAL
from rallrec_pipeline.lake.store import all_records, lost_refs, read_record, read_ref, whole
from rallrec_pipeline.lake.tombstones import read_tombstones
from rallrec_pipeline.language_models.sizing.architecture import find_architecture
from rallrec_pipeline.pipeline.forgetting.certificate import read_certificate
from rallrec_pipeline.pipeline.status.verify import verify_lake
from rallrec_pipeline.pipeline.studies.definition import load_study, study_variants
from rallrec_pipeline.reasoning.answers import read_response
from rallrec_pipeline.settings import load_settings
from rallrec_pipeline.sources.record import has_changed
from rallrec_pipeline.sources.source import Source, SourceFile
from rallrec_pipeline_tests.datasets.brought import dataset, items_csv

Reader = Callable[[bytes], None]


def survives(read: Reader, data: bytes) -> str | None:
    """Why a reader failed on `data`, in words; None where it ended well or in one line of its own."""
    try:
        read(data)
    except RallrecError as error:
        return f"more than one line: {error}" if "\n" in str(error) else None
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of a library is no Exception
        return f"{type(error).__name__}: {str(error)[:300]}"
    return None


def of_ratings(name: str, top: str = "") -> Reader:
    """Check, draft and read a dataset whose ratings are the bytes."""

    def read(data: bytes) -> None:
        with TemporaryDirectory() as folder:
            told = f'file = "{name}"\n{top}'
            _read_dataset(dataset(Path(folder), {name: data, "items.csv": items_csv()}, interactions=told))

    return read


def of_items(data: bytes) -> None:
    """The same with the catalogue."""
    with TemporaryDirectory() as folder:
        _read_dataset(dataset(Path(folder), {"items.csv": data}))


def of_toml(data: bytes) -> None:
    """The bytes as the TOML file of a dataset whose files are sound."""
    with TemporaryDirectory() as folder:
        path = dataset(Path(folder), {})
        path.write_bytes(data.replace(b"ELSEWHERE", (Path(folder) / "data").as_posix().encode()))
        _read_dataset(path)


def of_draft(name: str) -> Reader:
    """What `rallrec new` makes of the bytes."""

    def read(data: bytes) -> None:
        with TemporaryDirectory() as folder:
            place, lake = Path(folder) / "files", Path(folder) / "lake"
            place.mkdir()
            (place / name).write_bytes(data)
            (place / "items.csv").write_bytes(items_csv())
            new_dataset([place / name, place / "items.csv"], lake / "catalog" / "drawn.toml", lake)

    return read


def _read_dataset(path: Path) -> None:
    lake = path.parent.parent
    report = check_dataset(path, lake)
    assert all("\n" not in line for line in (*report.problems, *report.warnings)), report
    spec = load_dataset(path)
    fetch_raw_files(spec, lake)
    read_raw(spec, lake)


def of_archive(data: bytes) -> None:
    """The bytes as the zip that a dataset's files come from."""
    with TemporaryDirectory() as folder:
        path = dataset(Path(folder), {})
        (Path(folder) / "all.zip").write_bytes(data)
        toml = (
            path.read_text(encoding="utf-8")
            .replace('kind = "folder"', 'kind = "zip"')
            .replace("../../data", "../../all.zip")
        )
        path.write_text(toml, encoding="utf-8")
        _read_dataset(path)


def of_settings(data: bytes) -> None:
    """The bytes as a variant."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "variants" / "mine.toml"
        path.parent.mkdir()
        path.write_bytes(data)
        load_settings("mine", lake=Path(folder))


def of_study(data: bytes) -> None:
    """The bytes as a study."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "studies" / "mine.toml"
        path.parent.mkdir()
        path.write_bytes(data)
        study_variants("mine", load_study("mine", Path(folder)), "demo", Path(folder))


def of_answer(data: bytes) -> None:
    """The bytes as a response of the reasoner."""
    text = data.decode(errors="replace")
    for form, answers in (("yes_no", ("Yes", "No")), ("rating", ("1", "2", "3", "4", "5"))):
        for thinks in (True, False):
            found = read_response(text, len(text) % 2 == 0, form, answers, thinks)  # type: ignore[arg-type]
            assert found.answer in (*answers, "")


def of_document(place: str) -> Reader:
    """The bytes as a document of the lake, as they are and, where they are JSON, with the right checksum."""

    def read(data: bytes) -> None:
        for content in (data, _sealed(data)):
            with TemporaryDirectory() as folder:
                path = Path(folder) / place
                path.parent.mkdir(parents=True)
                path.write_bytes(content)
                _look(Path(folder))

    return read


def _look(lake: Path) -> None:
    for look in (_records, _refs, _tombstones, lambda lake: verify_lake(lake, None, "demo")):
        why = survives(lambda _, look=look: look(lake), b"")
        assert why is None, why


def _records(lake: Path) -> None:
    record = read_record(lake, "shop", "interactions", "f")
    all_records(lake, "shop", "interactions")
    if record is not None:
        whole(lake, record, verify=True)
        record.rows(lake)
        record.damaged(lake)


def _refs(lake: Path) -> None:
    read_ref(lake, "shop", "demo")
    lost_refs(lake, "shop")


def _tombstones(lake: Path) -> None:
    read_certificate(lake, "shop", "u")
    has_changed(Source("folder", "nowhere", (SourceFile("x.csv"),)), lake / "raw" / "shop", {})
    read_tombstones(lake, "shop").among(["u1"])


def of_config(data: bytes) -> None:
    """The bytes as the configuration of a model."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_bytes(data)
        find_architecture(Path(folder), "none")


def _sealed(data: bytes) -> bytes:
    try:
        found = json.loads(data)
        found.pop(SEAL, None)
        return json.dumps(found | {SEAL: stable_hash(found)}).encode(errors="replace")
    except (ValueError, TypeError, AttributeError, RecursionError):
        return data
