"""A real run, signed, verified, benchmarked, packed and sent away: real commands, as a person types them."""

from __future__ import annotations

from pathlib import Path

import commands
import pytest

from toolkit.bundle import Bundle
from toolkit.files import sha256_file

pytestmark = pytest.mark.slow
pytest.importorskip("cryptography", reason="the extra 'sign' is not installed")

KEY = ("--verify-key", "ours.public.pem")


def run(folder: Path, *arguments: str, code: int = 0) -> commands.Done:
    done = commands.run(folder, *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_from_a_run_to_a_signed_archive_and_back(job: Path) -> None:
    run(job, "keygen", "ours")
    bundle = job / "artifacts" / "small" / "bundle"
    assert "is not signed" in run(job, "verify", *KEY, "--threads", "1", code=2).stderr

    run(job, "sign", "artifacts/latest", "--key", "ours.private.pem")
    verified = run(job, "verify", *KEY, "--threads", "1", "--images", "32", "--quiet")
    assert "is no longer signed, because its manifest has changed" in verified.stderr
    assert Bundle.open(bundle).signature is None

    run(job, "sign", "artifacts/latest", "--key", "ours.private.pem")
    measured = run(job, "bench", "--rounds", "2", "--threads", "1", "--batch-sizes", "1", "--device", "cpu", "--quiet")
    assert measured.stderr.count("is no longer signed") == 1

    tested = run(job, "selftest", "artifacts/latest", "--threads", "1").stdout.splitlines()
    assert [line.split()[0] for line in tested] == ["torchscript", "onnx"]
    assert all("passed: 8 samples and 4 edge inputs alone and together" in line for line in tested)

    run(job, "pack", "artifacts/latest", "--sign", "ours.private.pem")
    run(job, "unpack", "small.tar", *KEY)
    run(job, "selftest", "./small", *KEY, "--threads", "1")
    run(job, "pack", "./small", "-o", "again.tar")
    assert sha256_file(job / "again.tar") == sha256_file(job / "small.tar")

    readme = (job / "small" / "README.md").read_text(encoding="utf-8")
    program = readme.partition("```python\n")[2].partition("```")[0]
    done = commands.run_python(job, "-c", program, str(job / "small"))
    assert (done.returncode, done.stdout) == (0, "passed\n"), done.stderr
