from __future__ import annotations

import logging
from typing import Any

import pytest

from toolkit.serving.interface import Answered
from toolkit.serving.observers import Indifferent, Observers, outcome_of
from toolkit.serving.refusals import Overloaded, UnreadableImage

ANSWERED = Answered("cats", "1", "http", 1, None, 0.01)
TOLD: list[tuple[str, tuple[Any, ...]]] = [
    ("request", (ANSWERED,)),
    ("phases", ("cats", "1", {"decode": 0.5})),
    ("batch", ("cats", "1", 4, 0.5)),
    ("predicted", ("cats", "1", "tabby", 0.9)),
    ("queued", ("cats", "1", 3)),
]


class Recorder:
    def __init__(self, error: Exception | None = None) -> None:
        self.told: list[tuple[str, tuple[Any, ...]]] = []
        self.error = error

    def __getattr__(self, name: str) -> Any:
        def tell(*arguments: Any) -> None:
            self.told.append((name, arguments))
            if self.error is not None:
                raise self.error

        return tell


def tell_all(observers: Observers) -> None:
    for name, arguments in TOLD:
        getattr(observers, name)(*arguments)


def test_every_observer_is_told_everything() -> None:
    first, second = Recorder(), Recorder()
    tell_all(Observers(first, second))
    assert first.told == second.told == TOLD


def test_what_one_raises_reaches_neither_the_request_nor_the_others(caplog: pytest.LogCaptureFixture) -> None:
    failing, other = Recorder(ValueError("broken")), Recorder()
    observers = Observers(failing, other)
    tell_all(observers)
    tell_all(observers)
    assert other.told == TOLD * 2
    said = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(said) == len(TOLD)  # once each, not once a request
    assert {"broken" in str(record.exc_info) for record in said} == {True}


def test_one_is_told_of_nothing_but_what_it_cares_for() -> None:
    told: list[str] = []

    class Batches(Indifferent):
        def batch(self, model: str, version: str, images: int, seconds: float) -> None:
            told.append(f"{images} of {model}")

    batches = Batches()
    observers = Observers(batches)
    tell_all(observers)
    assert told == ["4 of cats"]
    assert [name for name, concerned in vars(observers).items() if batches in concerned] == ["_batch"]


@pytest.mark.parametrize(
    ("refusal", "outcome"),
    [(None, "ok"), (Overloaded("full"), "overloaded"), (UnreadableImage("no image"), "unreadable_image")],
)
def test_outcomes_are_called_as_the_refusals_are(refusal: Exception | None, outcome: str) -> None:
    assert outcome_of(Answered("cats", "1", "http", 1, refusal, 0.01)) == outcome  # type: ignore[arg-type]
