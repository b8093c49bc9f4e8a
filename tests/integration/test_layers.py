"""The layers of the design are a check that fails: proved on a copy of the package with a forbidden import added."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).parent / "lint-imports"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "toolkit", tmp_path / "toolkit", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [str(LINT), "--no-cache"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_package_as_it_is_keeps_the_layers(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout
    assert " kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "chain"),
    [
        (
            "bench/shortcut.py",
            "from toolkit.export import export_run",
            "toolkit.bench is not allowed to import toolkit.export",
        ),
        ("verify/shortcut.py", "import toolkit.training", "toolkit.verify is not allowed to import toolkit.training"),
        ("runtime/shortcut.py", "import torch", "toolkit.runtime is not allowed to import torch"),
        (
            "runtime/shortcut.py",
            "def later():\n    import torchvision",
            "toolkit.runtime is not allowed to import torchvision",
        ),
        ("bundle/shortcut.py", "import toolkit.runtime", "toolkit.bundle is not allowed to import toolkit.runtime"),
        ("verify/against.py", "import torch", "toolkit.verify.against is not allowed to import torch"),
        ("report/shortcut.py", "import torch", "toolkit.report is not allowed to import torch"),
    ],
)
def test_a_forbidden_import_breaks_it_by_name(copy: Path, module: str, line: str, chain: str) -> None:
    (copy / "toolkit" / module).write_text(line + "\n")
    done = lint(copy)
    assert done.returncode == 1
    assert chain in done.stdout


def test_a_new_part_of_the_package_needs_a_layer(copy: Path) -> None:
    (copy / "toolkit" / "helpers.py").write_text("")
    done = lint(copy)
    assert done.returncode == 1
    assert "helpers" in done.stdout
