"""``config.pbtxt`` of a model in a repository of NVIDIA Triton: the text format of its protobuf ``ModelConfig``.

The fields are those of
https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto, what they mean is said in
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from toolkit.bundle import ArtifactRecord, Manifest
from toolkit.compare.verdict import OUTPUTS
from toolkit.deploy.setting import Setting
from toolkit.devices import index_of, kind_of
from toolkit.printable import printable

LABELS_NAME = "labels.txt"
WARM_UP_RUNS = 3
"""Of one image alone: TorchScript watches its first calls and compiles after them."""
DATA_TYPES = {"uint8": "UINT8", "float32": "FP32"}
"""What the protocol calls them; the configuration has ``TYPE_`` before that."""


@dataclass(frozen=True)
class Backend:
    """What Triton runs the files of one family with."""

    name: str
    platform: str | None
    """What tells one kind of model of a backend from others; None where there is only one."""
    file: str
    """What the main file must be called in the folder of a version."""
    threads: str
    """The parameter that holds the CPU threads of a call."""
    weights: str | None = None
    """What a file of weights must be called that has the name of the main file and another suffix; None where weights
    beside the main file are found by the names that stand in it."""
    by_position: bool = False
    """The file keeps no names of its input and outputs, so that the server counts them."""
    threads_shared: bool = False
    """Whether all instances share that many, as they share the model. False: each has as many of its own."""
    streams: str | None = None
    """The parameter that holds how many calls share the threads."""
    batches: bool = True
    """Whether the server may put requests together. False: each is a call of its own, of any number of images."""
    devices: tuple[str, ...] = ("cpu", "cuda")
    cuda_options: Mapping[str, str] | None = None
    """Options of its provider for GPUs."""


BACKENDS: Mapping[str, Backend] = {
    # https://github.com/triton-inference-server/onnxruntime_backend: parameters, and options of the CUDA provider,
    # which computes float32 in TF32 unless told otherwise. No parameter keeps idle threads from spinning.
    "onnx": Backend(
        name="onnxruntime",
        platform="onnxruntime_onnx",
        file="model.onnx",
        threads="intra_op_thread_count",
        cuda_options={"use_tf32": "0"},
    ),
    # https://github.com/triton-inference-server/pytorch_backend: parameters. What names must look like is said under
    # "Special Conventions for PyTorch Backend" in the page on model configuration.
    "torchscript": Backend(
        name="pytorch",
        platform="pytorch_libtorch",
        file="model.pt",
        threads="INTRA_OP_THREAD_COUNT",
        by_position=True,
    ),
    # https://github.com/triton-inference-server/openvino_backend: parameters, CPU only. With a max_batch_size above 0
    # its source fixes the batch axis to that size and refuses every other number of images, or pads them, which cuts
    # outputs off (https://github.com/triton-inference-server/openvino_backend/pull/115). So here the batch is an axis
    # like the others.
    "openvino": Backend(
        name="openvino",
        platform=None,
        file="model.xml",
        threads="INFERENCE_NUM_THREADS",
        weights="model.bin",
        threads_shared=True,
        streams="NUM_STREAMS",
        batches=False,
        devices=("cpu",),
    ),
}
"""By family of formats."""


@dataclass(frozen=True)
class Deployed:
    """A model as a server will know it."""

    manifest: Manifest
    artifact: ArtifactRecord
    backend: Backend
    name: str
    version: int
    device: str
    setting: Setting

    @property
    def max_batch_size(self) -> int:
        """Images in one request at most; 0 where the server puts none together and takes any number."""
        return self.setting.max_batch_size if self.backend.batches else 0

    @property
    def input_name(self) -> str:
        """What requests call the input."""
        return "INPUT__0" if self.backend.by_position else self.manifest.input.name

    @property
    def data_type(self) -> str:
        """What requests say that the input is."""
        return DATA_TYPES[self.manifest.input.dtype]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The input without its batch axis."""
        return tuple(int(axis) for axis in self.manifest.input.shape[1:])

    @property
    def output_names(self) -> dict[str, str]:
        """``logits`` and ``probabilities``, in the order in which the network returns them, to what requests say."""
        return {name: f"OUTPUT__{place}" if self.backend.by_position else name for place, name in enumerate(OUTPUTS)}


def config_text(model: Deployed, warm_up: str) -> str:
    """Return the configuration.

    Args:
        model: what is to be served.
        warm_up: name of the file in ``warmup`` that holds one image as the input takes it.
    """
    return "\n".join((*_about(model), *_model(model), *_how(model), *_warm_up(model, warm_up))) + "\n"


def _about(model: Deployed) -> Iterator[str]:
    artifact, manifest = model.artifact, model.manifest
    yield f"# {printable(manifest.name)}: {printable(artifact.file)}, {artifact.format}, {artifact.precision}."
    yield f"# Batches, instances and threads: {model.setting.source}."
    if not model.backend.batches:
        yield f"# The {model.backend.name} backend puts no requests together; each may hold any number of images."


def _model(model: Deployed) -> Iterator[str]:
    yield f"name: {_quoted(model.name)}"
    yield f"backend: {_quoted(model.backend.name)}"
    if model.backend.platform is not None:
        yield f"platform: {_quoted(model.backend.platform)}"
    yield f"max_batch_size: {model.max_batch_size}"
    yield from ("input [", "  {")
    yield f"    name: {_quoted(model.input_name)}"
    yield f"    data_type: TYPE_{model.data_type}"
    yield f"    dims: {_dims(model, model.image_shape)}"
    yield from ("  }", "]", "output [")
    names = list(model.output_names.values())
    for name in names:
        yield "  {"
        yield f"    name: {_quoted(name)}"
        yield f"    data_type: TYPE_{DATA_TYPES['float32']}"
        yield f"    dims: {_dims(model, (len(model.manifest.labels),))}"
        yield f"    label_filename: {_quoted(LABELS_NAME)}"
        yield "  }" if name == names[-1] else "  },"
    yield "]"


def _how(model: Deployed) -> Iterator[str]:
    setting, kind = model.setting, kind_of(model.device)
    yield from ("instance_group [", "  {", f"    count: {setting.instances}")
    yield f"    kind: {'KIND_CPU' if kind == 'cpu' else 'KIND_GPU'}"
    if ":" in model.device:
        yield f"    gpus: [ {index_of(model.device)} ]"
    yield from ("  }", "]")
    # A batch size above 1 without a scheduler gets a dynamic batcher with other defaults from some backends.
    if model.max_batch_size > 1:
        yield f"dynamic_batching {{ max_queue_delay_microseconds: {setting.queue_delay_microseconds} }}"
    if kind == "cpu" and setting.threads is not None:
        threads = setting.threads * (setting.instances if model.backend.threads_shared else 1)
        yield _parameter(model.backend.threads, str(threads))
    if model.backend.streams is not None:
        yield _parameter(model.backend.streams, str(setting.instances))
    if kind == "cuda" and model.backend.cuda_options:
        yield from ("optimization {", "  execution_accelerators {", "    gpu_execution_accelerator [", "      {")
        yield '        name: "cuda"'
        for key, value in model.backend.cuda_options.items():
            yield f"        parameters {{ key: {_quoted(key)} value: {_quoted(value)} }}"
        yield from ("      }", "    ]", "  }", "}")


def _warm_up(model: Deployed, file: str) -> Iterator[str]:
    """Yield what an instance runs before it is ready: an image alone, and a full batch of it.

    A file holds one image; of a batch the server makes as many requests of it.
    """
    sizes = sorted({1, max(1, model.max_batch_size)})
    yield "model_warmup ["
    for size in sizes:
        yield "  {"
        yield f"    name: {_quoted(f'a golden sample, {size} at once')}"
        yield f"    batch_size: {size}"
        yield f"    count: {WARM_UP_RUNS if size == 1 else 1}"
        yield "    inputs {"
        yield f"      key: {_quoted(model.input_name)}"
        yield "      value {"
        yield f"        data_type: TYPE_{model.data_type}"
        yield f"        dims: {_dims(model, model.image_shape, images=1)}"
        yield f"        input_data_file: {_quoted(file)}"
        yield from ("      }", "    }", "  }" if size == sizes[-1] else "  },")
    yield "]"


def _dims(model: Deployed, shape: tuple[int, ...], images: int = -1) -> str:
    """Return a shape; with its batch axis only where the server does not add it itself."""
    return f"[ {', '.join(map(str, shape if model.backend.batches else (images, *shape)))} ]"


def _parameter(key: str, value: str) -> str:
    return f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"


def _quoted(text: str) -> str:
    """Return a string of the text format: UTF-8, in which only the quote, the backslash and ends of lines are escaped.

    https://protobuf.dev/reference/protobuf/textformat-spec/#string
    """
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
