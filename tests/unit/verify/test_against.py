from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import change_weights, make_grey, rewrite_golden
from PIL import Image

from toolkit.bundle import read_manifest
from toolkit.bundle.writer import write_manifest
from toolkit.errors import BundleError, ImageError
from toolkit.verify.against import verify_against
from toolkit.verify.options import VerifyOptions

ONE_THREAD = VerifyOptions(threads=1)


@pytest.fixture
def other(colour_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, of the same weights."""
    shutil.copytree(colour_bundle, tmp_path / "other")
    return tmp_path / "other"


def of_other_weights(bundle: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    origin = read_manifest(bundle).origin.model_copy(update={"model_sha256": "1" * 64})
    change_weights(bundle, change, origin=origin)


def test_a_bundle_agrees_with_its_copy(colour_bundle: Path, other: Path) -> None:
    report = verify_against(colour_bundle, other, options=ONE_THREAD)
    assert report.passed, report.artifacts[0].failures
    assert report.reference == "the bundle colours"
    (artifact,) = report.artifacts
    assert artifact.test_images == 6
    assert artifact.accuracy is not None
    assert artifact.accuracy.images == 6
    assert artifact.tolerance.logits_relative == 1e-3


def test_the_same_weights_are_held_to_their_precision(colour_bundle: Path, other: Path) -> None:
    change_weights(other, lambda weights: weights * np.float32(1.01))
    report = verify_against(colour_bundle, other, options=ONE_THREAD)
    assert not report.passed
    assert any(failure.startswith("logits differ by") for failure in report.artifacts[0].failures)


def test_other_weights_are_held_to_what_they_say(colour_bundle: Path, other: Path) -> None:
    of_other_weights(other, lambda weights: weights * np.float32(1.5))
    report = verify_against(colour_bundle, other, options=ONE_THREAD)
    assert report.passed, report.artifacts[0].failures
    assert report.artifacts[0].tolerance.logits_relative is None
    of_other_weights(other, lambda weights: weights[:, [1, 2, 0]])
    report = verify_against(colour_bundle, other, options=ONE_THREAD)
    assert not report.passed
    assert report.artifacts[0].failures[0].startswith("the most probable class differs on 6 of 6 test images")


def test_other_labels_cannot_be_compared(colour_bundle: Path, other: Path) -> None:
    manifest = read_manifest(other)
    write_manifest(other, manifest.model_copy(update={"labels": ("blue", "green", "pink")}))
    with pytest.raises(BundleError, match="do not tell the same classes apart"):
        verify_against(colour_bundle, other, options=ONE_THREAD)


def test_labels_in_another_order_are_compared_by_name_and_fail(colour_bundle: Path, other: Path) -> None:
    manifest = read_manifest(other)
    change_weights(other, lambda weights: weights[:, ::-1], labels=manifest.labels[::-1])
    rewrite_golden(other, lambda text: json.dumps(json.loads(text) | {"labels": list(manifest.labels[::-1])}))
    report = verify_against(colour_bundle, other, options=ONE_THREAD)
    assert not report.passed
    assert all(artifact.passed for artifact in report.artifacts)
    assert "another order than in the other bundle" in report.checks[1].failures[0]


def test_images_of_a_folder_count_for_accuracy_where_folders_are_named_like_labels(
    colour_bundle: Path, other: Path, colour_image: Callable[[str], np.ndarray], tmp_path: Path
) -> None:
    for label in ("red", "blue"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        Image.fromarray(colour_image(label)).resize((30, 20)).save(tmp_path / "photos" / label / "1.png")
    report = verify_against(colour_bundle, other, data=tmp_path / "photos", options=ONE_THREAD)
    assert report.passed
    (artifact,) = report.artifacts
    assert artifact.accuracy is not None
    assert (artifact.test_images, artifact.accuracy.reference_accuracy) == (2, 1.0)
    with pytest.raises(ImageError, match="there are no images"):
        verify_against(colour_bundle, other, data=colour_bundle, options=ONE_THREAD)


def test_golden_images_of_another_size_need_a_folder(colour_bundle: Path, other: Path) -> None:
    for path in (other / "golden").glob("*.bin"):
        path.write_bytes(np.zeros((4, 4, 3), np.uint8).tobytes())
    rewrite_golden(other, lambda text: json.dumps(json.loads(text) | {"height": 4, "width": 4}))
    manifest = read_manifest(other)
    smaller = {
        "preprocessing": manifest.preprocessing.model_copy(update={"height": 4, "width": 4}),
        "input": manifest.input.model_copy(update={"shape": ("N", 4, 4, 3)}),
    }
    write_manifest(other, manifest.model_copy(update=smaller))
    with pytest.raises(BundleError, match="give images with --data"):
        verify_against(colour_bundle, other, options=ONE_THREAD)


def test_bisection_names_the_node_that_differs(colour_bundle: Path, other: Path) -> None:
    change_weights(colour_bundle, lambda weights: weights * np.float32(1.01))
    report = verify_against(colour_bundle, other, options=VerifyOptions(threads=1, bisect=True))
    found = report.artifacts[0].bisection
    assert found is not None
    assert found.first is not None
    assert (found.first.operator, found.first.tensor) == ("MatMul", "logits")
    assert found.first.error == pytest.approx(0.01, rel=0.01)
    assert [node.tensor for node in found.path] == ["pixels", "means", "logits", "probabilities"]
    assert found.path[0].error == found.path[1].error == 0


def test_bundles_of_other_weights_are_told_and_judged_without_edge_inputs(colour_bundle: Path, other: Path) -> None:
    for bundle in (colour_bundle, other):
        make_grey(bundle)
    report = verify_against(colour_bundle, other, options=ONE_THREAD)
    assert report.passed, report.artifacts[0].failures
    assert (report.artifacts[0].test_images, report.artifacts[0].edge_inputs) == (6, 8)
    # Grey images get three equal logits, so that the sign of a small change alone decides on them.
    of_other_weights(other, lambda weights: (weights + np.float32([0, 0, 1e-3])).astype(np.float32))
    of_other_weights(colour_bundle, lambda weights: (weights[::-1] + np.float32([0, 0, 1e-3])).astype(np.float32))
    origin = read_manifest(other).origin.model_copy(update={"model_sha256": "2" * 64})
    change_weights(other, lambda weights: weights, origin=origin)
    report = verify_against(colour_bundle, other, options=ONE_THREAD)
    assert report.reference == (
        "the bundle colours (of other weights: agreement and accuracy are judged, single values are not)"
    )
    assert report.passed, report.artifacts[0].failures
    assert report.artifacts[0].flips


class _Session:
    device, engine, threads = "cpu", "made", 1

    def __init__(self, run: Callable[[np.ndarray], dict[str, np.ndarray]]) -> None:
        self.run = run


def _without_memory(_: np.ndarray) -> dict[str, np.ndarray]:
    raise RuntimeError("Failed to allocate memory")


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (_without_memory, r"other/model\.onnx, which is compared with, cannot run: .*Failed to allocate memory"),
        (lambda images: {}, "which is compared with, cannot run: KeyError"),
        (
            lambda images: dict.fromkeys(("logits", "probabilities"), np.zeros((len(images), 2), np.float32)),
            r"which is compared with, returns logits \[\d+, 2\] instead of \[\d+, 3\]",
        ),
    ],
)
def test_an_other_bundle_that_does_not_run_is_a_sentence(
    colour_bundle: Path,
    other: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[[np.ndarray], dict[str, np.ndarray]],
    said: str,
) -> None:
    monkeypatch.setattr("toolkit.verify.against.open_artifact", lambda *_: _Session(run))
    with pytest.raises(BundleError, match=said):
        verify_against(colour_bundle, other, options=ONE_THREAD)


def test_outputs_of_another_meaning_are_told_and_held_to_what_they_say(colour_bundle: Path, other: Path) -> None:
    manifest = read_manifest(other)
    logits, probabilities = manifest.outputs
    both = logits.model_copy(update={"meaning": "scores before softmax, the mean over the image and its mirror image"})
    write_manifest(other, manifest.model_copy(update={"outputs": (both, probabilities)}))
    report = verify_against(colour_bundle, other, options=ONE_THREAD)
    assert report.reference == (
        "the bundle colours (whose outputs have another meaning: agreement and accuracy are judged, single values are "
        "not)"
    )
    assert report.artifacts[0].tolerance.logits_relative is None
