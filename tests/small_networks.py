"""Small networks that each hold one difficulty for whoever cuts a network at the edge of its trained part."""

from __future__ import annotations

import torch
from torch import nn

from toolkit.backbones import Backbone
from toolkit.backbones.backbone import IMAGENET_NORMALIZATION
from toolkit.backbones.surgery import find_blocks, find_head


def wrap(model: nn.Module) -> Backbone:
    head = find_head(model)
    return Backbone(
        name="test:network",
        model=model.eval(),
        head=head,
        blocks=find_blocks(model, head),
        weights="none",
        weights_license=None,
        normalization=IMAGENET_NORMALIZATION,
        image_size=8,
        interpolation="bilinear",
        crop_fraction=1.0,
    )


class Plain(nn.Module):
    """Two convolutions with BatchNorm and a head behind dropout; subclasses change one thing."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(1)  # ends the first block
        self.second = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.second(self.pool(self.first(x))).mean(dim=(2, 3))))


class Centring(nn.Module):
    """A normalisation written by hand, whose statistics stand under names that are known or not."""

    def __init__(self, statistic: str = "running_mean") -> None:
        super().__init__()
        self.statistic = statistic
        self.weight = nn.Parameter(torch.ones(6, 1, 1))
        self.register_buffer(statistic, torch.zeros(6, 1, 1))
        self.register_buffer("seen", torch.tensor(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        statistic = getattr(self, self.statistic)
        if not self.training:
            return (x - statistic) * self.weight
        mean = x.mean(dim=(0, 2, 3)).view(6, 1, 1)
        self.seen.add_(1)
        statistic.copy_(0.9 * statistic + 0.1 * mean.detach())
        return (x - mean) * self.weight


def with_norm(norm: nn.Module) -> nn.Module:
    model = Plain()
    model.second[1] = norm
    return model


class Numbered(nn.Module):
    """Drops whole branches in training, so that its two graphs number what they ask for sizes differently."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.pool = nn.MaxPool2d(1)  # ends the first block
        self.second = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU())
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(self.pool(self.first(x)))
        if self.drop.training:
            x = x * x.new_ones((x.shape[0], x.shape[1], 1, 1))
        batch, channels, height, width = x.shape
        return self.head(x.reshape(batch, channels, height * width).mean(dim=2))


class Scaling(Plain):
    """Changes tensors in place and goes on with them by their old names, as timm's stochastic depth does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.first(x))
        x.add_(1)
        x = self.second(x)
        if self.drop.training:
            scale = x.new_ones((x.shape[0], 1, 1, 1))
            scale.div_(0.25)
            x = x * scale
        return self.head(x.mean(dim=(2, 3)))
