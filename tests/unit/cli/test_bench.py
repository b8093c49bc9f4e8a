from __future__ import annotations

from pathlib import Path

import pytest

from toolkit import provenance
from toolkit.cli.bench import _verify_first
from toolkit.errors import MissingDependencyError
from toolkit.progress import Silent
from toolkit.results import ParityReport
from toolkit.runs import RunFolder
from toolkit.verify import run as verify


def test_an_artifact_that_cannot_be_verified_here_is_not_measured(
    colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = ParityReport(
        run="colours",
        reference="PyTorch",
        passed=True,
        artifacts=(),
        provenance=provenance.collect(),
        not_judged={"model.onnx": "onnxruntime is not installed."},
    )
    monkeypatch.setattr(verify, "verify_run", lambda run, reporter: report)
    with pytest.raises(MissingDependencyError, match=r"^onnxruntime is not installed\.$"):
        _verify_first(RunFolder(colour_bundle.parent), Silent())
