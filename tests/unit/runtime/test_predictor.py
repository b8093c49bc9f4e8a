from __future__ import annotations

import copy
import gc
import http.client
import io
import multiprocessing
import os
import pickle
import threading
import time
import warnings
import weakref
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import BATCH, STREAMS
from PIL import Image

import toolkit
from toolkit import provenance
from toolkit.bundle.manifest import SIGNATURE_NAME
from toolkit.bundle.trust.signature import make_keys
from toolkit.bundle.writer import sign_bundle
from toolkit.errors import BundleError, DeviceError, ImageError, IntegrityError, SignatureError, ToolkitError
from toolkit.formats.onnx import OnnxSession
from toolkit.preprocess.pillow_errors import pillow_warnings_ignored
from toolkit.runtime.tuning import NotTunedHereWarning

Maker = Callable[[str], np.ndarray]


def forked(work: Callable[[], object]) -> multiprocessing.process.BaseProcess:
    """Start a forked process that does some work."""
    # Of Python 3.12 and later: the process has threads when it is forked.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
    return process


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


COPIES = {
    "pickle": lambda predictor: pickle.loads(pickle.dumps(predictor)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_opens_the_same_bundle_with_the_same_choices(
    colour_bundle: Path, colour_image: Maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    monkeypatch.chdir(colour_bundle.parent)
    predictor = toolkit.load("bundle", artifact="onnx", threads=3, spinning=True)
    monkeypatch.chdir(tmp_path)
    other = COPIES[how](predictor)
    assert other.session is not predictor.session
    assert (other.artifact, other.session.device, other.session.threads) == (predictor.artifact, "cpu", 3)
    assert other.session.spinning is True
    assert other.predict([colour_image("blue")])[0].label == "blue"


def test_a_copy_checks_the_signature_again(
    colour_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    make_keys(private, public)
    sign_bundle(colour_bundle, private)
    monkeypatch.chdir(tmp_path)
    stored = pickle.dumps(toolkit.load(colour_bundle, verify_key=public.name))
    monkeypatch.chdir("/")
    assert pickle.loads(stored).labels == ("blue", "green", "red")
    (colour_bundle / SIGNATURE_NAME).unlink()
    with pytest.raises(SignatureError):
        pickle.loads(stored)


def test_a_pickle_of_a_bundle_that_has_changed_is_refused(colour_bundle: Path) -> None:
    stored = pickle.dumps(toolkit.load(colour_bundle))
    (colour_bundle / "model.onnx").write_bytes(b"other")
    with pytest.raises(IntegrityError):
        pickle.loads(stored)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_after_a_fork_it_answers_and_the_process_ends_well(colour_bundle: Path, colour_image: Maker) -> None:
    predictor = toolkit.load(colour_bundle, threads=2)

    def work() -> None:
        assert predictor.session.threads == 2
        assert predictor.selftest().passed
        assert predictor.predict([colour_image("red")])[0].label == "red"

    # Of Python 3.12 and later: the process has threads when it is forked.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
    process.join(60)
    assert process.exitcode == 0


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in Linux' /proc")
def test_predictors_that_are_dropped_leave_no_threads_and_no_open_files(
    colour_bundle: Path, colour_image: Maker
) -> None:
    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

    toolkit.load(colour_bundle, threads=3).predict([colour_image("red")])
    gc.collect()
    before = held()
    for _ in range(20):
        toolkit.load(colour_bundle, threads=3).predict([colour_image("red")])
    gc.collect()
    after = held()
    # Fewer, where something that another test left behind ended meanwhile; 20 leaks are far more.
    assert all(now <= then for now, then in zip(after, before, strict=True)), (after, before)


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


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system has no /proc")
def test_many_predictions_leave_no_threads_and_no_descriptors(
    colour_bundle: Path, colour_image: Maker, tmp_path: Path
) -> None:
    def held() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    def is_kept() -> bool:
        # Fewer, where something that another test left behind ended meanwhile; 30 leaks are far more.
        return all(now <= then for now, then in zip(held(), before, strict=True))

    file = tmp_path / "a.png"
    file.write_bytes(png(colour_image("red")))
    predictor = toolkit.load(colour_bundle, threads=1)
    predictor.predict([file] * 4)
    before = held()
    for _ in range(30):
        predictor.predict([file, str(file), file.read_bytes(), io.BytesIO(file.read_bytes())], batch_size=2)
        list(predictor.stream([b"broken", tmp_path / "gone.png", file]))
        next(iter(predictor.stream([file] * 8, batch_size=1)))  # and is left
    gc.collect()
    end = time.monotonic() + 60
    while not is_kept() and time.monotonic() < end:
        time.sleep(0.001)  # the file that was decoded when the last stream was left
    assert is_kept(), (held(), before)


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_stream_goes_on_in_a_fork(colour_bundle: Path, colour_image: Maker, batch_size: int) -> None:
    stream = toolkit.load(colour_bundle, threads=1).stream([colour_image("red")] * 6, batch_size)
    next(stream)
    process = forked(lambda: [outcome.label for _, outcome in stream] == ["red"] * 5 or 1 / 0)
    process.join(60)
    process.kill()
    assert process.exitcode == 0
    assert len(list(stream)) == 5


class Held:
    """A file, and no ``BytesIO``, that is not read on before somebody says so."""

    def __init__(self, content: bytes, reading: threading.Event, go_on: threading.Event) -> None:
        self._inner = io.BytesIO(content)
        self._reading = reading
        self._go_on = go_on

    def read(self, size: int | None = -1) -> bytes:
        self._reading.set()
        self._go_on.wait(60)
        return self._inner.read(size)

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_file_that_is_read_at_the_fork_does_not_stop_the_child(
    colour_bundle: Path, colour_image: Maker, tmp_path: Path
) -> None:
    reading, go_on = threading.Event(), threading.Event()

    predictor = toolkit.load(colour_bundle, threads=1)
    thread = threading.Thread(target=predictor.predict, args=(Held(png(colour_image("red")), reading, go_on),))
    thread.start()
    assert reading.wait(60)
    file = tmp_path / "green.png"
    file.write_bytes(png(colour_image("green")))
    with file.open("rb") as opened:
        process = forked(lambda: predictor.predict(opened)[0].label == "green" or 1 / 0)
        process.join(30)
        process.kill()
    go_on.set()
    thread.join()
    assert process.exitcode == 0


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


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Which session each call went to, and with how many images."""
    made: list[tuple[int, int]] = []
    run = OnnxSession.run

    def noted(self: OnnxSession, inputs: np.ndarray) -> dict[str, np.ndarray]:
        made.append((id(self), len(inputs)))
        return run(self, inputs)

    monkeypatch.setattr(OnnxSession, "run", noted)
    return made


def test_tuned_for_latency_is_one_session_with_the_measured_threads(
    tuned_bundle: Path, colour_image: Maker, calls: list[tuple[int, int]]
) -> None:
    predictor = toolkit.load(tuned_bundle, tuned="latency")
    assert predictor.tuned is not None
    assert (predictor.session.threads, predictor.session.spinning) == (2, True)  # type: ignore[attr-defined]  # of onnxruntime
    assert [one.label for one in predictor.predict([colour_image("red"), colour_image("blue")])] == ["red", "blue"]
    assert [images for _, images in calls] == [1, 1]


def test_many_images_are_spread_over_the_streams_and_come_back_in_order(
    tuned_bundle: Path, colour_image: Maker, calls: list[tuple[int, int]]
) -> None:
    labels = ["red", "green", "blue", "blue", "red"] * 3
    sources: list[object] = [colour_image(label) for label in labels]
    sources[4] = b"broken"
    predictor = toolkit.load(tuned_bundle, tuned="throughput")
    outcomes = [outcome for _, outcome in predictor.stream(sources)]
    assert isinstance(outcomes.pop(4), ImageError)
    del labels[4]
    assert [outcome.label for outcome in outcomes if not isinstance(outcome, ImageError)] == labels
    assert len({session for session, _ in calls}) == STREAMS
    # 15 images, 6 at a time, of which one is broken: 2 + 2 + 1, 2 + 2 + 2, 2 + 1.
    assert sorted(images for _, images in calls) == [1, 1, 2, 2, 2, 2, 2, 2]


def test_a_batch_size_that_is_said_counts_more_than_the_tuned_one(
    tuned_bundle: Path, colour_image: Maker, calls: list[tuple[int, int]]
) -> None:
    toolkit.load(tuned_bundle, tuned="throughput").predict([colour_image("red")] * 8, batch_size=8)
    assert [images for _, images in calls] == [8]


def test_streams_read_three_batches_each_ahead_and_no_more(tuned_bundle: Path, colour_image: Maker) -> None:
    read = []

    def sources() -> object:
        for index in range(100):
            read.append(index)
            yield colour_image("red")

    stream = toolkit.load(tuned_bundle, tuned="throughput").stream(sources())  # type: ignore[arg-type]  # a generator
    next(stream)
    # A batch for each stream to compute, another one meanwhile to decode, and one more.
    assert len(read) == (STREAMS + STREAMS + 1) * BATCH
    for _ in range(BATCH - 1):
        next(stream)
    assert len(read) == (STREAMS + STREAMS + 1) * BATCH


def test_streams_are_safe_under_concurrent_calls(tuned_bundle: Path, colour_image: Maker) -> None:
    predictor = toolkit.load(tuned_bundle, tuned="throughput")
    wrong: list[object] = []

    def ask(label: str) -> None:
        for _ in range(10):
            said = [one.label for one in predictor.predict([colour_image(label)] * 7)]
            if said != [label] * 7:
                wrong.append(said)

    threads = [threading.Thread(target=ask, args=(label,)) for label in ("red", "green", "blue", "red")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("again", [lambda one: pickle.loads(pickle.dumps(one)), copy.copy, copy.deepcopy])
def test_a_pickle_or_a_copy_is_tuned_too(tuned_bundle: Path, again: Callable[..., toolkit.Predictor]) -> None:
    predictor = again(toolkit.load(tuned_bundle, tuned="throughput"))
    assert predictor.tuned is not None
    assert len(predictor._streams) == STREAMS


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_streams_are_opened_again_in_a_fork(tuned_bundle: Path, colour_image: Maker) -> None:
    predictor = toolkit.load(tuned_bundle, tuned="throughput")
    sources = [colour_image(label) for label in ("red", "green", "blue")] * 5
    expected = [one.label for one in predictor.predict(sources)]
    stream = predictor.stream(sources)
    next(stream)

    def child() -> None:
        assert [one.label for one in predictor.predict(sources)] == expected
        rest = [outcome.label for _, outcome in stream if not isinstance(outcome, ImageError)]
        assert rest == expected[1:]
        assert predictor.session.threads == 1

    process = forked(child)
    process.join(60)
    process.kill()
    assert process.exitcode == 0


def test_tuned_decides_threads_and_spinning(tuned_bundle: Path) -> None:
    for beside in ({"threads": 1}, {"spinning": False}):
        with pytest.raises(ToolkitError, match="tuned='latency' decides threads and spinning itself: leave them out"):
            toolkit.load(tuned_bundle, tuned="latency", **beside)  # type: ignore[arg-type]  # each is one of them
    with pytest.raises(ToolkitError, match="tuned is 'speed': give 'latency' or 'throughput'"):
        toolkit.load(tuned_bundle, tuned="speed")  # type: ignore[arg-type]  # the mistake under test


def test_what_was_not_tuned_is_refused(colour_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"was not tuned for latency on cpu: run 'toolkit bench --sweep'"):
        toolkit.load(colour_bundle, tuned="latency")


def test_on_another_machine_the_defaults_are_used_with_a_warning(
    tuned_bundle: Path, monkeypatch: pytest.MonkeyPatch, colour_image: Maker
) -> None:
    monkeypatch.setattr(provenance, "_processor", lambda: "Example CPU")
    with pytest.warns(NotTunedHereWarning, match="this is .* of Example CPU: the defaults are used"):
        predictor = toolkit.load(tuned_bundle, tuned="throughput")
    assert (predictor.tuned, len(predictor._streams)) == (None, 1)
    assert predictor.predict(colour_image("green"))[0].label == "green"


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


USES: dict[str, Callable[[toolkit.Predictor], object]] = {
    "predict": lambda predictor: predictor.predict(np.zeros((8, 8, 3), np.uint8)),
    "stream": lambda predictor: predictor.stream([]),
    "prepare": lambda predictor: predictor.prepare(np.zeros((8, 8, 3), np.uint8)),
    "run": lambda predictor: predictor.run(np.zeros((1, 8, 8, 3), np.uint8)),
    "selftest": lambda predictor: predictor.selftest(),
    "session": lambda predictor: predictor.session,
    "with": lambda predictor: predictor.__enter__(),
    "pickle": pickle.dumps,
    "copy": copy.copy,
}


@pytest.mark.parametrize("use", USES)
def test_a_predictor_that_was_closed_says_so(tuned_bundle: Path, colour_image: Maker, use: str) -> None:
    with toolkit.load(tuned_bundle, tuned="throughput") as predictor:
        assert predictor.predict([colour_image("red")] * 9)[8].label == "red"
    predictor.close()
    with pytest.raises(ToolkitError) as caught:
        USES[use](predictor)
    assert str(caught.value) == "this predictor was closed: open the bundle again with toolkit.load."
    assert predictor.labels == ("blue", "green", "red")


def decoding_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("toolkit-decode")]


def test_threads_are_made_once_and_end_with_it(colour_bundle: Path, colour_image: Maker) -> None:
    predictor = toolkit.load(colour_bundle, threads=1)
    before = decoding_threads()
    predictor.predict(colour_image("red"))
    assert decoding_threads() == before
    predictor.predict([colour_image("red")] * 40)
    (made,) = [thread for thread in decoding_threads() if thread not in before]
    for _ in range(3):
        predictor.predict([colour_image("red")] * 40, batch_size=3)
        next(predictor.stream([colour_image("red")] * 40, batch_size=3))
    assert [thread for thread in decoding_threads() if thread not in before] == [made]
    predictor.close()
    assert not made.is_alive()


def test_a_predictor_that_is_dropped_ends_its_threads_and_frees_the_engine(
    colour_bundle: Path, colour_image: Maker
) -> None:
    predictor = toolkit.load(colour_bundle, threads=1)
    before = decoding_threads()
    stream = predictor.stream([colour_image("red")] * 400, batch_size=2)
    next(stream)
    made = [thread for thread in decoding_threads() if thread not in before]
    session = weakref.ref(predictor.session)
    del predictor, stream
    for thread in made:
        thread.join(60)
        assert not thread.is_alive()
    gc.collect()
    assert session() is None


def test_closing_frees_the_engine(colour_bundle: Path) -> None:
    predictor = toolkit.load(colour_bundle)
    session = weakref.ref(predictor.session)
    predictor.close()
    assert session() is None


@pytest.mark.parametrize("streams", [False, True])
def test_a_stream_of_a_predictor_that_is_closed_ends_in_the_sentence(
    tuned_bundle: Path, colour_image: Maker, streams: bool
) -> None:
    predictor = toolkit.load(tuned_bundle, tuned="throughput" if streams else "latency")
    stream = predictor.stream([colour_image("red")] * 100, batch_size=2)
    assert [next(stream)[1].label for _ in range(2)] == ["red", "red"]  # type: ignore[union-attr]  # a prediction
    predictor.close()
    with pytest.raises(ToolkitError, match="was closed"):
        list(stream)


def test_calls_in_other_threads_end_well_when_it_is_closed(colour_bundle: Path, colour_image: Maker) -> None:
    predictor = toolkit.load(colour_bundle, threads=2)
    said: list[object] = []

    def ask() -> None:
        try:
            while True:
                said.append({one.label for one in predictor.predict([colour_image("red")] * 7, batch_size=2)})
        except ToolkitError as error:
            said.append(str(error))

    callers = [threading.Thread(target=ask) for _ in range(3)]
    for caller in callers:
        caller.start()
    while len(said) < 6:
        pass
    predictor.close()
    for caller in callers:
        caller.join(60)
    closed = "this predictor was closed: open the bundle again with toolkit.load."
    assert [one for one in said if one != {"red"}] == [closed] * 3


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_while_threads_decode_takes_no_lock_along(colour_bundle: Path, colour_image: Maker) -> None:
    predictor = toolkit.load(colour_bundle, threads=2)
    stream, remaining = predictor.stream([png(colour_image("red"))] * 200, batch_size=20), 200
    for left in (199, 150, 100, 50):
        while remaining > left:
            next(stream)
            remaining -= 1
        with pillow_warnings_ignored._lock:
            process = forked(lambda: [one.label for _, one in stream] == ["red"] * left or 1 / 0)  # noqa: B023 - at once
        process.join(60)
        process.kill()
        assert process.exitcode == 0
