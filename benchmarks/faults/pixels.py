"""Faults between the pixels and the first layer: their normalisation, their order, their channels."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.faults.around import image_fault
from benchmarks.faults.fault import NotApplicableError, network_fault
from toolkit.backbones.deployable import Deployable

HALF = torch.full((3,), 0.5)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@network_fault()
def wrong_mean(network: Deployable) -> nn.Module:
    """The mean of another data set is subtracted (0.5, or ImageNet's where 0.5 is right)."""
    _set_other(network.offset, HALF * 255, torch.tensor(IMAGENET_MEAN) * 255)
    return network


@network_fault()
def wrong_std(network: Deployable) -> nn.Module:
    """Divided by the standard deviation of another data set (0.5, or ImageNet's where 0.5 is right)."""
    _set_other(network.scale, 1 / (HALF * 255), 1 / (torch.tensor(IMAGENET_STD) * 255))
    return network


def _set_other(constant: torch.Tensor, value: torch.Tensor, other: torch.Tensor) -> None:
    """Change a constant of the normalisation to the first of two values that it does not have yet."""
    same = torch.allclose(constant.flatten(), value)
    constant.copy_((other if same else value).view_as(constant))


@network_fault()
def no_normalisation(network: Deployable) -> nn.Module:
    """Pixels are scaled to 0..1 and not normalised."""
    network.offset.zero_()
    network.scale.fill_(1 / 255)
    return network


@network_fault()
def mean_channels_reversed(network: Deployable) -> nn.Module:
    """Mean and standard deviation in the order of BGR."""
    if all(len(set(constant.flatten().tolist())) == 1 for constant in (network.offset, network.scale)):
        raise NotApplicableError("its mean and standard deviation are the same in all channels")
    network.offset.copy_(network.offset.flip(1))
    network.scale.copy_(network.scale.flip(1))
    return network


@network_fault()
def divided_by_256(network: Deployable) -> nn.Module:
    """Pixels are divided by 256 instead of 255."""
    network.offset.mul_(256 / 255)
    network.scale.mul_(255 / 256)
    return network


@image_fault
def bgr(images: torch.Tensor) -> torch.Tensor:
    """Red and blue are exchanged."""
    return images.flip(3)


@image_fault
def transposed(images: torch.Tensor) -> torch.Tensor:
    """Height and width are exchanged."""
    return images.transpose(1, 2)


@image_fault
def mirrored(images: torch.Tensor) -> torch.Tensor:
    """Images are mirrored."""
    return images.flip(2)


@image_fault
def upside_down(images: torch.Tensor) -> torch.Tensor:
    """Rows are read from the bottom."""
    return images.flip(1)


@image_fault
def shifted_by_one_pixel(images: torch.Tensor) -> torch.Tensor:
    """The image is rolled by one pixel."""
    return images.roll(1, 2)


@image_fault
def grey(images: torch.Tensor) -> torch.Tensor:
    """The green channel stands in for all three."""
    return images[..., 1:2].expand(-1, -1, -1, 3)


@image_fault
def signed_pixels(images: torch.Tensor) -> torch.Tensor:
    """Pixels of 128 and more wrap around to negative numbers."""
    return torch.where(images >= 128, images - 128, images)
