from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from toolkit.training.batch_norm import estimating, trained_layers
from toolkit.training.group import Group


def trained(momentum: float = 0.1) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(2, momentum=momentum)
    with torch.no_grad():
        assert layer.running_mean is not None
        layer.running_mean.fill_(9)
        assert layer.num_batches_tracked is not None
        layer.num_batches_tracked.fill_(5)
    return layer


def test_statistics_are_the_mean_of_those_of_the_batches() -> None:
    layer, batches = trained(), [torch.randn(4, 2, 3, 3) + shift for shift in (0.0, 2.0, 7.0)]
    with estimating([layer], Group()):
        for batch in batches:
            layer(batch)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    torch.testing.assert_close(layer.running_mean, torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0))
    torch.testing.assert_close(layer.running_var, torch.stack([batch.var((0, 2, 3)) for batch in batches]).mean(0))
    assert (layer.momentum, layer.training) == (0.1, False)


def test_processes_share_what_they_found() -> None:
    class Two(Group):
        """Stands for a group whose other process found twice as much."""

        def sum(self, values: Sequence[float]) -> list[float]:
            return [3 * value for value in values]

    layer, batch = trained(), torch.randn(4, 2, 3, 3) + 1
    with estimating([layer], Two(world=2)):
        layer(batch)
    assert layer.running_mean is not None
    torch.testing.assert_close(layer.running_mean, 1.5 * batch.mean((0, 2, 3)))


def test_after_an_error_the_layer_learns_as_before() -> None:
    layer = trained(0.3)
    with pytest.raises(KeyboardInterrupt), estimating([layer], Group()):
        raise KeyboardInterrupt
    assert (layer.momentum, layer.training) == (0.3, False)


def test_layers_are_those_that_would_update_their_statistics() -> None:
    network = nn.Sequential(
        trained(), nn.BatchNorm2d(2), nn.BatchNorm2d(2, track_running_stats=False), nn.LayerNorm(2), nn.Dropout()
    )
    network.train()
    network[1].eval()
    assert trained_layers(network) == [network[0]]


def test_instance_norm_keeps_its_statistics() -> None:
    """Told to take the mean of all batches, it would stay at nothing."""
    layer = nn.InstanceNorm2d(2, track_running_stats=True)
    with estimating([layer], Group()):  # type: ignore[list-item]  # what is shown to go wrong
        layer(torch.randn(4, 2, 3, 3) + 5)
    assert layer.running_mean is not None
    assert layer.running_mean.tolist() == [0.0, 0.0]
    assert trained_layers(nn.Sequential(layer, trained()).train()) != []
    assert layer not in trained_layers(nn.Sequential(layer, trained()).train())
