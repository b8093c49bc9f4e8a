"""``examples/browser``: a bundle in onnxruntime-web, from a page without any other host, in headless Chromium."""

from __future__ import annotations

import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from bundles import change_weights
from hosts import install_packages, require_failed, require_passed, require_refused, run_example

from examples.browser.run import CHROMIUM, Pages

FOUND = next(filter(None, map(shutil.which, CHROMIUM)), None)
pytestmark = [
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm, which installs onnxruntime-web, is not installed"),
    pytest.mark.skipif(FOUND is None, reason="there is no Chromium on this machine: 'make browser' installs one"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module", autouse=True)
def packages(tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed: 'make setup' installs it")
    install_packages(tmp_path_factory, "browser")


def test_a_run_reproduces_its_golden_samples(finished: Path) -> None:
    require_passed(run_example("browser", finished / "artifacts" / "small" / "bundle"), "HeadlessChrome ")


def test_a_network_with_other_weights_fails(colour_bundle: Path) -> None:
    change_weights(colour_bundle, lambda weights: weights * np.float32(1.01))
    require_failed(run_example("browser", colour_bundle), "logits of golden/000.bin differ by ")


def test_a_file_that_was_changed_is_a_sentence(colour_bundle: Path) -> None:
    (colour_bundle / "model.onnx").write_bytes(b"x")
    require_refused(run_example("browser", colour_bundle), "model.onnx is not the file that the manifest describes")


@pytest.fixture
def site(colour_bundle: Path) -> Iterator[str]:
    """Serve the page as ``run.py --serve`` does."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Pages, bundle=colour_bundle)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_page_shows_the_samples_and_everybody_can_read_it(site: str) -> None:
    from playwright.sync_api import sync_playwright

    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed").Axe()
    complaints, fetched = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=FOUND, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 375, "height": 800}, bypass_csp=True)  # axe is put in by a script
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: fetched.append(request.url))
        page.goto(site)
        page.wait_for_selector("#report[data-code]")
        assert page.get_by_role("status").inner_text().splitlines()[-1] == "passed"
        assert page.get_by_role("img").count() == 3
        assert page.get_by_role("listitem").first.inner_text() == "blue, 99.6% (blue.png)"
        assert page.evaluate("crossOriginIsolated")
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        violations = axe.run(page).response["violations"]
        assert [each["id"] for each in violations if each["impact"] in ("serious", "critical")] == []
        browser.close()
    assert complaints == []
    assert [url for url in fetched if not url.startswith((f"{site}/", "data:", "blob:"))] == []


@pytest.mark.parametrize(
    "path", ["/../../pyproject.toml", "/bundle/../../x", "/shared/%2e%2e/table.py", "/shared/", "/bundle"]
)
def test_nothing_else_is_served(site: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(site + path)
    refused.value.close()
    assert refused.value.code == 404


def test_nothing_from_another_host_is_allowed(site: str) -> None:
    with urllib.request.urlopen(site) as response:
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        assert "http" not in response.headers["Content-Security-Policy"]
