"""What reads input from outside, and inputs that are nearly right: whatever comes, it ends well or in one line.

`TARGETS` are used in three ways: a few mutants each in CI, many in `make test-slow`, and guided by coverage where
atheris is installed: `python -m rallrec_pipeline_tests.fuzzing csv -max_total_time=60`.
"""

from __future__ import annotations

import io
import json
import random
import re
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from gzip import compress
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
from rallrec_pipeline.lake.store import Given, Record, Ref, all_records, lost_refs, read_record, read_ref, whole
from rallrec_pipeline.lake.tombstones import read_tombstones
from rallrec_pipeline.language_models.sizing.architecture import find_architecture
from rallrec_pipeline.pipeline.forgetting.certificate import read_certificate
from rallrec_pipeline.pipeline.status.verify import verify_lake
from rallrec_pipeline.pipeline.studies import load_study, study_variants
from rallrec_pipeline.reasoning.answers import read_response
from rallrec_pipeline.settings import load_settings
from rallrec_pipeline.sources.record import has_changed
from rallrec_pipeline_tests.datasets.brought import Files, dataset, items_csv, json_lines, parquet, ratings_csv, world
from rallrec_pipeline_tests.hostile import HOSTILE

Mutant = Callable[[bytes], None]
"""Raises nothing but RallrecError."""
HEADER = ("user_id", "item_id", "rating", "timestamp")
LITERALS = (
    *(b"0", b"-1", b"9" * 30, b"1e400", b"-1e-400", b"nan", b"inf", b"true", b'""', b"''", b"[]", b"{}", b"[[]]"),
    *(b'"\\u0000"', b'"\\ud800"', b'"../x"', b'"*"', b"1979-05-27", b"07:32:00", b"null", b"{a = 1}", b'[1, "a"]'),
    *(
        b'"utf-16"',
        b'"rot13"',
        b'"idna"',
        b'"base64"',
        b'"("',
        b'"%Q"',
        b'"%z"',
        b"0x10",
        b"0.5",
        b'"parquet"',
        b'"excel"',
    ),
)
PIECES = (
    *(
        b"\n",
        b"\r",
        b"\t",
        b",",
        b'"',
        b"'",
        b"\\",
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"[",
        b"]",
        b"{",
        b"}",
    ),
    *(b"=", b"#", b".", b":", b"::", b";", b"NaN", b"1e9", b"PK\x03\x04", b"\x1f\x8b", b"PAR1", "é\u202e".encode()),
    *(text.encode(errors="surrogatepass")[:60] for text in HOSTILE[::9]),
)
VALUE = re.compile(rb"(?<=[=:,\[ ])\s*(?:\"[^\"\n]*\"|'[^'\n]*'|[-\w.]+)")


@dataclass(frozen=True)
class Target:
    """A reader and inputs that it takes."""

    seeds: Callable[[], list[bytes]]
    read: Mutant


def mutant(seed: int, sound: list[bytes]) -> bytes:
    """One of the sound inputs with up to six changes: bits, pieces put in, cut out, doubled, values replaced."""
    rng = random.Random(seed)
    data = rng.choice(sound)
    for _ in range(rng.randint(1, 6)):
        data = _changed(data, rng)
    return data


def _changed(data: bytes, rng: random.Random) -> bytes:
    at, length = rng.randint(0, len(data)), rng.choice((1, 1, 4, 40))
    how = rng.randrange(7)
    if how == 0 and data:
        at = min(at, len(data) - 1)
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
    if how == 1:
        return data[:at] + rng.choice(PIECES) + data[at:]
    if how == 2:
        return data[:at] + data[at + length :]
    if how == 3:
        return data[: at + length] + data[at : at + length] + data[at + length :]
    if how == 4:
        return data[:at]
    found = list(VALUE.finditer(data[:20_000]))
    if not found:
        return data[:at] + rng.choice(LITERALS) + data[at:]
    value = rng.choice(found)
    return data[: value.start()] + rng.choice(LITERALS) + data[value.end() :]


def survives(target: Target, data: bytes) -> str | None:
    """Why a reader failed on `data`, in words; None where it ended well or in one line of its own."""
    try:
        target.read(data)
    except RallrecError as error:
        return f"more than one line: {error}" if "\n" in str(error) else None
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of a library is no Exception
        return f"{type(error).__name__}: {str(error)[:300]}"
    return None


def of_ratings(name: str, top: str = "") -> Mutant:
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


def of_draft(name: str) -> Mutant:
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
    lake, faults = path.parent.parent, list[RallrecError]()
    report = check_dataset(path, lake)
    assert all("\n" not in line for line in (*report.problems, *report.warnings)), report
    try:
        spec = load_dataset(path)
        fetch_raw_files(spec, lake)
        read_raw(spec, lake)
    except RallrecError as error:
        faults.append(error)
    assert not faults or "\n" not in str(faults[0]), faults


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


def of_document(place: str) -> Mutant:
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
        try:
            look(lake)
        except RallrecError as error:
            assert "\n" not in str(error), error


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
    has_changed(load_dataset(_any_dataset()).origin, lake / "raw" / "shop", {})
    read_tombstones(lake, "shop").among(["u1"])


@cache
def _any_dataset() -> Path:
    from tempfile import mkdtemp

    return dataset(Path(mkdtemp(prefix="rallrec-fuzz-")), {})


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


def _rows() -> list[dict[str, object]]:
    return [dict(zip(HEADER, row, strict=True)) for row in world()[:60]]


def _frame() -> bytes:
    import polars as pl

    return parquet(pl.DataFrame(_rows()))


def _zipped(files: Files) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _workbook() -> bytes:
    """A workbook of one sheet, as small as readers take it."""
    cells = [HEADER, *world()[:20]]
    rows = "".join(
        f'<row r="{n}">' + "".join(f'<c t="inlineStr"><is><t>{cell}</t></is></c>' for cell in row) + "</row>"
        for n, row in enumerate(cells, 1)
    )
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    return _zipped(
        {
            "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="{kind}.worksheet+xml"/></Types>'.encode(),
            "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>'.encode(),
            "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets><sheet name="a" sheetId="1" r:id="r1"/></sheets></workbook>'.encode(),
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{office}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>'.encode(),
            "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{rows}</sheetData></worksheet>'.encode(),
        }
    )


def _toml() -> list[bytes]:
    with TemporaryDirectory() as folder:
        plain = dataset(Path(folder), {}).read_bytes().replace(b"../../data", b"ELSEWHERE")
    more = b"""title = "t"
repeats = "first"
max_rejected = 0.5
unknown_items = "keep"
[source]
kind = "folder"
location = "ELSEWHERE"
[interactions]
file = "ratings.csv"
encoding = "utf-8"
separator = ","
quote = '"'
escape = "backslash"
empty = ["NULL"]
where = { rating = ["1", "2", "3"] }
[interactions.columns]
user_id = "user_id"
item_id = { column = "item_id", empty = ["x"] }
rating = { column = "rating", values = { a = 1 } }
timestamp = { column = "timestamp", unit = "s", time_format = "%Y-%m-%d %H:%M:%S.%f%z" }
[items]
file = "items.csv"
header = ["item_id", "title"]
[items.columns]
title = { column = "title", pattern = "(.*)", split = "|", pick = 1, length = 2, move_article = true }
year = { column = "title", numeric = true, buckets = [1, 2], bounds = [0.0, 9.0] }
[protocols.one]
user_core = 1
item_core = 1
user_cap = 99
item_limit = 50
item_limit_first = true
min_history = 0
split = "last"
fractions = [0.8, 0.1, 0.1]
few_shot = 5
first_test_samples = 9
drop_ratings = [5]
require = ["year"]
selection = { user_core = 2, item_core = 2 }
expected = { users = 16 }
tolerance = 0.1
[label]
scale = [1, 2, 3, 4, 5]
like_above = 3
[words]
item = "film"
"""
    return [plain, more]


def _variants() -> list[bytes]:
    from rallrec_pipeline.settings.variants import PROFILES, variant_file

    return [variant_file(name, Path(), "").read_bytes() for name in PROFILES]


def _studies() -> list[bytes]:
    import rallrec_pipeline.pipeline.studies as module

    return [path.read_bytes() for path in sorted(Path(str(module.__file__)).parent.glob("studies/*.toml"))]


def _record() -> bytes:
    given = {"raw_files": Given("shop", "a" * 32, "b" * 32)}
    files = {"results/shop/interactions/f/rows.parquet": (3, 5, "c" * 64)}
    found = Record(
        "interactions", "shop", "f", "d", given, {"x": {"y": 1}}, "1", "r", "2026-01-01", 0.5, [], files, {"why": []}
    )
    return json.dumps(asdict(found)).encode()


def _ref() -> bytes:
    return json.dumps(asdict(Ref("demo", "r", "2026-01-01", {"interactions": "f"}))).encode()


RATINGS = ratings_csv()[:1500].rpartition(b"\n")[0] + b"\n"
CONFIG = (
    b'{"text_config": {"num_attention_heads": 2, "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 8, '
    b'"vocab_size": 9, "max_position_embeddings": 64, "tie_word_embeddings": true}, "model_type": "llama"}'
)
QUOTED = b'user_id,item_id,rating,timestamp\n"u1","i1","5","16"\n"u2,","i""2",4,"17\n18"\n'
TARGETS: dict[str, Target] = {
    "csv": Target(lambda: [RATINGS, QUOTED], of_ratings("ratings.csv")),
    "csv with rules": Target(lambda: [RATINGS, QUOTED], of_ratings("ratings.csv", 'where = { rating = "5" }\nescape = "backslash"\n')),
    "utf-16": Target(lambda: [RATINGS.decode().encode("utf-16")], of_ratings("ratings.csv", 'encoding = "utf-16"\n')),
    "tsv": Target(lambda: [RATINGS.replace(b",", b"\t")], of_ratings("ratings.tsv")),
    "atomic": Target(lambda: [RATINGS.replace(b",", b"\t").replace(b"_id\t", b"_id:token\t")], of_ratings("ratings.inter")),
    "json lines": Target(lambda: [json_lines(_rows()), b"{'user_id': 'u', 'item_id': 1, 'rating': nan}\n"], of_ratings("ratings.jsonl")),
    "parquet": Target(lambda: [_frame()], of_ratings("ratings.parquet")),
    "workbook": Target(lambda: [_workbook()], of_ratings("ratings.xlsx")),
    "packed": Target(lambda: [compress(RATINGS), _zipped({"ratings.csv": RATINGS})], of_ratings("ratings.csv.gz")),
    "archive": Target(lambda: [_zipped({"ratings.csv": ratings_csv(), "items.csv": items_csv()})], of_archive),
    "items": Target(lambda: [items_csv()], of_items),
    "toml": Target(_toml, of_toml),
    "draft of csv": Target(lambda: [ratings_csv(), QUOTED], of_draft("ratings.csv")),
    "draft of json": Target(lambda: [json_lines(_rows())], of_draft("ratings.json")),
    "variant": Target(_variants, of_settings),
    "study": Target(_studies, of_study),
    "answer": Target(lambda: [b"<think>no</think> The rating is 4 out of 5.", b"Answer: Yes.", b"3/5 " * 9], of_answer),
    "config": Target(lambda: [CONFIG], of_config),
    "record": Target(lambda: [_record()], of_document("results/shop/interactions/f/manifest.json")),
    "ref": Target(lambda: [_ref()], of_document("refs/shop/demo.json")),
    "tombstones": Target(lambda: [b'{"key": "' + b"0" * 64 + b'", "users": ["a"]}'], of_document("tombstones/shop.json")),
    "source record": Target(lambda: [b'{"source": {"kind": "folder"}, "files": {"x": [1, 2, "a"]}}'], of_document("raw/shop/.source.json")),
    "certificate": Target(lambda: [b'{"dataset": "shop", "user": "u", "state": "done", "at": "", "raw_files": [], "results": []}'], of_document("reports/shop/forgotten_u.json")),
}  # fmt: skip


def main() -> None:
    """Let atheris find inputs for one target, guided by coverage; a crash is kept in the working directory."""
    import atheris  # no part of the environment: pip install atheris

    name = sys.argv.pop(1)
    target = TARGETS[name]
    folder = Path.cwd() / "corpus" / name.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    for number, sound in enumerate(target.seeds()):
        (folder / f"seed-{number}").write_bytes(sound)

    def one(data: bytes) -> None:
        if (why := survives(target, data)) is not None:
            raise AssertionError(why)

    atheris.Setup([*sys.argv, str(folder)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
