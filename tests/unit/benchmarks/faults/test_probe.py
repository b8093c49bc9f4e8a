"""What counts as a fault: an output moved further than by rounding."""

import pytest

from benchmarks.faults.fault import NotApplicableError
from benchmarks.faults.probe import Probe


def test_what_changes_nothing_is_no_fault(tiny, half, noise):
    probe = Probe(tiny(half), noise)

    with pytest.raises(NotApplicableError, match="no more than rounding"):
        probe.effect(tiny(half))
