"""AOTInductor.

The network compiled to machine code, in one package that PyTorch loads without Python code of the network.

The package holds code for the processor it was compiled on. It promises nothing on another one, and the manifest says
so.
"""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.bundle.content import Content
from toolkit.errors import BundleError, DeviceError, ExportError, first_line
from toolkit.formats.archive_members import rewrite
from toolkit.formats.base import Facts
from toolkit.formats.pt2 import capture
from toolkit.formats.torch_session import ModuleSession, TorchFormat, check_device

if TYPE_CHECKING:
    import torch

METADATA_KEY = "toolkit"
COMPILERS = ("g++", "clang++", "c++")


class AotiFormat(TorchFormat):
    """See the module."""

    name = "aoti"
    family = "aoti"
    suffix = ".aoti.pt2"
    portability = "same-machine"
    saver = "AOTInductor"
    usage = "`torch._inductor.aoti_load_package(FILE)(inputs)` returns `(logits, probabilities)` in this order."

    def unavailable(self) -> str | None:
        """Say whether torch or a C++ compiler is missing."""
        if missing := super().unavailable():
            return missing
        if sys.platform != "linux":
            return "AOTInductor packages are made on Linux only: use another format"
        if not any(shutil.which(compiler) for compiler in COMPILERS):
            return f"no C++ compiler is installed ({', '.join(COMPILERS)}): install g++"
        return None

    def save(self, deployable: torch.nn.Module, sample: torch.Tensor, path: Path, metadata: Mapping[str, str]) -> None:
        """Capture and compile for this processor."""
        from torch._inductor import aoti_compile_and_package

        program = capture(deployable, sample)
        content = json.dumps(dict(metadata))
        with _quiet():
            try:
                aoti_compile_and_package(
                    program,
                    package_path=str(path),
                    inductor_configs={
                        "aot_inductor.metadata": {METADATA_KEY: content},
                        "aot_inductor.enable_line_tables": False,
                    },
                )
                rewrite(path, _without_source_paths)
            except Exception as error:  # the compiler raises many types, some of them private
                raise ExportError(f"AOTInductor cannot compile this network: {first_line(error)}") from error

    def facts(self, path: Path) -> Facts:
        """Read the metadata back from the package."""
        import torch
        from torch._inductor import aoti_load_package

        with _quiet():
            stored = aoti_load_package(str(path)).loader.get_metadata()
        return Facts(
            producer=f"torch {torch.__version__} (AOTInductor, {stored['AOTI_CPU_ISA']})",
            metadata=json.loads(stored[METADATA_KEY]),
        )

    def open(self, content: Content, device: str, threads: int) -> ModuleSession:
        """Load the compiled code."""
        check_device("an AOTInductor artifact", device)
        if device != "cpu":
            raise DeviceError(
                f"the AOTInductor artifact is compiled for the CPU and does not run on CUDA ({device!r}): use the "
                "onnx artifact there."
            )
        from torch._inductor import aoti_load_package

        with _quiet(), content.as_files() as path:
            try:
                module = aoti_load_package(str(path))
            except Exception as error:  # the reader raises many types, some of them private
                raise BundleError(f"AOTInductor refuses {content.where}: {first_line(error)}") from error
        return ModuleSession(module, "AOTInductor", device, threads)


def _without_source_paths(member: str, content: bytes) -> bytes | None:
    """Leave out the generated sources, which quote the compiler's command line, and the paths in the machine code.

    The code holds the path of each source file for its error messages; the folders that lie on this machine only are
    overwritten, at the same length, for a shared library has no other place to put them.
    """
    import torch
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    if member.endswith(".cpp"):
        return None
    if member.endswith(".so"):
        for folder in (cache_dir(), str(Path(torch.__file__).parents[1])):
            content = content.replace(folder.encode(), b"-" * len(folder.encode()))
    return content


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the compiler warns about its own internals; what matters is checked on the package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
