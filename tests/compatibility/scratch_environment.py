"""A virtual environment for one release of one package."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path


def environment(interpreter: str, packages: Sequence[str], root: Path) -> Path:
    """Make a scratch environment with some packages unless there is one; return its interpreter.

    Args:
        interpreter: the Python it is made with.
        packages: what pip installs; the first gives the environment its name.
        root: the folder it lies in.
    """
    folder = root / packages[0].replace("==", "-")
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([interpreter, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    return python
