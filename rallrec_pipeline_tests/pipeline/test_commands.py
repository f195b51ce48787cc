"""The command line as a newcomer meets it: its version, slips, names with dashes, and what is not installed."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rallrec_pipeline.cli import app
from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.pipeline import engine_check
from rallrec_pipeline_tests.orchestration.shop import make_shop
from rallrec_pipeline_tests.pipeline.tiny import SMALL


def invoke(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.output + str(done.exception or "")


def test_the_version_is_told() -> None:
    assert invoke("--version") == (0, f"rallrec-pipeline {version('rallrec-pipeline')}\n")


@pytest.mark.parametrize("command", ["report", "status", "run", "lineage", "check", "prune", "engines", "check-model"])
def test_a_name_may_begin_with_a_dash_and_a_wrong_option_is_still_a_slip(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RALLREC_LAKE", str(make_shop(tmp_path, "shop")))
    rest = ["-7"] if command == "lineage" else []
    assert "No such option" not in invoke(command, "-5", *rest)[1]
    status, told = invoke(command, "-5", *rest, "--no-such-option")
    assert status == 2 and "No such option: --no-such-option" in told


def test_help_breaks_where_the_terminal_does_and_not_where_the_source_does() -> None:
    for name in ("status", "forget"):
        wide = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "400", "TERMINAL_WIDTH": "400"}).output
        assert sum(bool(line.strip()) for line in wide.split("Arguments")[0].splitlines()[2:-1]) == 2, wide


def test_an_asset_that_is_misspelt_is_told_which_was_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RALLREC_LAKE", str(make_shop(tmp_path, "shop")))
    status, told = invoke("run", "shop", "--select", "sampels")
    assert status == 1 and told.endswith("unknown asset 'sampels', did you mean 'samples'?")


def test_an_item_whose_id_begins_with_a_dash_is_looked_for(finished_lake: Path) -> None:
    status, told = invoke("lineage", SMALL, "-i3")
    assert status == 1 and "has no item '-i3'" in told


def test_without_vllm_no_setting_is_blamed(finished_lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_check, "vllm_build", lambda: None)
    status, told = invoke("engines", SMALL)
    assert status == 1 and "vLLM is not installed, so there is no second engine to compare with" in told
    assert "model.engine" not in told


def test_check_and_run_refuse_a_missing_protocol_in_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = make_shop(tmp_path, "shop")
    file = lake / "catalog" / "shop.toml"
    text = file.read_text(encoding="utf-8").replace("[protocol]", "[protocols.mine]")
    file.write_text(text.replace("user_core = 3", "user_core = 1").replace("item_core = 3", "item_core = 1"), "utf-8")
    monkeypatch.setenv("RALLREC_LAKE", str(lake))
    from rallrec_pipeline.cli.checking import _tell_check
    from rallrec_pipeline.datasets.checking.report import CheckReport

    with pytest.raises(ConfigError, match="shop has no protocol 'five_core': it has mine") as checked:
        _tell_check(file, lake, CheckReport([], [], {}), "five_core")
    assert str(checked.value) in invoke("run", "shop")[1]


@pytest.mark.parametrize("asked", [(), ("--reasoning",), ("--study", "tables"), ("--select", "samples,raw_files")])
def test_a_raw_file_that_is_missing_is_named_before_the_first_stage(
    asked: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = make_shop(tmp_path, "shop")
    monkeypatch.setenv("RALLREC_LAKE", str(lake))
    (lake / "files" / "shop" / "items.csv").unlink()
    status, told = invoke("run", "shop", *asked)
    assert status == 1 and f"{lake / 'files' / 'shop'} lacks items.csv" in told
    assert f"put ratings.csv, items.csv into {lake / 'raw' / 'shop'} by hand" in told
    assert sorted(path.name for path in lake.iterdir()) == ["catalog", "files"], "nothing was begun"


def test_the_report_of_a_variant_is_that_of_its_ref(finished_lake: Path) -> None:
    status, last = invoke("report", SMALL)
    assert status == 0 and f"reports/{SMALL}/evaluation.html" in last.replace("\n", "")
    status, shown = invoke("report", SMALL, "--variant", "demo")
    assert status == 0 and "results/small/evaluation_report/" in shown.replace("\n", "")
    status, refused = invoke("report", SMALL, "--variant", "full")
    assert status == 1 and f"no report of {SMALL!r} as 'full': there are those of demo" in refused
