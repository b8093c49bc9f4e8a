"""TorchScript, traced and frozen.

The only place that touches ``torch.jit``, which PyTorch has deprecated and Python 3.14 does not support.
"""

from __future__ import annotations

import io
import json
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.bundle.content import Content
from toolkit.errors import BundleError, ExportError, first_line
from toolkit.formats.archive_members import rewrite
from toolkit.formats.base import Facts
from toolkit.formats.torch_session import ModuleSession, TorchFormat, check_device, full_float32

if TYPE_CHECKING:
    import torch

METADATA_FILE = "toolkit.json"


class TorchScriptFormat(TorchFormat):
    """See the module."""

    name = "torchscript"
    family = "torchscript"
    suffix = ".torchscript.pt"
    saver = "torch.jit.save"
    usage = (
        "Its one argument is called `inputs`, and the result is a tuple `(logits, probabilities)`, not a dictionary; "
        "in C++ `module.forward({images}).toTuple()->elements()`."
    )

    def unavailable(self) -> str | None:
        """Say whether torch or the Python version is in the way."""
        if sys.version_info >= (3, 14):
            return "torch.jit does not support Python 3.14 or later: use Python 3.11 to 3.13, or another format"
        return super().unavailable()

    def save(self, deployable: torch.nn.Module, sample: torch.Tensor, path: Path, metadata: Mapping[str, str]) -> None:
        """Trace, freeze and save.

        A trace notes in each convolution whether it may compute in TF32, and keeps to that wherever the file is opened:
        without the block here, a float32 file is one in name only on CUDA (seen on an H200).
        """
        import torch

        content = json.dumps(dict(metadata), ensure_ascii=False)
        written = io.BytesIO()  # PyTorch's own writer of files ends the process where the disk is full
        with _quiet(), torch.inference_mode(), full_float32():
            try:
                traced = _jit().freeze(_jit().trace(deployable, (sample,), check_trace=False))
                _jit().save(traced, written, _extra_files={METADATA_FILE: content})
            except Exception as error:  # tracing runs the network's own code, which may raise anything
                raise ExportError(f"torch.jit.trace cannot export this network: {first_line(error)}") from error
        path.write_bytes(written.getbuffer())
        rewrite(path, _without_source_paths)

    def facts(self, path: Path) -> Facts:
        """Read the metadata back from the archive."""
        import torch

        files = {METADATA_FILE: ""}
        with _quiet():
            _jit().load(str(path), map_location="cpu", _extra_files=files)
        return Facts(producer=f"torch {torch.__version__}", metadata=json.loads(files[METADATA_FILE] or "{}"))

    def open(self, content: Content, device: str, threads: int) -> ModuleSession:
        """Load into PyTorch."""
        check_device("a TorchScript artifact", device)
        with _quiet():
            try:
                module = _jit().load(io.BytesIO(content.main), map_location=device).eval()
            except (RuntimeError, ValueError, OSError) as error:
                raise BundleError(f"torch.jit.load refuses {content.where}: {first_line(error)}") from error
        return ModuleSession(module, "TorchScript", device, threads)


def _without_source_paths(member: str, content: bytes) -> bytes | None:
    """Leave out where in the exporting machine's files each operation stood: nothing but tracebacks needs it."""
    return None if member.endswith(".debug_pkl") else content


def _jit() -> Any:
    """Return ``torch.jit``, which has no type information."""
    import torch

    return torch.jit


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch.jit says on every call.

    That it is deprecated, and what a trace cannot see, which parity is there to judge.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\..*", category=FutureWarning)
        warnings.filterwarnings("ignore", message=r".*torch\.jit\..*", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=_jit().TracerWarning)
        yield
