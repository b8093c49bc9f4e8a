"""Faults of layers: left out, padded, strided or pooled in another way."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.faults.fault import network_fault
from benchmarks.faults.surgery import Wrapper, convolutions, layers, middle, replace
from toolkit.backbones.deployable import Deployable

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.GELU)


class SkippedWhereItCanBe(Wrapper):
    """Passes its input through where a layer keeps the shape."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the input itself if the layer would not change its shape."""
        outputs: torch.Tensor = self.wrapped(features)
        return features if outputs.shape == features.shape else outputs


@network_fault()
def layer_skipped(network: Deployable) -> nn.Module:
    """One convolution that keeps the shape is left out."""

    def keeps_the_shape(layer: nn.Conv2d) -> bool:
        return layer.in_channels == layer.out_channels and layer.stride == (1, 1)

    name, layer = middle(convolutions(network, keeps_the_shape, "convolution that keeps the shape"))
    replace(network, name, SkippedWhereItCanBe(layer))
    return network


@network_fault()
def activation_dropped(network: Deployable) -> nn.Module:
    """One activation is left out."""
    name, _ = middle(layers(network, *ACTIVATIONS))
    replace(network, name, nn.Identity())
    return network


@network_fault()
def every_activation_leaks(network: Deployable) -> nn.Module:
    """Every activation lets 1% of what is negative through."""
    for name, _ in layers(network, nn.ReLU, nn.ReLU6):
        replace(network, name, nn.LeakyReLU(0.01))
    return network


class PaddedInAnotherWay(Wrapper):
    """A convolution that is given an image which was padded for it."""

    def __init__(self, layer: nn.Conv2d, padding: tuple[int, int, int, int], mode: str) -> None:
        """Take a layer, what to add at the left, right, top and bottom, and how, as ``nn.functional.pad`` does."""
        super().__init__(layer)
        layer.padding = (0, 0)
        self.padding, self.mode = padding, mode

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the convolution of the padded input."""
        outputs: torch.Tensor = self.wrapped(nn.functional.pad(features, self.padding, mode=self.mode))
        return outputs


def padding_of(layer: nn.Conv2d) -> tuple[int, int]:
    """Return how many zeros a convolution adds at the top and at the left; none where it names a rule instead."""
    return (0, 0) if isinstance(layer.padding, str) else (layer.padding[0], layer.padding[1])


def padded_convolutions(network: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    """Return the convolutions that pad."""
    return convolutions(network, lambda layer: padding_of(layer)[0] > 0, "convolution with padding")


@network_fault()
def wrong_padding(network: Deployable) -> nn.Module:
    """One convolution pads with the border instead of zeros."""
    name, layer = middle(padded_convolutions(network))
    top, left = padding_of(layer)
    replace(network, name, PaddedInAnotherWay(layer, (left, left, top, top), "replicate"))
    return network


@network_fault()
def uneven_padding(network: Deployable) -> nn.Module:
    """One convolution pads on one side only.

    This is TensorFlow's SAME against PyTorch's.
    """
    name, layer = padded_convolutions(network)[0]
    top, left = padding_of(layer)
    replace(network, name, PaddedInAnotherWay(layer, (0, 2 * left, 0, 2 * top), "constant"))
    return network


class OtherPhase(Wrapper):
    """A convolution with a stride that takes the odd places instead of the even ones."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the convolution of the input moved by one."""
        outputs: torch.Tensor = self.wrapped(features.roll((-1, -1), (2, 3)))
        return outputs


@network_fault()
def wrong_stride(network: Deployable) -> nn.Module:
    """One convolution with a stride starts one pixel later."""
    name, layer = convolutions(network, lambda layer: layer.stride[0] > 1, "convolution with a stride")[-1]
    replace(network, name, OtherPhase(layer))
    return network


class Maximum(nn.Module):
    """Global pooling by the maximum."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the largest value of each channel."""
        return features.amax(dim=(2, 3), keepdim=True)


@network_fault()
def max_instead_of_mean(network: Deployable) -> nn.Module:
    """The last pooling takes the maximum instead of the mean."""
    name, _ = layers(network, nn.AdaptiveAvgPool2d)[-1]
    replace(network, name, Maximum())
    return network
