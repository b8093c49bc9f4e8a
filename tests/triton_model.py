"""A model of a Triton repository, run by what its configuration says and nothing else; and a server of it over gRPC.

The configuration is parsed by the protobuf that tritonclient ships. Names, data types, dimensions, batch sizes, labels
and the classification extension are those of
https://github.com/triton-inference-server/server/tree/main/docs/protocol; the engine gets what the server would give.
"""

from __future__ import annotations

import contextlib
import struct
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

NUMPY = {"UINT8": np.uint8, "FP32": np.float32}


class RefusedError(Exception):
    """The server would answer with this error."""


class TritonModel:
    """The newest version of a model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = text_format.Parse(
            (folder / "config.pbtxt").read_text(encoding="utf-8"), model_config_pb2.ModelConfig()
        )
        assert self.config.name == folder.name, "Triton refuses a name that is not the folder's"
        self.version = max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        self.files = folder / str(self.version)
        self._run = {"onnxruntime": self._onnx, "openvino": self._openvino, "pytorch": self._torch}[
            self.config.backend
        ]()

    def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one request."""
        (taken,) = self.config.input
        if list(inputs) != [taken.name]:
            raise RefusedError(f"the input is called {taken.name!r}, not {list(inputs)}")
        array = inputs[taken.name]
        self._require(taken, array)
        outputs = dict(zip(self._run_names(), self._run(array), strict=True))
        for output in self.config.output:
            self._require(output, outputs[output.name])
        return outputs

    def warm_up(self) -> None:
        """Run what an instance runs before it is ready, as the server makes requests of it."""
        batching = self.config.max_batch_size > 0
        for sample in self.config.model_warmup:
            assert 1 <= sample.batch_size <= max(1, self.config.max_batch_size)
            ((name, value),) = sample.inputs.items()
            kind = NUMPY[model_config_pb2.DataType.Name(value.data_type).removeprefix("TYPE_")]
            content = (self.folder / "warmup" / value.input_data_file).read_bytes()
            array = np.frombuffer(content, kind)
            assert array.size == np.prod(value.dims), "the file holds one sample"
            array = array.reshape([*([1] if batching else []), *value.dims])
            self.infer({name: np.repeat(array, sample.batch_size, axis=0)})

    def labels(self, output: str) -> list[str]:
        """Return what the server reads of the file of labels: a label a line, split at line feeds only."""
        (file,) = (entry.label_filename for entry in self.config.output if entry.name == output)
        return (self.folder / file).read_bytes().decode().removesuffix("\n").split("\n")

    def _require(self, described: Any, array: np.ndarray) -> None:
        kind = model_config_pb2.DataType.Name(described.data_type).removeprefix("TYPE_")
        if array.dtype != NUMPY[kind]:
            raise RefusedError(f"{described.name!r} is {array.dtype}, not {kind}")
        most = self.config.max_batch_size
        wanted = [*([-1] if most else []), *described.dims]
        if len(wanted) != array.ndim or any(a not in (-1, b) for a, b in zip(wanted, array.shape, strict=True)):
            raise RefusedError(f"{described.name!r} has the shape {list(array.shape)}, not {wanted}")
        if most and array.shape[0] > most:
            raise RefusedError(f"the batch has {array.shape[0]} images, at most {most} are taken")

    def _run_names(self) -> list[str]:
        names = [output.name for output in self.config.output]
        if self.config.backend == "pytorch":
            assert self.config.platform == "pytorch_libtorch"
            assert [name.rpartition("__")[2] for name in names] == [str(place) for place in range(len(names))]
            assert self.config.input[0].name.endswith("__0")
        return names

    def _onnx(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(self.config.parameters["intra_op_thread_count"].string_value or 1)
        session = onnxruntime.InferenceSession(self.files / "model.onnx", options, providers=["CPUExecutionProvider"])
        return lambda array: session.run(self._run_names(), {self.config.input[0].name: array})

    def _openvino(self) -> Any:
        import openvino

        compiled = openvino.Core().compile_model(self.files / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

        def run(array: np.ndarray) -> list[np.ndarray]:
            answer = compiled({self.config.input[0].name: array})
            return [np.array(answer[name]) for name in self._run_names()]

        return run

    def _torch(self) -> Any:
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch.jit is deprecated
            module = torch.jit.load(self.files / "model.pt")

        def run(array: np.ndarray) -> list[np.ndarray]:
            with torch.inference_mode():
                return [output.numpy() for output in module(torch.from_numpy(array.copy()))]

        return run


class _Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, model: TritonModel) -> None:
        self._model = model

    def ModelInfer(self, request: Any, context: Any) -> Any:
        if (request.model_name, request.model_version) != (self._model.config.name, str(self._model.version)):
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no {request.model_name} {request.model_version}")
        inputs = {
            given.name: np.frombuffer(content, NUMPY[given.datatype]).reshape(given.shape)
            for given, content in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        try:
            outputs = self._model.infer(inputs)
        except RefusedError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version=request.model_version)
        for wanted in request.outputs:
            array = outputs[wanted.name]
            if count := wanted.parameters["classification"].int64_param:
                kind, shape, content = self._classes(wanted.name, array, count)
            else:
                kind, shape, content = "FP32", array.shape, array.tobytes()
            answer.outputs.add(name=wanted.name, datatype=kind, shape=shape)
            answer.raw_output_contents.append(content)
        return answer

    def _classes(self, name: str, array: np.ndarray, count: int) -> tuple[str, tuple[int, ...], bytes]:
        """Return the most probable classes as ``value:index:label``, each after its length."""
        labels, content = self._model.labels(name), b""
        for row in array:
            for index in np.argsort(-row)[:count]:
                text = f"{row[index]:f}:{index}:{labels[index]}".encode()
                content += struct.pack("<I", len(text)) + text
        return "BYTES", (len(array), count), content


@contextlib.contextmanager
def serving(model: TritonModel) -> Iterator[str]:
    """Serve a model for as long as the block lasts, and yield where."""
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Servicer(model), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(5)
