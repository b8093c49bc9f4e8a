from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from tests.bundles import content_of
from toolkit.backbones.deployable import Deployable
from toolkit.bundle.content import Content
from toolkit.bundle.manifest import Normalization
from toolkit.errors import BundleError, DeviceError, ExportError, MissingDependencyError
from toolkit.formats import openvino
from toolkit.formats.base import ExportRequest, Facts
from toolkit.formats.openvino import OpenVinoFormat

REQUEST = ExportRequest("images", ("logits", "probabilities"), {"toolkit.labels": '["ä", "猫"]'})
SAMPLE = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert "openvino is not installed" in str(OpenVinoFormat().unavailable())
    with pytest.raises(MissingDependencyError, match="openvino is not installed"):
        OpenVinoFormat().open(content_of(tmp_path / "model.xml"), "cpu", 1)


needs_openvino = pytest.mark.skipif(
    OpenVinoFormat().unavailable() is not None, reason=str(OpenVinoFormat().unavailable())
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    deployable = Deployable(model, Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))).eval()
    path = tmp_path_factory.mktemp("openvino") / "model.openvino.xml"
    exported = OpenVinoFormat().export(deployable, SAMPLE, path, REQUEST, None)
    assert exported.further_files == (path.with_suffix(".bin"),)
    return path


@needs_openvino
def test_the_facts_are_read_from_the_file(file: Path) -> None:
    facts = OpenVinoFormat().facts(file)
    assert facts.inputs == {"images": ("uint8", ("N", 8, 8, 3))}
    assert facts.outputs == {name: ("float32", ("N", 3)) for name in ("logits", "probabilities")}
    assert facts.metadata == REQUEST.metadata


@needs_openvino
def test_weights_are_not_rounded_to_float16(file: Path) -> None:
    assert b'"f16"' not in file.read_bytes()


@needs_openvino
def test_a_gpu_is_refused_with_what_it_runs_on(file: Path) -> None:
    with pytest.raises(DeviceError, match="OpenVINO cannot run on 'cuda'"):
        OpenVinoFormat().open(content_of(file), "cuda", 1)


@needs_openvino
def test_outputs_are_not_memory_that_the_next_call_writes_into(file: Path) -> None:
    session = OpenVinoFormat().open(content_of(file), "cpu", 1)
    first = session.run(np.zeros((2, 8, 8, 3), np.uint8))["logits"]
    kept = first.copy()
    session.run(np.full((2, 8, 8, 3), 255, np.uint8))
    np.testing.assert_array_equal(first, kept)


@needs_openvino
def test_a_network_that_openvino_does_not_know_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Foreign(openvino.OnnxFormat):
        def export(self, deployable: nn.Module, sample: torch.Tensor, path: Path, *_: object) -> None:
            ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
            node = onnx.helper.make_node("Unheard", ["x"], ["y"], domain="com.nobody")
            onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", ends[:1], ends[1:])), path)

    monkeypatch.setattr(openvino, "OnnxFormat", Foreign)
    root = logging.getLogger()
    before = (root.level, list(root.filters), list(root.handlers))
    with pytest.raises(ExportError, match="OpenVINO cannot convert this network"):
        OpenVinoFormat().export(nn.Identity(), SAMPLE, tmp_path / "model.xml", REQUEST, None)
    assert (root.level, root.filters, root.handlers) == before  # OpenVINO's converter leaves others where it fails


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"inputs": {"images": ("float32", ("N", 8, 8, 3))}}, "inputs"),
        ({"inputs": {"images": ("uint8", (2, 8, 8, 3))}}, "inputs"),
        ({"outputs": {"logits": ("float32", ("N", 3))}}, "outputs"),
        ({"outputs": {name: ("float16", ("N", 3)) for name in REQUEST.output_names}}, "outputs"),
        ({"metadata": {}}, "metadata not stored"),
    ],
)
def test_files_that_are_not_what_was_asked_for_are_an_error(facts: dict[str, object], problem: str) -> None:
    right = {
        "inputs": {"images": ("uint8", ("N", 8, 8, 3))},
        "outputs": {name: ("float32", ("N", 3)) for name in REQUEST.output_names},
        "metadata": REQUEST.metadata,
    }
    openvino._require(Facts("test", **right), REQUEST, SAMPLE)
    with pytest.raises(ExportError, match=f"OpenVINO made something else than was asked for: {problem}"):
        openvino._require(Facts("test", **{**right, **facts}), REQUEST, SAMPLE)


@needs_openvino
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda xml: b"\x08\x0a", "it is not the XML of an OpenVINO IR"),
        (
            lambda xml: xml.replace(b"<net", b'<!DOCTYPE net [<!ENTITY x SYSTEM "/etc/passwd">]><net', 1),
            "it is not the XML",
        ),
        (lambda xml: re.sub(rb'type="Softmax"', b'type="Evil"', re.sub(rb'type="SoftMax"', b'type="Evil"', xml)), "."),
        (lambda xml: re.sub(rb'offset="\d+"', b'offset="99999999"', xml), "."),
        (lambda xml: re.sub(rb'offset="\d+"', b'offset="18446744073709551600"', xml), "."),
        (lambda xml: re.sub(rb' size="\d+"', b' size="9999999999"', xml), "."),
        (lambda xml: xml[:700], "."),
        (lambda xml: b"<a>" * 100_000, "."),
    ],
    ids=["ONNX", "entity", "unknown operator", "offset", "huge offset", "size", "cut", "deep"],
)
def test_a_description_that_is_none_of_ours_is_one_sentence(
    file: Path, change: Callable[[bytes], bytes], said: str
) -> None:
    content = content_of(file)
    changed = Content(content.where, content.name, {**content.files, content.name: change(content.main)})
    with pytest.raises(BundleError, match=rf"OpenVINO refuses .*model\.openvino\.xml: .*{said}"):
        OpenVinoFormat().open(changed, "cpu", 1)
