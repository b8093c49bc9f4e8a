from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from finished_runs import write_finished_run

from toolkit.files import size_text
from toolkit.run_folder import RunFolder

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def root(here: Path) -> Path:
    """The folder of runs of the current folder, with a finished run and a damaged one."""
    write_finished_run(here / "artifacts" / "mine").make_latest()
    shutil.copytree(here / "artifacts" / "mine", here / "artifacts" / "broken")
    (here / "artifacts" / "broken" / "run.json").write_text("{")
    return here / "artifacts"


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Have a person at a terminal type this."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: text == "y")


def test_without_runs_the_next_command_is_said(run: Run, here: Path) -> None:
    assert run("runs") == (0, "there is no run in artifacts yet: run 'toolkit finetune' first.\n", "")
    assert run("runs", "--json") == (0, "[]\n", "")


def test_the_list_has_good_and_damaged_runs(run: Run, root: Path) -> None:
    code, out, err = run("runs")
    assert code == 0
    assert "mine" in out
    assert "torchvision:squeezenet1_1" in out
    assert [line.split()[0] for line in out.splitlines() if "damaged" in line] == ["broken"]
    assert err.startswith("toolkit: broken is damaged: artifacts/broken/run.json")


def test_json_has_everything(run: Run, root: Path) -> None:
    code, out, err = run("runs", "--artifacts", root, "--json")
    listed = {entry["name"]: entry for entry in json.loads(out)}
    assert (code, err, listed.keys()) == (0, "", {"mine", "broken"})
    assert (listed["mine"]["state"], listed["broken"]["state"]) == ("finished", "damaged")
    assert listed["mine"]["accuracy"] == RunFolder(root / "mine").evaluation().top1


def test_a_narrow_terminal_gets_two_lines_a_run(run: Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "digits-squeezenet1_1-20260101-000000"
    (root / "mine").rename(root / long)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    lines = re.sub("\x1b\\[\\d*m", "", run("runs")[1]).splitlines()
    assert long in lines
    assert max(map(len, lines)) <= 80


def test_a_run_is_deleted_and_the_room_is_said(run: Run, root: Path) -> None:
    size = sum(file.stat().st_size for file in (root / "broken").rglob("*") if file.is_file())
    assert run("runs", "delete", "broken", "--yes") == (
        0,
        f"deleted artifacts/broken\n{size_text(size)} freed\n",
        "",
    )
    assert sorted(path.name for path in root.iterdir()) == ["latest", "mine"]


def test_nobody_to_ask(run: Run, root: Path) -> None:
    code, out, err = run("runs", "delete", "mine")
    assert (code, out) == (2, "")
    assert err == "toolkit: there is no terminal to ask on: give --yes to delete without being asked.\n"
    assert (root / "mine" / "run.json").exists()


@pytest.mark.parametrize(("typed", "left"), [("y", ["broken"]), ("n", ["broken", "latest", "mine"])])
def test_a_person_is_asked(run: Run, root: Path, monkeypatch: pytest.MonkeyPatch, typed: str, left: list[str]) -> None:
    answer(monkeypatch, typed)
    code, _, err = run("runs", "delete", "mine")
    assert code == 0
    assert sorted(path.name for path in root.iterdir()) == left
    assert ("nothing was deleted." in err) == (typed == "n")


def test_one_that_is_no_run_keeps_all_of_them(run: Run, root: Path) -> None:
    code, out, err = run("runs", "delete", "mine", "nothing", "latest", "--yes")
    assert (code, out) == (2, "")
    assert "nothing is no run in artifacts" in err
    assert "'latest' only points to the newest run" in err
    assert (root / "mine" / "run.json").exists()


def test_options_of_the_list_before_delete_are_not_ignored(run: Run, root: Path) -> None:
    for options in (("--json",), ("--artifacts", "elsewhere")):
        code, _, err = run("runs", *options, "delete", "mine", "--yes")
        assert code == 2
        assert "give --artifacts after 'delete', and no --json" in err
    assert (root / "mine" / "run.json").exists()


def test_a_word_that_is_no_command_is_refused(run: Run, here: Path) -> None:
    code, _, err = run("runs", "remove", "mine")
    assert code == 2
    assert "No such command 'remove'" in err
