"""Faults of the normalisation are planted where they matter."""

import pytest
import torch

from benchmarks.faults import pixels
from benchmarks.faults.fault import NotApplicableError


def test_a_fault_is_planted_where_it_matters(tiny, half):
    # 0.5 is this network's own mean, and the same in all channels.
    assert not torch.equal(pixels.wrong_mean.apply(tiny(half)).offset, tiny(half).offset)
    with pytest.raises(NotApplicableError, match="same in all channels"):
        pixels.mean_channels_reversed.apply(tiny(half))
