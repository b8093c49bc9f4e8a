"""Faults that a bundle must show by itself, where neither its run nor PyTorch is at hand.

The digits are grey: their photographs look the same whatever channel is taken for which.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from benchmarks.faults import pixels
from benchmarks.faults.fault import file_fault, network_fault
from benchmarks.faults.files import only
from benchmarks.faults.precision import INT8_FILE
from benchmarks.faults.surgery import Wrapper, layers, middle
from benchmarks.faults.surgery import replace as replace_layer
from toolkit.backbones.deployable import Deployable

channels_exchanged_alone = replace(
    pixels.bgr, name="channels-exchanged-alone", what="red and blue are exchanged where all images are grey", alone=True
)


@file_fault(format="onnx-int8", sealed=True, alone=True)
def int8_channels_exchanged_alone(bundle: Path) -> None:
    """Red and blue are exchanged in an 8-bit file where all images are grey."""
    path = only(bundle, INT8_FILE)
    model = onnx.load_model(path)
    graph, taken = model.graph, model.graph.input[0].name
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name == taken:
                node.input[position] = "exchanged"
    graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0], np.int64), "blue, green, red"))
    graph.node.insert(0, helper.make_node("Gather", [taken, "blue, green, red"], ["exchanged"], axis=3))
    onnx.save_model(model, path)


class RoundedToFloat16(Wrapper):
    """Passes what a layer returns through float16: what a half-converted graph does between two of its nodes."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return what the layer returns, with 11 bits of each value."""
        outputs: torch.Tensor = self.wrapped(features)
        return outputs.half().to(outputs.dtype)


@network_fault(alone=True)
def float16_in_the_middle_alone(network: Deployable) -> nn.Module:
    """The output of one convolution in the middle is cast to float16 and back."""
    name, layer = middle(layers(network, nn.Conv2d))
    replace_layer(network, name, RoundedToFloat16(layer))
    return network
