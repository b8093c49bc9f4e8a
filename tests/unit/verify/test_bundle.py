from __future__ import annotations

import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from bundles import change_weights, make_grey, rewrite_golden

from toolkit.bundle import Bundle, read_manifest
from toolkit.bundle.content import Content
from toolkit.bundle.writer import write_manifest
from toolkit.errors import BundleError, IntegrityError, MissingDependencyError, RecipeError, UntrustedCodeError
from toolkit.files import sha256_file
from toolkit.formats.registry import get_format
from toolkit.results import ParityReport
from toolkit.runtime.selftest import selftest_bundle
from toolkit.verify.bundle import verify_bundle
from toolkit.verify.junit import junit_xml
from toolkit.verify.records import write_records


def test_a_good_bundle_passes_by_its_golden_samples(colour_bundle: Path, tmp_path: Path) -> None:
    report = verify_bundle(colour_bundle, threads=1)
    assert report.passed, report.artifacts[0].failures
    assert report.reference == "its 3 golden samples"
    (artifact,) = report.artifacts
    assert (artifact.test_images, artifact.edge_inputs, artifact.top1_agreement) == (3, 0, 1.0)
    assert artifact.accuracy is not None
    assert artifact.accuracy.images == 3
    assert {"outputs", "batch sizes", "edge inputs", "batch invariance", "repeated runs", "state between calls"} <= {
        check.name for check in artifact.checks
    }
    write_records(report, tmp_path / "out")
    assert ParityReport.load(tmp_path / "out" / "parity.json", "toolkit verify") == report
    assert ET.parse(tmp_path / "out" / "junit.xml").getroot().get("failures") == "0"


def test_swapped_classes_fail(colour_bundle: Path) -> None:
    change_weights(colour_bundle, lambda weights: weights[:, [1, 0, 2]])
    report = verify_bundle(colour_bundle, threads=1)
    assert not report.passed
    assert any("the most probable class changes from" in failure for failure in report.artifacts[0].failures)


def test_a_changed_file_is_refused_before_it_is_run(colour_bundle: Path) -> None:
    with (colour_bundle / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        verify_bundle(colour_bundle, threads=1)


def test_labels_in_another_order_than_at_the_export_are_refused(colour_bundle: Path) -> None:
    manifest = read_manifest(colour_bundle)
    write_manifest(colour_bundle, manifest.model_copy(update={"labels": manifest.labels[::-1]}))
    with pytest.raises(BundleError, match="other labels or another size than its manifest"):
        verify_bundle(colour_bundle, threads=1)


def test_a_sample_labelled_with_something_else_fails(colour_bundle: Path) -> None:
    rewrite_golden(colour_bundle, lambda text: text.replace('"true_label": "red"', '"true_label": "pink"'))
    report = verify_bundle(colour_bundle, threads=1)
    assert not report.passed
    labels = next(check for check in report.checks if check.name == "labels")
    assert labels.failures == ("golden samples are labelled pink, which the manifest does not have",)


def test_limits_can_be_replaced(colour_bundle: Path) -> None:
    change_weights(colour_bundle, lambda weights: weights * np.float32(1.01))
    assert not verify_bundle(colour_bundle, threads=1).passed
    report = verify_bundle(colour_bundle, threads=1, tolerances={"logits_relative": 0.1, "probabilities_absolute": 0.1})
    assert report.passed
    assert report.artifacts[0].tolerance.logits_relative == 0.1


def test_an_artifact_whose_engine_is_missing_is_named_and_the_others_are_judged(
    colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (colour_bundle / "model.other").write_bytes(b"for another engine")
    manifest = read_manifest(colour_bundle)
    other = manifest.artifacts[0].model_copy(
        update={
            "format": "torchscript",
            "family": "torchscript",
            "file": "model.other",
            "sha256": sha256_file(colour_bundle / "model.other"),
            "size_bytes": 18,
        }
    )
    write_manifest(colour_bundle, manifest.model_copy(update={"artifacts": (*manifest.artifacts, other)}))
    refuse = get_format("torchscript")

    def missing(content: Content, device: str, threads: int) -> None:
        raise MissingDependencyError("it needs torch")

    monkeypatch.setattr(type(refuse), "open", staticmethod(missing))
    report = verify_bundle(colour_bundle, threads=1, allow_code=True)
    assert report.passed
    assert [artifact.file for artifact in report.artifacts] == ["model.onnx"]
    assert report.not_judged == {"model.other": "it needs torch"}
    suite = ET.fromstring(junit_xml(report))
    assert suite.get("skipped") == "1"
    (colour_bundle / "model.onnx").unlink()
    write_manifest(colour_bundle, manifest.model_copy(update={"artifacts": (other,)}))
    with pytest.raises(MissingDependencyError, match="no artifact can be judged here: it needs torch"):
        verify_bundle(colour_bundle, threads=1, allow_code=True)
    with pytest.raises(UntrustedCodeError, match=r"no artifact can be judged here: model\.other is not opened: "):
        verify_bundle(colour_bundle, threads=1)


def test_no_threads_are_refused(colour_bundle: Path) -> None:
    with pytest.raises(RecipeError, match="0 threads"):
        verify_bundle(colour_bundle, threads=0)


# --- What a bundle shows by itself


@pytest.fixture
def grey_bundle(colour_bundle: Path) -> Path:
    """Return the bundle with golden images that are grey, edge inputs, and what float64 says of both."""
    make_grey(colour_bundle)
    return colour_bundle


def selftest_failures(bundle: Path) -> tuple[str, ...]:
    (result,) = selftest_bundle(Bundle.open(bundle))
    return result.failures


def test_a_good_bundle_passes_at_a_margin(grey_bundle: Path) -> None:
    report = verify_bundle(grey_bundle, threads=1)
    (artifact,) = report.artifacts
    assert artifact.failures == ()
    assert report.passed
    assert (artifact.test_images, artifact.edge_inputs) == (3, 4)
    assert artifact.rounding is not None
    assert artifact.rounding.ratio < 3
    assert {"rounding", "golden samples", "edge inputs"} <= {check.name for check in artifact.checks}
    assert [check.name for check in report.checks] == ["preprocessing", "labels"]
    assert selftest_failures(grey_bundle) == ()


def test_exchanged_channels_show_though_every_image_is_grey(grey_bundle: Path) -> None:
    change_weights(grey_bundle, lambda weights: weights[::-1])
    (artifact,) = verify_bundle(grey_bundle, threads=1).artifacts
    failed = {check.name for check in artifact.checks if not check.passed}
    assert {"outputs", "rounding", "golden samples"} <= failed
    sentences = " ".join(selftest_failures(grey_bundle))
    assert "logits differ by" in sentences
    assert "saturated colours" in sentences


def test_weights_that_lost_bits_show_though_every_value_is_within_its_limit(grey_bundle: Path) -> None:
    change_weights(grey_bundle, lambda weights: (weights / 3).astype(np.float16).astype(np.float32) * 3)
    (artifact,) = verify_bundle(grey_bundle, threads=1).artifacts
    assert [check.name for check in artifact.checks if not check.passed] == ["rounding"]
    (sentence,) = selftest_failures(grey_bundle)
    assert "times what PyTorch loses by rounding in float32" in sentence


def test_a_bundle_of_before_edge_inputs_is_judged_as_it_was(tmp_path: Path) -> None:
    old = shutil.copytree(Path(__file__).parents[2] / "assets" / "bundles" / "version-1", tmp_path / "old")
    report = verify_bundle(old, threads=1)
    assert report.passed, report.artifacts[0].failures
    (artifact,) = report.artifacts
    assert artifact.edge_inputs == 0
    assert artifact.rounding is None
