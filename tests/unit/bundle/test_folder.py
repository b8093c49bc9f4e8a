from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from toolkit.bundle import Bundle, read_manifest
from toolkit.bundle.manifest import RefusedArtifact
from toolkit.bundle.writer import file_record, write_manifest
from toolkit.errors import BundleError, IntegrityError


def edit(bundle: Path, **changes: object) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def test_a_whole_bundle_opens_and_tells_what_it_has(colour_bundle: Path) -> None:
    bundle = Bundle.open(colour_bundle)
    assert bundle.manifest.labels == ("blue", "green", "red")
    assert bundle.artifact().format == "onnx"
    assert bundle.golden_images().shape == (3, 8, 8, 3)
    assert [case.true_label for case in bundle.golden().cases] == ["blue", "green", "red"]


def test_the_run_folder_stands_for_its_bundle(colour_bundle: Path) -> None:
    assert Bundle.open(colour_bundle.parent).path == colour_bundle


@pytest.mark.parametrize("name", ["model.onnx", "golden/000.bin", "golden/expected.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "link"])
def test_a_file_that_is_not_the_described_one_is_refused_by_name(colour_bundle: Path, name: str, damage: str) -> None:
    path = colour_bundle / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "flipped":
        path.write_bytes(content[:10] + bytes([content[10] ^ 1]) + content[11:])
    else:
        outside = colour_bundle.parent / "outside"
        outside.write_bytes(content)
        path.unlink()
        path.symlink_to(outside)
    with pytest.raises(IntegrityError, match=name):
        Bundle.open(colour_bundle)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "golden/../../outside", "golden\\000.bin", ""])
def test_a_path_that_leaves_the_folder_is_refused(colour_bundle: Path, name: str) -> None:
    (colour_bundle.parent / "outside").write_bytes(b"x")
    manifest = json.loads((colour_bundle / "manifest.json").read_text())
    manifest["artifacts"][0]["file"] = name
    (colour_bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(IntegrityError, match="not a path inside the bundle"):
        Bundle.open(colour_bundle)


def test_a_missing_model_card_harms_nobody_but_an_edited_one_is_refused(colour_bundle: Path) -> None:
    card = colour_bundle / "MODEL_CARD.md"
    card.write_text(card.read_text() + "Also tells cats from dogs.\n")
    with pytest.raises(IntegrityError, match=r"MODEL_CARD.md"):
        Bundle.open(colour_bundle)
    card.unlink()
    assert Bundle.open(colour_bundle).manifest.name == "colours"


def test_no_bundle_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no"):
        Bundle.open(tmp_path / "nothing")
    with pytest.raises(BundleError, match=r"is not a bundle: it has no manifest.json"):
        Bundle.open(tmp_path)


def test_a_manifest_of_another_version_says_so(colour_bundle: Path) -> None:
    edit(colour_bundle, schema_version=99)
    with pytest.raises(BundleError, match="schema version 99; this toolkit reads versions 1, 2 and 3"):
        Bundle.open(colour_bundle)


def test_a_manifest_that_is_not_json_says_so(colour_bundle: Path) -> None:
    (colour_bundle / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="is not JSON"):
        Bundle.open(colour_bundle)


def test_a_malformed_manifest_names_the_field(colour_bundle: Path) -> None:
    edit(colour_bundle, labels=7)
    with pytest.raises(BundleError, match="malformed at labels"):
        Bundle.open(colour_bundle)


def test_an_artifact_that_is_not_there_lists_those_that_are(colour_bundle: Path) -> None:
    with pytest.raises(BundleError, match="no 'openvino' artifact; it has onnx"):
        Bundle.open(colour_bundle).artifact("openvino")


def test_a_bundle_without_any_artifact_says_so(colour_bundle: Path) -> None:
    (colour_bundle / "model.onnx").unlink()
    edit(colour_bundle, artifacts=[])
    with pytest.raises(BundleError, match="holds no artifact"):
        Bundle.open(colour_bundle).artifact()


def test_golden_inputs_are_the_raw_bytes_any_language_reads(colour_bundle: Path) -> None:
    raw = (colour_bundle / "golden" / "002.bin").read_bytes()
    assert len(raw) == 8 * 8 * 3
    assert raw[:3] == bytes([200, 0, 0])
    expected = json.loads((colour_bundle / "golden" / "expected.json").read_text())
    assert expected["labels"][int(np.argmax(expected["cases"][2]["probabilities"]))] == "red"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_an_unreadable_manifest_says_so(colour_bundle: Path) -> None:
    (colour_bundle / "manifest.json").chmod(0)
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.open(colour_bundle)


@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_further_files_of_an_artifact_are_checked_too(colour_bundle: Path, damage: str) -> None:
    weights = colour_bundle / "model.bin"
    weights.write_bytes(b"weights")
    manifest = read_manifest(colour_bundle)
    artifact = manifest.artifacts[0].model_copy(update={"further_files": {"model.bin": file_record(weights)}})
    write_manifest(colour_bundle, manifest.model_copy(update={"artifacts": (artifact,)}))
    assert Bundle.open(colour_bundle).artifact().total_bytes == (colour_bundle / "model.onnx").stat().st_size + 7
    if damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(b"Weights")
    with pytest.raises(IntegrityError, match=r"model\.bin"):
        Bundle.open(colour_bundle)


def test_a_bundle_without_artifacts_says_why(colour_bundle: Path) -> None:
    refused = RefusedArtifact(format="onnx-int8", precision="int8", reason="nothing keeps the accuracy")
    write_manifest(
        colour_bundle, read_manifest(colour_bundle).model_copy(update={"artifacts": (), "not_exported": (refused,)})
    )
    (colour_bundle / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"holds no artifact \(onnx-int8: nothing keeps the accuracy\)"):
        Bundle.open(colour_bundle).artifact()
