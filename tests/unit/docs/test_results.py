"""Every result that is kept can be made again by the command that stands in it, and has its page."""

from __future__ import annotations

import json
import re

import pytest
from pages import ROOT, text_of

RESULTS = sorted(path.stem for path in (ROOT / "benchmarks/results").glob("*.json"))
BENCHMARKS = [name for name in RESULTS if not name.startswith("gpu_check")]
"""What ``make gpu-check`` writes holds no command."""
PAGES = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md")))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_command_of_a_result_exists(name: str) -> None:
    command = json.loads(text_of(f"benchmarks/results/{name}.json"))["command"]
    module = re.match(r"python -m (benchmarks\.\w+)( |$)", command)
    assert module is not None
    assert (ROOT / f"{module[1].replace('.', '/')}.py").is_file()
    assert command in text_of(f"benchmarks/results/{name}.md")


@pytest.mark.parametrize("name", RESULTS)
def test_a_page_shows_the_result(name: str) -> None:
    assert re.search(rf'^--8<-- "benchmarks/results/{name}\.md(:\d+)?"$', PAGES, re.MULTILINE)


@pytest.mark.parametrize("suffix", ["json", "md"])
@pytest.mark.parametrize("name", RESULTS)
def test_a_result_names_no_folder_of_the_machine(name: str, suffix: str) -> None:
    text = text_of(f"benchmarks/results/{name}.{suffix}")
    assert re.findall(r"(?<![\w.])/(?:tmp|work|home|root|opt)/\S*", text) == []
