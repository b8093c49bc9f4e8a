"""Faults of artifacts of lower precision that were made badly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from benchmarks.faults.fault import NotApplicableError, file_fault, network_fault
from benchmarks.faults.files import only
from benchmarks.faults.surgery import Wrapper, head, middle, replace
from toolkit.backbones.deployable import Deployable

INT8_FILE = "model.int8.onnx"
LARGE = 2.0**15
"""Fits into float16 itself; a logit of 2 or more that is multiplied by it does not."""


def scales_of_activations(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Return the scales that QuantizeLinear divides activations by.

    Raises:
        NotApplicableError: there is none.
    """
    names = {node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    scales = [
        tensor
        for tensor in model.graph.initializer
        if tensor.name in names and tensor.data_type == onnx.TensorProto.FLOAT
    ]
    if not scales:
        raise NotApplicableError("no activation of it is quantised")
    return scales


def change_scales(bundle: Path, which: slice, factor: float) -> None:
    """Multiply the scales of some activations."""
    path = only(bundle, INT8_FILE)
    model = onnx.load_model(path)
    for tensor in scales_of_activations(model)[which]:
        scale = numpy_helper.to_array(tensor) * factor
        tensor.CopyFrom(numpy_helper.from_array(scale.astype(np.float32), tensor.name))
    onnx.save_model(model, path)


ALL = slice(None)
ONE = slice(3, 4)


@file_fault(format="onnx-int8", sealed=True)
def stale_calibration(bundle: Path) -> None:
    """Ranges of activations from other images: a quarter of what they should be."""
    change_scales(bundle, ALL, 0.25)


@file_fault(format="onnx-int8", sealed=True)
def calibration_too_wide(bundle: Path) -> None:
    """Ranges of activations sixteen times too wide."""
    change_scales(bundle, ALL, 16.0)


@file_fault(format="onnx-int8", sealed=True)
def one_stale_range(bundle: Path) -> None:
    """The range of one activation is an eighth of what it should be."""
    change_scales(bundle, ONE, 0.125)


@file_fault(format="onnx-int8", sealed=True)
def one_range_too_wide(bundle: Path) -> None:
    """The range of one activation is 32 times what it should be."""
    change_scales(bundle, ONE, 32.0)


@file_fault(format="onnx-int8", sealed=True)
def int8_channel_zeroed(bundle: Path) -> None:
    """One layer's 8-bit weights are zero."""
    path = only(bundle, INT8_FILE)
    model = onnx.load_model(path)
    weights = [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 4
    ]
    if not weights:
        raise NotApplicableError("no convolution of it is quantised")
    weight = middle(weights)
    weight.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(weight)), weight.name))
    onnx.save_model(model, path)


class Scaled(Wrapper):
    """Multiplies what a layer returns and divides it again: the same function in float32, an overflow in float16."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return what the layer returned before."""
        outputs: torch.Tensor = self.wrapped(features) * LARGE
        return outputs / LARGE


@network_fault(format="onnx-fp16", unmeasured="in float16 only")
def float16_overflow(network: Deployable) -> nn.Module:
    """Logits pass through values beyond the range of float16."""
    name, layer = head(network)
    replace(network, name, Scaled(layer))
    return network
