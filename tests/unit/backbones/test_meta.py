import math

import pytest
import torch
from torch import nn

from toolkit.backbones.meta import count_gmacs, meta_model, on_meta
from toolkit.backbones.registry import source

TORCHVISION = source("torchvision")


@pytest.mark.parametrize("name", ["resnet18", "regnet_y_400mf", "vit_b_16", "swin_v2_t"])
def test_networks_are_built_without_memory(name: str) -> None:
    model = meta_model(TORCHVISION, name, 3, TORCHVISION.defaults(name).image_size)
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"meta"}


def test_a_network_that_runs_while_it_is_built() -> None:
    def build() -> nn.Module:
        model = nn.Sequential(nn.Linear(2, 2))
        model(torch.zeros(1, 2)).tolist()
        return model

    assert on_meta(build)[0].weight.device.type == "meta"


def test_building_leaves_the_generator_alone() -> None:
    before = torch.get_rng_state()
    meta_model(TORCHVISION, "swin_t", 3, 224)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "gmacs"),
    [("resnet18", 1.814), ("vit_b_16", 17.56), ("swin_t", 4.49), ("squeezenet1_0", 0.82), ("inception_v3", 5.71)],
)
def test_gmacs_are_the_published_ones(name: str, gmacs: float) -> None:
    size = TORCHVISION.defaults(name).image_size
    assert count_gmacs(meta_model(TORCHVISION, name, 1000, size), size) == pytest.approx(gmacs, rel=0.005)


def test_gmacs_of_a_network_that_cannot_be_counted() -> None:
    class Reads(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images * images.sum().item()

    assert math.isnan(count_gmacs(Reads(), 8))
