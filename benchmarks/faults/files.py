"""Faults of a bundle.

Files that were cut, changed, exchanged or added, and artifacts of lower precision that were made badly.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from benchmarks.faults.networks import NotApplicableError, head, layers, replace
from toolkit.backbones.deployable import Deployable
from toolkit.bundle.manifest import MANIFEST_NAME

Break = Callable[[Path], None]
Export = Callable[[nn.Module], onnx.ModelProto]


@dataclass(frozen=True)
class FileFault:
    """One way to break a bundle."""

    name: str
    what: str
    apply: Break
    """Changes files of the folder."""
    artifact: str = "onnx"
    """Format of the artifact that the bundle is left with."""
    sealed: bool = False
    """Whether the manifest is brought up to date afterwards, as if the fault had happened before it was written."""


FAULTS: list[FileFault] = []


def fault(name: str, what: str, artifact: str = "onnx", sealed: bool = False) -> Callable[[Break], Break]:
    """Add a fault to the list."""

    def add(function: Break) -> Break:
        FAULTS.append(FileFault(name, what, function, artifact, sealed))
        return function

    return add


def only(folder: Path, pattern: str) -> Path:
    """Return the one file of a folder that a pattern finds.

    Raises:
        NotApplicableError: there is none, or several.
    """
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise NotApplicableError(f"it has {len(found)} files {pattern}")
    return found[0]


def edit_manifest(folder: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Change the manifest as a text editor would."""
    path = folder / MANIFEST_NAME
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


# --- Transport


@fault("truncated-file", "the last tenth of the artifact is missing")
def _(folder: Path) -> None:
    path = only(folder, "model.onnx")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 9 // 10])


@fault("flipped-byte", "one byte in the middle of the artifact is another")
def _(folder: Path) -> None:
    path = only(folder, "model.onnx")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(bytes(content))


@fault("added-file", "a file that nobody listed lies in the bundle")
def _(folder: Path) -> None:
    (folder / "model2.onnx").write_bytes(only(folder, "model.onnx").read_bytes())


@fault("missing-golden-sample", "a golden sample is missing")
def _(folder: Path) -> None:
    sorted(folder.glob("golden/*.bin"))[0].unlink()


@fault("link", "the artifact is a link to a file elsewhere")
def _(folder: Path) -> None:
    path = only(folder, "model.onnx")
    moved = folder.parent / "elsewhere.onnx"
    path.rename(moved)
    path.symlink_to(moved)


@fault("path-out-of-the-bundle", "the manifest names a file outside")
def _(folder: Path) -> None:
    path = only(folder, "model.onnx")
    path.rename(folder.parent / "outside.onnx")

    def change(manifest: dict[str, object]) -> None:
        manifest["artifacts"][0]["file"] = "../outside.onnx"  # type: ignore[index]  # JSON has no types

    edit_manifest(folder, change)


# --- The manifest


@fault("edited-labels", "two labels are exchanged in the manifest")
def _(folder: Path) -> None:
    def change(manifest: dict[str, object]) -> None:
        labels = manifest["labels"]
        labels[0], labels[1] = labels[1], labels[0]  # type: ignore[index]  # JSON has no types

    edit_manifest(folder, change)


@fault("edited-resize-filter", "the manifest names another resize filter")
def _(folder: Path) -> None:
    def change(manifest: dict[str, object]) -> None:
        manifest["preprocessing"]["interpolation"] = "nearest"  # type: ignore[index]  # JSON has no types

    edit_manifest(folder, change)


@fault("edited-resize", "the manifest asks for a crop instead of a squash")
def _(folder: Path) -> None:
    def change(manifest: dict[str, object]) -> None:
        manifest["preprocessing"]["resize"] = "crop"  # type: ignore[index]  # JSON has no types

    edit_manifest(folder, change)


@fault("edited-normalisation", "the manifest gives another mean than the graph has")
def _(folder: Path) -> None:
    def change(manifest: dict[str, object]) -> None:
        normalization = manifest["input"]["normalization"]  # type: ignore[index]  # JSON has no types
        normalization["mean"] = [value + 0.05 for value in normalization["mean"]]

    edit_manifest(folder, change)


@fault("edited-hash", "the manifest gives another SHA-256")
def _(folder: Path) -> None:
    def change(manifest: dict[str, object]) -> None:
        manifest["artifacts"][0]["sha256"] = "0" * 64  # type: ignore[index]  # JSON has no types

    edit_manifest(folder, change)


# --- Lower precision


def scales_of_activations(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Return the scales that QuantizeLinear divides activations by.

    Raises:
        NotApplicableError: there is none.
    """
    names = {node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    found = [
        tensor
        for tensor in model.graph.initializer
        if tensor.name in names and tensor.data_type == onnx.TensorProto.FLOAT
    ]
    if not found:
        raise NotApplicableError("no activation of it is quantised")
    return found


def change_scales(folder: Path, tensors: slice, factor: float) -> None:
    """Multiply the scales of some activations."""
    path = only(folder, "model.int8.onnx")
    model = onnx.load_model(path)
    for tensor in scales_of_activations(model)[tensors]:
        tensor.CopyFrom(
            numpy_helper.from_array((numpy_helper.to_array(tensor) * factor).astype(np.float32), tensor.name)
        )
    onnx.save_model(model, path)


@fault(
    "stale-calibration",
    "ranges of activations from other images: a quarter of what they should be",
    artifact="onnx-int8",
    sealed=True,
)
def _(folder: Path) -> None:
    change_scales(folder, slice(None), 0.25)


@fault("calibration-too-wide", "ranges of activations sixteen times too wide", artifact="onnx-int8", sealed=True)
def _(folder: Path) -> None:
    change_scales(folder, slice(None), 16.0)


@fault(
    "one-stale-range",
    "the range of one activation is an eighth of what it should be",
    artifact="onnx-int8",
    sealed=True,
)
def _(folder: Path) -> None:
    change_scales(folder, slice(3, 4), 0.125)


@fault(
    "one-range-too-wide", "the range of one activation is 32 times what it should be", artifact="onnx-int8", sealed=True
)
def _(folder: Path) -> None:
    change_scales(folder, slice(3, 4), 32.0)


@fault("int8-channel-zeroed", "one layer's 8-bit weights are zero", artifact="onnx-int8", sealed=True)
def _(folder: Path) -> None:
    path = only(folder, "model.int8.onnx")
    model = onnx.load_model(path)
    weights = [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 4
    ]
    if not weights:
        raise NotApplicableError("no convolution of it is quantised")
    middle = weights[len(weights) // 2]
    middle.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(middle)), middle.name))
    onnx.save_model(model, path)


LARGE = 2.0**15
"""Fits into float16 itself; a logit of 2 or more that is multiplied by it does not."""


class _Scaled(nn.Module):
    """Multiplies what a layer returns and divides it again: the same function in float32, an overflow in float16."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return what the layer returned before."""
        made: torch.Tensor = self.layer(features) * LARGE
        return made / LARGE


def overflowing(network: Deployable) -> nn.Module:
    """Return a network that is right in float32 and overflows in float16."""
    layer = head(network)
    name = next(name for name, module in layers(network, nn.Linear) if module is layer)
    replace(network, name, _Scaled(layer))
    return network
