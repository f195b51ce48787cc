"""A stage on a cluster of two nodes, one of which is lost meanwhile: the same table, and no row computed twice."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

import pytest

from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.memo_rows import DESCRIPTIONS
from rallrec_pipeline.lake.parquet import read_table
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline.pipeline.graph import GRAPH
from rallrec_pipeline.pipeline.stages import engine
from rallrec_pipeline_tests.lake.stored import stored_rows
from rallrec_pipeline_tests.language_models.engines.ray_loaders import calls, load_watched, two_nodes, victim_removed
from rallrec_pipeline_tests.pipeline.given import in_force_now
from rallrec_pipeline_tests.pipeline.tiny import make_world

pytestmark = pytest.mark.ray
if "CI" not in os.environ:
    pytest.importorskip("ray")

INPUTS = [stage.name for stage in GRAPH if stage.group in ("raw", "data")] + ["writer"]
AT_ONCE = "max_new_tokens = 8\nbatch_size = "


def test_descriptions_survive_the_loss_of_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = make_world(tmp_path, monkeypatch, ("small",))
    settings = Path(os.environ["RALLREC_SETTINGS"])
    settings.write_text(settings.read_text().replace(f"{AT_ONCE}8", f"{AT_ONCE}1"), encoding="utf-8")
    assert materialize_dataset("small", INPUTS).error is None
    whole = shutil.copytree(lake, tmp_path / "whole")
    log = tmp_path / "log"
    log.mkdir()
    with two_nodes(tmp_path) as cluster:
        with settings.open("a", encoding="utf-8") as stream:
            stream.write(f'\n[ray]\naddress = "{cluster.address}"\nactors = 2\n')
        monkeypatch.setattr(engine, "load_on_node", partial(load_watched, log))
        with victim_removed(cluster, log):
            summary = materialize_dataset("small", ["item_descriptions"])
    assert summary.error is None and summary.worked == {"item_descriptions": True}
    record = in_force_now(lake, "small", "item_descriptions")
    assert record.metadata["engine"]["lost"] == 1
    assert record.metadata["rows_computed"] == 10
    begun, ended = (sum(call[0] == what for call in calls(log)) for what in ("begin", "end"))
    assert begun == ended + 1, "the call that was lost"
    assert stored_rows(lake, DESCRIPTIONS).height == 10
    monkeypatch.setenv("RALLREC_LAKE", str(whole))
    settings.write_text(settings.read_text().partition("[ray]")[0], encoding="utf-8")
    assert materialize_dataset("small", ["item_descriptions"]).error is None
    undisturbed = in_force_now(whole, "small", "item_descriptions")
    assert undisturbed.data_version == record.data_version
    assert undisturbed.fingerprint == record.fingerprint
    assert ended == record.metadata["llm"]["rows"] == undisturbed.metadata["llm"]["rows"]
    own = ("run_id", "created_at")
    tables_of = [read_table(tables.ITEM_DESCRIPTIONS, each, "small").drop(own) for each in (lake, whole)]
    assert tables_of[0].equals(tables_of[1])
