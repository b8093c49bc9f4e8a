"""A signal that a test sends to its own process."""

from __future__ import annotations

import signal
import threading

import pytest


def send_to_self(number: signal.Signals) -> None:
    """Send a signal to this thread; where nobody listens the test fails, and does not end the process of all tests."""
    if not callable(signal.getsignal(number)):
        pytest.fail(f"nobody listens for {number.name} in {threading.current_thread()}")
    signal.raise_signal(number)
