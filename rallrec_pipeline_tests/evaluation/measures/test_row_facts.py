from __future__ import annotations

import polars as pl
import pytest

from rallrec_pipeline.datasets.histories import in_protocol_order, make_samples, training_interactions
from rallrec_pipeline.datasets.kcore import core_of
from rallrec_pipeline.evaluation.measures.row_facts import row_facts
from rallrec_pipeline_tests.datasets.worlds import make_spec
from rallrec_pipeline_tests.evaluation.examples import RULES, some_ratings


@pytest.mark.parametrize("split", ["time", "user"])
def test_facts_of_test_rows_count_training_ratings_of_the_item_only(split: str) -> None:
    spec = make_spec(protocol=RULES | {"split": split})
    rows = some_ratings()
    if split == "user":
        rows = rows.with_columns(timestamp=pl.lit(None, pl.Int64))
    items = rows.select("item_id").unique().with_columns(title=pl.lit("A title"))
    core = in_protocol_order(core_of(rows, items, spec.protocol), spec.protocol, 0)
    samples = make_samples(core, spec.protocol, spec.label)
    facts = row_facts(core, samples)
    test = samples.filter(pl.col("split") == "test")
    assert facts["sample_id"].to_list() == test["sample_id"].to_list() and facts.height > 0
    assert facts["history_length"].to_list() == test["history_length"].to_list()
    training = training_interactions(core, samples)
    for item, count in facts.select("item_id", "item_train_count").iter_rows():
        assert count == training.filter(pl.col("item_id") == item).height


def test_an_item_without_training_ratings_has_none() -> None:
    spec = make_spec(protocol=RULES)
    rows = some_ratings()
    items = rows.select("item_id").unique().with_columns(title=pl.lit("A title"))
    core = in_protocol_order(core_of(rows, items, spec.protocol), spec.protocol, 0)
    samples = make_samples(core, spec.protocol, spec.label)
    last = pl.col("sample_id") == samples["sample_id"][-1]
    new = pl.when(last).then(pl.lit("new")).otherwise("item_id").alias("item_id")
    counts = row_facts(core, samples.with_columns(new))["item_train_count"]
    assert counts[-1] == 0 and counts[0] > 0
