from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.bundles import BATCH, STREAMS, change_weights
from tests.unit.serving.conftest import BATCHED, ONE_BY_ONE, Noted, finish
from toolkit.errors import BundleError, UntrustedCodeError
from toolkit.formats.opening import WAYS_OUT
from toolkit.runtime import Prediction, load
from toolkit.serving.batching import Item
from toolkit.serving.hosted import Hosted, Opening, _Rate, open_engines
from toolkit.serving.interface import Limits
from toolkit.serving.refusals import (
    BadRequest,
    ModelFailed,
    NotReady,
    Overloaded,
    TimedOut,
    TooLarge,
    UnreadableImage,
)
from toolkit.serving.strategy import Way

Host = Callable[..., Hosted]
Png = Callable[[str], bytes]
SECONDS = 10


class Slow:
    """Stands in for an engine: calls wait until they are let go."""

    def __init__(self, run: Callable[[np.ndarray], dict[str, np.ndarray]]) -> None:
        self._run = run
        self.entered = threading.Semaphore(0)
        self.go = threading.Event()
        self.calls = 0

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        self.calls += 1
        self.entered.release()
        assert self.go.wait(SECONDS)
        return self._run(pixels)


@pytest.fixture
def slow(host: Host, colour_bundle_once: Path) -> Callable[[Opening, Limits], tuple[Hosted, Slow]]:
    def make(opening: Opening, limits: Limits) -> tuple[Hosted, Slow]:
        engines = open_engines(colour_bundle_once, opening)
        engine = Slow(engines.many.run)
        engines.many.run = engine  # type: ignore[method-assign,assignment]
        return host(limits=limits, engines=engines), engine

    return make


@pytest.mark.parametrize("opening", [ONE_BY_ONE, BATCHED, Opening()], ids=["one by one", "batched", "measured"])
class TestEveryWay:
    def test_it_says_what_the_predictor_says(
        self, host: Host, opening: Opening, png: Png, colour_bundle_once: Path, noted: Noted
    ) -> None:
        files = [png(label) for label in ("red", "green", "blue") * 5]
        model = host(opening)
        outcomes = finish(model.classify(files))
        with load(colour_bundle_once) as predictor:
            for outcome, expected in zip(outcomes, predictor.predict(files), strict=True):
                assert isinstance(outcome, Prediction)
                assert outcome.label == expected.label
                np.testing.assert_allclose(outcome.logits, expected.logits, atol=1e-6)
        assert noted.labels == ["red", "green", "blue"] * 5
        assert noted.queue == [15, 0]
        assert [list(spent) for spent in noted.spent] == [["queue", "decode", "compute"]]

    def test_pixels_of_any_number_are_computed(
        self, host: Host, opening: Opening, colour_image: Callable[[str], np.ndarray], noted: Noted
    ) -> None:
        pixels = np.stack([colour_image(label) for label in ("red", "green", "blue") * 7])
        outputs = finish(host(opening).run(pixels))
        assert outputs["logits"].shape == outputs["probabilities"].shape == (21, 3)
        assert outputs["logits"].argmax(axis=1).tolist() == [2, 1, 0] * 7
        assert noted.labels == ["red", "green", "blue"] * 7

    def test_one_bad_image_fails_alone(self, host: Host, opening: Opening, png: Png) -> None:
        files = [png("red"), b"no image", b"", memoryview(png("blue"))]
        red, none, empty, blue = finish(host(opening).classify(files))
        assert isinstance(red, Prediction)
        assert isinstance(blue, Prediction)
        assert (red.label, blue.label) == ("red", "blue")
        assert isinstance(none, UnreadableImage)
        assert isinstance(empty, UnreadableImage)
        assert "it is in none of the formats" in str(none)

    def test_many_requests_at_the_same_time_each_get_their_own(self, host: Host, opening: Opening, png: Png) -> None:
        labels = ["red", "green", "blue", "blue", "red"] * 20
        model = host(opening)

        async def all_of_them() -> list[str]:
            outcomes = await asyncio.gather(*(model.classify([png(label)]) for label in labels))
            return [outcome.label for (outcome,) in outcomes if isinstance(outcome, Prediction)]

        assert finish(all_of_them()) == labels
        assert model.images == 0


def test_an_image_of_too_many_pixels_is_too_large(host: Host, png: Png, colour_bundle_once: Path) -> None:
    content = io.BytesIO()
    Image.new("RGB", (9, 8)).save(content, "PNG")
    model = host(engines=open_engines(colour_bundle_once, ONE_BY_ONE, max_pixels=64))
    fits, refusal = finish(model.classify([png("red"), content.getvalue()]))
    assert isinstance(fits, Prediction)
    assert isinstance(refusal, TooLarge)
    assert "more than 64 pixels" in str(refusal)


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.zeros((1, 8, 8, 3), np.float32), "not float32 [1, 8, 8, 3]"),
        (np.zeros((1, 8, 9, 3), np.uint8), "not uint8 [1, 8, 9, 3]"),
        (np.zeros((8, 8, 3), np.uint8), "not uint8 [8, 8, 3]"),
        (np.zeros((0, 8, 8, 3), np.uint8), "of at least one image, not uint8 [0, 8, 8, 3]"),
    ],
)
def test_pixels_of_another_form_are_refused(host: Host, pixels: np.ndarray, said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        finish(host().run(pixels))
    assert said in str(refused.value)


def test_a_request_of_too_many_images_is_too_large(host: Host, png: Png) -> None:
    model = host(limits=Limits(images=2, queue=10))
    with pytest.raises(TooLarge, match="holds 3 images, and may hold 2"):
        finish(model.classify([png("red")] * 3))
    few = host(limits=Limits(images=20, queue=2))
    with pytest.raises(TooLarge, match="holds 3 images, and may hold 2"):
        finish(few.classify([png("red")] * 3))


def test_no_images_are_no_work(host: Host) -> None:
    assert finish(host().classify([])) == []


@pytest.mark.parametrize("opening", [ONE_BY_ONE, BATCHED], ids=["one by one", "batched"])
def test_a_full_queue_refuses_and_a_cancelled_request_gives_its_place_back(
    slow: Callable[[Opening, Limits], tuple[Hosted, Slow]], opening: Opening, png: Png, noted: Noted
) -> None:
    model, engine = slow(opening, Limits(queue=3))

    async def work() -> None:
        waiting = [asyncio.create_task(model.classify([png("red")])) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.to_thread(engine.entered.acquire, timeout=SECONDS)
        with pytest.raises(
            Overloaded, match="3 images wait or are computed for colours, and there is room for 3"
        ) as no:
            await model.classify([png("red")])
        assert no.value.retry_after is not None
        assert no.value.retry_after >= 1
        waiting[2].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[2]
        later = asyncio.create_task(model.classify([png("blue")]))
        await asyncio.sleep(0)
        assert not later.done()
        engine.go.set()
        assert [(await one)[0].label for one in (*waiting[:2], later)] == ["red", "red", "blue"]  # type: ignore[union-attr]

    finish(work())
    assert max(noted.queue) == 3
    assert noted.queue[-1] == 0


def test_what_takes_too_long_is_given_up_and_its_place_is_free(
    slow: Callable[[Opening, Limits], tuple[Hosted, Slow]], png: Png
) -> None:
    model, engine = slow(ONE_BY_ONE, Limits(seconds=0.05, queue=2))

    async def work() -> None:
        begun = time.perf_counter()
        with pytest.raises(TimedOut, match=r"not answered within 0\.05 s"):
            await model.classify([png("red"), png("red")])
        assert time.perf_counter() - begun < SECONDS / 2
        assert model.images == 0
        engine.go.set()

    finish(work())
    model.close()
    assert engine.calls == 1, "what nobody waits for was computed"


def test_the_event_loop_is_never_blocked(slow: Callable[[Opening, Limits], tuple[Hosted, Slow]], png: Png) -> None:
    model, engine = slow(BATCHED, Limits())

    async def work() -> int:
        asked = asyncio.create_task(model.classify([png("red")] * 3))
        beats = 0
        while beats < 20:
            await asyncio.sleep(0.001)
            beats += 1
        assert not asked.done()
        engine.go.set()
        await asked
        return beats

    assert finish(work()) == 20


def test_numbers_that_are_not_finite_are_no_answer(colour_bundle: Path, host: Host, png: Png) -> None:
    engines = open_engines(colour_bundle, ONE_BY_ONE)
    run = engines.many.run

    def broken(pixels: np.ndarray) -> dict[str, np.ndarray]:
        return {name: np.full_like(values, np.nan) for name, values in run(pixels).items()}

    engines.many.run = broken  # type: ignore[method-assign,assignment]
    model = host(engines=engines)
    (refusal,) = finish(model.classify([png("red")]))
    assert isinstance(refusal, ModelFailed)
    assert "not finite numbers" in str(refusal)
    with pytest.raises(ModelFailed, match="are not finite numbers"):
        finish(model.run(np.zeros((2, 8, 8, 3), np.uint8)))


def test_a_closed_model_says_that_it_was_replaced(host: Host, png: Png) -> None:
    model = host()
    model.close()
    with pytest.raises(NotReady, match="version 1 of colours has just been replaced"):
        finish(model.classify([png("red")]))


def test_requests_of_one_turn_of_the_event_loop_are_handed_over_together(
    host: Host, png: Png, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = host(BATCHED)
    submit = model._batcher.submit
    handed: list[int] = []

    def counted(items: Sequence[Item]) -> bool:
        handed.append(len(items))
        return submit(items)

    monkeypatch.setattr(model._batcher, "submit", counted)

    async def work() -> None:
        await asyncio.gather(*(model.classify([png("red")] * images) for images in (1, 2, 1, 3)))
        await model.classify([png("blue")])

    finish(work())
    assert handed == [7, 1]


def test_what_was_not_handed_over_when_it_was_closed_says_so(host: Host, png: Png) -> None:
    model = host()

    async def work() -> None:
        asked = asyncio.create_task(model.classify([png("red")]))
        await asyncio.sleep(0)
        assert model.images == 1
        model.close()
        with pytest.raises(NotReady, match="version 1 of colours has just been replaced"):
            await asked

    finish(work())
    assert model.images == 0


def test_batches_are_told_of(host: Host, png: Png, noted: Noted) -> None:
    model = host(BATCHED)

    async def work() -> None:
        await model.classify([png("red")] * 6)
        await asyncio.sleep(0.05)

    finish(work())
    assert sum(noted.batches) == 6
    assert max(noted.batches) <= 4


class TestOpening:
    def test_what_was_tuned_here_is_used_as_it_was_measured(self, tuned_bundle: Path) -> None:
        engines = open_engines(tuned_bundle, Opening())
        assert engines.setting.way == Way(BATCH, STREAMS, 1)
        assert "as 'toolkit bench --sweep' found best for throughput" in engines.setting.why
        assert engines.many.tuned is not None
        engines.close()

    def test_what_somebody_says_comes_before_that(self, tuned_bundle: Path) -> None:
        engines = open_engines(tuned_bundle, Opening(threads=1, batch_size=3))
        assert engines.setting.way.batch_size == 3
        assert engines.many.tuned is None
        engines.close()

    def test_golden_samples_that_do_not_pass_are_never_served(self, colour_bundle: Path) -> None:
        change_weights(colour_bundle, lambda weights: weights * 3)
        with pytest.raises(BundleError, match=r"does not compute its golden samples on this machine: .*not served"):
            open_engines(colour_bundle, ONE_BY_ONE)

    def test_code_of_strangers_is_not_opened(self, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise UntrustedCodeError(f"model.pt is not opened: use an artifact that is data (onnx), {WAYS_OUT}")

        monkeypatch.setattr("toolkit.serving.hosted.load", refuse)
        with pytest.raises(UntrustedCodeError) as refused:
            open_engines(colour_bundle, ONE_BY_ONE)
        assert "--allow-code" not in str(refused.value)
        assert "give --verify-key for a bundle that is signed" in str(refused.value)


class TestRate:
    def test_when_to_come_back_follows_what_was_seen(self) -> None:
        now = 0.0
        rate = _Rate(100.0, clock=lambda: now)
        assert rate.seconds_for(1000) == 10
        for _ in range(200):
            now += 1.0
            rate.changed(held=50, answered=10)
        assert rate.seconds_for(100) == 10

    def test_time_in_which_nothing_was_to_do_does_not_count(self) -> None:
        now = 0.0
        rate = _Rate(100.0, clock=lambda: now)
        now = 1e6
        rate.changed(held=0, answered=0)
        assert rate.seconds_for(1000) == 10

    def test_it_is_at_least_a_second_and_at_most_an_hour(self) -> None:
        assert _Rate(1e6).seconds_for(1) == 1
        assert _Rate(0.0).seconds_for(10**9) == 3600
