from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from signals import hear

from toolkit.training.interruption import Stopper


def test_a_signal_is_a_request_and_the_second_one_acts_at_once() -> None:
    stopper = Stopper()
    before = signal.getsignal(signal.SIGTERM)

    def twice() -> None:
        with stopper.listening():
            hear(signal.SIGTERM)
            assert stopper.requested
            hear(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        twice()
    assert signal.getsignal(signal.SIGTERM) is before


def test_where_nothing_needs_saving_the_first_signal_acts_at_once() -> None:
    stopper = Stopper()

    def once() -> None:
        with stopper.listening(), stopper.acting_at_once():
            hear(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        once()
    with stopper.listening():
        hear(signal.SIGTERM)
        assert stopper.requested


def test_what_was_asked_before_acts_there_too() -> None:
    stopper = Stopper()
    stopper.requested = True
    with pytest.raises(KeyboardInterrupt), stopper.acting_at_once():
        pytest.fail("it went on")


SENT = """
import os, signal
from toolkit.training.interruption import Stopper

stopper = Stopper()
with stopper.listening():
    os.kill(os.getpid(), signal.{name})
    print("asked" if stopper.requested else "not asked", flush=True)
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_that_is_sent_is_heard_for_the_length_of_the_block(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", SENT.format(name=name)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "asked\n", "")
