"""Tables of the lake for notebooks: read-only, by name, dataset and variant."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

import polars as pl

from rallrec_pipeline.errors import ConfigError, DataError
from rallrec_pipeline.lake.shards import shard_files
from rallrec_pipeline.lake.sound import require_sound
from rallrec_pipeline.lake.store import Record, Ref, in_force, read_record, read_ref, recorded_datasets, variant_refs
from rallrec_pipeline.settings import lake_root


def load(name: str, dataset: str, variant: str | None = None, lake: Path | None = None) -> pl.DataFrame:
    """A table as it was made last, such as `tables/samples`, `embeddings/item` or `predictions/rallrec`.

    `variant` is a profile or a variant of your own; without it, the one that ran last. The rows of vectors come in no
    particular order. Nothing is computed, and nothing is written. Raises ConfigError that names what there is,
    DataError when the table is damaged.
    """
    root = lake or lake_root()
    ref = _ref(root, dataset, variant)
    known: dict[str, Path] = {}
    for record in _records(root, dataset, ref):
        known |= _tables(record, root, dataset)
    if name not in known:
        near = get_close_matches(name, known, 1)
        hint = f": did you mean {near[0]!r}?" if near else f": there are {', '.join(sorted(known))}"
        raise ConfigError(f"{dataset!r} has no table {name!r} in {ref.variant!r}{hint}")
    try:
        require_sound(shard_files(known[name]))
        return pl.read_parquet(shard_files(known[name]), glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{known[name]} is damaged ({reason}): delete it and run `rallrec run {dataset}`") from error


def _ref(lake: Path, dataset: str, variant: str | None) -> Ref:
    found = in_force(lake, dataset) if variant is None else read_ref(lake, dataset, variant)
    if found is None:
        made = sorted({ref.variant for ref in variant_refs(lake, dataset)})
        if not made:
            known = ", ".join(name for name in recorded_datasets(lake) if not name.startswith("_")) or "none"
            raise ConfigError(f"nothing was made of {dataset!r} in {lake}: datasets with results are {known}")
        raise ConfigError(f"{dataset!r} was never run as {variant!r}: there are {', '.join(made)}")
    return found


def _records(lake: Path, dataset: str, ref: Ref) -> Iterator[Record]:
    for stage, fingerprint in ref.results.items():
        if (record := read_record(lake, dataset, stage, fingerprint)) is not None:
            yield record


def _tables(record: Record, lake: Path, dataset: str) -> dict[str, Path]:
    """The tables of a result by their name: the path of the contract without the dataset."""
    folder = record.folder(lake)
    paths = (path for path in record.paths(lake) if path.name == f"{dataset}.parquet" and path.is_relative_to(folder))
    return {path.parent.relative_to(folder).as_posix(): path for path in paths}
