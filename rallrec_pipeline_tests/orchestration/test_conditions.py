"""The condition that every stage may have: new content starts what depends on it, the same content nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from rallrec_pipeline.orchestration.automation import new_inputs
from rallrec_pipeline.orchestration.build import build_definitions
from rallrec_pipeline.orchestration.resources import Project
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline_tests.orchestration.shop import make_shop

PARTITIONS = dg.StaticPartitionsDefinition(["books", "shop"])
CHAIN = {"raw": (), "clean": ("raw",), "report": ("clean",)}
Requested = dict[str, set[str | None]]


class World:
    """`raw` -> `clean` -> `report` with the condition, everything made once; a check of `raw` that may fail."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self.holds = instance, True
        self.versions = dict.fromkeys(CHAIN, "1")
        self.assets = [self._asset(name, inputs) for name, inputs in CHAIN.items()]
        self.check = self._check()
        self.cursor = dg.evaluate_automation_conditions(self._definitions(), instance).cursor
        for partition in PARTITIONS.get_partition_keys():
            self.make(*CHAIN, partition=partition)
        assert self.look() == {}, "what was made by hand is not made again"

    def make(self, *names: str, partition: str = "shop") -> None:
        """Materialize assets as they are now."""
        everything = [*self.assets, self.check]
        keys = [dg.AssetKey(name) for name in names]
        checked = dg.AssetSelection.assets(*keys) | dg.AssetSelection.checks_for_assets(*keys)
        dg.materialize(
            everything, instance=self.instance, partition_key=partition, selection=checked, raise_on_error=False
        )

    def look(self) -> Requested:
        """What the condition asks for now."""
        found = dg.evaluate_automation_conditions(self._definitions(), self.instance, cursor=self.cursor)
        self.cursor = found.cursor
        asked = {name: set(found.get_requested_partitions(dg.AssetKey(name))) for name in CHAIN}
        return {name: partitions for name, partitions in asked.items() if partitions}

    def _definitions(self) -> dg.Definitions:
        return dg.Definitions(self.assets, asset_checks=[self.check])

    def _asset(self, name: str, inputs: tuple[str, ...]) -> dg.AssetsDefinition:
        @dg.asset(name=name, deps=inputs, partitions_def=PARTITIONS, automation_condition=new_inputs())
        def materialize() -> dg.MaterializeResult:  # type: ignore[type-arg]
            return dg.MaterializeResult(data_version=dg.DataVersion(self.versions[name]))

        return materialize

    def _check(self) -> dg.AssetChecksDefinition:
        @dg.asset_check(asset="raw", blocking=True, partitions_def=PARTITIONS)
        def holds() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=self.holds)

        return holds


@pytest.fixture
def world() -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(instance)


def test_the_same_content_starts_nothing(world: World) -> None:
    world.make("raw")
    assert world.look() == {}


def test_new_content_starts_one_layer_at_a_time_and_an_unchanged_output_ends_it(world: World) -> None:
    world.versions["raw"] = "2"
    world.make("raw")
    assert world.look() == {"clean": {"shop"}}, "of the partition that changed, and not what may turn out unchanged"
    assert world.look() == {}
    world.make("clean")
    assert world.look() == {}
    world.versions |= {"raw": "3", "clean": "3"}
    world.make("raw")
    assert world.look() == {"clean": {"shop"}}
    world.make("clean")
    assert world.look() == {"report": {"shop"}}


def test_a_failed_check_of_an_input_holds_back_runs_that_are_started_later(world: World) -> None:
    world.versions["raw"], world.holds = "2", False
    world.make("raw")
    assert world.look() == {}
    world.versions["raw"], world.holds = "3", True
    world.make("raw")
    assert world.look() == {"clean": {"shop"}}


def test_stages_have_the_condition_only_where_the_settings_say_so(tmp_path: Path) -> None:
    lake, settings = make_shop(tmp_path, "shop"), tmp_path / "settings.toml"
    for written, expected in (("", set()), ("[automation]\nconditions = true\n", set(STAGES))):
        settings.write_text(written, encoding="utf-8")
        project = Project(lake=str(lake), settings_file=str(settings))
        graph = build_definitions(project=project).resolve_asset_graph()
        assert {k.path[-1] for k in graph.get_all_asset_keys() if graph.get(k).automation_condition} == expected
