"""The packages under ``tests/assets`` that add something to toolkit from outside, installed as pip installs them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def install(name: str, folder: Path) -> Path:
    """Let pip install ``tests/assets/NAME`` into a folder, and return what goes on the path.

    The sources are copied first, because building writes beside them.
    """
    source = folder / "source"
    ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "tests" / "assets" / name, source, ignore=ignored)
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--target")
    command = [sys.executable, "-m", "pip", "install", *options, str(folder / "site"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def example_format() -> Any:
    """Return the format of ``tests/assets/example_format`` without installing it."""
    file = ROOT / "tests" / "assets" / "example_format" / "src" / "example_format" / "__init__.py"
    spec = importlib.util.spec_from_file_location("example_format", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.GzippedOnnx()


def environment_with(site: Path) -> dict[str, str]:
    """Return the environment of a process that finds what was installed, and this checkout."""
    path = [str(site), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
