"""Exporting a broken network as the right one was."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import torch

from benchmarks.faults.fault import NetworkFault
from benchmarks.harness.errors import BenchmarkError
from toolkit.backbones.deployable import Deployable
from toolkit.bundle.folder import read_manifest
from toolkit.bundle.manifest import Manifest
from toolkit.formats.base import ExportRequest
from toolkit.formats.half import to_float16
from toolkit.formats.onnx import save_checked
from toolkit.formats.onnx_graph import name_nodes, outside_layers
from toolkit.formats.registry import get_format
from toolkit.verify.expected import metadata_of

OUTPUTS = ("logits", "probabilities")


class CapturedGraph:
    """Exports networks that differ from the right one in weights alone.

    It is captured once, which is most of the time of an export.
    """

    def __init__(self, right: Deployable, request: ExportRequest, sample: torch.Tensor) -> None:
        """Capture the right network as ``torch.onnx.export`` does before it optimises the graph."""
        self._right, self._request, self._sample = right, request, sample
        shapes = ({0: torch.export.Dim("N")},)
        names: dict[str, Any] = {
            "input_names": [self._request.input_name],
            "output_names": list(OUTPUTS),
            "opset_version": self._request.opset,
        }
        program = torch.onnx.export(
            right, (self._sample,), dynamo=True, dynamic_shapes=shapes, optimize=False, verbose=False, **names
        )
        if program is None:
            raise BenchmarkError("torch.onnx.export returned no program.")
        self._captured = program.model_proto
        self._stored = {tensor.name for tensor in self._captured.graph.initializer}

    def suffice(self, broken: torch.nn.Module) -> bool:
        """Return whether a network has the layers of the right one, and weights the graph stores under their names."""
        if _layers_of(broken) != _layers_of(self._right):
            return False
        weights = broken.state_dict()
        return {
            name for name, tensor in self._right.state_dict().items() if not torch.equal(tensor, weights[name])
        } <= self._stored

    def export(self, broken: torch.nn.Module, path: Path) -> None:
        """Put the weights of a network into the captured graph, optimise it as the exporter does, and save it."""
        program = torch.onnx.ONNXProgram(onnx_ir.from_proto(self._captured), None)
        program.apply_weights({name: tensor for name, tensor in broken.state_dict().items() if name in self._stored})
        program.optimize()
        save_checked(program.model_proto, path, self._request, self._sample)


def _layers_of(network: torch.nn.Module) -> list[tuple[str, type, str]]:
    return [(name, type(module), module.extra_repr()) for name, module in network.named_modules()]


def request_of(manifest: Manifest) -> ExportRequest:
    """Return what the first artifact of a bundle was exported by."""
    return ExportRequest(manifest.input.name, OUTPUTS, metadata_of(manifest), manifest.artifacts[0].opset)


def sample_of(manifest: Manifest) -> torch.Tensor:
    """Return two black images."""
    return torch.from_numpy(np.zeros((2, *manifest.input.shape[1:]), np.uint8))


class Exporter:
    """Puts broken networks into the place of the one artifact of a bundle."""

    def __init__(self, right: Deployable, bundle: Path) -> None:
        """Take the right network, and the bundle that it was exported to."""
        self._right, self._bundle = right, bundle

    @cached_property
    def _captured(self) -> CapturedGraph:
        manifest = read_manifest(self._bundle)
        return CapturedGraph(self._right, request_of(manifest), sample_of(manifest))

    def export(self, broken: torch.nn.Module, fault: NetworkFault, bundle: Path) -> None:
        """Write the broken network over the artifact of a copy of the bundle."""
        manifest = read_manifest(bundle)
        path = bundle / manifest.artifacts[0].file
        if fault.format == "onnx-fp16":
            export_as("onnx", broken, path, manifest)
            convert_whole(path)
        elif fault.fixed_batch is not None:
            export_fixed(fault.fixed_batch, broken, path, manifest)
        elif fault.format == "onnx" and self._captured.suffice(broken):
            self._captured.export(broken, path)
        else:
            export_as(fault.format, broken, path, manifest)


def export_as(format_name: str, broken: torch.nn.Module, path: Path, manifest: Manifest) -> None:
    """Export as toolkit does."""
    get_format(format_name).export(broken, sample_of(manifest), path, request_of(manifest), None)


def convert_whole(path: Path) -> None:
    """Convert an ONNX file to float16 without looking for what overflows in it."""
    model = onnx.load_model(path)
    name_nodes(model)
    # Everything that toolkit keeps in float32 in a right export stays so here, too.
    softmax = {node.name for node in model.graph.node if node.op_type == "Softmax"}
    onnx.save_model(to_float16(model, outside_layers(model.graph) | softmax), path)


def export_fixed(batch: int, broken: torch.nn.Module, path: Path, manifest: Manifest) -> None:
    """Export for one batch size, as a script without ``dynamic_shapes`` does."""
    sample = sample_of(manifest)[:1].repeat(batch, 1, 1, 1)
    program = torch.onnx.export(
        broken, (sample,), dynamo=True, input_names=[manifest.input.name], output_names=list(OUTPUTS), verbose=False
    )
    if program is None:
        raise BenchmarkError("torch.onnx.export returned no program.")
    model = program.model_proto
    onnx.helper.set_model_props(model, metadata_of(manifest))
    onnx.save_model(model, path)
