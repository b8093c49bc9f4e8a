"""Environments of Python's own, made once, for what is compared with and has no place in toolkit's."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.errors import BenchmarkError
from toolkit.download import cache_folder
from toolkit.files import new_folder

_MINUTES = 20


@dataclass(frozen=True)
class Environment:
    """What is installed, and where.

    Attributes:
        holds: what it is for, for messages.
        name: of its folder in the cache folder of toolkit; with the versions, so that others are another one.
        packages: what pip is given.
        beside_ours: whether the packages of this interpreter are seen too where it has none of its own: the same
            PyTorch on both sides, and no gigabytes to fetch.
    """

    holds: str
    name: str
    packages: tuple[str, ...]
    beside_ours: bool = False

    def python(self, folder: Path | None = None) -> Path:
        """Return its interpreter; it is made from PyPI where it is not there.

        Args:
            folder: where it is, or is to be; in the cache folder by default.

        Raises:
            BenchmarkError: it could not be made, or the folder holds something else.
        """
        folder = folder or cache_folder() / self.name
        if not (folder / "complete").exists():
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise BenchmarkError(f"{folder} holds something else: give a folder that does not exist, or is empty.")
            with new_folder(folder, f"the environment with {self.holds}") as making:
                self._make(making)
                (making / "complete").touch()
        return folder / "bin" / "python"

    def _make(self, folder: Path) -> None:
        self._run([sys.executable, "-m", "venv", str(folder)])
        if self.beside_ours:
            theirs = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
            theirs.mkdir(parents=True, exist_ok=True)
            ours = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
            (theirs / "ours.pth").write_text("".join(f"{path}\n" for path in ours), encoding="utf-8")
        self._run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *self.packages])

    def _run(self, words: list[str]) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, check=False, timeout=60 * _MINUTES, env=environment
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BenchmarkError(f"no environment with {self.holds} could be made: {error}.") from error
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise BenchmarkError(f"no environment with {self.holds} could be made: {' '.join(last)}")
