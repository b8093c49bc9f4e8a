"""ONNX, float32: exported by ``torch.onnx.export`` (the torch.export-based exporter), run by onnxruntime."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from toolkit.bundle.content import Content
from toolkit.bundle.trust.control_flow import onnx_control_flow
from toolkit.dependencies import import_optional, require_for_training, why_not
from toolkit.devices import DEVICE_NAMES, index_of, is_device, kind_of
from toolkit.distribution import NO_ONNXRUNTIME, install_hint
from toolkit.errors import BundleError, DeviceError, ExportError, first_line
from toolkit.formats.base import (
    ANY_SHAPE,
    Calibration,
    Exported,
    ExportRequest,
    Facts,
    Format,
    Interface,
    NotExported,
    Typed,
)
from toolkit.formats.loggers import silenced
from toolkit.telemetry import opt_out

if TYPE_CHECKING:
    import onnx
    import torch

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
PROVIDER_OPTIONS: dict[str, dict[str, str]] = {
    "cpu": {},
    # float32 in float32, as in torch_session.compute_in_float32. And kernels by rule instead of by trying all of them
    # at each new batch size, which took seconds on an H200 and need not choose the same ones in the next process.
    "cuda": {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
}
NO_SUCH_GPU = ("device ordinal", "device_id", "device id")
"""What onnxruntime and CUDA say of a GPU that is not there."""
SPINNING = False
"""Whether idle threads wait in a loop for the next piece of work, as onnxruntime has them do unless told otherwise.

On cores that others use too that costs most of the throughput of single images: ``python -m benchmarks.spinning``."""
PROTOBUF_LIMIT = 2**31 - 1
"""A protobuf message cannot be larger, and a single-file ONNX model is one message."""
KEPT_NODE_METADATA = ("pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy")
"""Which module a node came from. The rest of what the exporter notes holds source paths of the exporting machine."""
NODE_METADATA_IR = 10
"""The first IR version whose nodes can carry metadata (https://github.com/onnx/onnx/blob/main/docs/IR.md)."""
_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


@dataclass(frozen=True)
class Target:
    """Where a graph is to be written, and what must be true of the file."""

    path: Path
    request: ExportRequest
    sample: torch.Tensor

    def save(self, model: onnx.ModelProto) -> None:
        """See ``save_checked``."""
        save_checked(model, self.path, self.request, self.sample)


class OnnxFormat(Format):
    """See the module; the formats of the family inherit from it and lower the graph before they write it."""

    name = "onnx"
    family = "onnx"
    engine = "onnxruntime"
    precision = "float32"
    suffix = ".onnx"
    carries_code = False
    bisectable = True
    spins = True

    @staticmethod
    def endless(content: Content) -> str | None:
        """Look for loops and functions."""
        return onnx_control_flow(content.main)

    def unavailable(self) -> str | None:
        """Say which package is missing or broken."""
        opt_out()
        return why_not("onnxruntime", NO_ONNXRUNTIME)

    def export(
        self,
        deployable: torch.nn.Module,
        sample: torch.Tensor,
        path: Path,
        request: ExportRequest,
        calibration: Calibration | None,
    ) -> Exported | NotExported:
        """Export with a dynamic batch and all weights inside one file, then check the file."""
        return self.write(build(deployable, sample, request), Target(path, request, sample), calibration)

    def write(self, model: onnx.ModelProto, target: Target, calibration: Calibration | None) -> Exported | NotExported:
        """Write the float32 graph, which may be changed, in this format.

        Raises:
            ExportError: there is no calibration for a format that needs one, or the file would not be what was asked
                for.
        """
        del calibration
        target.save(model)
        return Exported()

    def facts(self, path: Path) -> Facts:
        """Read the file back with the onnx package."""
        return read_facts(path)

    def open(self, content: Content, device: str, threads: int, spinning: bool = SPINNING) -> OnnxSession:
        """Open in onnxruntime with all graph optimisations."""
        return OnnxSession(content, device, threads, spinning)


class OnnxSession:
    """An onnxruntime session (see ``formats.base.Session``)."""

    def __init__(self, content: Content, device: str, threads: int, spinning: bool = SPINNING) -> None:
        if len(content.files) == 1:
            self._session = open_session(content.main, device, threads, spinning, content.where)
        else:  # weights beside the graph are found by path
            with content.as_files() as path:
                self._session = open_session(path, device, threads, spinning, content.where)
        self.device = device
        self.threads = threads
        self.spinning = spinning
        self.engine = engine_name()
        self.provider: str = self._session.get_providers()[0]
        self.tf32 = _uses_tf32(self._session) if kind_of(device) == "cuda" else None
        self._input = next((value.name for value in self._session.get_inputs()), "")
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.interface = Interface(_typed(self._session.get_inputs()), _typed(self._session.get_outputs()))
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map

    def run(self, inputs: npt.NDArray[np.generic]) -> dict[str, npt.NDArray[np.float32]]:
        """Run one batch."""
        return dict(zip(self._outputs, self._session.run(self._outputs, {self._input: inputs}), strict=True))

    def on_device(self, inputs: npt.NDArray[np.generic]) -> Callable[[], None]:
        """Return one call through an I/O binding, with input and outputs on the GPU (see ``formats.base.Session``)."""
        onnxruntime = import_onnxruntime()
        binding = self._session.io_binding()
        kind, index = kind_of(self.device), index_of(self.device)
        binding.bind_ortvalue_input(self._input, onnxruntime.OrtValue.ortvalue_from_numpy(inputs, kind, index))
        for name in self._outputs:
            binding.bind_output(name, kind, index)

        def call() -> None:
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return call


def build(deployable: torch.nn.Module, sample: torch.Tensor, request: ExportRequest) -> onnx.ModelProto:
    """Export to a model that tells which module each node came from and nothing else about the exporting machine.

    Raises:
        ExportError: the exporter failed, or the model is too large for one file.
    """
    model = to_onnx(deployable, sample, request.input_name, request.output_names, request.opset)
    _strip(model)
    return model


def save_checked(model: onnx.ModelProto, path: Path, request: ExportRequest, sample: torch.Tensor) -> None:
    """Store metadata and IR version in a model, save it in one file, and check that the file is what was asked for.

    Raises:
        ExportError: naming everything that differs.
    """
    import onnx

    _set_ir_version(model, request.ir_version)
    onnx.helper.set_model_props(model, dict(request.metadata))
    onnx.save_model(model, path)
    onnx.checker.check_model(path, full_check=True)
    _require(path, read_facts(path), request, sample)


def read_facts(path: Path) -> Facts:
    """Read an ONNX file back with the onnx package."""
    import onnx

    model = onnx.load_model(path)
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
    return Facts(
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        opset=opset,
        ir_version=model.ir_version,
        inputs={value.name: _type_of(value) for value in model.graph.input},
        outputs={value.name: _type_of(value) for value in model.graph.output},
        metadata={entry.key: entry.value for entry in model.metadata_props},
    )


def to_onnx(
    network: torch.nn.Module,
    sample: torch.Tensor,
    input_name: str,
    output_names: Sequence[str],
    opset: int | None = None,
) -> onnx.ModelProto:
    """Export a network of one input with a dynamic batch axis.

    Args:
        network: in inference mode, on the CPU.
        sample: an input of batch size 2 or more.
        input_name: name of the input.
        output_names: names of the outputs.
        opset: ONNX opset; the exporter's recommended one by default.

    Raises:
        ExportError: the exporter failed, or the model is too large for one file.
    """
    import torch

    # PyTorch's exporter needs both, and says so from deep inside.
    require_for_training("onnx", "onnxscript")
    # The exporter warns about its own internals on every call; what matters is checked on the file.
    with (
        warnings.catch_warnings(),
        silenced("onnxscript", "onnx_ir", "torch.onnx", below=logging.CRITICAL),
        _mean_for_global_pooling(),
    ):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                network,
                (sample,),
                dynamo=True,
                input_names=[input_name],
                output_names=list(output_names),
                dynamic_shapes=({0: torch.export.Dim("N")},),
                opset_version=opset,
                verbose=False,
            )
        except Exception as error:  # the exporter raises many types, some of them private
            raise ExportError(f"torch.onnx.export cannot export this network: {_reason(error)}") from error
    if program is None:
        raise ExportError("torch.onnx.export returned no program.")
    model: onnx.ModelProto = program.model_proto
    if model.ByteSize() > PROTOBUF_LIMIT:
        raise ExportError(
            f"the network takes {model.ByteSize() / 1e9:.1f} GB; one ONNX file holds at most 2.1 GB. Choose a "
            "smaller backbone."
        )
    return model


@contextlib.contextmanager
def _mean_for_global_pooling() -> Iterator[None]:
    """Let pooling to 1 x 1 be exported as the mean that it is.

    The decomposition of ``adaptive_avg_pool2d`` keeps the strides of its input with ``as_strided``. Where they are
    channels-last, as after the permutation of the pixels, that became a chain of Shape, Range and Gather, which changes
    nothing, costs nodes at each pooling (58 of 185 in MobileNetV3), and is more than OpenCV 4 can read. Making the
    pixels contiguous instead would slow PyTorch's own artifacts down.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class Mean(TorchFunctionMode):
        def __torch_function__(
            self,
            func: Callable[..., Any],
            types: Any,
            args: tuple[Any, ...] = (),
            kwargs: Mapping[str, Any] | None = None,
        ) -> Any:
            if func is torch.nn.functional.adaptive_avg_pool2d:
                pooled, size = _pooling_arguments(*args, **(kwargs or {}))
                if size in (1, (1, 1)):
                    return pooled.mean((-2, -1), keepdim=True)
            return func(*args, **(kwargs or {}))

    with Mean():
        yield


def _pooling_arguments(input: torch.Tensor, output_size: Any) -> tuple[torch.Tensor, Any]:
    return input, tuple(output_size) if isinstance(output_size, (list, tuple)) else output_size


def _reason(error: BaseException) -> str:
    """Return what was wrong in the first place: the exporter wraps it into a text about its own steps."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


def engine_name() -> str:
    """Return ``onnxruntime`` with its version.

    Raises:
        MissingDependencyError: it is not installed.
    """
    return f"onnxruntime {import_onnxruntime().__version__}"


def open_session(
    model: Path | bytes, device: str, threads: int, spinning: bool = SPINNING, where: Path | None = None
) -> Any:  # onnxruntime ships no type information
    """Open a model as an ``onnxruntime.InferenceSession`` with all graph optimisations.

    Args:
        model: the file, or what is in it.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads for one call.
        spinning: whether idle threads wait in a loop; see ``SPINNING``.
        where: what messages call it, if not by its path.

    Raises:
        DeviceError: the device cannot be used here.
        MissingDependencyError: onnxruntime is not installed.
        BundleError: onnxruntime refuses the file.
    """
    onnxruntime = import_onnxruntime()
    if not is_device(device):
        raise DeviceError(f"onnxruntime cannot run on {device!r}; give one of {', '.join(DEVICE_NAMES)}.")
    provider = PROVIDERS[kind_of(device)]
    if provider not in onnxruntime.get_available_providers():
        raise DeviceError(f"the installed onnxruntime has no {provider}: {install_hint('gpu')}, or use the CPU.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    for pool in ("intra_op", "inter_op"):
        options.add_session_config_entry(f"session.{pool}.allow_spinning", str(int(spinning)))
    # What fails is raised; the log would repeat it, with names of nodes as whoever made the file has written them.
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = _create(onnxruntime, model, options, device, where)
    actual = session.get_providers()[0]
    if actual != provider:
        raise DeviceError(
            f"onnxruntime was asked for {provider} and fell back to {actual}: its CUDA libraries cannot be loaded here."
        )
    return session


def run_options() -> Any:  # onnxruntime ships no type information
    """Return fresh ``onnxruntime.RunOptions``.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
    """
    return import_onnxruntime().RunOptions()


def import_onnxruntime() -> Any:  # onnxruntime ships no type information
    """Import the engine, its telemetry switched off.

    Raises:
        MissingDependencyError: it is not installed.
    """
    opt_out()
    return import_optional("onnxruntime", NO_ONNXRUNTIME)


def preload_cuda(onnxruntime: Any) -> None:
    """Find CUDA and cuDNN where they usually are: in torch's or NVIDIA's wheels.

    Before 1.21 onnxruntime had no such call and found them only where the system's loader looks, or once torch was
    imported.
    """
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()


def _create(onnxruntime: Any, model: Path | bytes, options: Any, device: str, where: Path | None) -> Any:
    kind, index = kind_of(device), index_of(device)
    chosen = {"device_id": str(index)} if index > 0 else {}
    if kind == "cuda":
        preload_cuda(onnxruntime)
        # A provider that cannot be loaded is reported below as a DeviceError; without this the engine also prints to
        # stderr.
        onnxruntime.set_default_logger_severity(4)
    try:
        return onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            options,
            providers=[PROVIDERS[kind]],
            provider_options=[PROVIDER_OPTIONS[kind] | chosen],
        )
    except Exception as error:  # onnxruntime's exceptions have no common base below Exception
        if index > 0 and any(word in str(error).lower() for word in NO_SUCH_GPU):
            raise DeviceError(
                f"onnxruntime cannot use {device}: {first_line(error)}. Give a GPU that 'nvidia-smi' lists, cuda for "
                "the first one, or cpu."
            ) from error
        name = where or (model if isinstance(model, Path) else "the model")
        raise BundleError(f"onnxruntime refuses {name}: {first_line(error)}") from error
    finally:
        if kind == "cuda":
            onnxruntime.set_default_logger_severity(2)


def _uses_tf32(session: Any) -> bool | None:
    """Say whether the CUDA provider computes float32 in TF32; None where it does not tell."""
    said = session.get_provider_options().get(PROVIDERS["cuda"], {}).get("use_tf32")
    return None if said is None else said == "1"


def _typed(values: Sequence[Any]) -> dict[str, Typed]:
    """Return name to dtype and shape, as onnxruntime gives them; it calls float32 ``tensor(float)``."""
    return {value.name: (_DTYPES.get(value.type, value.type), _axes(value.shape)) for value in values}


def _axes(shape: Sequence[int | str | None] | None) -> tuple[int | str, ...]:
    return ANY_SHAPE if shape is None else tuple("?" if axis is None else axis for axis in shape)


def _strip(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        kept = [(entry.key, entry.value) for entry in node.metadata_props if entry.key in KEPT_NODE_METADATA]
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
        for key, value in kept:
            node.metadata_props.add(key=key, value=value)


def _set_ir_version(model: onnx.ModelProto, version: int | None) -> None:
    """Choose the IR version; what it does not know yet is taken out, and what its opset does not allow is an error."""
    from onnx import helper

    if version is None:
        return
    least = helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
    if version < least:
        opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        raise ExportError(
            f"opset {opset} needs IR version {least} or later, and {version} was asked for: give another opset or IR "
            "version."
        )
    if version < NODE_METADATA_IR:
        for holder in (
            model.graph,
            *model.graph.node,
            *model.graph.value_info,
            *model.graph.initializer,
            *model.graph.input,
            *model.graph.output,
        ):
            holder.ClearField("metadata_props")
    model.ir_version = version


def _require(path: Path, facts: Facts, request: ExportRequest, sample: torch.Tensor) -> None:
    """Raise if the saved file is not what was asked for."""
    problems = _wrong_versions(facts, request) + _wrong_signature(facts, request, sample)
    problems += [
        f"metadata {key} not stored" for key, value in request.metadata.items() if facts.metadata.get(key) != value
    ]
    if list(path.parent.glob(f"{path.name}.data*")):
        problems.append("weights stored in a second file instead of inside")
    if problems:
        raise ExportError(f"the exporter made something else than was asked for: {'; '.join(problems)}.")


def _wrong_versions(facts: Facts, request: ExportRequest) -> list[str]:
    asked = {"opset": (request.opset, facts.opset), "IR version": (request.ir_version, facts.ir_version)}
    return [
        f"{what} {actual} instead of {wanted}"
        for what, (wanted, actual) in asked.items()
        if wanted not in (None, actual)
    ]


def _wrong_signature(facts: Facts, request: ExportRequest, sample: torch.Tensor) -> list[str]:
    dtype = str(sample.dtype).removeprefix("torch.")
    problems = []
    if list(facts.inputs) != [request.input_name]:
        problems.append(f"inputs {', '.join(facts.inputs)} instead of {request.input_name}")
    if tuple(facts.outputs) != request.output_names:
        problems.append(f"outputs {', '.join(facts.outputs)} instead of {', '.join(request.output_names)}")
    for name, (actual, shape) in facts.inputs.items():
        if actual != dtype or shape[1:] != tuple(sample.shape[1:]) or not isinstance(shape[0], str):
            problems.append(f"input {name} is {actual} {list(shape)} instead of {dtype} {['N', *sample.shape[1:]]}")
    for name, (actual, shape) in facts.outputs.items():
        if actual != "float32" or len(shape) != 2 or not isinstance(shape[0], str):
            problems.append(f"output {name} is {actual} {list(shape)} instead of float32 ['N', C]")
    return problems


def _type_of(value: onnx.ValueInfoProto) -> tuple[str, tuple[int | str, ...]]:
    import onnx

    tensor = value.type.tensor_type
    shape = tuple(dim.dim_param or "?" if not dim.HasField("dim_value") else dim.dim_value for dim in tensor.shape.dim)
    return str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)), shape
