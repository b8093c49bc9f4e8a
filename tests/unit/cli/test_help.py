"""Help must be instant: nothing heavy may be imported before a command runs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from toolkit.cli.main import COMMANDS

HEAVY = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "numpy", "PIL", "sklearn", "matplotlib", "rich")

PROGRAM = """
import json, sys
from toolkit.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    print(json.dumps({"exit": stop.code, "modules": sorted(name for name in sys.modules if "." not in name)}))
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)], ids=" ".join
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
    *text, last = done.stdout.splitlines()
    state = json.loads(last)
    assert state["exit"] in (0, None)
    assert text
    assert [name for name in HEAVY if name in state["modules"]] == []
