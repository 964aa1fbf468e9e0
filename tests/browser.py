"""A real browser for tests of pages, and where its screenshots go."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WAIT = 120_000  # ms: a busy machine takes its time
# A camera that shows a moving test image, and a visitor who lets pages use it.
_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@contextmanager
def chromium() -> Iterator[Any]:
    """Headless Chromium: the system's, or else the one that Playwright brought. Skips, saying so, without any."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with playwright.sync_playwright() as driver:
        if not found and not Path(driver.chromium.executable_path).is_file():
            pytest.skip("needs a browser: apt-get install chromium, or playwright install chromium")
        sandbox = [] if hasattr(os, "geteuid") and os.geteuid() else ["--no-sandbox"]  # Chromium's refuses root
        browser = driver.chromium.launch(executable_path=found, args=[*_CAMERA, *sandbox])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(
    browser: Any, address: str, *, width: int = 1280, height: int = 900, language: str = "en-GB"
) -> Iterator[Any]:
    """A page at the address, which must stay free of errors and ask nobody else for anything."""
    page = browser.new_page(viewport={"width": width, "height": height}, locale=language)
    page.set_default_timeout(WAIT)
    amiss: list[str] = []
    page.on("pageerror", lambda error: amiss.append(f"error in the page: {error}"))
    page.on("request", lambda request: _is_ours(request.url, address) or amiss.append(f"asked for {request.url}"))
    page.goto(address)
    try:
        yield page
    finally:
        page.close()
    assert not amiss


def keep(page: Any, name: str, folder: Path) -> None:
    """A screenshot of the whole page, in the folder that STMINE_SCREENSHOTS names, else in `folder`."""
    folder = Path(os.environ.get("STMINE_SCREENSHOTS") or folder)
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png", full_page=True)


def _is_ours(url: str, address: str) -> bool:
    return url.startswith((address, "data:", "blob:"))
