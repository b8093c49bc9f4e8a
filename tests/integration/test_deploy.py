"""A real run on the servers of others: deployed by the command, served by its configuration, checked by its program."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import run
from triton_model import TritonModel, serving

from toolkit.bundle import Bundle
from toolkit.deploy.triton_check import check_folder

pytestmark = pytest.mark.slow


def test_each_artifact_of_a_run_answers_the_golden_samples(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    formats = [artifact.format for artifact in Bundle.open(job / "artifacts" / "small").manifest.artifacts]
    assert {"onnx", "torchscript"} <= set(formats)
    for name in ("onnx", "torchscript"):
        done = run(job, "deploy", "triton", "small", "--artifact", name, "--out", name, "--name", "digits")
        assert done.returncode == 0, done.stderr
        model = TritonModel(job / name / "digits")
        model.warm_up()
        with serving(model) as url:
            assert check_folder(model.folder, url) == 0, capsys.readouterr()


def test_what_the_service_serves_answers_too(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run(job, "deploy", "kserve", "--storage-uri", "s3://bucket/models", "--out", "service", "--name", "digits")
    assert done.returncode == 0, done.stderr
    model = TritonModel(job / "service" / "models" / "digits")
    with serving(model) as url:
        assert check_folder(model.folder, url) == 0, capsys.readouterr()
