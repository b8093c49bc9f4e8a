"""The built site works without network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import PAGES_OF_THE_SITE, ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_there(site: Path) -> None:
    built = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    assert built - {"404"} == PAGES_OF_THE_SITE


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    loading = re.compile(r"""<(?:script|img|iframe)[^>]+src="(?://|https?:)[^"]*|<link[^>]+href="(?://|https?:)[^"]*""")
    for page in site.rglob("*.html"):
        found = [link for link in loading.findall(page.read_text(encoding="utf-8")) if 'rel="canonical"' not in link]
        assert found == [], page
    for style in site.rglob("*.css"):
        assert re.findall(r"url\(\W?(?://|https?:)[^)]*", style.read_text(encoding="utf-8")) == [], style


def test_the_api_is_rendered_from_the_docstrings(site: Path) -> None:
    page = (site / "api" / "serving.html").read_text(encoding="utf-8")
    assert "Open a bundle for prediction" in page
    assert "toolkit.runtime.load" in page
