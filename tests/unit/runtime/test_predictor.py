from __future__ import annotations

import http.client
import io
import pickle
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from image_sources import Held, png
from PIL import Image

import toolkit
from toolkit.errors import BundleError, DeviceError, ImageError, ToolkitError
from toolkit.formats.onnx import OnnxSession

Maker = Callable[[str], np.ndarray]


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


@pytest.mark.parametrize(
    "kind", ["path", "text", "bytes", "bytearray", "memoryview", "BytesIO", "file", "pil", "array"]
)
def test_one_image_alone_is_a_list_of_one(colour_bundle: Path, colour_image: Maker, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "green.png"
    file.write_bytes(png(colour_image("green")))
    opened = file.open("rb")
    source = {
        "path": file,
        "text": str(file),
        "bytes": file.read_bytes(),
        "bytearray": bytearray(file.read_bytes()),
        "memoryview": memoryview(file.read_bytes()),
        "BytesIO": io.BytesIO(file.read_bytes()),
        "file": opened,
        "pil": Image.fromarray(colour_image("green")),
        "array": colour_image("green"),
    }[kind]
    predictor = toolkit.load(colour_bundle)
    # A file is read from its start each time, also where it stands twice in one list.
    assert [prediction.label for prediction in predictor.predict(source)] == ["green"]
    assert [prediction.label for prediction in predictor.predict([source, source, source])] == ["green"] * 3
    opened.close()


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
    to_embed = {"Bundle", "ImageError", "Prediction", "Predictor", "ToolkitError", "load"}
    to_train = {"Run", "Runs", "finetune", "open_run", "runs", "pull", "push"}
    assert set(dir(toolkit)) == to_embed | to_train | {"ImageError", "ToolkitError", "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = toolkit.nothing


@pytest.mark.parametrize("sources", [None, 3, {"a.png": b""}, 2.5])
def test_what_holds_no_images_is_a_sentence(colour_bundle: Path, sources: object) -> None:
    predictor = toolkit.load(colour_bundle)
    for call in (predictor.predict, predictor.stream):
        with pytest.raises(ImageError, match=r"images are given one by one or as a list, not as .*: give paths"):
            call(sources)  # type: ignore[operator]  # the mistake under test


@pytest.mark.parametrize("source", [None, [[0, 1], [2, 3]], {"path": "a.png"}, 7])
def test_what_is_no_image_is_a_sentence(colour_bundle: Path, source: object) -> None:
    with pytest.raises(ImageError, match=r"the image given as \w+ cannot be read as an image: give a path"):
        toolkit.load(colour_bundle).predict([source])  # type: ignore[list-item]  # the mistake under test


def test_files_that_are_no_binary_files(colour_bundle: Path, tmp_path: Path) -> None:
    predictor = toolkit.load(colour_bundle)
    (tmp_path / "a.png").write_text("text")
    closed = io.BytesIO(b"x")
    closed.close()
    with (tmp_path / "a.png").open() as text, (tmp_path / "b.png").open("wb") as written:
        for source, words in (
            (
                text,
                r"TextIOWrapper \(.*a\.png\).*its read\(\) gives str, and must give bytes: open files in the mode 'rb'",
            ),
            (io.StringIO("text"), "its read\\(\\) gives str"),
            (written, "the file does not allow it.*'rb'"),
            (closed, "the file is closed"),
            (io.BytesIO(), "the file is empty"),
        ):
            with pytest.raises(ImageError, match=words):
                predictor.predict(source)  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize("count", [0, -1, 2.0, "8", True])
def test_counts_are_whole_numbers_of_1_or_more(colour_bundle: Path, colour_image: Maker, count: object) -> None:
    predictor = toolkit.load(colour_bundle)
    image = colour_image("red")
    with pytest.raises(ToolkitError, match=r"batch_size is .*: give a whole number of 1 or more"):
        predictor.predict([image], batch_size=count)  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(ToolkitError, match=r"batch_size is .*: give a whole number of 1 or more"):
        predictor.stream([image], batch_size=count)  # type: ignore[arg-type]  # at the call, not at the first image
    with pytest.raises(ToolkitError, match="k is "):
        predictor.predict(image)[0].top(count)  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(ToolkitError, match="max_pixels is "):
        toolkit.load(colour_bundle, max_pixels=count)  # type: ignore[arg-type]  # the mistake under test
    if count is not None:  # all cores
        with pytest.raises(ToolkitError, match=r"threads is .*: give a whole number from 1 to 1024"):
            toolkit.load(colour_bundle, threads=count)  # type: ignore[arg-type]  # the mistake under test


def test_the_limit_in_pixels_is_the_predictors(colour_bundle: Path) -> None:
    image = png(np.zeros((30, 40, 3), np.uint8))
    assert len(toolkit.load(colour_bundle, max_pixels=1200).predict(image)) == 1
    with pytest.raises(ImageError, match="40 x 30 pixels, more than 1199"):
        toolkit.load(colour_bundle, max_pixels=1199).predict(image)


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
    colour_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    outputs: Callable[[int], dict[str, np.ndarray]],
    said: str,
) -> None:
    predictor = toolkit.load(colour_bundle)
    monkeypatch.setattr(OnnxSession, "run", lambda self, inputs: outputs(len(inputs)))
    with pytest.raises(BundleError, match=said):
        predictor.predict(np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize("error", [zipfile.BadZipFile("a.png is damaged"), http.client.IncompleteRead(b"ab")])
def test_a_file_that_raises_is_one_image_without_a_prediction(
    colour_bundle: Path, colour_image: Maker, error: Exception
) -> None:
    class Broken:
        def read(self, size: int = -1) -> bytes:
            raise error

    outcomes = [outcome for _, outcome in toolkit.load(colour_bundle).stream([Broken(), colour_image("red")])]
    assert str(outcomes[0]).startswith("the image given as Broken cannot be read as an image: reading it failed (")
    assert getattr(outcomes[1], "label", None) == "red"


def test_bytes_that_are_not_in_one_piece(colour_bundle: Path, colour_image: Maker) -> None:
    content = png(colour_image("green"))
    spread = bytearray(2 * len(content))
    spread[::2] = content
    assert toolkit.load(colour_bundle).predict(memoryview(spread)[::2])[0].label == "green"


def test_an_array_of_several_images_says_how_to_give_them(colour_bundle: Path, colour_image: Maker) -> None:
    several = np.stack([colour_image("red"), colour_image("blue")])
    predictor = toolkit.load(colour_bundle)
    with pytest.raises(ImageError, match=r"give a batch as a list of them, list\(array\)"):
        predictor.predict(several)
    assert [prediction.label for prediction in predictor.predict(list(several))] == ["red", "blue"]


def test_a_batch_size_beyond_every_machine_is_all_at_once(colour_bundle: Path, colour_image: Maker) -> None:
    assert len(toolkit.load(colour_bundle).predict([colour_image("red")] * 3, batch_size=10**30)) == 3


def test_predictions_can_be_compared_and_collected(colour_bundle: Path, colour_image: Maker) -> None:
    predictor = toolkit.load(colour_bundle)
    red, again, blue = predictor.predict([colour_image(label) for label in ("red", "red", "blue")])
    assert red == again
    assert red != blue
    assert red != "red"
    assert len({red, again, blue}) == 2
    assert pickle.loads(pickle.dumps(red)) == red


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"verify_key": ""}, "verify_key is '': give a path that is not empty"),
        ({"verify_key": b"key.pem"}, "verify_key is b'key.pem': give a path"),
        ({"allow_code": "no"}, "allow_code is 'no': give True or False"),
        ({"spinning": "no"}, "spinning is 'no': give True or False"),
        ({"threads": 10**6}, "threads is 1000000: give a whole number from 1 to 1024"),
    ],
)
def test_a_choice_that_would_be_taken_for_another_is_refused(
    colour_bundle: Path, choices: dict[str, object], said: str
) -> None:
    with pytest.raises(ToolkitError, match=said):
        toolkit.load(colour_bundle, **choices)  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize(
    ("path", "said"),
    [(None, "a bundle is None: give a path"), ("", "a bundle is ''"), (b"x", "a bundle is b'x'"), ("x" * 5000, "too")],
)
def test_what_is_no_path_of_a_bundle_is_a_sentence(path: object, said: str) -> None:
    with pytest.raises(BundleError, match=said):
        toolkit.load(path)  # type: ignore[arg-type]  # the mistake under test


def test_run_takes_an_array(colour_bundle: Path, colour_image: Maker) -> None:
    with pytest.raises(ImageError, match="run takes one array of prepared pixels, not list"):
        toolkit.load(colour_bundle).run([colour_image("red")])  # type: ignore[arg-type]  # the mistake under test


def test_prepare_is_the_first_half_of_predict_and_run_the_second(
    colour_bundle: Path, colour_image: Maker, tmp_path: Path
) -> None:
    predictor = toolkit.load(colour_bundle)
    large = np.zeros((57, 31, 3), np.uint8)
    large[..., 2] = 255
    (tmp_path / "blue.png").write_bytes(png(large))
    prepared = [predictor.prepare(source) for source in (tmp_path / "blue.png", colour_image("red"))]
    assert [(image.dtype, image.shape) for image in prepared] == [(np.dtype(np.uint8), (8, 8, 3))] * 2
    outputs = predictor.run(np.stack(prepared))
    assert [predictor.labels[index] for index in outputs["logits"].argmax(axis=1)] == ["blue", "red"]
    with pytest.raises(ImageError, match="the image given as bytes cannot be read as an image"):
        predictor.prepare(b"broken")
    with pytest.raises(ImageError, match="31 x 57 pixels, more than 100"):
        toolkit.load(colour_bundle, max_pixels=100).prepare(tmp_path / "blue.png")


def test_sources_are_read_in_the_thread_that_asks_and_their_error_comes_last(
    colour_bundle: Path, colour_image: Maker
) -> None:
    readers = set()

    def sources() -> object:
        for _ in range(5):
            readers.add(threading.get_ident())
            yield colour_image("green")
        raise zipfile.BadZipFile("the archive ends here")

    stream = toolkit.load(colour_bundle, threads=2).stream(sources(), batch_size=2)  # type: ignore[arg-type]  # a generator
    assert [next(stream)[1].label for _ in range(5)] == ["green"] * 5  # type: ignore[union-attr]  # a prediction
    with pytest.raises(zipfile.BadZipFile, match="ends here"):
        next(stream)
    assert readers == {threading.get_ident()}


def test_a_file_that_never_ends_stops_nobody_else(colour_bundle: Path, colour_image: Maker) -> None:
    go_on, reading = threading.Event(), threading.Event()

    predictor = toolkit.load(colour_bundle, threads=1)
    files = [Held(png(colour_image("red")), reading, go_on) for _ in range(2)]
    stuck = threading.Thread(target=predictor.predict, args=(files,))
    stuck.start()
    assert reading.wait(60)
    assert [one.label for one in predictor.predict([colour_image("blue")] * 5, batch_size=2)] == ["blue"] * 5
    go_on.set()
    stuck.join(60)
    assert not stuck.is_alive()
