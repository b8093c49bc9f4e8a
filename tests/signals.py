"""A signal that a test lets its own process hear."""

from __future__ import annotations

import signal
import sys
import threading

import pytest


def hear(number: signal.Signals) -> None:
    """Call what Python would call on a signal, in this thread.

    No signal is sent: it would end the process of all tests wherever a library that other tests use (Ray does) has
    taken the signal back behind Python's back. Real ones go to processes of their own. Where nobody listens the test
    fails.
    """
    listener = signal.getsignal(number)
    if not callable(listener):
        pytest.fail(f"nobody listens for {number.name} in {threading.current_thread()}")
    listener(number, sys._getframe())
