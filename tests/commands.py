"""Commands of the toolkit in processes of their own, without the seconds that each would take to import PyTorch.

One process imports everything once, or only what is light; every command is a fork of it, with its own folder,
environment and output. Where the start of Python itself is tested, a test starts ``python -m toolkit.cli.main``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EVERYTHING = """
import matplotlib.pyplot, onnxruntime, onnxscript, sklearn.datasets, timm, torch, torchvision
import toolkit.export, toolkit.training.stage, toolkit.report, toolkit.verify.run
"""
NOTHING_HEAVY = """
import toolkit.training.auto, toolkit.report, toolkit.runtime
"""
"""What a command may import before it says what is wrong with its arguments."""

SERVER = """
import json, os, sys
from toolkit.cli.main import main
from toolkit.results import Record

records = [Record]  # what reads and writes them is built when they are first used: once, and not in every fork
for record in records:
    record.model_rebuild()
    records += record.__subclasses__()

def work(order):
    for descriptor, path in ((0, os.devnull), (1, order["stdout"]), (2, order["stderr"])):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), descriptor)
    os.chdir(order["folder"])
    os.environ.update(order["environment"])
    exec(order["before"], {"__name__": "before"})
    code = 0
    try:
        main(order["arguments"])
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        import traceback
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    with open(order["modules"], "w") as file:
        json.dump(sorted(name for name in sys.modules if "." not in name), file)
    os._exit(code)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        work(json.loads(line))
    print(child, flush=True)
    _, status, used = os.wait4(child, 0)
    print(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, flush=True)
"""

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Command:
    """What a fork is to do."""

    folder: Path
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    before: str = ""
    """Python that runs in the fork before the command."""


class Commands:
    """Runs one command at a time."""

    def __init__(self, imports: str = EVERYTHING) -> None:
        """Say what the warm process imports."""
        self._imports = imports
        self._output = tempfile.TemporaryDirectory(prefix="toolkit-commands-")
        self._server: subprocess.Popen[str] | None = None
        self._running: Command | None = None
        self.cpu_seconds = 0.0
        """What the last command took."""
        self.modules: frozenset[str] = frozenset()
        """Packages that were imported when the last command ended; none if it was killed."""

    def run(self, folder: Path, *arguments: str, **environment: str) -> Done:
        """Run a command in a folder and wait for it."""
        command = Command(folder, arguments, environment)
        if not hasattr(os, "fork"):
            return run_python(folder, "-m", "toolkit.cli.main", *arguments, **environment)
        self.start(command)
        return self.wait()

    def start(self, command: Command) -> int:
        """Start a command and return the id of its process."""
        assert self._running is None, "one command at a time"
        self._running = command
        for path in (self._stdout, self._stderr, self._modules):
            path.unlink(missing_ok=True)
        order: dict[str, Any] = {
            "folder": str(command.folder),
            "arguments": command.arguments,
            "environment": command.environment,
            "before": command.before,
            "modules": str(self._modules),
            "stdout": str(self._stdout),
            "stderr": str(self._stderr),
        }
        server = self._started()
        assert server.stdin is not None
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        return int(self._answer())

    def wait(self) -> Done:
        """Wait until the command ends."""
        assert self._running is not None, "nothing was started"
        code, cpu_seconds = self._answer().split()
        self.cpu_seconds = float(cpu_seconds)
        command, self._running = self._running, None
        self.modules = frozenset(json.loads(self._modules.read_text()) if self._modules.exists() else ())
        stdout, stderr = (path.read_text(encoding="utf-8") for path in (self._stdout, self._stderr))
        return Done(command.arguments, int(code), stdout, stderr)

    def close(self) -> None:
        """End the warm process."""
        if self._server is not None:
            self._server.communicate()
            self._server = None
        self._output.cleanup()

    @property
    def _stdout(self) -> Path:
        return Path(self._output.name) / "stdout"

    @property
    def _modules(self) -> Path:
        return Path(self._output.name) / "modules"

    @property
    def _stderr(self) -> Path:
        return Path(self._output.name) / "stderr"

    def _started(self) -> subprocess.Popen[str]:
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, "-c", self._imports + SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        return self._server

    def _answer(self) -> str:
        assert self._server is not None
        assert self._server.stdout is not None
        return self._server.stdout.readline()


def run_python(folder: Path, *arguments: str, **environment: str) -> Done:
    """Run Python itself in a folder, from its start."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


_SHARED = Commands()
run = _SHARED.run
close = _SHARED.close
