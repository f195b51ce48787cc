"""The Chromium that tests look at pages with, where this machine has one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser, until the end of the block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def page_of_ui(address: str, width: int, height: int, patience_ms: int) -> Iterator[Page]:
    """A page for Dagster's UI at `address`, without its community pop-up."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": width, "height": height}, base_url=address)
        page.set_default_timeout(patience_ms)
        page.add_init_script("localStorage.setItem('communityNux', '\"1\"')")
        yield page


def assert_pages_fit(pages: Mapping[str, str], folder: Path) -> None:
    """Each page, by its name, fits a phone and a desktop in light and dark, shows its pictures and asks for nothing."""
    colours = {}
    with chromium() as browser:
        for (name, page), width, scheme in product(pages.items(), (390, 1280), ("light", "dark")):
            shown = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            asked: list[str] = []
            shown.on("request", lambda request, asked=asked: asked.append(request.url))
            (file := folder / f"{name}.html").write_text(page, encoding="utf-8")
            shown.goto(file.as_uri())
            shown.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
            assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth"), (name, width)
            assert shown.evaluate("[...document.images].every(image => image.naturalWidth > 100)")
            assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
            colours[name, width, scheme] = shown.evaluate("getComputedStyle(document.body).backgroundColor")
            shown.screenshot(path=folder / f"{name}-{width}-{scheme}.png", full_page=True)
    assert all(colours[n, w, "light"] != colours[n, w, "dark"] for n, w, _ in colours)
