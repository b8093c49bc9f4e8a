"""No command contacts a host that the user did not name, or writes into the home folder: seen by the system calls.

Engines report what they are used for, by their own threads and in C++, where nothing of Python could see it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import commands
import numpy as np
import pytest
from daily import daily
from PIL import Image

from toolkit.formats.registry import formats
from toolkit.telemetry import OPT_OUT

pytestmark = pytest.mark.slow

CONTACT = re.compile(r"\b(connect|sendto|sendmsg|sendmmsg)\(.*sa_family=AF_INET6?\b")
HERE = re.compile(r'inet_addr\("127\.|inet_pton\(AF_INET6, "::1"')
EXPORTED = "onnx,openvino,torchscript,pt2"
TINY = ("--train-limit", "100", "--test-limit", "50", "--stage1-epochs", "1", "--stage2-epochs", "1")
TRACKED = ("--track", "tensorboard", "--track", "mlflow")
COMMANDS = {
    "finetune": ("finetune", "--recipe", "digits", "--image-size", "32", "--run", "other", *TINY),
    "track": ("finetune", "--recipe", "digits", "--image-size", "32", "--run", "tracked", *TINY, *TRACKED),
    "export": ("export", "--formats", EXPORTED),
    "verify": ("verify", "--images", "16"),
    "bench": ("bench", "--rounds", "2", "--batch-sizes", "1"),
    "selftest": ("selftest", "artifacts/small"),
    "doctor": ("doctor",),
    **{name: ("predict", "artifacts/small", "a.png", "--artifact", name) for name in EXPORTED.split(",")},
}


@cache
def obstacle() -> str | None:
    """Why nothing can be traced here; None if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed (apt-get install strace)"
    done = subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    return f"processes cannot be traced here: {done.stderr.strip()}" if done.returncode else None


def contacts(folder: Path, arguments: Sequence[str]) -> list[str]:
    """Run Python under strace, with an empty home, and return the calls that name another host."""
    if (reason := obstacle()) is not None:
        pytest.skip(reason)
    kept = {name: value for name, value in os.environ.items() if name not in OPT_OUT and not name.startswith("XDG_")}
    trace, home = folder / "trace.txt", folder / "home"
    home.mkdir()
    done = subprocess.run(
        ["strace", "-f", "--seccomp-bpf", "-e", "trace=network", "-o", str(trace), sys.executable, *arguments],
        cwd=folder,
        # matplotlib keeps a list of the fonts of the machine in the home folder.
        env={**kept, "HOME": str(home), "TOOLKIT_CACHE": str(folder / "cache"), "MPLCONFIGDIR": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in trace.read_text().splitlines() if CONTACT.search(line) and not HERE.search(line)]


@pytest.fixture(scope="module")
def exported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the formats of all engines, and an image."""
    if (missing := formats()["openvino"].unavailable()) is not None:
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("network") / "job"
    shutil.copytree(finished, folder, symlinks=True)
    for arguments in (("export", "--formats", EXPORTED), ("verify", "--images", "16")):
        done = commands.run(folder, *arguments, "--quiet")
        assert done.returncode == 0, done.stdout + done.stderr
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "a.png")
    return folder


@pytest.mark.parametrize("command", daily(tuple(COMMANDS), "openvino", "onnx", "export"))
def test_a_command_contacts_nobody_and_leaves_the_home_alone(exported: Path, tmp_path: Path, command: str) -> None:
    folder = tmp_path / "job"
    shutil.copytree(exported, folder, symlinks=True)
    assert contacts(folder, ("-m", "toolkit.cli.main", *COMMANDS[command])) == []
    assert [str(path) for path in (folder / "home").rglob("*") if path.is_file()] == []


def test_a_service_that_loads_and_predicts_contacts_nobody(exported: Path, tmp_path: Path) -> None:
    service = "import sys, toolkit; toolkit.load(sys.argv[1], artifact='openvino').predict(sys.argv[2])"
    arguments = ("-c", service, str(exported / "artifacts/small"), str(exported / "a.png"))
    assert contacts(tmp_path, arguments) == []
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6"])
def test_a_contact_is_noticed(tmp_path: Path, family: str) -> None:
    address = "'192.0.2.1', 9" if family == "AF_INET" else "'2001:db8::1', 9"
    program = (
        f"import socket; s = socket.socket(socket.{family}, socket.SOCK_DGRAM)\n"
        f"try: s.connect(({address}))\nexcept OSError: pass\n"
        "t = socket.create_server(('127.0.0.1', 0)); socket.create_connection(t.getsockname())\n"
    )
    assert len(contacts(tmp_path, ("-c", program))) == 1
