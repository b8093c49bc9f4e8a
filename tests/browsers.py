"""The Chromium of the machine, which ``make browser`` installs, for tests that open a page in it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextlib.contextmanager
def chromium(*flags: str) -> Iterator[Any]:
    """Start a browser, with further flags if any are given."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: 'make setup' installs it")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=[*_FLAGS, *flags])
        yield started
        started.close()


def serious_findings(page: Any) -> list[tuple[str, list[str]]]:
    """Return what axe-core finds on a page that keeps somebody from using it: rule, and the first elements."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed").Axe()
    return [
        (each["id"], [node["html"][:120] for node in each["nodes"][:3]])
        for each in axe.run(page).response["violations"]
        if each["impact"] in ("serious", "critical")
    ]
