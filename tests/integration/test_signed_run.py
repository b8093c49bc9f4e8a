"""A real run, signed, verified, benchmarked, packed and sent away: real commands, as a person types them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.bundle import Bundle
from toolkit.files import sha256_file

pytestmark = pytest.mark.slow
pytest.importorskip("cryptography", reason="the extra 'sign' is not installed")

SMALL = (
    *(
        "--recipe",
        "digits",
        "--image-size",
        "32",
        "--train-limit",
        "200",
        "--test-limit",
        "50",
        "--run",
        "small",
        "--quiet",
    ),
    *("--stage1-epochs", "1", "--stage2-epochs", "0", "--threads", "1"),
)
KEY = ("--verify-key", "ours.public.pem")


def run(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "toolkit.cli.main", *arguments],
        cwd=folder,
        env={**os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_from_a_run_to_a_signed_archive_and_back(tmp_path: Path) -> None:
    run(tmp_path, "finetune", *SMALL)
    run(tmp_path, "export")
    run(tmp_path, "keygen", "ours")
    bundle = tmp_path / "artifacts" / "small" / "bundle"
    assert "is not signed" in run(tmp_path, "verify", *KEY, "--threads", "1", code=2).stderr

    run(tmp_path, "sign", "artifacts/latest", "--key", "ours.private.pem")
    verified = run(tmp_path, "verify", *KEY, "--threads", "1", "--images", "32", "--quiet")
    assert "is no longer signed, because its manifest has changed" in verified.stderr
    assert Bundle.open(bundle).signature is None

    run(tmp_path, "sign", "artifacts/latest", "--key", "ours.private.pem")
    measured = run(
        tmp_path, "bench", "--rounds", "2", "--threads", "1", "--batch-sizes", "1", "--device", "cpu", "--quiet"
    )
    assert measured.stderr.count("is no longer signed") == 1

    tested = run(tmp_path, "selftest", "artifacts/latest", "--threads", "1").stdout.splitlines()
    assert [line.split()[0] for line in tested] == ["torchscript", "onnx"]
    assert all("passed: 8 samples alone and together" in line for line in tested)

    run(tmp_path, "pack", "artifacts/latest", "--sign", "ours.private.pem")
    run(tmp_path, "unpack", "small.tar", *KEY)
    run(tmp_path, "selftest", "small", *KEY, "--threads", "1")
    run(tmp_path, "pack", "small", "-o", "again.tar")
    assert sha256_file(tmp_path / "again.tar") == sha256_file(tmp_path / "small.tar")

    readme = (tmp_path / "small" / "README.md").read_text(encoding="utf-8")
    program = readme.partition("```python\n")[2].partition("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "small")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "passed\n"), done.stderr
