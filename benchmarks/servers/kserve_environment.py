"""An environment that has KServe, whose protobuf is not the one that the rest needs; made once, in the cache folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.harness.errors import BenchmarkError
from toolkit.download import cache_folder
from toolkit.files import new_folder

VERSION = "0.21.0"
PACKAGES = (f"kserve=={VERSION}", "onnxruntime", "pillow", "platformdirs", "pydantic", "rich", "typer")
"""KServe, and what toolkit itself needs to open a bundle; toolkit comes from this repository."""
_MINUTES = 20


def python_with_kserve(folder: Path | None = None) -> Path:
    """Return the interpreter of such an environment, which is made where there is none: some 550 MB from PyPI.

    Args:
        folder: where it is, or is to be; in the cache folder by default.

    Raises:
        BenchmarkError: it could not be made, or the folder holds something else.
    """
    folder = folder or cache_folder() / f"kserve-{VERSION}"
    if not (folder / "complete").exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise BenchmarkError(f"{folder} holds something else: give a folder that does not exist, or is empty.")
        with new_folder(folder, "the environment with KServe") as making:
            _run([sys.executable, "-m", "venv", str(making)])
            _run([str(making / "bin" / "python"), "-m", "pip", "install", "--quiet", *PACKAGES])
            (making / "complete").touch()
    return folder / "bin" / "python"


def _run(words: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=60 * _MINUTES, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchmarkError(f"no environment with KServe could be made: {error}.") from error
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise BenchmarkError(f"no environment with KServe could be made: {' '.join(last)}")
