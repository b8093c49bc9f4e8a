"""Command lines of the benchmarks."""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

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

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        main(benchmark)

    assert ended.value.code == 2
    assert signal.getsignal(signal.SIGTERM) is before
    assert capsys.readouterr().err == "error: there is nothing here.\n"


STOPPED = """
import signal, sys
from pathlib import Path
from benchmarks.harness.child import run_child
from benchmarks.harness.command_line import main, workspace

def benchmark(_arguments):
    with workspace(Path(sys.argv[1])):
        started = f"import os, time; open({sys.argv[2]!r}, 'w').write(str(os.getpid())); time.sleep(3600)"
        run_child([sys.executable, "-c", started])

# What is started in the background, as the tests may be, ignores Ctrl-C from the start.
signal.signal(signal.SIGINT, signal.default_int_handler)
main(benchmark)
"""


def wait_for(what, seconds=60):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_that_is_stopped_takes_all_with_it(tmp_path, number):
    work, note = tmp_path / "work", tmp_path / "note"
    work.mkdir()
    benchmark = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(work), str(note)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[4],
    )
    wait_for(lambda: note.exists() and note.read_text())
    assert len(list(work.iterdir())) == 1
    benchmark.send_signal(number)
    _, said = benchmark.communicate(timeout=60)

    assert benchmark.returncode == 130
    assert said == "stopped before the report was written.\n"
    assert not list(work.iterdir())
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


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
