"""Predictors that use a measured setting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import BATCH, STREAMS

import toolkit
from toolkit import provenance
from toolkit.errors import BundleError, ImageError, ToolkitError
from toolkit.formats.onnx import OnnxSession
from toolkit.runtime.tuning import NotTunedHereWarning

Maker = Callable[[str], np.ndarray]


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
