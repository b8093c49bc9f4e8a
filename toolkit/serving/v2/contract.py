"""What a model says of itself in the protocol, what a request to it has to be, and what it answers.

One input, ``images``: pixels at the model's size (``UINT8 [n, H, W, 3]``), or image files as they are
(``BYTES [n]``). Three outputs: ``logits`` and ``probabilities`` (``FP32 [n, C]``), and ``label`` (``BYTES [n]``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from toolkit.serving.interface import Limits, Model, Outputs
from toolkit.serving.refusals import BadRequest, TooLarge
from toolkit.serving.v2.messages import (
    Binary,
    Elements,
    InferRequest,
    InputTensor,
    Numbers,
    OutputTensor,
    RequestedOutput,
    elements_of,
)

INPUT: Final = "images"
LABEL: Final = "label"
SCORES: Final = ("logits", "probabilities")
OUTPUTS: Final = (*SCORES, LABEL)
MOST_NUMBERS: Final = 2**21
"""In one request, where they come one by one and not in the binary form; each is an object until it is a pixel. Enough
for 13 images of 224 x 224."""
_LONGEST_SHOWN = 100
"""Characters of what somebody sent."""

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""``[n, H, W, 3]``."""
Files: TypeAlias = Sequence[bytes | memoryview]


def metadata(model: Model, versions: Sequence[str]) -> dict[str, Any]:
    """Return what the protocol tells of a model; of this, gRPC has no place for ``parameters``.

    Args:
        model: any of its versions.
        versions: those that are ready.
    """
    height, width, classes = _sizes(model)
    return {
        "name": model.name,
        "versions": list(versions),
        "platform": _platform(model),
        "inputs": [
            {
                "name": INPUT,
                "datatype": "UINT8",
                "shape": [-1, height, width, 3],
                "parameters": {
                    "content": "RGB pixels, prepared as 'preprocessing' says",
                    "or": {"datatype": "BYTES", "shape": [-1], "content": "image files, which the server prepares"},
                },
            }
        ],
        "outputs": [
            *({"name": name, "datatype": "FP32", "shape": [-1, classes]} for name in SCORES),
            {"name": LABEL, "datatype": "BYTES", "shape": [-1]},
        ],
        "parameters": facts(model),
    }


def facts(model: Model) -> dict[str, Any]:
    """Return what a client needs to know of a model that the protocol has no field for."""
    manifest = model.manifest
    return {
        "labels": list(manifest.labels),
        "preprocessing": manifest.preprocessing.model_dump(mode="json"),
        "backbone": manifest.origin.backbone,
        "license_of_the_pretrained_weights": manifest.origin.weights_license,
        "format": model.artifact.format,
        "precision": model.artifact.precision,
        "sha256": model.artifact.sha256,
    }


def configuration(model: Model, limits: Limits) -> dict[str, Any]:
    """Return a model as the model configuration extension describes one; it is where gRPC has a place for ``facts``.

    https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_configuration.md
    """
    height, width, classes = _sizes(model)
    return {
        "name": model.name,
        "platform": _platform(model),
        "max_batch_size": limits.images,
        "input": [{"name": INPUT, "data_type": "TYPE_UINT8", "dims": [height, width, 3]}],
        "output": [
            *({"name": name, "data_type": "TYPE_FP32", "dims": [classes]} for name in SCORES),
            {"name": LABEL, "data_type": "TYPE_STRING", "dims": []},
        ],
        "parameters": {name: {"string_value": _text(value)} for name, value in facts(model).items()},
    }


def checked_input(request: InferRequest, model: Model, limits: Limits) -> Pixels | Files:
    """Return what a request wants to have classified.

    Returns:
        Pixels, which are a view of what came from the network where they came in the binary form; or image files.

    Raises:
        BadRequest: it is not what the model takes; the message says what was given and what is taken.
        TooLarge: more images, or more numbers one by one, than the server takes.
    """
    tensor = _only_input(request.inputs, model)
    if tensor.datatype == "UINT8":
        height, width, _ = _sizes(model)
        shape = _shape(tensor, (height, width, 3), limits)
        return _pixels(tensor, shape)
    if tensor.datatype == "BYTES":
        (count,) = _shape(tensor, (), limits)
        return _files(tensor, count)
    raise BadRequest(f"the input {INPUT!r} has the datatype {shown(tensor.datatype)}; {_taken(model)}.")


def requested_outputs(request: InferRequest) -> tuple[RequestedOutput, ...]:
    """Return the outputs that an answer has to have, in its order.

    Raises:
        BadRequest: the model has no such output, one is asked for twice, or classes of it cannot be had.
    """
    outputs = request.outputs or tuple(RequestedOutput(name, binary=request.binary) for name in OUTPUTS)
    names = [output.name for output in outputs]
    for output in outputs:
        if output.name not in OUTPUTS:
            raise BadRequest(f"there is no output {shown(output.name)}; the outputs are {', '.join(OUTPUTS)}.")
        if names.count(output.name) > 1:
            raise BadRequest(f"the output {output.name!r} is asked for more than once.")
        _require_classes(output)
    return outputs


def answer_tensors(
    requested: Sequence[RequestedOutput], outputs: Outputs, labels: Sequence[str]
) -> tuple[OutputTensor, ...]:
    """Return the tensors of an answer.

    Args:
        requested: as ``requested_outputs`` returns them.
        outputs: of the model.
        labels: of the model, in the order of its outputs.
    """
    return tuple(_answer(output, outputs, labels) for output in requested)


def shown(value: object) -> str:
    """Return a name, in quotes, or another value that somebody sent so that it can stand in a sentence and a header.

    Python escapes what is not printable.
    """
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _sizes(model: Model) -> tuple[int, int, int]:
    preprocessing = model.manifest.preprocessing
    return preprocessing.height, preprocessing.width, len(model.manifest.labels)


def _platform(model: Model) -> str:
    """Return the engine and what it runs, as in ``onnxruntime_onnx``."""
    return "_".join(part for part in (model.artifact.engine, model.artifact.family) if part)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _taken(model: Model) -> str:
    height, width, _ = _sizes(model)
    return f"it takes UINT8 [n, {height}, {width}, 3] (RGB pixels) or BYTES [n] (image files)"


def _only_input(inputs: Sequence[InputTensor], model: Model) -> InputTensor:
    if unknown := next((tensor for tensor in inputs if tensor.name != INPUT), None):
        raise BadRequest(f"there is no input {shown(unknown.name)}; the only one is {INPUT!r}, and {_taken(model)}.")
    if len(inputs) != 1:
        raise BadRequest(f"the request has {len(inputs)} inputs {INPUT!r}; it needs one, and {_taken(model)}.")
    return inputs[0]


def _shape(tensor: InputTensor, of_one: tuple[int, ...], limits: Limits) -> tuple[int, ...]:
    """Return the shape of a tensor, which is that of ``n`` images."""
    if len(tensor.shape) != 1 + len(of_one) or tensor.shape[1:] != of_one or tensor.shape[0] < 1:
        wanted = ", ".join(("n", *map(str, of_one)))
        raise BadRequest(
            f"the input {INPUT!r} has the shape {shown(list(tensor.shape))}; as {tensor.datatype} it is [{wanted}], "
            "n of at least 1."
        )
    if tensor.shape[0] > limits.images:
        raise TooLarge(f"the request has {tensor.shape[0]} images; the server takes {limits.images} in one request.")
    return tensor.shape


def _pixels(tensor: InputTensor, shape: tuple[int, ...]) -> Pixels:
    count = math.prod(shape)
    if isinstance(tensor.content, Numbers):
        return _pixels_of_numbers(tensor.content.values, shape, count)
    if isinstance(tensor.content, Elements):
        raise BadRequest(f"the input {INPUT!r} is UINT8, and its data is that of BYTES.")
    if len(tensor.content.content) != count:
        raise BadRequest(
            f"the input {INPUT!r} has {len(tensor.content.content)} bytes of data; its shape {list(shape)} as UINT8 "
            f"takes {count}."
        )
    return np.frombuffer(tensor.content.content, np.uint8).reshape(shape)


def _pixels_of_numbers(values: Sequence[Any], shape: tuple[int, ...], count: int) -> Pixels:
    if count > MOST_NUMBERS:
        raise TooLarge(
            f"the request has {count} numbers one by one; the server takes {MOST_NUMBERS}. Send the pixels in the "
            "binary form, or the image files."
        )
    flat = values if len(values) == count else _flat(values, shape)
    try:
        # Whoever sends texts or fractions is told; an array of numpy would take them, and some of them very much room.
        content = bytes(flat)
    except TypeError as error:
        raise BadRequest(f"the data of the input {INPUT!r} holds something else than whole numbers.") from error
    except ValueError as error:
        raise BadRequest(f"the data of the input {INPUT!r} holds numbers outside of 0 to 255.") from error
    return np.frombuffer(content, np.uint8).reshape(shape)


def _flat(values: Sequence[Any], shape: tuple[int, ...]) -> Sequence[Any]:
    """Return nested values in a row."""
    rows: list[Any] = [list(values)]
    for size in shape:
        if any(not isinstance(row, list) or len(row) != size for row in rows):
            raise BadRequest(
                f"the data of the input {INPUT!r} is not nested as its shape {list(shape)}, and has not its "
                f"{math.prod(shape)} values in a row."
            )
        rows = list(chain.from_iterable(rows))
    return rows


def _files(tensor: InputTensor, count: int) -> Files:
    if isinstance(tensor.content, Binary):
        return elements_of(tensor.content.content, count)
    if isinstance(tensor.content, Numbers):
        raise BadRequest(f"the input {INPUT!r} is BYTES, and its data is that of numbers.")
    if len(tensor.content.values) != count:
        raise BadRequest(f"the input {INPUT!r} has {len(tensor.content.values)} elements; its shape takes {count}.")
    return tensor.content.values


def _require_classes(output: RequestedOutput) -> None:
    if output.classes is None:
        return
    if output.name not in SCORES:
        raise BadRequest(f"the output {output.name!r} has no classification; {' and '.join(SCORES)} have.")
    if not isinstance(output.classes, int) or isinstance(output.classes, bool) or output.classes < 1:
        raise BadRequest(
            f"the classification of the output {output.name!r} is {shown(output.classes)}; it is how many of the best "
            "classes are wanted, a whole number of at least 1."
        )


def _answer(requested: RequestedOutput, outputs: Mapping[str, Any], labels: Sequence[str]) -> OutputTensor:
    name, binary = requested.name, requested.binary
    if name == LABEL:
        best = outputs["probabilities"].argmax(axis=1)
        return OutputTensor(name, "BYTES", (len(best),), [labels[index].encode() for index in best], binary)
    scores = outputs[name]
    if isinstance(requested.classes, int):
        classes = min(requested.classes, len(labels))
        best = np.argsort(-scores, axis=1, kind="stable")[:, :classes]
        elements = [
            f"{row[index]!s}:{index}:{labels[index]}".encode()
            for row, indices in zip(scores, best, strict=True)
            for index in indices
        ]
        return OutputTensor(name, "BYTES", (len(scores), classes), elements, binary)
    return OutputTensor(name, "FP32", scores.shape, scores, binary)
