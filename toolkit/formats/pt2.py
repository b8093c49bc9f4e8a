"""PyTorch's own exported program (``torch.export``): a graph that PyTorch opens without the code of the network."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.bundle.content import Content
from toolkit.errors import BundleError, ExportError, first_line
from toolkit.formats.base import Facts
from toolkit.formats.loggers import silenced
from toolkit.formats.torch_session import ModuleSession, TorchFormat, check_device

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

METADATA_FILE = "toolkit.json"


class Pt2Format(TorchFormat):
    """See the module."""

    name = "pt2"
    family = "pt2"
    suffix = ".pt2"
    saver = "torch.export.save"
    usage = "`torch.export.load(FILE).module()(inputs)` returns a tuple `(logits, probabilities)`."

    def save(self, deployable: torch.nn.Module, sample: torch.Tensor, path: Path, metadata: Mapping[str, str]) -> None:
        """Capture with a dynamic batch and save."""
        import torch

        program = capture(deployable, sample)
        # Only an example of a call, which nobody who opens the file needs.
        program.example_inputs = None
        _forget_source_paths(program)
        content = json.dumps(dict(metadata), ensure_ascii=False)
        written = io.BytesIO()  # PyTorch's own writer of files ends the process where the disk is full
        torch.export.save(program, written, extra_files={METADATA_FILE: content})
        path.write_bytes(written.getbuffer())
        _require_no_pickle(path)

    def facts(self, path: Path) -> Facts:
        """Read the metadata back from the archive, which is a ZIP file."""
        import torch

        with zipfile.ZipFile(path) as archive:
            stored = [name for name in archive.namelist() if name.endswith(f"/extra/{METADATA_FILE}")]
            metadata = json.loads(archive.read(stored[0])) if stored else {}
        return Facts(producer=f"torch {torch.__version__}", metadata=metadata)

    def open(self, content: Content, device: str, threads: int) -> ModuleSession:
        """Load into PyTorch."""
        check_device("a pt2 artifact", device)
        import torch
        from torch.export.passes import move_to_device_pass

        with silenced("torch.export", below=logging.ERROR):  # it prints a traceback of what is raised here
            try:
                program = torch.export.load(io.BytesIO(content.main))
            except Exception as error:  # the reader raises many types, some of them private
                raise BundleError(f"torch.export.load refuses {content.where}: {first_line(error)}") from error
        if device != "cpu":
            program = move_to_device_pass(program, device)
        return ModuleSession(program.module(), "torch.export", device, threads)


def _require_no_pickle(path: Path) -> None:
    """Refuse to ship a file that a reader would have to unpickle: a pickle is a program.

    PyTorch pickles example inputs, and weights that it cannot store as they lie in memory.
    """
    with zipfile.ZipFile(path) as archive:
        pickled = [
            entry.filename for entry in archive.infolist() if "/sample_inputs/" in entry.filename and entry.file_size
        ]
        for name in archive.namelist():
            if name.endswith(("/model_weights_config.json", "/model_constants_config.json")):
                entries = json.loads(archive.read(name))["config"]
                pickled += [weight for weight, entry in entries.items() if entry["use_pickle"]]
    if pickled:
        raise ExportError(
            f"torch.export.save has written a pickle ({pickled[0]}), which nobody should open: update torch, or use "
            "another format."
        )


def capture(deployable: torch.nn.Module, sample: torch.Tensor) -> ExportedProgram:
    """Capture a network as a graph with a dynamic batch.

    Raises:
        ExportError: it cannot be captured.
    """
    import torch

    try:
        with torch.no_grad():
            return torch.export.export(deployable, (sample,), dynamic_shapes=({0: torch.export.Dim("N")},))
    except Exception as error:  # capturing runs the network's own code, which may raise anything
        raise ExportError(f"torch.export cannot export this network: {first_line(error)}") from error


def _forget_source_paths(program: ExportedProgram) -> None:
    """Take out of every node where in the exporting machine's files it stood."""
    import torch

    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
