from __future__ import annotations

import signal

import pytest
from signals import send_to_self

from toolkit.training.interruption import Stopper


def test_a_signal_is_a_request_and_the_second_one_acts_at_once() -> None:
    stopper = Stopper()
    before = signal.getsignal(signal.SIGTERM)

    def twice() -> None:
        with stopper.listening():
            send_to_self(signal.SIGTERM)
            assert stopper.requested
            send_to_self(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        twice()
    assert signal.getsignal(signal.SIGTERM) is before


def test_where_nothing_needs_saving_the_first_signal_acts_at_once() -> None:
    stopper = Stopper()

    def once() -> None:
        with stopper.listening(), stopper.acting_at_once():
            send_to_self(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        once()
    with stopper.listening():
        send_to_self(signal.SIGTERM)
        assert stopper.requested


def test_what_was_asked_before_acts_there_too() -> None:
    stopper = Stopper()
    stopper.requested = True
    with pytest.raises(KeyboardInterrupt), stopper.acting_at_once():
        pytest.fail("it went on")
