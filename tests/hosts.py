"""The programs under ``examples/``, run as ``make`` runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from once import made_once

from examples.table import EXAMPLES, facts

ROOT = Path(__file__).parents[1]
SECONDS = 300
"""More than any of them takes on a busy machine; what hangs is noticed after them."""

Done = subprocess.CompletedProcess[str]


def run_example(name: str, bundle: Path, **environment: str) -> Done:
    """Run an example on a bundle, with the Python of the tests."""
    return subprocess.run(
        [str(EXAMPLES / name / "run.sh"), str(bundle)],
        env={**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def install_packages(temporary: pytest.TempPathFactory, name: str) -> None:
    """Install the npm packages of an example, once for all processes of the tests.

    Where the registry cannot be reached, as on a machine without network, its tests are skipped; not in CI.
    """

    def install(folder: Path) -> None:
        command = [str(EXAMPLES / "shared" / "packages.sh"), str(EXAMPLES / name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        (folder / "failed.txt").write_text(done.stderr if done.returncode else "", encoding="utf-8")

    failed = (made_once(temporary, f"packages-{name}", install) / "failed.txt").read_text(encoding="utf-8")
    if failed and "CI" in os.environ:
        pytest.fail(failed)
    if failed:
        pytest.skip(f"npm cannot install the packages of examples/{name}: {failed.strip().splitlines()[-1]}")


def require_passed(done: Done, host: str) -> None:
    """Require that an example passed and said so in the form that all of them have.

    Args:
        done: what ``run_example`` returned.
        host: how the host's line begins.
    """
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "passed"
    said = facts(done.stdout)
    assert list(said) == ["host", "artifact", "golden samples", "largest logit difference", "images per second"]
    assert said["host"].startswith(host)
    assert said["artifact"] == "model.onnx (onnx, float32)"
    # Of a network with logits of some units: rounding, and not the same bits by accident.
    assert 0 < float(said["largest logit difference"]) < 1e-3
    assert float(said["images per second"]) > 0


def require_failed(done: Done, said: str) -> None:
    """Require that an example found outputs beyond the tolerance, and said in what."""
    assert done.returncode == 1, done.stdout + done.stderr
    failures = [line for line in done.stdout.splitlines() if line.startswith("FAILED: ")]
    assert any(said in line for line in failures), done.stdout
    assert "passed" not in done.stdout.splitlines()


def require_refused(done: Done, said: str) -> None:
    """Require that an example said, in one sentence, why it could not run anything."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "    at " not in done.stderr  # that of JavaScript
