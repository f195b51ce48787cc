"""Every reader of input from outside, with sound inputs to begin from."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from gzip import compress
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from rallrec_pipeline.lake.store import Given, Record, Ref
from rallrec_pipeline.pipeline.studies import definition as studies
from rallrec_pipeline.settings.variants import PROFILES, variant_file
from rallrec_pipeline_tests.datasets.brought import (
    Files,
    dataset,
    items_csv,
    json_lines,
    parquet,
    ratings_csv,
    workbook,
    world,
)
from rallrec_pipeline_tests.fuzzing.readers import (
    Reader,
    of_answer,
    of_archive,
    of_config,
    of_document,
    of_draft,
    of_items,
    of_ratings,
    of_settings,
    of_study,
    of_toml,
)

HEADER = ("user_id", "item_id", "rating", "timestamp")


@dataclass(frozen=True)
class Target:
    """A reader and inputs that it takes."""

    seeds: Callable[[], list[bytes]]
    read: Reader


def _rows() -> list[dict[str, object]]:
    return [dict(zip(HEADER, row, strict=True)) for row in world()[:60]]


def _frame() -> bytes:
    return parquet(pl.DataFrame(_rows()))


def _arrow() -> bytes:
    stream = io.BytesIO()
    pl.DataFrame(_rows()).write_ipc(stream)
    return stream.getvalue()


def _zipped(files: Files) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


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
    return [variant_file(name, Path(), "").read_bytes() for name in PROFILES]


def _studies() -> list[bytes]:
    return [path.read_bytes() for path in sorted(Path(str(studies.__file__)).parent.glob("*.toml"))]


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
ATOMIC = RATINGS.replace(b",", b"\t").replace(b"_id\t", b"_id:token\t")
PYTHON = b"{'user_id': 'u', 'item_id': 1, 'rating': nan}\n"
TOMBSTONES = b'{"key": "' + b"0" * 64 + b'", "users": ["a"]}'
SOURCE = b'{"source": {"kind": "folder"}, "files": {"x": [1, 2, "a"]}}'
CERTIFICATE = b'{"dataset": "shop", "user": "u", "state": "done", "at": "", "raw_files": [], "results": []}'
RULES = 'where = { rating = "5" }\nescape = "backslash"\n'
TARGETS: dict[str, Target] = {
    "csv": Target(lambda: [RATINGS, QUOTED], of_ratings("ratings.csv")),
    "csv with rules": Target(lambda: [RATINGS, QUOTED], of_ratings("ratings.csv", RULES)),
    "utf-16": Target(lambda: [RATINGS.decode().encode("utf-16")], of_ratings("ratings.csv", 'encoding = "utf-16"\n')),
    "tsv": Target(lambda: [RATINGS.replace(b",", b"\t")], of_ratings("ratings.tsv")),
    "atomic": Target(lambda: [ATOMIC], of_ratings("ratings.inter")),
    "json lines": Target(lambda: [json_lines(_rows()), PYTHON], of_ratings("ratings.jsonl")),
    "parquet": Target(lambda: [_frame()], of_ratings("ratings.parquet")),
    "arrow": Target(lambda: [_arrow()], of_ratings("ratings.arrow")),
    "workbook": Target(lambda: [workbook(HEADER, list(world()[:20]))], of_ratings("ratings.xlsx")),
    "packed": Target(lambda: [compress(RATINGS), _zipped({"ratings.csv": RATINGS})], of_ratings("ratings.csv.gz")),
    "archive": Target(lambda: [_zipped({"ratings.csv": ratings_csv(), "items.csv": items_csv()})], of_archive),
    "items": Target(lambda: [items_csv()], of_items),
    "toml": Target(_toml, of_toml),
    "draft of csv": Target(lambda: [ratings_csv(), QUOTED], of_draft("ratings.csv")),
    "draft of json": Target(lambda: [json_lines(_rows())], of_draft("ratings.json")),
    "variant": Target(_variants, of_settings),
    "study": Target(_studies, of_study),
    "answer": Target(lambda: [b"<think>no</think> The rating is 4 of 5.", b"Answer: Yes.", b"3/5 " * 9], of_answer),
    "config": Target(lambda: [CONFIG], of_config),
    "record": Target(lambda: [_record()], of_document("results/shop/interactions/f/manifest.json")),
    "ref": Target(lambda: [_ref()], of_document("refs/shop/demo.json")),
    "tombstones": Target(lambda: [TOMBSTONES], of_document("tombstones/shop.json")),
    "source record": Target(lambda: [SOURCE], of_document("raw/shop/.source.json")),
    "certificate": Target(lambda: [CERTIFICATE], of_document("reports/shop/forgotten_u.json")),
}
