from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from toolkit.serving.lookup import when_arrived
from toolkit.serving.refusals import NotReady, Refusal, UnknownModel

FIRST: Any = SimpleNamespace(name="cats", version="1")
SECOND: Any = SimpleNamespace(name="cats", version="2")


class Changed:
    """Models that have changed since a request got its own."""

    names = ("cats",)
    ready = True

    def __init__(self, now: Any) -> None:
        self.now = now
        self.asked: list[tuple[str, str | None]] = []

    def get(self, name: str, version: str | None = None) -> Any:
        self.asked.append((name, version))
        if isinstance(self.now, Refusal):
            raise self.now
        return self.now

    def index(self) -> Any:
        return []


@pytest.mark.parametrize("version", [None, "1"])
def test_what_has_taken_over_meanwhile_answers(version: str | None) -> None:
    models = Changed(SECOND)
    assert when_arrived(models, FIRST, version) is SECOND
    assert models.asked == [("cats", version)]


@pytest.mark.parametrize("refusal", [NotReady("version 1 of cats is not ready."), UnknownModel("there is none.")])
def test_what_was_taken_out_meanwhile_still_answers(refusal: Refusal) -> None:
    assert when_arrived(Changed(refusal), FIRST, "1") is FIRST
