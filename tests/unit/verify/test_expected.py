from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from small_contract import CONTRACT

from toolkit.bundle import Bundle
from toolkit.verify.expected import Expected, golden_of, metadata_of, run_reference, with_truths
from toolkit.verify.inputs import Inputs

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)
INPUTS = Inputs(tuple(map(str, range(40))), IMAGES, 38)


def outputs(images: np.ndarray) -> dict[str, np.ndarray]:
    sums = images.reshape(len(images), -1).sum(axis=1, dtype=np.float32)[:, None]
    return {"logits": sums, "probabilities": sums * 2}


def reference() -> Expected:
    session: Any = SimpleNamespace(run=outputs)
    return run_reference(session, INPUTS, CONTRACT)


def test_every_input_is_run_once_and_stands_in_its_row() -> None:
    expected = reference()
    assert expected.names == INPUTS.names
    assert np.array_equal(expected.outputs["logits"], outputs(IMAGES)["logits"])
    rows = expected.rows((3, 39, 3))
    assert np.array_equal(rows["probabilities"], outputs(IMAGES[[3, 39, 3]])["probabilities"])


def test_test_images_get_their_class_and_edge_inputs_none() -> None:
    targets = np.arange(38) % 2
    expected = with_truths(reference(), Inputs(INPUTS.names, IMAGES, 38, targets), ("a", "b"))
    assert expected.true_labels is not None
    assert expected.true_labels[:3] == ("a", "b", "a")
    assert expected.true_labels[38:] == (None, None)


def test_without_classes_nothing_changes() -> None:
    expected = reference()
    assert with_truths(expected, INPUTS, ("a", "b")) is expected


def test_golden_samples_say_what_the_bundle_holds(colour_bundle: Path) -> None:
    bundle = Bundle.open(colour_bundle)
    golden = golden_of(bundle)
    assert golden.names[0] == "golden sample golden/000.bin (blue.png)"
    assert golden.true_labels == ("blue", "green", "red")
    assert np.array_equal(golden.images, bundle.golden_images())
    assert golden.outputs["logits"].dtype == np.float32
    assert golden.outputs["logits"].tolist() == [list(case.logits) for case in bundle.golden().cases]


def test_metadata_are_those_that_change_what_an_artifact_means(colour_bundle: Path) -> None:
    manifest = Bundle.open(colour_bundle).manifest
    metadata = metadata_of(manifest)
    assert set(metadata) == {f"toolkit.{key}" for key in ("labels", "input", "preprocessing", "model_sha256")}
    assert json.loads(metadata["toolkit.labels"]) == list(manifest.labels)
