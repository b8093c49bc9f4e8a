from __future__ import annotations

import logging
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from toolkit.backbones.deployable import Deployable
from toolkit.bundle.content import Content
from toolkit.bundle.manifest import Normalization
from toolkit.errors import ExportError
from toolkit.formats import onnx as onnx_module
from toolkit.formats.base import ExportRequest
from toolkit.formats.onnx import OnnxFormat, open_session

REQUEST = ExportRequest("images", ("logits", "probabilities"), {"toolkit.run": "test"}, opset=18)
SAMPLE = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)


def deployable() -> Deployable:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return Deployable(model, Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))


@pytest.mark.parametrize("opset", [18, 20, 21])
def test_the_file_has_the_opset_that_was_asked_for(tmp_path: Path, opset: int) -> None:
    request = ExportRequest("images", ("logits", "probabilities"), {}, opset)
    OnnxFormat().export(deployable(), SAMPLE, tmp_path / "model.onnx", request, None)
    assert OnnxFormat().facts(tmp_path / "model.onnx").opset == opset


def test_no_path_of_the_exporting_machine_stays_in_the_file(tmp_path: Path) -> None:
    OnnxFormat().export(deployable(), SAMPLE, tmp_path / "model.onnx", REQUEST, None)
    content = (tmp_path / "model.onnx").read_bytes()
    assert b"site-packages" not in content
    assert str(Path(__file__).parent).encode() not in content
    assert b"name_scopes" in content


def altered(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Make the exporter do something else than it was asked, without saying so."""
    real = torch.onnx.export

    def export(*arguments: Any, **options: Any) -> Any:
        program = real(*arguments, **options)
        model = program.model_proto
        change(model)
        return types.SimpleNamespace(model_proto=model)

    monkeypatch.setattr(torch.onnx, "export", export)


def fixed_batch(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2


def other_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 20


def other_output(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.output[:] = ["scores" if name == "logits" else name for name in node.output]
        node.input[:] = ["scores" if name == "logits" else name for name in node.input]
    model.graph.output[0].name = "scores"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (fixed_batch, r"input images is uint8 \[2, 8, 8, 3\] instead of uint8 \['N', 8, 8, 3\]"),
        (other_opset, "opset 20 instead of 18"),
        (other_output, "outputs scores, probabilities instead of logits, probabilities"),
    ],
)
def test_a_request_that_the_exporter_ignored_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, sentence: str
) -> None:
    altered(monkeypatch, change)
    with pytest.raises(ExportError, match=sentence):
        OnnxFormat().export(deployable(), SAMPLE, tmp_path / "model.onnx", REQUEST, None)


def test_a_network_beyond_the_limit_of_one_file_says_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_module, "PROTOBUF_LIMIT", 100)
    with pytest.raises(ExportError, match=r"one ONNX file holds at most 2.1 GB"):
        OnnxFormat().export(deployable(), SAMPLE, tmp_path / "model.onnx", REQUEST, None)


@pytest.mark.parametrize(
    ("device", "provider", "options"),
    [
        ("cpu", "CPUExecutionProvider", {}),
        ("cuda", "CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}),
    ],
)
def test_float32_is_computed_in_float32_on_every_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, provider: str, options: dict[str, str]
) -> None:
    """Providers compute float32 convolutions in TF32 on CUDA unless they are told not to."""
    asked: dict[str, object] = {}

    def open_with(path: str, session_options: object, **given: object) -> object:
        asked.update(given)
        return types.SimpleNamespace(get_providers=lambda: [provider])

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_with)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [provider])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    open_session(tmp_path / "model.onnx", device, 1)
    assert asked == {"providers": [provider], "provider_options": [options]}


class Pooled(nn.Module):
    """Pools in all the ways there are: as a module, by function, to one place and to several."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.squeeze, self.grid = nn.AdaptiveAvgPool2d((1, 1)), nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(24, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.convolution(x)
        x = x * self.squeeze(x).sigmoid()
        pooled = [self.squeeze(x), nn.functional.adaptive_avg_pool2d(x, output_size=1), self.grid(x)]
        return self.head(torch.cat([value.flatten(1) for value in pooled], dim=1))


def test_global_pooling_of_the_permuted_pixels_leaves_no_chain_of_indices(tmp_path: Path) -> None:
    network = Deployable(Pooled(), Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    OnnxFormat().export(network, SAMPLE, tmp_path / "model.onnx", REQUEST, None)
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert {node.op_type for node in graph.node} & {"Shape", "Range", "Gather", "GatherND", "Expand"} == set()
    pixels = torch.randint(0, 256, (5, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    logits = open_session(tmp_path / "model.onnx", "cpu", 1).run(["logits"], {"images": pixels.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(logits), network(pixels)[0].detach(), atol=1e-5, rtol=0)


def test_a_failure_names_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def export(*_: Any, **__: Any) -> None:
        failure = RuntimeError("Failed to convert. \x1b[96mThis is step 3/3\x1b[0m of exporting. Next steps:")
        raise failure from AssertionError("only 4D query, key, and value are supported")

    monkeypatch.setattr(torch.onnx, "export", export)
    with pytest.raises(ExportError, match=r"network: AssertionError: only 4D query, key, and value are supported$"):
        OnnxFormat().export(deployable(), SAMPLE, tmp_path / "model.onnx", REQUEST, None)


def test_the_exporters_own_loggers_do_not_reach_the_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real, logger, heard = torch.onnx.export, logging.getLogger("onnxscript.optimizer"), []

    def export(*arguments: Any, **options: Any) -> Any:
        heard.append(logger.isEnabledFor(logging.ERROR))
        return real(*arguments, **options)

    monkeypatch.setattr(torch.onnx, "export", export)
    OnnxFormat().export(deployable(), SAMPLE, tmp_path / "model.onnx", REQUEST, None)
    assert heard == [False]
    assert logger.isEnabledFor(logging.ERROR)


class Binding:
    """Notes what is bound and when the device is waited for."""

    def __init__(self) -> None:
        self.log: list[object] = []

    def bind_ortvalue_input(self, name: str, value: object) -> None:
        self.log.append((name, value))

    def bind_output(self, name: str, device: str, number: int) -> None:
        self.log.append((name, device, number))

    def synchronize_outputs(self) -> None:
        self.log.append("waited")


@pytest.mark.parametrize(("asked", "index"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_on_a_gpu_one_call_has_its_input_there_and_leaves_its_outputs_there(
    monkeypatch: pytest.MonkeyPatch, asked: str, index: int
) -> None:
    binding = Binding()
    values = [types.SimpleNamespace(name=name, type="tensor(float)", shape=["N", 3]) for name in ("x", "y", "z")]
    engine = types.SimpleNamespace(
        get_inputs=lambda: values[:1],
        get_outputs=lambda: values[1:],
        get_modelmeta=lambda: types.SimpleNamespace(custom_metadata_map={}),
        get_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        get_provider_options=lambda: {"CUDAExecutionProvider": {"use_tf32": "0"}},
        io_binding=lambda: binding,
        run_with_iobinding=lambda bound: binding.log.append("ran" if bound is binding else "ran another"),
    )
    monkeypatch.setattr(onnx_module, "open_session", lambda *given: engine)
    copied = types.SimpleNamespace(ortvalue_from_numpy=lambda array, device, number: (array.shape, device, number))
    monkeypatch.setattr(onnxruntime, "OrtValue", copied)
    session = onnx_module.OnnxSession(Content(Path("model.onnx"), "model.onnx", {"model.onnx": b""}), asked, 1)
    assert (session.provider, session.tf32) == ("CUDAExecutionProvider", False)
    call = session.on_device(np.zeros((2, 3), np.float32))
    assert binding.log == [("x", ((2, 3), "cuda", index)), ("y", "cuda", index), ("z", "cuda", index)]
    binding.log.clear()
    call()
    call()
    assert binding.log == ["ran", "waited"] * 2


@pytest.mark.parametrize(("options", "said"), [({"use_tf32": "1"}, True), ({"use_tf32": "0"}, False), ({}, None)])
def test_whether_it_computes_in_tf32_is_what_the_engine_says(options: dict[str, str], said: bool | None) -> None:
    engine = types.SimpleNamespace(get_provider_options=lambda: {"CUDAExecutionProvider": options})
    assert onnx_module._uses_tf32(engine) is said
