"""Ctrl-C and a polite kill as a request that training answers between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StoppedError(KeyboardInterrupt):
    """The run was asked to stop and has been saved; the message says how to go on."""


class Stopper:
    """Turns SIGINT and SIGTERM into a request.

    A second one acts at once.

    Attributes:
        requested: True once training is to stop.
    """

    def __init__(self) -> None:
        self.requested = False
        self._at_once = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen for the length of the block; does nothing outside the main thread, where Python hears no signals."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def acting_at_once(self) -> Iterator[None]:
        """Answer a request with ``KeyboardInterrupt`` for the length of the block, in which nothing needs saving."""
        self._at_once = True
        try:
            if self.requested:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested or self._at_once:
            raise KeyboardInterrupt
        self.requested = True
