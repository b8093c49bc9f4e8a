"""What a person reads beside a model in a repository of Triton: how to serve it, to ask it and to check it."""

from __future__ import annotations

from collections.abc import Iterator

from toolkit.bundle.readme import preprocessing_steps
from toolkit.deploy.triton_config import Deployed
from toolkit.devices import kind_of
from toolkit.distribution import pip_install
from toolkit.printable import printable

README_NAME = "README.md"
NEEDED = "'tritonclient[grpc]' numpy"
"""What check.py imports."""
IMAGE = "nvcr.io/nvidia/tritonserver"


def readme(model: Deployed) -> str:
    """Return the README of a model's folder, as Markdown."""
    gpus = "--gpus all " if kind_of(model.device) == "cuda" else ""
    parts = (
        f"# `{model.name}` for NVIDIA Triton",
        f"Written by `toolkit deploy` from `{printable(model.artifact.file)}` ({model.artifact.format}, "
        f"{model.artifact.precision}) of the bundle `{printable(model.manifest.name)}`. The folder above this one is "
        f"the model repository:\n\n```bash\ndocker run --rm {gpus}-p 8000-8002:8000-8002 -v REPOSITORY:/models:ro "
        f"{IMAGE}:RELEASE-py3 \\\n    tritonserver --model-repository=/models\n```",
        "## What the server must be\n\n" + _list(_needs(model)),
        f"## Check it\n\n```bash\n{pip_install(NEEDED)}\npython check.py localhost:8001\n```\n\n"
        "It sends the golden samples, which lie in `warmup/` as the input takes them, alone and together, and compares "
        "the answers with `expected.json`. Exit code 0 if all of them are as expected, 1 if not, 2 if the server "
        "cannot be asked.",
        "## Ask it\n\n" + _list(_protocol(model)),
        "## From an image file to the input\n\nThe server takes pixels, not files: whoever asks prepares them.\n\n"
        + preprocessing_steps(model.manifest),
        "## How it runs\n\n" + _list(_setting(model)),
    )
    return "\n\n".join(parts) + "\n"


def _needs(model: Deployed) -> Iterator[str]:
    artifact, backend = model.artifact, model.backend
    yield f"It has the `{backend.name}` backend, and {'a GPU' if kind_of(model.device) == 'cuda' else 'needs no GPU'}."
    if artifact.opset is not None and artifact.ir_version is not None:
        yield (
            f"Its ONNX Runtime reads opset {artifact.opset} and IR version {artifact.ir_version}: where the log speaks "
            "of an unsupported version, take a newer release of Triton, or export with `--profile wide`."
        )
    if kind_of(model.device) == "cuda" and backend.cuda_options:
        yield "Its release is of 2024 or later: older ones refuse options for CUDA, which keep float32 exact."
    if backend.platform == "pytorch_libtorch":
        yield f"Its PyTorch is not older than the one that wrote the file ({printable(artifact.producer)})."
    if backend.name == "openvino":
        yield (
            f"Its OpenVINO is not older than the one that wrote the file ({printable(artifact.producer)}). Where the "
            "processor can, the backend computes in bfloat16, and has no parameter against it: if `check.py` says that "
            "values differ, deploy the onnx artifact."
        )
    if artifact.portability == "same-machine":
        yield "It is the machine that exported the file: elsewhere it promises nothing."


def _protocol(model: Deployed) -> Iterator[str]:
    taken, norm = model.manifest.input, model.manifest.input.normalization
    shape = ", ".join(("N", *map(str, model.image_shape)))
    most = f" N is at most {model.max_batch_size}." if model.max_batch_size else " N is any number of images."
    yield (
        f"The Open Inference Protocol (V2), HTTP on port 8000 and gRPC on 8001; model `{model.name}`, version "
        f"{model.version}."
    )
    yield f"Input `{model.input_name}`: {model.data_type} [{shape}], {taken.color}, row by row.{most}"
    if taken.normalization_in_graph:
        yield "Send the pixels as they are: scaling and normalisation are in the graph."
    else:
        yield (
            "Normalise each channel: `(pixel - 255 * mean) / (255 * std)` with mean "
            f"{list(norm.mean)} and std {list(norm.std)}, and put the channels first."
        )
    for output, name in model.output_names.items():
        yield f"Output `{name}`: FP32 [N, {len(model.manifest.labels)}], the {output}."
    yield (
        "Class `i` is line `i` of `labels.txt`, counted from 0. With the classification extension (`class_count` of an "
        "output) the server names the classes itself" + ("." if model.backend.batches else ", of one image a request.")
    )


def _setting(model: Deployed) -> Iterator[str]:
    setting = model.setting
    yield f"Batches, instances and threads are {setting.source}."
    if model.max_batch_size > 1:
        yield (
            f"Up to {model.max_batch_size} images in one call: requests that arrive while all instances are busy share "
            f"one, and a request waits {setting.queue_delay_microseconds} microseconds for others."
        )
    elif model.max_batch_size == 1:
        yield "One image a call: requests share none."
    else:
        yield f"The {model.backend.name} backend puts no requests together: each is one call."
    calls = "call" if setting.instances == 1 else "calls"
    yield f"{setting.instances} {calls} at the same time" + (
        ", on each GPU." if model.device == "cuda" else f", on {model.device}."
    )
    if kind_of(model.device) == "cpu":
        threads = "as many CPU threads as the engine sees cores" if setting.threads is None else str(setting.threads)
        yield f"Threads of one call: {threads}. In a container with a CPU limit the engine sees those of the machine."
    yield "All of it stands in `config.pbtxt`, and may be changed there."


def _list(lines: Iterator[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
