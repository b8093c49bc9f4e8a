"""The frozen prefix of a network, run by the fastest engine at hand.

Our own ONNX export of it in onnxruntime on a CPU, PyTorch on CUDA.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from toolkit.backbones.frontier import Division
from toolkit.bundle.manifest import Normalization
from toolkit.errors import ToolkitError, first_line
from toolkit.formats.onnx import engine_name, open_session, run_options, to_onnx
from toolkit.training.setting import Setting

Arrays = list[npt.NDArray[np.float32]]


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

        The graph, and every weight and buffer in it.
        """
        whole = hashlib.sha256(str(self.frozen.graph).encode())
        for name, tensor in sorted(self.state_dict().items()):
            whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            whole.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return whole.hexdigest()


class OnnxPrefix:
    """The prefix exported to ONNX and run by onnxruntime on the CPU."""

    def __init__(self, network: nn.Module, image_size: int, threads: int) -> None:
        """Export and open.

        Raises:
            ToolkitError: the exporter or onnxruntime refuses the prefix.
        """
        import onnx

        sample = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)
        with torch.inference_mode():
            self._names = [f"frontier_{index}" for index in range(len(network(sample)))]
        model = to_onnx(network, sample, "images", self._names)
        with tempfile.TemporaryDirectory(prefix="toolkit-prefix-") as folder:
            path = Path(folder) / "prefix.onnx"
            onnx.save_model(model, path)
            self._session = open_session(path, "cpu", threads)
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


def make_prefix(network: nn.Module, setting: Setting) -> Prefix:
    """Return the fastest engine that can run a prefix here: uint8 images in, a tuple of tensors out.

    Onnxruntime on a CPU, PyTorch where that refuses it and on CUDA.
    """
    if setting.device.type == "cuda":
        return TorchPrefix(network, setting.device, setting.precision.narrow)
    try:
        return OnnxPrefix(network, setting.preprocessing.height, setting.threads)
    except ToolkitError as error:
        setting.reporter.line(
            f"the frozen part runs in PyTorch, because onnxruntime cannot run it ({first_line(error)})"
        )
        return TorchPrefix(network, setting.device, None)
