"""OpenVINO IR, float32.

The exported ONNX graph converted by OpenVINO, as a description (``.xml``) and its weights (``.bin``) beside it.
"""

from __future__ import annotations

import json
import logging
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from toolkit.bundle.content import Content
from toolkit.bundle.trust.control_flow import openvino_control_flow
from toolkit.dependencies import import_optional
from toolkit.distribution import install_hint
from toolkit.errors import BundleError, DeviceError, ExportError, MissingDependencyError, first_line
from toolkit.formats.base import ANY_SHAPE, Calibration, Exported, ExportRequest, Facts, Format, Interface, Typed
from toolkit.formats.loggers import ROOT, silenced
from toolkit.formats.onnx import OnnxFormat
from toolkit.printable import printable
from toolkit.telemetry import opt_out

if TYPE_CHECKING:
    import torch

DEVICES = {"cpu": "CPU"}
"""OpenVINO computes on no NVIDIA GPU."""
METADATA_PATH = ("toolkit", "metadata")
"""Where in the file's runtime information the metadata stand, as JSON."""


class OpenVinoFormat(Format):
    """See the module."""

    name = "openvino"
    family = "openvino"
    engine = "openvino"
    precision = "float32"
    suffix = ".openvino.xml"
    carries_code = False
    usage = (
        "Compile it with `INFERENCE_PRECISION_HINT` set to `f32`: by default OpenVINO computes in bfloat16 or float16 "
        "where the processor can, and the values are then others than those expected below."
    )

    @staticmethod
    def endless(content: Content) -> str | None:
        """Look for loops."""
        return openvino_control_flow(require_ir(content))

    def unavailable(self) -> str | None:
        """Say which package is missing or broken."""
        try:
            _openvino()
        except MissingDependencyError as error:
            return str(error).removesuffix(".")
        return None

    def export(
        self,
        deployable: torch.nn.Module,
        sample: torch.Tensor,
        path: Path,
        request: ExportRequest,
        calibration: Calibration | None,
    ) -> Exported:
        """Export to ONNX, convert without rounding the weights, save both files, and check them."""
        openvino = _openvino()
        with tempfile.TemporaryDirectory(prefix="toolkit-") as scratch:
            graph = Path(scratch) / "graph.onnx"
            OnnxFormat().export(deployable, sample, graph, request, calibration)
            try:
                with silenced(ROOT, below=logging.ERROR):
                    model = openvino.convert_model(graph)
            except Exception as error:  # the converter raises many types, some of them private
                raise ExportError(f"OpenVINO cannot convert this network: {first_line(error)}") from error
            model.set_rt_info(json.dumps(dict(request.metadata), ensure_ascii=False), list(METADATA_PATH))
            openvino.save_model(model, path, compress_to_fp16=False)
        _require(self.facts(path), request, sample)
        return Exported(further_files=(path.with_suffix(".bin"),))

    def facts(self, path: Path) -> Facts:
        """Read the description back with OpenVINO."""
        openvino = _openvino()
        model = openvino.Core().read_model(path)
        stored = model.get_rt_info(list(METADATA_PATH)).value if model.has_rt_info(list(METADATA_PATH)) else "{}"
        return Facts(
            producer=f"openvino {openvino.__version__}",
            inputs=_described(model.inputs),
            outputs=_described(model.outputs),
            metadata=json.loads(stored),
        )

    def open(self, content: Content, device: str, threads: int) -> OpenVinoSession:
        """Compile for the CPU, in float32 arithmetic."""
        return OpenVinoSession(content, device, threads)


class OpenVinoSession:
    """A compiled OpenVINO model (see ``formats.base.Session``)."""

    def __init__(self, content: Content, device: str, threads: int) -> None:
        openvino = _openvino()
        if device not in DEVICES:
            raise DeviceError(
                f"OpenVINO cannot run on {device!r}, which here is the CPU or an NVIDIA GPU with CUDA; give cpu."
            )
        options = {
            "INFERENCE_NUM_THREADS": threads,
            # Without these two OpenVINO computes in bfloat16 where the processor can, and shares the threads between
            # several calls.
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            core = openvino.Core()
            model = core.read_model(require_ir(content), _weights(content))
            self._model = core.compile_model(model, DEVICES[device], options)
        except RuntimeError as error:
            raise BundleError(f"OpenVINO refuses {content.where}: {_reason(error)}") from error
        self.interface = Interface(_described(self._model.inputs), _described(self._model.outputs))
        self.device = next(
            name for name, engine in DEVICES.items() if engine in self._model.get_property("EXECUTION_DEVICES")
        )
        self.provider = ", ".join(self._model.get_property("EXECUTION_DEVICES"))
        self.threads = threads
        self.engine = f"openvino {openvino.__version__}"
        # A compiled model has one request, which is busy while a call of it runs; calls take turns, as the threads of
        # the engine would have them do anyway.
        self._turn = threading.Lock()

    def run(self, inputs: npt.NDArray[np.generic]) -> dict[str, npt.NDArray[np.float32]]:
        """Run one batch."""
        images = np.ascontiguousarray(inputs)
        with self._turn:
            return {output.any_name: np.array(values) for output, values in self._model(images).items()}


def _openvino() -> Any:  # part of its interface has no type information, and it is an optional package
    opt_out()
    return import_optional(
        "openvino", f"openvino is not installed: {install_hint('openvino')}, or use the onnx artifact"
    )


def _reason(error: RuntimeError) -> str:
    """Return the last line of an error of OpenVINO; the lines before say where in its sources it came up."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[-1]) if lines else first_line(error)


def require_ir(content: Content) -> bytes:
    """Return the description of an artifact, which must be OpenVINO's own XML, without declarations or comments.

    OpenVINO reads files of many other kinds where it is given them; some name further files, as XML itself can.

    Raises:
        BundleError: it is something else.
    """
    if not content.main.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") or b"<!" in content.main:
        raise BundleError(f"OpenVINO refuses {content.where}: it is not the XML of an OpenVINO IR.")
    return content.main


def _weights(content: Content) -> bytes:
    """Return the weights, which lie beside the description under its name. OpenVINO makes a copy of its own of them."""
    return content.files.get(str(PurePosixPath(content.name).with_suffix(".bin")), b"")


def _described(ports: Any) -> Mapping[str, Typed]:
    """Return name to dtype and shape of inputs or outputs; a dynamic axis is ``N``."""
    return {
        port.any_name: (
            port.element_type.to_dtype().name,
            tuple("N" if axis.is_dynamic else axis.get_length() for axis in port.partial_shape)
            if port.partial_shape.rank.is_static
            else ANY_SHAPE,
        )
        for port in ports
    }


def _require(facts: Facts, request: ExportRequest, sample: torch.Tensor) -> None:
    """Raise if the saved files are not what was asked for."""
    dtype = str(sample.dtype).removeprefix("torch.")
    problems = []
    if dict(facts.inputs) != {request.input_name: (dtype, ("N", *sample.shape[1:]))}:
        problems.append(f"inputs {dict(facts.inputs)}")
    if sorted(facts.outputs) != sorted(request.output_names) or any(
        kind != "float32" for kind, _ in facts.outputs.values()
    ):
        problems.append(f"outputs {dict(facts.outputs)}")
    if dict(facts.metadata) != dict(request.metadata):
        problems.append("metadata not stored")
    if problems:
        raise ExportError(f"OpenVINO made something else than was asked for: {'; '.join(problems)}.")
