"""How many operations an image takes."""

from __future__ import annotations

import pytest

from toolkit.bench.flops import flops_per_image
from toolkit.errors import MissingDependencyError


def test_a_multiplication_and_an_addition_are_two() -> None:
    # torchvision's page says 1.81 GFLOPS of a ResNet-18 at 224 pixels and means multiply-adds.
    assert flops_per_image("torchvision:resnet18", 1000, 224) == pytest.approx(2 * 1.814e9, rel=0.005)


def test_the_head_has_the_classes_of_the_run() -> None:
    ten, thousand = (flops_per_image("torchvision:resnet18", classes, 64) for classes in (10, 1000))
    assert ten is not None
    assert thousand is not None
    assert thousand - ten == 2 * 512 * 990


def test_what_cannot_be_counted_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert flops_per_image("torchvision:no_such_network", 10, 64) is None
    monkeypatch.setattr("toolkit.backbones.meta.count_gmacs", lambda model, size: float("nan"))
    assert flops_per_image("torchvision:resnet18", 10, 64) is None

    def lacks(name: str) -> None:
        raise MissingDependencyError("timm is not installed")

    monkeypatch.setattr("toolkit.backbones.registry.split_name", lacks)
    assert flops_per_image("timm:resnet18", 10, 64) is None
