"""Predictors in forks, pickles and copies."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import STREAMS
from image_sources import Held, png

import toolkit
from toolkit.bundle.manifest import SIGNATURE_NAME
from toolkit.bundle.trust.signature import make_keys
from toolkit.bundle.writer import sign_bundle
from toolkit.errors import ImageError, IntegrityError, SignatureError
from toolkit.preprocess.pillow_errors import pillow_warnings_ignored

Maker = Callable[[str], np.ndarray]


def forked(work: Callable[[], object]) -> multiprocessing.process.BaseProcess:
    """Start a forked process that does some work."""
    # Of Python 3.12 and later: the process has threads when it is forked.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
    return process


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
