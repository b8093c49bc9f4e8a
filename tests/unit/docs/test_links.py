"""Links of the files beside docs/, and what pages say of the repository. mkdocs looks at the links inside docs/."""

from __future__ import annotations

import re
import tomllib

import pytest
from pages import DOCS, ROOT, anchors, links, rows, text_of

TOP = ("README.md", "CONTRIBUTING.md", "SECURITY.md")
EXAMPLES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "examples").glob("**/README.md")
    if "node_modules" not in path.parts and ".venv" not in path.parts
)
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md"))
EVERYWHERE = (*TOP, *EXAMPLES, *PAGES)
PLACEHOLDERS = ("NAME", "a/b.py", "a/test_b.py")
"""Parts of paths that stand for any."""


def problem(page: str, link: str) -> str | None:
    """Say what is wrong with a link; None if nothing is."""
    if link.startswith(("https://", "http://")):
        return "an address that nobody checks"
    target, _, anchor = link.partition("#")
    path = (ROOT / page).parent / target if target else ROOT / page
    if not path.exists():
        return "no such file"
    if anchor and anchor not in anchors(path.read_text(encoding="utf-8")):
        return "no such heading"
    return None


@pytest.mark.parametrize("page", [*TOP, *EXAMPLES])
def test_no_link_is_dead(page: str) -> None:
    assert {link: problem(page, link) for link in links(text_of(page)) if problem(page, link)} == {}


def test_a_dead_link_is_noticed() -> None:
    assert problem("README.md", "docs/nowhere.md") == "no such file"
    assert problem("README.md", "docs/index.md#nowhere") == "no such heading"
    assert problem("README.md", "docs/index.md#disk") is None


def test_the_readme_links_the_guides_and_is_short() -> None:
    text = text_of("README.md")
    assert {"docs/index.md", "docs/bundle.md", "docs/contributing/index.md", "SECURITY.md"} <= set(links(text))
    assert 500 <= len(text.split()) <= 850


@pytest.mark.parametrize("command", ["make test", "make test-all", "make check", "make gpu-check"])
def test_the_readme_names_the_commands_of_daily_work(command: str) -> None:
    assert re.search(rf"^{command} ", text_of("README.md"), re.MULTILINE)


@pytest.mark.parametrize("page", EVERYWHERE)
def test_files_that_are_named_exist(page: str) -> None:
    named = re.findall(r"`((?:toolkit|tests|benchmarks|docs)/[\w./\-]*)`", text_of(page))
    named += re.findall(r"python (benchmarks/\w+\.py|tests/[\w/]+\.py)", text_of(page))
    real = [path for path in named if not any(part in path for part in PLACEHOLDERS)]
    assert [path for path in real if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", EVERYWHERE)
def test_modules_that_are_run_exist(page: str) -> None:
    named = re.findall(r"python -m (benchmarks\.\w+|toolkit[\w.]+)", text_of(page))
    paths = [ROOT / name.replace(".", "/") for name in named]
    assert [
        path for path in paths if not path.with_suffix(".py").exists() and not (path / "__main__.py").exists()
    ] == []


@pytest.mark.parametrize("page", EVERYWHERE)
def test_make_targets_that_are_named_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z][a-z\-]*):", text_of("Makefile"), re.MULTILINE))
    targets |= {f"example-{script.parent.name}" for script in (ROOT / "examples").glob("*/run.sh")}
    calls = re.findall(r"(?:`|^)make (?:[A-Z]+=\S+ )*((?:[a-z][a-z\-]* ?)+)", text_of(page), re.MULTILINE)
    assert {target for call in calls for target in call.split()} <= targets


@pytest.mark.parametrize("page", EVERYWHERE)
def test_benchmarks_are_called_as_their_own_page_calls_them(page: str) -> None:
    if page.startswith("docs/results/") and page != "docs/results/index.md":
        return  # shows a file of benchmarks/, which says how it was called when it was measured
    calls = re.findall(r"python (?:-m )?benchmarks[./][\w.]+", text_of(page))
    assert [call for call in calls if call not in text_of("benchmarks/README.md")] == []


@pytest.mark.parametrize("page", EVERYWHERE)
def test_whoever_installs_is_told_the_name_of_the_distribution(page: str) -> None:
    assert re.findall(r"pip install (?:--\S+ )*'?toolkit\b", text_of(page)) == []


def test_the_layers_are_those_that_are_checked() -> None:
    contract = tomllib.loads(text_of("pyproject.toml"))["tool"]["importlinter"]["contracts"][0]
    wanted = [{name.strip(" ()") for name in layer.split("|")} for layer in contract["layers"]]
    table = [set(re.findall(r"\w+", first)) for first, *_ in rows(text_of("docs/architecture.md")) if "`" in first]
    assert table[: len(wanted)] == wanted
    drawing = re.findall(r'font-weight="600"[^>]*>([^<]+)<', text_of("docs/assets/layers.svg"))
    assert [set(re.findall(r"\w+", row)) for row in drawing] == wanted
