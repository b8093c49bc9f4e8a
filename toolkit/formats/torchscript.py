"""TorchScript, traced and frozen. The only place that touches ``torch.jit``, which PyTorch has deprecated and Python 3.14 does not support."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from toolkit.errors import BundleError, DeviceError, ExportError, MissingDependencyError, first_line
from toolkit.formats.base import Calibration, ExportRequest, Facts

if TYPE_CHECKING:
    import torch

METADATA_FILE = "toolkit.json"


class TorchScriptFormat:
    """See the module; implements ``formats.base.Format``."""

    name = "torchscript"
    precision = "float32"
    suffix = ".torchscript.pt"

    def unavailable(self) -> str | None:
        """Say whether torch or the Python version is in the way."""
        if sys.version_info >= (3, 14):
            return "torch.jit does not support Python 3.14 or later: use Python 3.11 to 3.13, or another format"
        try:
            import torch
        except ImportError:
            return "torch is not installed: pip install 'toolkit[train]'"
        del torch
        return None

    def export(self, deployable: torch.nn.Module, sample: torch.Tensor, path: Path, request: ExportRequest, calibration: Calibration | None) -> None:
        """Trace, freeze and save, then check the file at another batch size than it was traced with."""
        del calibration
        import torch

        content = json.dumps(dict(request.metadata), ensure_ascii=False)
        with _quiet(), torch.inference_mode():
            try:
                traced = _jit().freeze(_jit().trace(deployable, (sample,), check_trace=False))
                _jit().save(traced, str(path), _extra_files={METADATA_FILE: content})
            except Exception as error:  # tracing runs the network's own code, which may raise anything
                raise ExportError(f"torch.jit.trace cannot export this network: {first_line(error)}") from error
        if dict(self.facts(path).metadata) != dict(request.metadata):
            raise ExportError("torch.jit.save did not store the metadata that was asked for.")
        session = self.open(path, "cpu", torch.get_num_threads())
        for batch in (1, 3):
            inputs = sample[:1].expand(batch, *sample.shape[1:]).numpy()
            shapes = [(name, value.dtype.name, value.shape[0]) for name, value in session.run(inputs).items()]
            wanted = [(name, "float32", batch) for name in request.output_names]
            if shapes != wanted:
                raise ExportError(f"the traced network returns {shapes} for a batch of {batch} instead of {wanted}: its batch size is fixed.")

    def facts(self, path: Path) -> Facts:
        """Read the metadata back from the archive."""
        import torch

        files = {METADATA_FILE: ""}
        with _quiet():
            _jit().load(str(path), map_location="cpu", _extra_files=files)
        return Facts(producer=f"torch {torch.__version__}", metadata=json.loads(files[METADATA_FILE] or "{}"))

    def open(self, path: Path, device: str, threads: int) -> TorchScriptSession:
        """Load into PyTorch."""
        return TorchScriptSession(path, device, threads)


class TorchScriptSession:
    """A loaded TorchScript module (see ``formats.base.Session``)."""

    def __init__(self, path: Path, device: str, threads: int) -> None:
        try:
            import torch
        except ImportError as error:
            raise MissingDependencyError("a TorchScript artifact needs torch: pip install 'toolkit[train]', or use the onnx artifact.") from error
        if device not in ("cpu", "cuda"):
            raise DeviceError(f"TorchScript cannot run on {device!r}; give cpu or cuda.")
        if device == "cuda" and not torch.cuda.is_available():
            raise DeviceError("PyTorch sees no CUDA device: torch.cuda.is_available() is False. Use the CPU, or see 'toolkit doctor'.")
        with _quiet():
            try:
                self._module = _jit().load(str(path), map_location=device).eval()
            except (RuntimeError, ValueError, OSError) as error:
                raise BundleError(f"torch.jit.load refuses {path}: {first_line(error)}") from error
        self.device = device
        self.threads = threads
        self.engine = f"torch {torch.__version__} (TorchScript)"

    def run(self, inputs: npt.NDArray[np.generic]) -> dict[str, npt.NDArray[np.float32]]:
        """Run one batch; the copy back to the host waits for the device."""
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with torch.inference_mode():
                logits, probabilities = self._module(torch.from_numpy(np.ascontiguousarray(inputs)).to(self.device))
                return {"logits": logits.cpu().numpy(), "probabilities": probabilities.cpu().numpy()}
        finally:
            torch.set_num_threads(before)


def _jit() -> Any:
    """Return ``torch.jit``, which has no type information."""
    import torch

    return torch.jit


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch.jit says on every call: that it is deprecated, and what a trace cannot see, which parity is there to judge."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\..*", category=FutureWarning)
        warnings.filterwarnings("ignore", message=r".*torch\.jit\..*", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=_jit().TracerWarning)
        yield
