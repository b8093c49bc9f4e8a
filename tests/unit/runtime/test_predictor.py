from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import toolkit
from toolkit.errors import BundleError, DeviceError, ImageError

Maker = Callable[[str], np.ndarray]


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_paths_bytes_pil_images_and_arrays_all_work(colour_bundle: Path, colour_image: Maker, tmp_path: Path) -> None:
    predictor = toolkit.load(colour_bundle)
    file = tmp_path / "红色.png"
    file.write_bytes(png(colour_image("red")))
    sources = [file, str(file), png(colour_image("green")), Image.fromarray(colour_image("blue")), colour_image("red")]
    predictions = predictor.predict(sources)
    assert [prediction.label for prediction in predictions] == ["red", "red", "green", "blue", "red"]
    for prediction in predictions:
        assert prediction.probability == pytest.approx(prediction.probabilities.max())
        assert prediction.probabilities.sum() == pytest.approx(1.0, abs=1e-6)
        assert prediction.labels[prediction.index] == prediction.label


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "pil", "array"])
def test_one_image_alone_is_a_list_of_one(colour_bundle: Path, colour_image: Maker, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "green.png"
    file.write_bytes(png(colour_image("green")))
    source = {
        "path": file,
        "text": str(file),
        "bytes": file.read_bytes(),
        "pil": Image.fromarray(colour_image("green")),
        "array": colour_image("green"),
    }[kind]
    assert [prediction.label for prediction in toolkit.load(colour_bundle).predict(source)] == ["green"]


def test_images_of_any_size_are_brought_to_the_models(colour_bundle: Path) -> None:
    large = np.zeros((57, 31, 3), np.uint8)
    large[..., 2] = 255
    assert toolkit.load(colour_bundle).predict([large])[0].label == "blue"


def test_the_answer_does_not_depend_on_the_batch_size(colour_bundle: Path, colour_image: Maker) -> None:
    sources = [colour_image(label) for label in ("red", "green", "blue", "blue", "red")]
    predictor = toolkit.load(colour_bundle)
    one = [prediction.probabilities for prediction in predictor.predict(sources, batch_size=1)]
    four = [prediction.probabilities for prediction in predictor.predict(sources, batch_size=4)]
    np.testing.assert_allclose(one, four, atol=1e-7)


def test_an_image_that_cannot_be_decoded_is_named(colour_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"broken\.png"):
        toolkit.load(colour_bundle).predict([tmp_path / "broken.png"])


def test_a_stream_goes_on_after_a_broken_image(colour_bundle: Path, colour_image: Maker) -> None:
    outcomes = list(
        toolkit.load(colour_bundle).stream([colour_image("red"), b"broken", colour_image("green")], batch_size=2)
    )
    assert isinstance(outcomes[1][1], ImageError)
    assert [outcome.label for _, outcome in outcomes if not isinstance(outcome, ImageError)] == ["red", "green"]


def test_a_batch_of_broken_images_only(colour_bundle: Path) -> None:
    assert [type(outcome) for _, outcome in toolkit.load(colour_bundle).stream([b"x", b"y"])] == [
        ImageError,
        ImageError,
    ]


def test_top_is_sorted_and_cut(colour_bundle: Path, colour_image: Maker) -> None:
    top = toolkit.load(colour_bundle).predict([colour_image("red")])[0].top(2)
    assert [label for label, _ in top] == ["red", "blue"]
    assert top[0][1] > top[1][1]


@pytest.mark.parametrize(
    "images", [np.zeros((1, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8), np.zeros((1, 3, 8, 8), np.uint8)]
)
def test_run_refuses_what_the_contract_does_not_allow(colour_bundle: Path, images: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"the model takes uint8 \[N, 8, 8, 3\] pixels, not"):
        toolkit.load(colour_bundle).run(images)


def test_a_device_that_cannot_be_used_is_an_error_and_never_a_fallback(colour_bundle: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(DeviceError, match="CUDAExecutionProvider"):
        toolkit.load(colour_bundle, device="cuda")
    with pytest.raises(DeviceError, match="cannot run on 'tpu'"):
        toolkit.load(colour_bundle, device="tpu")


def test_a_format_that_the_bundle_lacks(colour_bundle: Path) -> None:
    with pytest.raises(BundleError, match="no 'torchscript' artifact"):
        toolkit.load(colour_bundle, artifact="torchscript")


def test_the_package_has_no_other_names() -> None:
    assert set(dir(toolkit)) == {"Bundle", "Prediction", "Predictor", "__version__", "load"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = toolkit.nothing


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (
            lambda batch: {name: np.zeros((0, 3), np.float32) for name in ("logits", "probabilities")},
            r"logits \[0, 3\]",
        ),
        (lambda batch: {name: np.zeros((batch, 4), np.float32) for name in ("logits", "probabilities")}, r"\[1, 4\]"),
        (lambda batch: 1 / 0, r"cannot run a batch of 1: ZeroDivisionError"),
    ],
)
def test_an_artifact_that_does_not_give_one_output_per_label_is_one_sentence(
    colour_bundle: Path, outputs: Callable[[int], dict[str, np.ndarray]], said: str
) -> None:
    predictor = toolkit.load(colour_bundle)
    predictor.session = SimpleNamespace(run=lambda inputs: outputs(len(inputs)), threads=1, device="cpu", engine="made")
    with pytest.raises(BundleError, match=said):
        predictor.predict(np.zeros((8, 8, 3), np.uint8))
