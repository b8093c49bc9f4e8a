"""Files that only run on another host: their syntax, and that what they call exists here."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from pages import ROOT, text_of

from toolkit.cli.main import COMMANDS

WORKFLOWS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"^\s*-? ?uses: [\w.\-]+/[\w.\-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")


def parsed(path: str) -> Any:
    return yaml.safe_load(text_of(path))


def commands(path: str) -> list[str]:
    """Return every line that a workflow gives to a shell."""
    steps = [step for job in parsed(path)["jobs"].values() for step in job["steps"]]
    return [line.strip() for step in steps for line in step.get("run", "").splitlines() if line.strip()]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z\-]*):", text_of("Makefile"), re.MULTILINE))


def constraints() -> dict[str, str]:
    lines = [line for line in text_of("constraints.txt").splitlines() if line and not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def test_the_four_are_there() -> None:
    assert {"compare-example.yml", "docs.yml", "parity-example.yml", "tests.yml"} <= {
        path.rpartition("/")[2] for path in WORKFLOWS
    }


@pytest.mark.parametrize("path", WORKFLOWS)
def test_a_workflow_has_its_form(path: str) -> None:
    workflow = parsed(path)
    # YAML 1.1 reads the key 'on' as true.
    assert workflow.keys() <= {"name", True, "permissions", "concurrency", "jobs"}
    assert workflow[True]
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["runs-on"].startswith("ubuntu-")
        assert 0 < job["timeout-minutes"] <= 120
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), step
            assert step.keys() <= {"name", "uses", "run", "with", "if", "env"}


@pytest.mark.parametrize("path", WORKFLOWS)
def test_actions_are_pinned_to_a_commit(path: str) -> None:
    uses = [line for line in text_of(path).splitlines() if "uses:" in line and not line.lstrip().startswith("#")]
    assert uses
    assert [line for line in uses if not PINNED.match(line)] == []


def test_an_action_has_one_version() -> None:
    pins = {
        tuple(line.split("uses: ")[1].split("@"))
        for path in WORKFLOWS
        for line in text_of(path).splitlines()
        if "uses:" in line
    }
    assert len({action for action, _ in pins}) == len(pins)


@pytest.mark.parametrize("path", WORKFLOWS)
def test_make_targets_exist(path: str) -> None:
    called = {line.split()[1] for line in commands(path) if line.startswith("make ")}
    assert called <= targets()


def test_the_tests_run_on_every_supported_python() -> None:
    versions = parsed(".github/workflows/tests.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    classifiers = re.findall(r'"Programming Language :: Python :: (\d\.\d+)"', text_of("pyproject.toml"))
    assert versions == classifiers
    assert "make check" in commands(".github/workflows/tests.yml")
    assert any(line.startswith("make test") for line in commands(".github/workflows/tests.yml"))
    assert "make docs" in commands(".github/workflows/docs.yml")


def test_dependabot_looks_at_packages_and_actions() -> None:
    config = parsed(".github/dependabot.yml")
    assert config["version"] == 2
    assert {update["package-ecosystem"] for update in config["updates"]} == {"pip", "github-actions"}
    for update in config["updates"]:
        assert (update["directory"], update["schedule"]) == ("/", {"interval": "weekly"})


def test_pre_commit_runs_the_ruff_of_make_check() -> None:
    ruff, local = parsed(".pre-commit-config.yaml")["repos"]
    assert ruff["repo"] == "https://github.com/astral-sh/ruff-pre-commit"
    assert ruff["rev"] == f"v{constraints()['ruff']}"
    assert [hook["id"] for hook in ruff["hooks"]] == ["ruff-check", "ruff-format"]
    assert local["hooks"][0]["entry"] in text_of("Makefile").replace("$(BIN)", ".venv/bin")


def test_the_base_install_is_tried_at_its_lowest_and_on_every_python() -> None:
    job = parsed(".github/workflows/tests.yml")["jobs"]["base"]
    cases = [tuple(case.values()) for case in job["strategy"]["matrix"]["include"]]
    classifiers = re.findall(r'"Programming Language :: Python :: (\d\.\d+)"', text_of("pyproject.toml"))
    assert cases == [(classifiers[0], "lowest-direct"), *((version, "highest") for version in classifiers)]
    assert any(line.startswith("make lowest") for line in commands(".github/workflows/tests.yml"))
    # Its commands' help is looked at, all of it.
    script = text_of("tests/compatibility/base_install.py")
    assert {name for name in COMMANDS if f'"{name}"' in script.partition("def run")[0]} == set(COMMANDS)
