"""What users do in the UI, in headless Chromium, on a tiny lake with a daemon: each story ends with a picture.

`make screenshots` puts the pictures into docs/images/; without RALLREC_SCREENSHOTS they are thrown away.
The stories are told in this order: a run that failed in one is run again in the next.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from rallrec_pipeline.orchestration.automation import SCHEDULE, sensor_name
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline_tests.browser import needs_chromium, page_of_ui
from rallrec_pipeline_tests.orchestration.services import RUN_S, Web, free_port, started, wait_for
from rallrec_pipeline_tests.orchestration.test_daemon import worked
from rallrec_pipeline_tests.pipeline.tiny import make_world, ratings_file, replace_once

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.process, pytest.mark.slow, needs_chromium]

GOOD, TORN = "shop", "torn"
TORN_ROWS = "u1,i1,five,1\n" * 20
WIDTH, HEIGHT, LARGEST = 1280, 800, 150_000  # pixels, pixels, bytes
RUN_HEIGHT = 333  # pixels: a run's page down to its log
PAGE_MS, REST_MS = 90_000, 4_000  # until a page is there; until what moves has come to rest
STUDY = """
title = "Does retrieval help the untuned LLM?"
methods = ["zero_shot", "zero_shot_recent"]
reference = "zero_shot_recent"

[settings.methods]
zero_shot_recent = { title = "zero-shot, recent history", prompt_form = "recent" }
"""
AUTOMATION = "/locations/__repository__@rallrec_pipeline"
SWITCH = "label:has(input[type=checkbox])"
RELOAD = "mutation { reloadWorkspace { __typename } }"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A lake whose dataset `shop` and a study are made, and whose dataset `torn` has rows that its check refuses."""
    root = tmp_path_factory.mktemp("stories")
    with pytest.MonkeyPatch.context() as patch:
        lake = make_world(root, patch, (GOOD, TORN), poll_interval_seconds=2)
        with ratings_file(lake, TORN).open("a", encoding="utf-8") as file:
            file.write(TORN_ROWS)
        (lake / "studies").mkdir()
        (lake / "studies" / "retrieval.toml").write_text(STUDY, encoding="utf-8")
        assert materialize_dataset(GOOD).error is None
        assert materialize_dataset(GOOD, study="retrieval").error is None
        yield root


@contextmanager
def dagster_dev(root: Path) -> Iterator[Web]:
    """Server, daemon and code location as `make ui` starts them."""
    web = Web(free_port())
    command = ["dagster", "dev", "--host", "127.0.0.1", "--port", str(web.port)]
    with started(root / "dev.log", *command) as process:
        try:
            wait_for(web.is_up, "the UI knows the code location")
            yield web
        finally:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)


@pytest.fixture(scope="module")
def web(world: Path) -> Iterator[Web]:
    with dagster_dev(world) as found:
        yield found


@pytest.fixture
def page(web: Web) -> Iterator[Page]:
    with page_of_ui(f"http://127.0.0.1:{web.port}", WIDTH, HEIGHT, PAGE_MS) as found:
        yield found


def shoot(page: Page, name: str, height: int = HEIGHT) -> None:
    """Keep the upper `height` pixels of the page as a small picture; paths of this machine are left out."""
    from PIL import Image

    page.wait_for_timeout(REST_MS)
    paths = page.get_by_text(f"/{Path(os.environ['DAGSTER_HOME']).parts[1]}/")
    taken = page.screenshot(mask=[paths], mask_color="#eef0f3")
    colours = Image.open(io.BytesIO(taken)).convert("RGB")
    colours = colours.crop((0, 0, colours.width, height))
    picture = colours.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)  # keeps what is rare, as dots
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    assert 5_000 < buffer.tell() < LARGEST, buffer.tell()
    if folder := os.environ.get("RALLREC_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, f"{name}.png").write_bytes(buffer.getvalue())


def test_one_partition_is_materialized_by_the_button(page: Page) -> None:
    page.goto(f"/assets/dataset_report?view=partitions&partition={GOOD}")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_text("Launch 1 run").first.wait_for()
    page.get_by_role("dialog").get_by_text(GOOD).first.wait_for()
    shoot(page, "materialize")


def test_a_partition_tells_its_figures(page: Page) -> None:
    page.goto(f"/assets/predictions?view=partitions&partition={GOOD}")
    page.get_by_text("fingerprint", exact=True).first.wait_for()
    shoot(page, "partition")


def test_the_lineage_of_an_embedding(page: Page) -> None:
    page.goto("/assets/item_embeddings?view=lineage&lineageScope=upstream&lineageDepth=1")
    for name in ("item_embeddings", "aligned_embeddings", "text_embeddings", "core_items"):
        page.get_by_text(name, exact=True).last.wait_for()
    shoot(page, "lineage")


def test_a_study_shows_its_report(page: Page) -> None:
    page.set_viewport_size({"width": 1600, "height": HEIGHT})
    page.goto(f"/assets/study_retrieval?view=partitions&partition={GOOD}")
    page.get_by_text("zero-shot, recent history").first.wait_for()
    page.get_by_text("Hide navigation").click()
    picture = page.get_by_text("Show Markdown").first
    picture.scroll_into_view_if_needed()
    shoot(page, "study")
    picture.click()
    page.locator("img[src^='data:image/']").first.wait_for()
    shoot(page, "study_picture")


def test_a_sensor_launches_a_run_and_a_failed_check_says_what_to_do(page: Page) -> None:
    with dg.DagsterInstance.get() as instance:
        before = len(instance.get_runs())
        page.goto(f"{AUTOMATION}/sensors/{sensor_name(TORN)}")
        page.locator(SWITCH).first.click()
        wait_for(lambda: len(instance.get_runs()) > before and instance.get_runs()[0].is_finished, "its run", RUN_S)
        assert instance.get_runs()[0].status == dg.DagsterRunStatus.FAILURE
    page.get_by_role("button", name="Runs", exact=True).click()
    page.get_by_text(f"partition: {TORN}").first.wait_for()
    page.get_by_text("Failure").first.wait_for()
    shoot(page, "sensor")
    page.locator(SWITCH).first.click()
    page.goto("/assets/interactions?view=checks&checkDetail=few_rejected_rows")
    page.get_by_text("mend the rows").first.wait_for()
    shoot(page, "check")


def test_after_a_failure_what_was_made_is_not_made_again(page: Page, world: Path) -> None:
    with dg.DagsterInstance.get() as instance:
        failed = next(run for run in instance.get_runs() if run.status == dg.DagsterRunStatus.FAILURE)
        replace_once(ratings_file(world / "lake", TORN), TORN_ROWS, "")
        page.goto(f"/runs/{failed.run_id}")
        page.locator("button:enabled", has_text="Re-execute").first.wait_for()
        page.locator("button:right-of(button:has-text('Re-execute'))").first.click()
        page.get_by_text("All steps in root run").first.click()
        page.wait_for_url(lambda url: failed.run_id not in url)
        wait_for(lambda: instance.get_runs()[0].is_finished, "the rest", RUN_S)
        rerun = instance.get_runs()[0]
        assert rerun.status == dg.DagsterRunStatus.SUCCESS
        made = worked(instance, rerun)
        assert made["interactions"] and made["predictions"] and not made["writer"] and not made["encoder"]
    page.get_by_text("Success", exact=True).first.wait_for()
    shoot(page, "rerun", RUN_HEIGHT)


def test_the_schedule_is_off(page: Page) -> None:
    page.goto(f"{AUTOMATION}/schedules/{SCHEDULE}")
    page.get_by_text("UTC").first.wait_for()
    assert not page.locator("input[type=checkbox]").first.is_checked()
    shoot(page, "schedule")


def test_a_setting_that_has_changed_marks_the_stage_that_reads_it(page: Page, world: Path, web: Web) -> None:
    replace_once(world / "settings.toml", "[collaborative]\nepochs = 2", "[collaborative]\nepochs = 3")
    assert web.ask(RELOAD)["reloadWorkspace"]["__typename"] == "Workspace"
    page.goto(f"/assets/collaborative_embeddings?view=partitions&partition={GOOD}")
    page.get_by_text("Unsynced (1)").first.hover()
    page.get_by_text("new code version").first.wait_for()
    shoot(page, "stale")
