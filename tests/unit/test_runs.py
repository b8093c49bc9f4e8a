from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.errors import RunError
from toolkit.recipe import load_recipe
from toolkit.runs import RunFolder, find_run, new_run


def finished(root: Path, name: str) -> RunFolder:
    run = new_run(name, root)
    load_recipe("digits").save(run.recipe_file)
    run.record_file.write_text("{}")
    run.make_latest()
    return run


def test_the_newest_run_is_found_without_a_name(tmp_path: Path) -> None:
    finished(tmp_path, "first")
    finished(tmp_path, "second")
    assert find_run(None, tmp_path).name == "second"
    assert find_run("first", tmp_path).path == tmp_path / "first"
    assert find_run("latest", tmp_path).name == "second"
    assert find_run(str(tmp_path / "latest"), Path("elsewhere")).name == "second"


def test_a_finished_run_is_never_overwritten(tmp_path: Path) -> None:
    finished(tmp_path, "mine")
    with pytest.raises(RunError, match="finished run 'mine'"):
        new_run("mine", tmp_path)


def test_an_unfinished_run_can_be_taken_up_again(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert new_run("mine", tmp_path).path == tmp_path / "mine"


@pytest.mark.parametrize("name", ["", "latest", "../up", "a/b", ".hidden", "with space"])
def test_names_that_are_no_folder_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot name a run"):
        new_run(name, tmp_path)


def test_no_run_yet(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="run 'toolkit finetune' first"):
        find_run(None, tmp_path)
    with pytest.raises(RunError, match=r"no run 'x' in .*; run 'toolkit finetune' first"):
        find_run("x", tmp_path / "none")


def test_an_unknown_run_lists_those_there_are(tmp_path: Path) -> None:
    finished(tmp_path, "first")
    finished(tmp_path, "second")
    with pytest.raises(RunError, match="runs there: first, second"):
        find_run("third", tmp_path)


def test_an_incomplete_run_says_what_to_do(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    for read in (run.recipe, run.record, run.evaluation):
        with pytest.raises(RunError, match="run 'toolkit finetune' first"):
            read()
