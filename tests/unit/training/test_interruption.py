from __future__ import annotations

import os
import signal

import pytest

from toolkit.training.interruption import Stopper


def test_a_signal_is_a_request_and_the_second_one_acts_at_once() -> None:
    stopper = Stopper()
    before = signal.getsignal(signal.SIGTERM)

    def twice() -> None:
        with stopper.listening():
            os.kill(os.getpid(), signal.SIGTERM)
            assert stopper.requested
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        twice()
    assert signal.getsignal(signal.SIGTERM) is before
