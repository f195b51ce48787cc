"""A lake whose clock the test turns: records, per-row provenance and caches as stages write them, without the LLM."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from rallrec_pipeline.lake.history import past_records, read_rows, record_run, write_rows
from rallrec_pipeline.lake.references import recorded_datasets

from rallrec_pipeline.embeddings.text import embeddings_frame, text_keys
from rallrec_pipeline.lake.memo import DESCRIPTIONS, KINDS, SCORES, VECTORS, Memo
from rallrec_pipeline.lake.parquet import write_table
from rallrec_pipeline.lake.provenance import Sidecar, artefact_states, content_version, sidecar_path, stable_hash
from rallrec_pipeline.lake.prune import Pruned, PruneOptions, prune_lake
from rallrec_pipeline.lake.tables import embeddings_table
from rallrec_pipeline.lake.vectors import vector_version, vectors_from_bytes

ARTEFACTS = ("core_items", "item_descriptions", "description_embeddings", "predictions")
MODEL = "model"
MEMOS = {f"cache/{kind.name}" for kind in KINDS}


class World:
    """Datasets whose items have titles; a template turns titles into texts, texts into vectors and scores."""

    def __init__(self, lake: Path) -> None:
        self.lake, self.now, self.runs = lake, datetime(2026, 1, 1, tzinfo=UTC), 0
        self.titles: dict[str, dict[str, str]] = {}
        self.templates: dict[str, int] = {}
        self.computed = 0
        self.vectors_of: dict[str, bytes] = {}
        self.record("_shared", "base_model", self.file("models/m/weights", MODEL), {})

    def wait(self, days: float) -> None:
        self.now += timedelta(days=days)

    def edit(self, dataset: str, item: str, title: str | None) -> None:
        titles = self.titles.setdefault(dataset, {})
        titles.pop(item, None)
        if title is not None:
            titles[item] = title

    def run(self, dataset: str, killed: bool = False) -> None:
        """All stages, or up to the kill: within the scores, with nothing of them recorded."""
        self.wait(0.01)
        self.runs += 1
        titles = self.titles.setdefault(dataset, {})
        titles.update({} if titles else {"1": "Heat"})
        table = self.file(f"tables/core_items/{dataset}.parquet", stable_hash(titles))
        self.record(dataset, "core_items", table, {})
        texts = self.describe(dataset)
        if killed:
            for name in ARTEFACTS[1:]:
                sidecar_path(self.lake, name, dataset).unlink(missing_ok=True)
        self.encode(dataset, texts, killed)
        self.score(dataset, texts, killed)
        if not killed:
            assert not self.missing(dataset)

    def describe(self, dataset: str) -> pl.DataFrame:
        memo, titles = Memo(self.lake, DESCRIPTIONS), self.titles[dataset]
        asked = {item: stable_hash(title, self.templates.get(dataset, 0)) for item, title in titles.items()}
        lacking = {key: f"text of {key}" for key in asked.values() if key not in memo.known(asked.values())}
        self.add(memo, pl.DataFrame({"key": list(lacking), "text": list(lacking.values())}))
        rows = pl.DataFrame(
            {"item_id": list(asked), "key": list(asked.values())}, {"item_id": pl.String, "key": pl.String}
        )
        return rows.join(memo.find(asked.values()), on="key", how="left", maintain_order="left")

    def encode(self, dataset: str, texts: pl.DataFrame, killed: bool) -> None:
        written = texts.select("item_id", "text", pl.col("key").alias("input_hash"))
        if not killed:
            file = self.file(f"tables/item_descriptions/{dataset}.parquet", stable_hash(texts["text"].to_list()))
            self.record(dataset, "item_descriptions", file, {"core_items": dataset, "base_model": "_shared"}, written)
        memo = Memo(self.lake, VECTORS)
        keys = text_keys(texts["text"].to_list(), MODEL)
        lacking = sorted(set(keys) - memo.known(keys))
        for key in lacking:
            self.vectors_of[key] = np.frombuffer(bytes.fromhex(key), np.uint8).astype(np.float32).tobytes()
        vectors = [self.vectors_of[key] for key in lacking]
        versions = [vector_version(vector) for vector in vectors]
        self.add(memo, pl.DataFrame({"key": lacking, "vector": vectors, "data_version": versions}))
        if killed:
            return
        found = memo.find(keys)
        row_of = {key: row for row, key in enumerate(found["key"])}
        vectors_now = vectors_from_bytes(found["vector"][[row_of[key] for key in keys]])
        frame = embeddings_frame(texts["item_id"].to_list(), vectors_now, keys, "1", MODEL, f"run-{self.runs}")
        table = embeddings_table("description")
        path = write_table(frame.with_columns(created_at=pl.lit(self.time())), table, self.lake, dataset)
        self.record(dataset, "description_embeddings", path, {"item_descriptions": dataset}, frame.drop("vector"))

    def score(self, dataset: str, texts: pl.DataFrame, killed: bool) -> None:
        memo = Memo(self.lake, SCORES)
        keys = [stable_hash("score", text) for text in texts["text"]]
        lacking = sorted(set(keys) - memo.known(keys))
        self.add(memo, pl.DataFrame({"key": lacking, "probabilities": [[0.5, 0.5]] * len(lacking)}))
        if not killed:
            rows = pl.DataFrame(
                {"sample_id": range(len(keys)), "input_hash": keys}, {"sample_id": pl.Int64, "input_hash": pl.String}
            )
            file = self.file(f"predictions/rallrec/{dataset}.parquet", stable_hash(keys))
            self.record(
                dataset, "predictions", file, {"description_embeddings": dataset, "base_model": "_shared"}, rows
            )

    def missing(self, dataset: str) -> int:
        """Texts, vectors and scores that a run of the dataset as it is would have to compute."""
        titles, template = self.titles.get(dataset, {}), self.templates.get(dataset, 0)
        keys = {stable_hash(title, template) for title in titles.values()}
        texts = [f"text of {key}" for key in keys]
        vectors, scores = text_keys(texts, MODEL), [stable_hash("score", text) for text in texts]
        known = [
            Memo(self.lake, DESCRIPTIONS).known(keys),
            Memo(self.lake, VECTORS).known(vectors),
            Memo(self.lake, SCORES).known(scores),
        ]
        return 3 * len(keys) - sum(map(len, known))

    def prune(self, dataset: str | None = None, **options: object) -> Pruned:
        """A prune, after a dry run that must promise the same and touch nothing."""
        before = content_of(self.lake)
        promised = prune_lake(self.lake, dataset, PruneOptions(dry_run=True, **options), print, self.now)  # type: ignore[arg-type]
        assert content_of(self.lake) == before
        done = prune_lake(self.lake, dataset, PruneOptions(**options), print, self.now)  # type: ignore[arg-type]
        assert done == promised
        after = content_of(self.lake)
        gone = sum(len(content) for path, content in before.items() if not path.endswith(".sqlite"))
        gone -= sum(len(content) for path, content in after.items() if not path.endswith(".sqlite"))
        moments = sum(file.stat().st_size for file in self.lake.rglob("pruned.json"))
        # Of a memo the bytes are those of the rows; its file gives back whole pages.
        files = {kind: found.bytes for kind, found in done.kinds.items() if kind not in MEMOS}
        assert abs(gone - sum(files.values())) <= moments
        assert all((done.kinds[kind].rows > 0) == (done.kinds[kind].bytes > 0) for kind in done.kinds.keys() & MEMOS)
        return done

    def records(self, dataset: str, artefact: str) -> list[Sidecar]:
        return list(past_records(self.lake, artefact, dataset))

    def all_records(self) -> dict[tuple[str, str], list[Sidecar]]:
        names = [(d, a) for d in recorded_datasets(self.lake) for a in (*ARTEFACTS, "base_model")]
        return {(d, a): found for d, a in names if (found := self.records(d, a))}

    def assert_whole(self) -> None:
        """Everything that a record which is there refers to is there, and is what it was."""
        stored = self.all_records()
        for (dataset, artefact), records in stored.items():
            for record in records:
                for name, version in record.inputs.items():
                    source = "_shared" if name == "base_model" else dataset
                    assert version in {r.data_version for r in stored[source, name]}, (artefact, name)
                if record.rows_file is not None:
                    self.assert_rows(dataset, artefact, record)

    def assert_rows(self, dataset: str, artefact: str, record: Sidecar) -> None:
        rows = read_rows(self.lake, record)
        assert rows is not None, record.rows_file
        keys = rows["input_hash"].to_list()
        if artefact == "item_descriptions":
            found = dict(Memo(self.lake, DESCRIPTIONS).find(keys).select("key", "text").iter_rows())
            assert (
                found == {key: f"text of {key}" for key in keys} == dict(rows.select("input_hash", "text").iter_rows())
            )
        elif artefact == "description_embeddings":
            vectors = Memo(self.lake, VECTORS).find(keys)
            assert dict(vectors.select("key", "vector").iter_rows()) == {key: self.vectors_of[key] for key in keys}
        elif artefact == "predictions":
            scores = Memo(self.lake, SCORES).find(keys)
            assert set(scores["key"]) == set(keys) and scores["probabilities"].to_list() == [[0.5, 0.5]] * scores.height

    def add(self, memo: Memo, rows: pl.DataFrame) -> None:
        self.computed += rows.height
        memo.add(rows.with_columns(run_id=pl.lit(f"run-{self.runs}"), created_at=pl.lit(self.time())))

    def file(self, name: str, content: str) -> Path:
        path = self.lake / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return path

    def record(
        self,
        dataset: str,
        artefact: str,
        file: Path,
        sources: dict[str, str],
        rows: pl.DataFrame | None = None,
        **metadata: object,
    ) -> None:
        """Record `file` as the artefact, unless the record of now says the same."""
        inputs = {name: self.records(owner, name)[0].data_version for name, owner in sources.items()}
        version = content_version([file])
        current = sidecar_path(self.lake, artefact, dataset)
        past = self.records(dataset, artefact)
        if current.exists() and (past[0].data_version, past[0].inputs) == (version, inputs):
            return
        record_run(
            self.lake,
            Sidecar(
                artefact,
                dataset,
                stable_hash(version, inputs),
                version,
                inputs,
                {},
                "1",
                f"run-{self.runs}",
                self.time(),
                1.0,
                [file.relative_to(self.lake).as_posix()],
                metadata,
                states=artefact_states([file]),
                rows_file=None if rows is None else write_rows(self.lake, artefact, dataset, rows),
            ),
        )

    def time(self) -> str:
        return self.now.isoformat(timespec="seconds")


def content_of(lake: Path) -> dict[str, bytes]:
    """Bytes of all files but locks."""
    files = [path for path in lake.rglob("*") if path.is_file() and "locks" not in path.parts]
    return {path.relative_to(lake).as_posix(): path.read_bytes() for path in files}
