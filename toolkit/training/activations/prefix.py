"""The frozen prefix of a network, run by the fastest engine at hand.

Our own ONNX export of it in onnxruntime on a CPU, PyTorch on CUDA and where it has little to compute.
"""

from __future__ import annotations

import itertools
import platform
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import toolkit
from toolkit import provenance
from toolkit.backbones.frontier import Division
from toolkit.bundle.manifest import Normalization
from toolkit.data import SPLITS
from toolkit.errors import BundleError, ToolkitError, first_line
from toolkit.formats.onnx import engine_name, open_session, run_options, to_onnx
from toolkit.training.activations import digests
from toolkit.training.activations.catalogue import PrefixKey, prefix_root
from toolkit.training.activations.kept_prefix import KeptPrefix
from toolkit.training.depthwise import instruction_set
from toolkit.training.setting import Setting

Arrays = list[npt.NDArray[np.float32]]
PACKAGES = ("torch", "torchvision", "timm", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "onnxruntime-gpu")
"""What builds networks, exports them and runs what was exported, on PyPI."""
LITTLE_WORK = 200e9
"""Multiply-adds up to which PyTorch computes the frozen part on a CPU too. To export EfficientNet-Lite0's takes 6 s; on
one core of an AMD EPYC, held to AVX2, onnxruntime computes 60 billion a second and PyTorch 21 billion, so that the
export has paid for itself after 200 billion."""


class Prefix(Protocol):
    """Computes the tensors of a ``Division`` from prepared images."""

    engine: str
    """Name and version of what computes."""

    def run(self, images: npt.NDArray[np.uint8], wanted: Sequence[int]) -> Arrays:
        """Return float32 ``[n, *stored_shape]`` for each wanted tensor of the division, of uint8 ``[n, H, W, 3]``."""


def stored_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape in which a tensor is kept.

    Feature maps ``[C, H, W]`` channels last, which is what the suffix computes in.
    """
    return (*shape[1:], shape[0]) if len(shape) == 3 else shape


def from_stored(array: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """Return stored rows as the float32 tensor that the suffix takes.

    A feature map is ``[N, C, H, W]`` in channels-last memory.
    """
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory().to(device, non_blocking=True)
    tensor = tensor.float()
    return tensor.permute(0, 3, 1, 2) if tensor.dim() == 4 else tensor


class PrefixNetwork(nn.Module):
    """A prefix with the normalisation before it and the stored layout behind it."""

    offset: torch.Tensor
    scale: torch.Tensor

    def __init__(self, division: Division, normalization: Normalization) -> None:
        super().__init__()
        self.frozen = division.prefix
        self.register_buffer("offset", torch.tensor(normalization.mean, dtype=torch.float32).view(1, 3, 1, 1) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(normalization.std, dtype=torch.float32).view(1, 3, 1, 1) * 255))
        self.eval()

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the tensors for uint8 ``[N, H, W, 3]``."""
        normalised = (images.permute(0, 3, 1, 2).to(self.offset.dtype) - self.offset) * self.scale
        tensors: tuple[torch.Tensor, ...] = self.frozen(normalised)
        return tuple(tensor.permute(0, 2, 3, 1).contiguous() if tensor.dim() == 4 else tensor for tensor in tensors)

    def digest(self) -> str:
        """Return the SHA-256 of everything that decides what is computed.

        The graph, every weight and buffer in it, and how each module is set.
        """
        parts = itertools.chain((str(self.frozen.graph),), digests.weights(self), digests.settings(self.frozen))
        return digests.sha256_of(parts)


def export_prefix(network: nn.Module, image_size: int) -> bytes:
    """Return an ONNX file of a network that takes uint8 ``[N, H, W, 3]`` and returns a tuple of tensors.

    Raises:
        ToolkitError: the exporter refuses it.
    """
    sample = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)
    with torch.inference_mode():
        names = [f"frontier_{index}" for index in range(len(network(sample)))]
    model: bytes = to_onnx(network, sample, "images", names).SerializeToString()
    return model


class OnnxPrefix:
    """The prefix exported to ONNX and run by onnxruntime on the CPU."""

    def __init__(self, model: bytes, threads: int) -> None:
        """Open what ``export_prefix`` returned.

        Raises:
            ToolkitError: onnxruntime refuses it.
        """
        self._session = open_session(model, "cpu", threads)
        self._names = [output.name for output in self._session.get_outputs()]
        self._run_options = run_options()
        self._run_options.only_execute_path_to_fetches = True
        self.engine = engine_name()

    def run(self, images: npt.NDArray[np.uint8], wanted: Sequence[int]) -> Arrays:
        """See ``Prefix``; what leads to other tensors only is not computed."""
        outputs: Arrays = self._session.run(
            [self._names[index] for index in wanted], {"images": images}, self._run_options
        )
        return outputs


class TorchPrefix:
    """The prefix in PyTorch: channels-last, and under autocast on CUDA."""

    def __init__(self, network: nn.Module, device: torch.device, autocast: torch.dtype | None) -> None:
        self.engine = f"torch {torch.__version__} on {device.type}" + (f" in {autocast}" if autocast else "")
        self._network = network.to(device).to(memory_format=torch.channels_last)
        self._device = device
        self._autocast = autocast

    def run(self, images: npt.NDArray[np.uint8], wanted: Sequence[int]) -> Arrays:
        """See ``Prefix``; the copy back to the host waits for the device."""
        # It shares its modules with the network, which training puts into training mode.
        self._network.eval()
        batch = torch.from_numpy(images)
        if self._device.type == "cuda":
            batch = batch.pin_memory().to(self._device, non_blocking=True)
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, dtype=self._autocast, enabled=self._autocast is not None),
        ):
            tensors = self._network(batch)
            return [tensors[index].float().cpu().numpy() for index in wanted]


def look_up(setting: Setting, network: nn.Module, weights_sha256: str, division: Sequence[str] = ()) -> KeptPrefix:
    """Look for what an earlier run has exported of a network.

    Args:
        setting: the run.
        network: what is to be exported.
        weights_sha256: of its weights.
        division: what decides how it was cut from a whole network; empty for one that was not.
    """
    parts = (weights_sha256, *digests.settings(network), *digests.code(network))
    key = PrefixKey(
        network_sha256=digests.sha256_of(parts),
        division_sha256=digests.sha256_of(division) if division else "",
        image_size=(setting.preprocessing.height, setting.preprocessing.width),
        packages=tuple(provenance.package_versions(PACKAGES).items()),
        processor=f"{platform.machine()} {instruction_set()}",
        toolkit=toolkit.__version__,
    )
    return KeptPrefix(prefix_root(), key)


def make_prefix(network: nn.Module, setting: Setting, kept: KeptPrefix) -> Prefix:
    """Return the fastest engine that can run a prefix here: uint8 images in, a tuple of tensors out.

    Onnxruntime on a CPU; PyTorch where that refuses it, on CUDA, and where an export would cost more than it saves.

    Args:
        network: the prefix.
        setting: the run.
        kept: what ``look_up`` found of it; what is exported is put there.
    """
    if setting.device.type == "cuda":
        return TorchPrefix(network, setting.device, setting.precision.narrow)
    if multiply_adds(network, setting) <= LITTLE_WORK:
        return TorchPrefix(network, setting.device, None)
    try:
        return _onnx_prefix(network, setting, kept)
    except ToolkitError as error:
        setting.reporter.line(
            f"the frozen part runs in PyTorch, because onnxruntime cannot run it ({first_line(error)})"
        )
        return TorchPrefix(network, setting.device, None)


def multiply_adds(network: nn.Module, setting: Setting) -> float:
    """Return those that all passes of a run over its images take, of convolutions and matrix products.

    Shapes and counts alone decide it: whatever is kept from other runs, a run takes the same engine each time.
    """
    sample = torch.zeros(1, setting.preprocessing.height, setting.preprocessing.width, 3, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(sample)
    train, validation, test = (len(setting.dataset.split(name)) for name in SPLITS)
    _, last = setting.recipe.stages[-1]
    drawn_anew = setting.recipe.cache.new_views(train) * last.epochs
    # The test images are looked at twice: for wrong labels, and in the end.
    return float(counter.get_total_flops()) / 2 * (train * setting.views + drawn_anew + validation + 2 * test)


def _onnx_prefix(network: nn.Module, setting: Setting, kept: KeptPrefix) -> OnnxPrefix:
    if kept.model is not None:
        try:
            return OnnxPrefix(kept.model, setting.threads)
        except BundleError as error:
            kept.discard(first_line(error))
    model = export_prefix(network, setting.preprocessing.height)
    # Opened from the same bytes as every later run opens it: they compute the same, bit for bit.
    prefix = OnnxPrefix(model, setting.threads)
    kept.keep(model)
    return prefix
