"""A lake whose clock the test turns: results, refs and finished rows as stages write them, without the LLM."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl

from rallrec_pipeline.embeddings.text import text_keys
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import DESCRIPTIONS, KINDS, SCORES, VECTORS
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.lake.prune import Pruned, PruneOptions, prune_lake
from rallrec_pipeline.lake.store import (
    Given,
    Record,
    Ref,
    all_records,
    finish_result,
    past_refs,
    put_in_force,
    read_record,
    read_ref,
    record_of,
    recorded_datasets,
    unfinished_result,
    variant_refs,
)

STAGES = ("core_items", "item_descriptions", "description_embeddings", "predictions")
SHARED, MODEL = "_shared", "model"
MEMOS = {f"cache/{kind.name}" for kind in KINDS}


class World:
    """Datasets whose items have titles; a template turns titles into texts, texts into vectors and scores."""

    def __init__(self, lake: Path) -> None:
        self.lake, self.now, self.runs, self.variant = lake, datetime(2026, 1, 1, tzinfo=UTC), 0, "demo"
        self.titles: dict[str, dict[str, str]] = {}
        self.templates: dict[str, int] = {}
        self.computed = 0
        self.vectors_of: dict[str, bytes] = {}
        self.fetch_model()

    def wait(self, days: float) -> None:
        self.now += timedelta(days=days)

    def edit(self, dataset: str, item: str, title: str | None) -> None:
        titles = self.titles.setdefault(dataset, {})
        titles.pop(item, None)
        if title is not None:
            titles[item] = title

    def run(self, dataset: str, killed: bool = False) -> None:
        """All stages, or up to the kill: with finished rows of all kinds, but no result of the LLM."""
        self.begin()
        titles = self.titles.setdefault(dataset, {})
        titles.update({} if titles else {"1": "Heat"})
        self.record(dataset, "core_items", stable_hash(titles), {})
        texts = self.describe(dataset)
        keys = self.encode(texts["text"].to_list())
        scores = self.score(texts["text"].to_list())
        if killed:
            return
        written = texts.select("item_id", "text", pl.col("key").alias("input_hash"))
        made_from = {"core_items": dataset, "predictor": SHARED}
        self.record(dataset, "item_descriptions", stable_hash(texts["text"].to_list()), made_from, written)
        rows = pl.DataFrame({"item_id": texts["item_id"], "input_hash": pl.Series(keys, dtype=pl.String)})
        self.record(dataset, "description_embeddings", stable_hash(keys), {"item_descriptions": dataset}, rows)
        rows = pl.DataFrame({"sample_id": range(len(scores)), "input_hash": pl.Series(scores, dtype=pl.String)})
        made_from = {"description_embeddings": dataset, "predictor": SHARED}
        self.record(dataset, "predictions", stable_hash(scores), made_from, rows)
        assert not self.missing(dataset)

    def begin(self) -> None:
        """Another run, a quarter of an hour later."""
        self.wait(0.01)
        self.runs += 1
        self.fetch_model()

    def fetch_model(self) -> None:
        path = self.lake / "models/m/weights"
        fetched = path if path.exists() else self.file("models/m/weights", MODEL)
        self.record(SHARED, "predictor", "", {}, fetched=fetched)

    def describe(self, dataset: str) -> pl.DataFrame:
        memo, titles = Memo(self.lake, DESCRIPTIONS), self.titles[dataset]
        asked = {item: stable_hash(title, self.templates.get(dataset, 0)) for item, title in titles.items()}
        known = memo.known(asked.values())
        lacking = {key: f"text of {key}" for key in asked.values() if key not in known}
        self.add(memo, pl.DataFrame({"key": list(lacking), "text": list(lacking.values())}))
        rows = pl.DataFrame(
            {"item_id": list(asked), "key": list(asked.values())}, {"item_id": pl.String, "key": pl.String}
        )
        return rows.join(memo.find(asked.values()), on="key", how="left", maintain_order="left")

    def encode(self, texts: list[str]) -> list[str]:
        memo, keys = Memo(self.lake, VECTORS), text_keys(texts, MODEL)
        lacking = sorted(set(keys) - memo.known(keys))
        for key in lacking:
            self.vectors_of[key] = np.frombuffer(bytes.fromhex(key), np.uint8).astype(np.float32).tobytes()
        self.add(memo, pl.DataFrame({"key": lacking, "vector": [self.vectors_of[key] for key in lacking]}))
        return keys

    def score(self, texts: list[str]) -> list[str]:
        memo, keys = Memo(self.lake, SCORES), [stable_hash("score", text) for text in texts]
        lacking = sorted(set(keys) - memo.known(keys))
        self.add(memo, pl.DataFrame({"key": lacking, "probabilities": [[0.5, 0.5]] * len(lacking)}))
        return keys

    def add(self, memo: Memo, rows: pl.DataFrame) -> None:
        self.computed += rows.height
        memo.add(rows.with_columns(run_id=pl.lit(f"run-{self.runs}"), created_at=pl.lit(self.time())))

    def missing(self, dataset: str) -> int:
        """Texts, vectors and scores that a run of the dataset as it is would have to compute."""
        titles, template = self.titles.get(dataset, {}), self.templates.get(dataset, 0)
        keys = {stable_hash(title, template) for title in titles.values()}
        texts = [f"text of {key}" for key in keys]
        known = [
            Memo(self.lake, DESCRIPTIONS).known(keys),
            Memo(self.lake, VECTORS).known(text_keys(texts, MODEL)),
            Memo(self.lake, SCORES).known([stable_hash("score", text) for text in texts]),
        ]
        return 3 * len(keys) - sum(map(len, known))

    def prune(self, dataset: str | None = None, **options: Any) -> Pruned:
        """A prune, after a dry run that must promise the same and touch nothing."""
        before = content_of(self.lake)
        promised = prune_lake(self.lake, dataset, PruneOptions(dry_run=True, **options), print, self.now)
        assert content_of(self.lake) == before
        done = prune_lake(self.lake, dataset, PruneOptions(**options), print, self.now)
        assert done == promised
        # Of a memo the bytes are those of the rows; its file gives back whole pages.
        gone = _size_beside_memos(before) - _size_beside_memos(content_of(self.lake))
        assert gone == sum(found.bytes for kind, found in done.kinds.items() if kind not in MEMOS)
        assert all((done.kinds[kind].rows > 0) == (done.kinds[kind].bytes > 0) for kind in done.kinds.keys() & MEMOS)
        return done

    def refs(self, dataset: str) -> list[Ref]:
        """What its runs have left behind, newest first."""
        return list(past_refs(self.lake, dataset))

    def records(self, dataset: str, stage: str) -> list[Record]:
        """The results that are stored, newest first."""
        return all_records(self.lake, dataset, stage)

    def current(self, dataset: str, stage: str) -> Record:
        """The result that the variant has."""
        record = record_of(self.lake, dataset, read_ref(self.lake, dataset, self.variant), stage)
        assert record is not None, stage
        return record

    def assert_whole(self) -> None:
        """All that a ref leads to is there, over any number of steps, with the finished rows it was made from."""
        for dataset in recorded_datasets(self.lake):
            for ref in (*self.refs(dataset), *variant_refs(self.lake, dataset)):
                for stage, fingerprint in ref.results.items():
                    self.assert_made_of_what_is_there(SHARED if stage == "predictor" else dataset, stage, fingerprint)

    def assert_made_of_what_is_there(self, dataset: str, stage: str, fingerprint: str) -> None:
        record = read_record(self.lake, dataset, stage, fingerprint)
        assert record is not None and record.is_whole(self.lake), (dataset, stage, fingerprint)
        self.assert_rows(record)
        for name, given in record.inputs.items():
            self.assert_made_of_what_is_there(given.dataset, name, given.fingerprint)

    def assert_rows(self, record: Record) -> None:
        """The finished rows that a result was made of are there, and are what they were."""
        rows = record.rows(self.lake)
        if rows is None:
            return
        keys = rows["input_hash"].to_list()
        if record.stage == "item_descriptions":
            found = dict(Memo(self.lake, DESCRIPTIONS).find(keys).select("key", "text").iter_rows())
            assert found == {key: f"text of {key}" for key in keys}
        elif record.stage == "description_embeddings":
            vectors = Memo(self.lake, VECTORS).find(keys)
            assert dict(vectors.select("key", "vector").iter_rows()) == {key: self.vectors_of[key] for key in keys}
        else:
            scores = Memo(self.lake, SCORES).find(keys)
            assert set(scores["key"]) == set(keys) and scores["probabilities"].to_list() == [[0.5, 0.5]] * scores.height

    def file(self, name: str, content: str) -> Path:
        path = self.lake / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return path

    def record(
        self,
        dataset: str,
        stage: str,
        content: str,
        sources: dict[str, str],
        rows: pl.DataFrame | None = None,
        fetched: Path | None = None,
        **metadata: Any,
    ) -> Record:
        """Let a table with `content` (or a file that was `fetched`) be what the run has made of `stage`."""
        given = {name: self.current(owner, name) for name, owner in sources.items()}
        inputs = {name: Given(r.dataset, r.fingerprint, r.data_version) for name, r in given.items()}
        fingerprint = stable_hash(stage, content, {name: record.data_version for name, record in given.items()})
        record = read_record(self.lake, dataset, stage, fingerprint)
        if record is None:
            run_id, metadata = f"run-{self.runs}", dict(metadata)
            plain = Record(stage, dataset, fingerprint, "", inputs, {}, "1", run_id, self.time(), 1.0)
            plain = Record(**(vars(plain) | {"metadata": metadata}))
            with unfinished_result(self.lake, dataset, stage, fingerprint) as draft:
                file = fetched or draft / "tables" / stage / f"{dataset}.parquet"
                if fetched is None:
                    file.parent.mkdir(parents=True)
                    file.write_text(content, encoding="utf-8")
                record = finish_result(self.lake, draft, plain, [file], rows)
        shared = {name: r.fingerprint for name, r in given.items() if r.dataset == SHARED}
        with mock.patch("rallrec_pipeline.lake.store.refs.now", self.time):
            put_in_force(self.lake, record, self.variant, f"run-{self.runs}", shared)
        return record

    def time(self) -> str:
        return self.now.isoformat(timespec="seconds")


def _size_beside_memos(content: dict[str, bytes]) -> int:
    return sum(len(found) for path, found in content.items() if not path.endswith(".sqlite"))


def content_of(lake: Path) -> dict[str, bytes]:
    """Bytes of all files but locks, and of links where they lead."""
    files = [path for path in lake.rglob("*") if (path.is_file() or path.is_symlink()) and "locks" not in path.parts]
    return {
        path.relative_to(lake).as_posix(): path.readlink().as_posix().encode()
        if path.is_symlink()
        else path.read_bytes()
        for path in files
    }
