from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.cli import start

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_ctrl_c_while_the_command_itself_is_imported_prints_nothing(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise SystemExit(3)\n")
    # A shell lets its background jobs ignore SIGINT, and what they start inherits that.
    heeded = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    done = subprocess.run(
        [sys.executable, "-c", f"{heeded}; from toolkit.cli.start import main; main()"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_the_command_is_the_same_wherever_it_starts(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as stopped:
        start.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == run("--version")[1]
    assert signal.getsignal(signal.SIGINT) is before


def test_without_a_script_on_the_path_python_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[bool] = []
    monkeypatch.setattr(start, "main", lambda: started.append(True))
    runpy.run_path(str(Path(start.__file__).parents[1] / "__main__.py"), run_name="__main__")
    assert started == [True]
