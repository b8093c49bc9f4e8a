"""The examples as a stranger finds them: ``make help``, ``make example-NAME``, the table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hosts import ROOT
from pages import rows, text_of

from examples import table

NAMES = table.names()


def make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    return subprocess.run(
        ["make", f"PYTHON={sys.executable}", *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_hosts_are_there() -> None:
    assert {"browser", "node", "opencv", "python-service"} <= set(NAMES)


def test_help_lists_each_with_what_its_readme_says() -> None:
    said = make("help").stdout
    for name in NAMES:
        first, *_ = text_of(f"examples/{name}/README.md").splitlines()
        assert f"  make example-{name:<14} {first.removeprefix('# ')}\n" in said


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a repository with an example that only says what it was given, and without runs."""
    (tmp_path / "examples" / "echo").mkdir(parents=True)
    (tmp_path / "Makefile").write_text(text_of("Makefile"), encoding="utf-8")
    (tmp_path / "examples" / "echo" / "README.md").write_text("# Echo: says it\n", encoding="utf-8")
    script = tmp_path / "examples" / "echo" / "run.sh"
    script.write_text('#!/bin/sh\necho "$1 $PYTHON"\n', encoding="utf-8")
    script.chmod(0o755)
    return tmp_path


def test_without_a_bundle_it_says_what_to_do(clone: Path) -> None:
    for arguments, given in (((), "artifacts/latest"), (("BUNDLE=nope",), "nope")):
        done = make("example-echo", *arguments, folder=clone)
        assert done.returncode == 2
        assert done.stdout == (
            f"there is no bundle in {given}: 'make finetune export' makes one, and BUNDLE=FOLDER names one that you "
            "have.\n"
        )


def test_it_takes_the_newest_run_or_what_is_named(clone: Path) -> None:
    for bundle in ("artifacts/latest/bundle", "with blanks"):
        (clone / bundle).mkdir(parents=True)
        (clone / bundle / "manifest.json").touch()
    for arguments, bundle in (
        ((), "artifacts/latest/bundle"),
        (("BUNDLE=artifacts/latest/bundle",), "artifacts/latest/bundle"),
        (("BUNDLE=artifacts/latest",), "artifacts/latest/bundle"),
        (("BUNDLE=with blanks",), "with blanks"),
    ):
        done = make("example-echo", *arguments, folder=clone)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{(clone / bundle).resolve()} {sys.executable}\n"


def test_the_python_of_the_repository_is_used_where_there_is_one(clone: Path) -> None:
    (clone / "manifest.json").touch()
    (clone / ".venv").mkdir()
    (clone / ".venv" / ".installed").touch()
    assert make("example-echo", "BUNDLE=.", folder=clone).stdout.endswith(f" {clone.resolve()}/.venv/bin/python\n")


SAID = """host: A 1.0, B 2.0
artifact: model.onnx (onnx, float32)
golden samples: 12, each alone and all together
largest logit difference: 3.34e-06
images per second: 512
passed
"""


def test_a_row_is_made_of_what_an_example_prints() -> None:
    assert table.row("a-b", SAID) == "| A 1.0, B 2.0 | `model.onnx` | 3.34e-06 | 512 | `make example-a-b` |"


def test_one_that_fails_has_no_row(
    clone: Path, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(table, "EXAMPLES", clone / "examples")
    script = clone / "examples" / "echo" / "run.sh"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{SAID}END\n", encoding="utf-8")
    assert table.main(str(colour_bundle), []) == 0
    *_, row, blank, where = capsys.readouterr().out.splitlines()
    assert (row, blank) == (table.row("echo", SAID), "")
    assert where.startswith("test:colour at 8 x 8 px (colours), ")
    script.write_text("#!/bin/sh\necho FAILED: it\nexit 1\n", encoding="utf-8")
    assert table.main(str(colour_bundle), []) == 1
    said = capsys.readouterr()
    assert said.out.startswith(f"{table.HEADER}\n\n")
    assert said.err == "echo: exit code 1\nFAILED: it\n"


def test_every_host_stands_in_the_table_of_the_documentation() -> None:
    named = {cells[-1].strip("`") for cells in rows(text_of("examples/README.md"))}
    assert {f"make example-{name}" for name in NAMES} <= named


@pytest.mark.parametrize("name", NAMES)
def test_a_readme_shows_what_it_prints(name: str) -> None:
    text = text_of(f"examples/{name}/README.md")
    assert f"make example-{name}" in text
    for line in ("host: ", "artifact: ", "images per second: "):
        assert f"\n{line}" in text
