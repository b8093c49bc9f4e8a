from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import change_weights

from toolkit.bundle import read_manifest
from toolkit.bundle.writer import write_manifest
from toolkit.compare.tolerances import TOLERANCES
from toolkit.errors import MissingDependencyError
from toolkit.files import sha256_file

Run = Callable[..., tuple[int, str, str]]


def test_a_line_per_artifact(run: Run, colour_bundle: Path) -> None:
    code, out, _ = run("selftest", colour_bundle)
    assert code == 0
    (line,) = out.splitlines()
    assert line.split()[:3] == ["onnx", "model.onnx", "passed:"]
    assert "3 samples alone and together, same class on 100%, largest difference" in line


def test_a_difference_is_exit_code_1(run: Run, colour_bundle: Path) -> None:
    golden = json.loads((colour_bundle / "golden" / "expected.json").read_bytes())
    golden["cases"][0]["logits"][0] += 1
    (colour_bundle / "golden" / "expected.json").write_text(json.dumps(golden))
    shutil.move(colour_bundle / "manifest.json", colour_bundle.parent / "old.json")
    old = json.loads((colour_bundle.parent / "old.json").read_bytes())
    record = {
        "sha256": sha256_file(path := colour_bundle / "golden" / "expected.json"),
        "size_bytes": path.stat().st_size,
    }
    old["files"]["golden/expected.json"] = record
    (colour_bundle / "manifest.json").write_text(json.dumps(old))
    code, out, _ = run("selftest", colour_bundle)
    assert code == 1
    assert "FAILED: logits differ by 1 on golden/000.bin (blue.png)" in out


def test_where_nothing_can_be_opened_nothing_was_tested(
    run: Run, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise MissingDependencyError("onnxruntime is not installed.")

    monkeypatch.setattr("toolkit.formats.onnx.OnnxFormat.open", missing)
    code, out, err = run("selftest", colour_bundle)
    assert code == 2
    assert "not tested: onnxruntime is not installed." in out
    assert "can be opened here, so nothing was tested" in err


def test_a_damaged_bundle_is_exit_code_2(run: Run, colour_bundle: Path) -> None:
    (colour_bundle / "golden" / "000.bin").write_bytes(bytes(192))
    code, out, err = run("selftest", colour_bundle)
    assert (code, out) == (2, "")
    assert "000.bin is not the file that the manifest describes" in err


def test_a_wider_limit_of_the_bundle_is_not_used_and_told(run: Run, colour_bundle: Path) -> None:
    change_weights(colour_bundle, lambda weights: weights * np.float32(1.01))
    manifest = read_manifest(colour_bundle)
    wide = TOLERANCES["float32"].model_copy(update={"logits_relative": 0.5, "probabilities_absolute": 0.5})
    artifact = manifest.artifacts[0].model_copy(update={"tolerance": wide})
    write_manifest(colour_bundle, manifest.model_copy(update={"artifacts": (artifact,)}))
    code, out, _ = run("selftest", colour_bundle)
    verdict, told = out.splitlines()
    assert code == 1
    assert "FAILED: logits differ by" in verdict
    assert told.endswith(
        "the bundle's own limits are wider than float32 allows and were not used: logits_relative 0.5, "
        "probabilities_absolute 0.5; used: logits_relative 0.001, probabilities_absolute 0.001"
    )
    wider = ("--tolerance", "logits_relative=0.1", "--tolerance", "probabilities_absolute=0.1")
    code, out, _ = run("selftest", colour_bundle, *wider)
    assert code == 0
    assert "limits replaced by whoever asked: logits_relative 0.1, probabilities_absolute 0.1; usual:" in out
    code, _, err = run("selftest", colour_bundle, "--tolerance", "atol=1")
    assert code == 2
    assert "a tolerance has no atol" in err
    code, out, _ = run("verify", colour_bundle)
    assert code == 1
    assert "onnx: the bundle's own limits are wider than float32 allows" in " ".join(out.split())
    code, out, _ = run("verify", colour_bundle, *wider)
    assert code == 0
    assert "onnx: limits replaced by whoever asked: logits_relative 0.1" in " ".join(out.split())
