"""The Dagster UI as a user sees it, in headless Chromium: the graph, a materialization, the report's picture."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline.pipeline.graph import GRAPH
from rallrec_pipeline_tests.browser import needs_chromium, page_of_ui

if TYPE_CHECKING:
    from playwright.sync_api import Page

START_S, PAGE_MS = 90, 60_000

pytestmark = [pytest.mark.process, needs_chromium]


@pytest.fixture(scope="module")
def address(slice_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A web server over an instance that has materialized the partition `slice`."""
    home = tmp_path_factory.mktemp("home")
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    before = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = str(home)
    assert materialize_dataset("slice").error is None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dagster_webserver", "-m", "rallrec_pipeline.definitions"]
    server = subprocess.Popen([*command, "-h", "127.0.0.1", "-p", str(port)], start_new_session=True)
    try:
        _wait_for(f"http://127.0.0.1:{port}/server_info")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
        os.environ.pop("DAGSTER_HOME") if before is None else os.environ.__setitem__("DAGSTER_HOME", before)


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    with page_of_ui(address, 1600, 1200, PAGE_MS) as opened:
        yield opened


def test_the_graph_shows_every_group_and_its_assets(page: Page) -> None:
    # One group at a time, for what lies outside the window is not drawn. Longer names are shown shortened.
    shown = {"raw": "raw_files", "data": "samples", "retrieval": "item_index", "model": "predictions"}
    shown |= {"reports": "dataset_report", "models": "writer", "prompts": "tuning_prompts"}
    assert shown.keys() <= {stage.group for stage in GRAPH}
    for group, name in shown.items():
        page.goto(f"/asset-groups?expanded=global@global:{group}")
        page.get_by_text(name, exact=True).first.wait_for(state="attached")


def test_the_report_asset_shows_figures_and_picture(page: Page) -> None:
    page.goto("/assets/evaluation_report?view=partitions&partition=slice")
    page.get_by_text("Show Markdown").first.wait_for()
    assert page.get_by_text("fingerprint", exact=True).count() >= 1
    page.get_by_text("Show Markdown").last.click()  # the table of methods stands before it
    page.locator("img[src^='data:image/png;base64,']").first.wait_for()


def test_checks_are_shown_as_passed(page: Page) -> None:
    page.goto("/assets/item_index?view=checks")
    page.get_by_text("index_equals_brute_force").first.wait_for()
    page.get_by_text("Passed").first.wait_for()


def _wait_for(address: str) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no answer from {address} within {START_S} s")
