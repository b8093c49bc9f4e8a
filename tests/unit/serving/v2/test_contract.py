"""What a model says of itself, what a request to it has to be, and what it answers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.conftest import LABELS, colour_outputs
from tests.v2_models import ColourModel
from toolkit.serving.interface import Limits
from toolkit.serving.refusals import BadRequest, TooLarge
from toolkit.serving.v2 import contract
from toolkit.serving.v2.contract import (
    answer_tensors,
    checked_input,
    configuration,
    metadata,
    requested_outputs,
    shown,
)
from toolkit.serving.v2.messages import (
    Binary,
    Content,
    Elements,
    InferRequest,
    InputTensor,
    Numbers,
    OutputTensor,
    RequestedOutput,
)

LIMITS = Limits(images=3)


def request_of(
    content: Content, shape: tuple[int, ...] = (1, 8, 8, 3), datatype: str = "UINT8", name: str = "images"
) -> InferRequest:
    return InferRequest((InputTensor(name, datatype, shape, content),))


def binary(size: int) -> Binary:
    return Binary(memoryview(bytes(size)))


def test_metadata_says_what_goes_in_and_what_comes_out(model: ColourModel) -> None:
    known = metadata(model, ["0", "1"])
    assert (known["name"], known["versions"], known["platform"]) == ("colours", ["0", "1"], "onnxruntime_onnx")
    (taken,) = known["inputs"]
    assert (taken["name"], taken["datatype"], taken["shape"]) == ("images", "UINT8", [-1, 8, 8, 3])
    assert (taken["parameters"]["or"]["datatype"], taken["parameters"]["or"]["shape"]) == ("BYTES", [-1])
    assert [(each["name"], each["datatype"], each["shape"]) for each in known["outputs"]] == [
        ("logits", "FP32", [-1, 3]),
        ("probabilities", "FP32", [-1, 3]),
        ("label", "BYTES", [-1]),
    ]


def test_metadata_says_labels_preprocessing_and_licence(model: ColourModel) -> None:
    model.manifest = model.manifest.model_copy(
        update={"origin": model.manifest.origin.model_copy(update={"weights_license": "BSD-3-Clause"})}
    )
    parameters = metadata(model, ["1"])["parameters"]
    assert parameters["labels"] == list(LABELS)
    assert parameters["preprocessing"] == model.manifest.preprocessing.model_dump(mode="json")
    assert parameters["license_of_the_pretrained_weights"] == "BSD-3-Clause"
    assert parameters["sha256"] == model.artifact.sha256
    json.dumps(parameters)


def test_the_configuration_says_the_same_as_strings(model: ColourModel) -> None:
    known = configuration(model, LIMITS)
    assert known["max_batch_size"] == 3
    assert known["input"] == [{"name": "images", "data_type": "TYPE_UINT8", "dims": [8, 8, 3]}]
    assert json.loads(known["parameters"]["labels"]["string_value"]) == list(LABELS)
    assert known["parameters"]["format"] == {"string_value": "onnx"}


def test_binary_pixels_are_a_view_of_what_came(model: ColourModel, pixels: np.ndarray) -> None:
    body = pixels.tobytes()
    taken = checked_input(request_of(Binary(memoryview(body)), pixels.shape), model, LIMITS)
    assert isinstance(taken, np.ndarray)
    assert np.array_equal(taken, pixels)
    assert np.shares_memory(taken, np.frombuffer(body, np.uint8))


@pytest.mark.parametrize("nested", [True, False])
def test_pixels_come_as_numbers_too_nested_or_in_a_row(model: ColourModel, pixels: np.ndarray, nested: bool) -> None:
    values = pixels.tolist() if nested else pixels.ravel().tolist()
    taken = checked_input(request_of(Numbers(values), pixels.shape), model, LIMITS)
    assert isinstance(taken, np.ndarray)
    assert taken.dtype == np.uint8
    assert np.array_equal(taken, pixels)


def test_image_files_are_passed_on(model: ColourModel, files: list[bytes]) -> None:
    taken = checked_input(request_of(Elements(files), (3,), "BYTES"), model, LIMITS)
    assert list(taken) == files


def test_image_files_come_in_the_binary_form_too(model: ColourModel) -> None:
    request = request_of(Binary(memoryview(b"\x02\0\0\0ab\x01\0\0\0c")), (2,), "BYTES")
    assert [bytes(each) for each in checked_input(request, model, LIMITS)] == [b"ab", b"c"]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            InferRequest(()),
            r"has 0 inputs 'images'; it needs one, and it takes UINT8 \[n, 8, 8, 3\] \(RGB pixels\) or",
        ),
        (request_of(binary(192), name="image"), "there is no input 'image'; the only one is 'images'"),
        (
            InferRequest(request_of(binary(192)).inputs * 2),
            "has 2 inputs 'images'; it needs one",
        ),
        (request_of(binary(768), datatype="FP32"), "has the datatype 'FP32'; it takes UINT8"),
        (request_of(binary(192), (8, 8, 3)), r"has the shape \[8, 8, 3\]; as UINT8 it is \[n, 8, 8, 3\]"),
        (request_of(binary(192), (1, 3, 8, 8)), r"as UINT8 it is \[n, 8, 8, 3\]"),
        (request_of(binary(0), (0, 8, 8, 3)), "n of at least 1"),
        (request_of(binary(192), (-1, 8, 8, 3)), "n of at least 1"),
        (request_of(Elements([b"a"]), (1, 1), "BYTES"), r"as BYTES it is \[n\]"),
        (request_of(binary(191)), r"has 191 bytes of data; its shape \[1, 8, 8, 3\] as UINT8 takes 192"),
        (request_of(Elements([b"a"])), "is UINT8, and its data is that of BYTES"),
        (request_of(Numbers([1]), (1,), "BYTES"), "is BYTES, and its data is that of numbers"),
        (request_of(Elements([b"a"]), (2,), "BYTES"), "has 1 elements; its shape takes 2"),
        (request_of(Numbers([0] * 191)), r"is not nested as its shape \[1, 8, 8, 3\], and has not its 192 values"),
        (request_of(Numbers([0.5] * 192)), "something else than whole numbers"),
        (request_of(Numbers(["1"] * 192)), "something else than whole numbers"),
        (request_of(Numbers([None] * 192)), "something else than whole numbers"),
        (request_of(Numbers([{}] * 192)), "something else than whole numbers"),
        (request_of(Numbers([[1], *[3] * 191])), "something else than whole numbers"),
        (request_of(Numbers([10**30] * 192)), "numbers outside of 0 to 255"),
        (request_of(Numbers([256] * 192)), "numbers outside of 0 to 255"),
        (request_of(Numbers([-1] * 192)), "numbers outside of 0 to 255"),
        (request_of(Numbers([[[1]]])), "is not nested as its shape"),
        (request_of(Numbers([[0] * 192])), "is not nested as its shape"),
        (request_of(Numbers(["abcdefgh"])), "is not nested as its shape"),
    ],
)
def test_what_the_model_does_not_take_is_refused(model: ColourModel, request_: InferRequest, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        checked_input(request_, model, LIMITS)


def test_long_texts_among_the_numbers_take_no_room(model: ColourModel) -> None:
    with pytest.raises(BadRequest, match="something else than whole numbers"):
        # An array of numpy would have room for a text of this length in each of its elements: 30 GB.
        checked_input(request_of(Numbers(["x" * 40_000_000, *[0] * 191])), model, LIMITS)


def test_more_images_than_the_server_takes_are_refused(model: ColourModel) -> None:
    for shape, datatype in (((4, 8, 8, 3), "UINT8"), ((4,), "BYTES"), ((2**62, 8, 8, 3), "UINT8")):
        with pytest.raises(TooLarge, match=f"has {shape[0]} images; the server takes 3 in one request"):
            checked_input(request_of(binary(0), shape, datatype), model, LIMITS)


def test_more_numbers_than_the_server_takes_are_refused(model: ColourModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "MOST_NUMBERS", 200)
    with pytest.raises(TooLarge, match=r"has 384 numbers one by one; the server takes 200\. Send the pixels"):
        checked_input(request_of(Numbers([]), (2, 8, 8, 3)), model, LIMITS)


def test_without_a_wish_all_outputs_are_answered_in_the_form_of_the_request() -> None:
    request = InferRequest((), binary=True)
    assert requested_outputs(request) == tuple(
        RequestedOutput(name, binary=True) for name in ("logits", "probabilities", "label")
    )


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([RequestedOutput("score")], "there is no output 'score'; the outputs are logits, probabilities, label"),
        ([RequestedOutput("label")] * 2, "'label' is asked for more than once"),
        ([RequestedOutput("label", 1)], "'label' has no classification; logits and probabilities have"),
        ([RequestedOutput("logits", 0)], "is 0; it is how many of the best classes are wanted"),
        ([RequestedOutput("logits", True)], "is True; it is how many"),
        ([RequestedOutput("logits", 1.5)], "is 1.5; it is how many"),
        ([RequestedOutput("logits", "2")], "is '2'; it is how many"),
    ],
)
def test_outputs_that_there_are_not_are_refused(outputs: list[RequestedOutput], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        requested_outputs(InferRequest((), tuple(outputs)))


def answered(pixels: np.ndarray, **wish: Any) -> OutputTensor:
    (tensor,) = answer_tensors([RequestedOutput(**wish)], colour_outputs(pixels), LABELS)
    return tensor


def test_scores_are_answered_as_they_are(pixels: np.ndarray) -> None:
    tensor = answered(pixels, name="logits", binary=True)
    assert (tensor.datatype, tensor.shape, tensor.binary) == ("FP32", (3, 3), True)
    assert np.array_equal(tensor.content, colour_outputs(pixels)["logits"])


def test_labels_are_those_of_the_most_probable_class(pixels: np.ndarray) -> None:
    tensor = answered(pixels[::-1], name="label")
    assert (tensor.datatype, tensor.shape) == ("BYTES", (3,))
    assert list(tensor.content) == [b"red", b"green", b"blue"]


def test_classes_are_value_index_and_label_best_first(pixels: np.ndarray) -> None:
    tensor = answered(pixels[2:], name="logits", classes=2)
    assert (tensor.datatype, tensor.shape) == ("BYTES", (1, 2))
    assert list(tensor.content) == [b"6.25:2:red", b"0.0:0:blue"]


def test_values_of_classes_are_exact(pixels: np.ndarray) -> None:
    tensor = answered(pixels, name="probabilities", classes=99)
    assert tensor.shape == (3, 3)
    expected = -np.sort(-colour_outputs(pixels)["probabilities"], axis=1)
    values = np.array([element.split(b":")[0] for element in tensor.content], np.float64).astype(np.float32)
    assert np.array_equal(values.reshape(3, 3), expected)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain", "'plain'"),
        ("\x1b[2J\n", r"'\x1b[2J\n'"),
        ("\ud800", r"'\ud800'"),
        ("x" * 101, f"'{'x' * 99}..."),
        ([1], "[1]"),
        (["\ud800"], r"['\ud800']"),
    ],
)
def test_what_somebody_sent_is_shown_so_that_it_fits_into_a_sentence(name: object, text: str) -> None:
    assert shown(name) == text
