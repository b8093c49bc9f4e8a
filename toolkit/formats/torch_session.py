"""What the formats that run inside PyTorch share: how they are exported, and one loaded module behind a ``Session``."""

from __future__ import annotations

import contextlib
import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from toolkit.bundle.content import Content
from toolkit.bundle.manifest import Portability
from toolkit.dependencies import import_optional, why_not
from toolkit.devices import DEVICE_NAMES, is_device, require_cuda_device
from toolkit.distribution import install_hint
from toolkit.errors import DeviceError, ExportError
from toolkit.formats.base import Calibration, Exported, ExportRequest, Format, Session

if TYPE_CHECKING:
    import torch

Module = Callable[..., Any]
"""Takes one tensor, returns ``(logits, probabilities)``."""


class TorchFormat(Format):
    """A float32 format that PyTorch writes and opens."""

    precision = "float32"
    engine = "torch"
    portability: Portability = "any"
    """Where its artifacts can be used."""
    saver: str
    """What writes the file, for messages."""

    def unavailable(self) -> str | None:
        """Say whether torch is missing."""
        return torch_is_missing()

    @abstractmethod
    def save(self, deployable: torch.nn.Module, sample: torch.Tensor, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the network with its metadata.

        Raises:
            ExportError: PyTorch cannot export it.
        """

    def export(
        self,
        deployable: torch.nn.Module,
        sample: torch.Tensor,
        path: Path,
        request: ExportRequest,
        calibration: Calibration | None,
    ) -> Exported:
        """Save, then check the file, also at other batch sizes than it was captured with."""
        del calibration
        import torch

        self.save(deployable, sample, path, request.metadata)
        if dict(self.facts(path).metadata) != dict(request.metadata):
            raise ExportError(f"{self.saver} did not store the metadata that was asked for.")
        require_any_batch(self.open(Content.of(path), "cpu", torch.get_num_threads()), sample, request)
        return Exported(portability=self.portability)


class ModuleSession:
    """A module that was loaded into PyTorch (see ``formats.base.Session``)."""

    def __init__(self, module: Module, kind: str, device: str, threads: int) -> None:
        """Keep the module.

        Args:
            module: on ``device``, in inference mode.
            kind: what it is, e.g. ``TorchScript``.
            device: ``cpu``, ``cuda`` or ``cuda:N``.
            threads: CPU threads for one call.
        """
        import torch

        self.device = device
        self.threads = threads
        self.engine = f"torch {torch.__version__} ({kind})"
        self.provider = device_name(device)
        self._module = module

    @property
    def tf32(self) -> bool | None:
        """Whether float32 products may be computed in TF32; None on the CPU."""
        return uses_tf32(self.device)

    def run(self, inputs: npt.NDArray[np.generic]) -> dict[str, npt.NDArray[np.float32]]:
        """Run one batch; the copy back to the host waits for the device."""
        import torch

        with torch_threads(self.threads), torch.inference_mode():
            logits, probabilities = self._module(torch.from_numpy(np.ascontiguousarray(inputs)).to(self.device))
            return {"logits": logits.cpu().numpy(), "probabilities": probabilities.cpu().numpy()}

    def on_device(self, inputs: npt.NDArray[np.generic]) -> Callable[[], float]:
        """Return one call with everything on the GPU (see ``formats.base.Session``)."""
        return call_on_device(self._module, inputs, self.device, self.threads)


def device_name(device: str) -> str:
    """Return the device as PyTorch calls it, on CUDA with the name of the card."""
    import torch

    return device if device == "cpu" else f"{device}: {torch.cuda.get_device_name(device)}"


def uses_tf32(device: str) -> bool | None:
    """Say whether this process may compute float32 products in TF32 now; None on the CPU."""
    import torch

    if device == "cpu":
        return None
    return bool(torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)


def call_on_device(module: Module, inputs: npt.NDArray[np.generic], device: str, threads: int) -> Callable[[], float]:
    """Copy a batch to the GPU and return one call of a module on it.

    The call waits for the GPU and returns the seconds between two CUDA events around it; its outputs stay on the GPU.

    Args:
        module: on a GPU, in inference mode.
        inputs: the batch, on the host.
        device: the GPU, ``cuda`` or ``cuda:N``.
        threads: CPU threads for one call.
    """
    import torch

    batch = torch.from_numpy(np.ascontiguousarray(inputs)).to(device)
    event: Any = torch.cuda.Event  # without type information
    first, last = (event(enable_timing=True) for _ in range(2))

    def call() -> float:
        # Events are recorded where the current device computes, which is the first one unless somebody says.
        with torch_threads(threads), torch.inference_mode(), torch.cuda.device(device):
            first.record()
            module(batch)
            last.record()
            torch.cuda.synchronize(device)
        return float(first.elapsed_time(last)) / 1000  # milliseconds

    return call


class _Blocks:
    """The blocks of ``torch_threads`` that run in this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running = 0
        self.outside = 1
        """PyTorch's number of threads outside all of them."""
        self.here = threading.local()
        """``inside``: whether the calling thread is in one."""


_blocks = _Blocks()


def _start_anew() -> None:
    """In a forked process: another thread may have held the lock, and its blocks never end here."""
    global _blocks
    _blocks = _Blocks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Use this many intra-op threads inside the block.

    PyTorch keeps the number per calling thread, and once more for threads to come. Blocks may run in several threads at
    once: each computes with its own number, and what was there before the first of them is there after the last.
    """
    import torch

    blocks = _blocks
    nested = getattr(blocks.here, "inside", False)
    with blocks.lock:
        # Asked in every thread: the first look of a thread takes over the number of the process, and a first look after
        # the number is set below would take over that of another block.
        here = torch.get_num_threads()
        if blocks.running == 0:
            blocks.outside = here
        before = here if nested else blocks.outside
        blocks.running += 1
        torch.set_num_threads(threads)
    blocks.here.inside = True
    try:
        yield
    finally:
        blocks.here.inside = nested
        with blocks.lock:
            blocks.running -= 1
            torch.set_num_threads(before)


def check_device(kind: str, device: str) -> None:
    """Refuse a device that PyTorch cannot use here.

    Args:
        kind: what is to be opened, for the message.
        device: what was asked for.

    Raises:
        MissingDependencyError: torch is not installed.
        DeviceError: there is no such device.
    """
    torch = import_optional("torch", f"{kind} needs torch: {install_hint('train')}, or use the onnx artifact")
    if not is_device(device):
        raise DeviceError(f"PyTorch cannot run on {device!r}; give one of {', '.join(DEVICE_NAMES)}.")
    if device != "cpu" and not torch.cuda.is_available():
        raise DeviceError(
            "PyTorch sees no CUDA device: torch.cuda.is_available() is False. Use the CPU, or see 'toolkit doctor'."
        )
    if device != "cpu":
        require_cuda_device(device, torch.cuda.device_count(), "PyTorch")
        compute_in_float32()


def compute_in_float32() -> None:
    """Have this process compute float32 networks on CUDA in float32 throughout.

    PyTorch's convolutions take TF32 by default, which keeps 10 bits of a factor's mantissa: the artifacts of an
    EfficientNet-Lite0 were up to 3e-3 of the largest logit away from the CPU on an H200, and their answers depended on
    the batch. Whoever wants that speed exports float16, and sees it measured.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Compute in float32 (see ``compute_in_float32``) inside the block only."""
    import torch

    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    compute_in_float32()
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def torch_is_missing() -> str | None:
    """Return the sentence for ``Format.unavailable`` where torch cannot be imported; None where it can."""
    return why_not("torch", f"torch is not installed: {install_hint('train')}")


def require_any_batch(session: Session, sample: torch.Tensor, request: ExportRequest) -> None:
    """Run an exported network at other batch sizes than it was captured with.

    Args:
        session: the opened artifact.
        sample: the input it was captured with.
        request: names of the outputs.

    Raises:
        ExportError: the outputs do not have the batch size that went in.
    """
    for batch in (1, 3):
        inputs = sample[:1].expand(batch, *sample.shape[1:]).numpy()
        shapes = [(name, value.dtype.name, value.shape[0]) for name, value in session.run(inputs).items()]
        wanted = [(name, "float32", batch) for name in request.output_names]
        if shapes != wanted:
            raise ExportError(
                f"the exported network returns {shapes} for a batch of {batch} instead of {wanted}: its batch size "
                "is fixed."
            )
