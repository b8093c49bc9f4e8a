"""Command lines of the benchmarks."""

import argparse
import os

import pytest

from benchmarks.harness.command_line import main, rising, split_arguments, workspace, workspace_with_cache
from benchmarks.harness.errors import BenchmarkError


def test_arguments_after_the_dashes_are_passed_on():
    assert split_arguments(["--data", "x", "--", "--resize", "crop", "--"]) == (
        ["--data", "x"],
        ["--resize", "crop", "--"],
    )
    assert split_arguments(["--data", "x"]) == (["--data", "x"], [])


def test_bad_input_is_exit_code_2_and_one_sentence(capsys):
    def benchmark(_arguments):
        raise BenchmarkError("there is nothing here.")

    with pytest.raises(SystemExit) as ended:
        main(benchmark)

    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: there is nothing here.\n"


def test_a_workspace_is_gone_afterwards(tmp_path):
    with workspace(tmp_path) as place:
        (place / "file").touch()
        assert place.parent == tmp_path

    assert not place.exists()
    with pytest.raises(BenchmarkError, match="no temporary folder can be made"), workspace(tmp_path / "missing"):
        pass


def test_a_cache_of_its_own_goes_with_the_workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLKIT_CACHE", "before")
    with workspace_with_cache(tmp_path) as place:
        assert os.environ["TOOLKIT_CACHE"] == str(place / "cache")
        assert not (place / "cache").exists()

    assert os.environ["TOOLKIT_CACHE"] == "before"
    assert not place.exists()


def test_sizes_rise():
    assert rising("1000, 5000,20000") == [1000, 5000, 20_000]
    for text in ("1000,5000", "1,3,2", "1,2,2", "1,2,x"):
        with pytest.raises(argparse.ArgumentTypeError):
            rising(text)
