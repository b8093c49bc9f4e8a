from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_contract import CONTRACT

from toolkit.compare.metrics import softmax
from toolkit.compare.tolerances import TOLERANCES
from toolkit.verify.candidate import Checks
from toolkit.verify.expected import Expected
from toolkit.verify.invariance import Invariance

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
Fault = Callable[["Channels", np.ndarray, np.ndarray], np.ndarray]


class Channels:
    """Its logits are the mean of each channel; ``fault`` is what is wrong with them."""

    device, engine = "cpu", "fake"

    def __init__(self, fault: Fault = lambda session, images, logits: logits, threads: int = 1) -> None:
        self._fault = fault
        self.threads = threads
        self.calls = 0
        self.last = 0.0

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.calls += 1
        logits = self._fault(self, images, images.mean(axis=(1, 2), dtype=np.float64) / 64).astype(np.float32)
        self.last = float(images.mean())
        return {"logits": logits, "probabilities": softmax(logits).astype(np.float32)}


def invariance(session: Any) -> tuple[Invariance, Checks]:
    checks = Checks()
    own = Expected(tuple(map(str, range(20))), IMAGES, Channels().run(IMAGES))
    return Invariance(session, CONTRACT, own, TOLERANCES["float32"], checks), checks


def test_a_right_artifact_passes_everything_with_the_same_bits() -> None:
    subject, checks = invariance(Channels())
    subject.batches()
    assert subject.repeats()
    subject.state()
    subject.threads(lambda threads: Channels(threads=threads), (2, 3))
    assert [(check.name, check.failures) for check in checks.done] == [
        ("batch invariance", ()),
        ("repeated runs", ()),
        ("state between calls", ()),
        ("threads", ()),
    ]
    assert "3 runs of 20 images, the same bits" in checks.done[1].detail
    assert "2, 3 beside 1" in checks.done[3].detail


def by_place(session: Channels, images: np.ndarray, logits: np.ndarray) -> np.ndarray:
    return logits + 0.1 * (np.arange(len(images)) == 0)[:, None] * np.array([1, 0, 0])


def by_neighbours(session: Channels, images: np.ndarray, logits: np.ndarray) -> np.ndarray:
    return logits + 0.01 * images.mean() * np.array([1, 0, 0])


@pytest.mark.parametrize(
    ("fault", "arrangement"), [(by_place, "when the batch is reversed"), (by_neighbours, "among other neighbours")]
)
def test_what_the_place_or_the_neighbours_change_fails(fault: Fault, arrangement: str) -> None:
    subject, checks = invariance(Channels(fault))
    subject.batches()
    assert not checks.done[0].passed
    assert any(arrangement in failure for failure in checks.failures())


def test_runs_that_drift_fail_and_are_not_bitwise_equal() -> None:
    subject, checks = invariance(Channels(lambda session, images, logits: logits * (1 + 0.01 * session.calls)))
    assert not subject.repeats()
    assert any("when the same batch is run again" in failure for failure in checks.failures())


def test_bits_that_differ_within_the_tolerance_are_only_told() -> None:
    subject, checks = invariance(Channels(lambda session, images, logits: logits * (1 + 1e-6 * session.calls)))
    assert not subject.repeats()
    assert checks.done[0].passed
    assert "not the same bits" in checks.done[0].detail


def test_what_is_kept_of_the_call_before_fails() -> None:
    subject, checks = invariance(
        Channels(lambda session, images, logits: logits + 1e-3 * session.last * np.array([1, 0, 0]))
    )
    subject.state()
    assert any("after other images were run in between" in failure for failure in checks.failures())


def test_another_number_of_threads_that_changes_outputs_fails() -> None:
    subject, checks = invariance(Channels())
    subject.threads(
        lambda threads: Channels(lambda session, images, logits: logits * (1 + 0.1 * (threads == 3)), threads), (2, 3)
    )
    assert all("with 3 threads" in failure for failure in checks.failures())
    assert not checks.done[0].passed


def test_a_session_that_cannot_be_opened_again_fails() -> None:
    def refuse(threads: int) -> Any:
        raise RuntimeError("only once")

    subject, checks = invariance(Channels())
    subject.threads(refuse, (2,))
    assert checks.failures() == ("it cannot be opened: RuntimeError: only once",)
