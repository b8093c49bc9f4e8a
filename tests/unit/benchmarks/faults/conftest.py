"""A network that has one of everything that the faults look for, and images for it."""

import numpy as np
import pytest
import torch
from torch import nn

from toolkit.backbones.deployable import Deployable
from toolkit.bundle.manifest import Normalization

IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HALF = Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def make_tiny(normalization=IMAGENET):
    torch.manual_seed(0)
    classifier = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.2, 0.6)
    return Deployable(classifier, normalization)


@pytest.fixture(scope="session")
def tiny():
    """Return a maker of the network, with the mean and standard deviation of ImageNet if no other are given."""
    return make_tiny


@pytest.fixture(scope="session")
def half():
    """Return a normalisation whose mean is the same in all channels."""
    return HALF


@pytest.fixture(scope="session")
def noise():
    """Return uint8 images ``[8, 16, 16, 3]``, one dark and one black."""
    random = np.random.default_rng(0)
    return np.concatenate(
        [
            random.integers(0, 100, (1, 16, 16, 3), np.uint8),
            np.zeros((1, 16, 16, 3), np.uint8),
            random.integers(0, 256, (6, 16, 16, 3), np.uint8),
        ]
    )
