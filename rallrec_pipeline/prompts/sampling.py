"""Which samples prompts are made of: few-shot training samples, validation rows, test rows."""

from __future__ import annotations

import numpy as np
import polars as pl

from rallrec_pipeline.datasets.draws import row_draws
from rallrec_pipeline.datasets.protocol_spec import ProtocolSpec
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.settings import PromptSettings, SeedSettings


def choose_samples(
    samples: pl.DataFrame, settings: PromptSettings, seeds: SeedSettings, protocol: ProtocolSpec | None = None
) -> pl.DataFrame:
    """A random subset of each split, in sample order; a smaller one is part of a larger one.

    Each pair of user and item draws for itself, so that most of a choice stays when the data grow.

    Train: `train_samples` (few-shot), at most the protocol's own number. Validation and test: random rows, 0 takes
    the whole split; the test rows are of the first that the protocol evaluates. The seed `sampling` draws the first,
    `data` the others, which so are the same for all replicates.
    Raises DataError when a split has no row or only one class.
    """
    rules = protocol or ProtocolSpec()
    splits = {split: samples.filter(pl.col("split") == split) for split in ("train", "valid", "test")}
    if rules.first_test_samples is not None:
        splits["test"] = splits["test"].head(rules.first_test_samples)
    wanted = {
        "train": min(settings.train_samples, rules.few_shot or settings.train_samples),
        "valid": settings.validation_samples,
        "test": settings.test_samples,
    }
    seed = {"train": seeds.sampling, "valid": seeds.data, "test": seeds.data}
    return pl.concat(_subset(splits[split], n, split, seed[split]) for split, n in wanted.items()).sort("sample_id")


def _subset(rows: pl.DataFrame, wanted: int, split: str, seed: int) -> pl.DataFrame:
    if rows["label"].n_unique() < 2:
        raise DataError(
            f"the {split} split has {rows.height} samples of {rows['label'].n_unique()} class(es): "
            "lower the core sizes or the minimum history, or change the label rule of the dataset"
        )
    if wanted == 0 or wanted >= rows.height:
        return rows
    return rows[np.sort(np.argsort(row_draws(rows, f"samples {seed}"), kind="stable")[:wanted])]
