"""Faults inside a network: its normalisation layers, its convolutions and activations, and single weights."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.faults.networks import ACTIVATIONS, NotApplicableError, fault, layers, middle, replace, weight_of
from toolkit.backbones.deployable import Deployable

# --- Normalisation layers


class _OfTheBatch(nn.Module):
    """A BatchNorm that was left in training mode: it normalises by what the batch at hand has."""

    def __init__(self, layer: nn.BatchNorm2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return what the layer returns where its running statistics are those of the batch."""
        mean = features.mean(dim=(0, 2, 3), keepdim=True)
        variance = (features - mean).square().mean(dim=(0, 2, 3), keepdim=True)
        running_mean, running_variance = (
            values.view(1, -1, 1, 1)
            for values in (self.layer.running_mean, self.layer.running_var)
            if isinstance(values, torch.Tensor)
        )
        normalised = (features - mean) / (variance + self.layer.eps).sqrt()
        made: torch.Tensor = self.layer(normalised * (running_variance + self.layer.eps).sqrt() + running_mean)
        return made


@fault("batchnorm-in-training-mode", "one BatchNorm uses the statistics of the batch")
def _(network: Deployable) -> nn.Module:
    found = layers(network, nn.BatchNorm2d)
    name, layer = found[len(found) // 2]
    if not isinstance(layer, nn.BatchNorm2d):
        raise NotApplicableError("its BatchNorm has no statistics")
    replace(network, name, _OfTheBatch(layer))
    return network


@fault("batchnorm-epsilon", "the epsilon of every BatchNorm is ten times as large")
def _(network: Deployable) -> nn.Module:
    for _, layer in layers(network, nn.BatchNorm2d):
        layer.eps *= 10
    return network


@fault("batchnorm-epsilon-of-one-layer", "the epsilon of one BatchNorm is a hundred times as large")
def _(network: Deployable) -> nn.Module:
    middle(network, nn.BatchNorm2d).eps *= 100
    return network


@fault("batchnorm-stale-statistics", "one BatchNorm has lost its running mean")
def _(network: Deployable) -> nn.Module:
    mean = middle(network, nn.BatchNorm2d).running_mean
    if not isinstance(mean, torch.Tensor) or not mean.any():
        raise NotApplicableError("its BatchNorm has no running mean")
    mean.zero_()
    return network


@fault("batchnorm-skipped", "one BatchNorm is left out")
def _(network: Deployable) -> nn.Module:
    found = layers(network, nn.BatchNorm2d)
    replace(network, found[len(found) // 2][0], nn.Identity())
    return network


# --- Layers


class _Shaped(nn.Module):
    """Passes its input through where a layer keeps the shape."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the input itself if the layer would not change its shape."""
        made: torch.Tensor = self.layer(features)
        return features if made.shape == features.shape else made


@fault("layer-skipped", "one convolution that keeps the shape is left out")
def _(network: Deployable) -> nn.Module:
    same = [
        (name, layer)
        for name, layer in layers(network, nn.Conv2d)
        if isinstance(layer, nn.Conv2d) and layer.in_channels == layer.out_channels and layer.stride == (1, 1)
    ]
    if not same:
        raise NotApplicableError("it has no convolution that keeps the shape")
    name, layer = same[len(same) // 2]
    replace(network, name, _Shaped(layer))
    return network


@fault("activation-dropped", "one activation is left out")
def _(network: Deployable) -> nn.Module:
    found = layers(network, *ACTIVATIONS)
    replace(network, found[len(found) // 2][0], nn.Identity())
    return network


@fault("every-activation-leaks", "every activation lets 1% of what is negative through")
def _(network: Deployable) -> nn.Module:
    for name, _ in layers(network, nn.ReLU, nn.ReLU6):
        replace(network, name, nn.LeakyReLU(0.01))
    return network


class _Padded(nn.Module):
    """A convolution whose zeros around the image are replaced by copies of the border."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.padding = (layer.padding[1], layer.padding[1], layer.padding[0], layer.padding[0])
        self.layer = layer
        layer.padding = (0, 0)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the convolution of the padded input."""
        made: torch.Tensor = self.layer(nn.functional.pad(features, self.padding, mode="replicate"))
        return made


def _padding_layers(network: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    found = [
        (name, layer)
        for name, layer in layers(network, nn.Conv2d)
        if isinstance(layer, nn.Conv2d) and isinstance(layer.padding, tuple) and layer.padding[0] > 0
    ]
    if not found:
        raise NotApplicableError("it has no convolution with padding")
    return found


@fault("wrong-padding", "one convolution pads with the border instead of zeros")
def _(network: Deployable) -> nn.Module:
    found = _padding_layers(network)
    name, layer = found[len(found) // 2]
    replace(network, name, _Padded(layer))
    return network


class _Uneven(nn.Module):
    """A convolution whose padding is all on one side: TensorFlow's SAME against PyTorch's."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.padding = (0, 2 * layer.padding[1], 0, 2 * layer.padding[0])
        self.layer = layer
        layer.padding = (0, 0)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the convolution of the padded input."""
        made: torch.Tensor = self.layer(nn.functional.pad(features, self.padding))
        return made


@fault("uneven-padding", "one convolution pads on one side only")
def _(network: Deployable) -> nn.Module:
    found = _padding_layers(network)
    name, layer = found[0]
    replace(network, name, _Uneven(layer))
    return network


class _OtherPhase(nn.Module):
    """A convolution with a stride that takes the odd places instead of the even ones."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the convolution of the input moved by one."""
        made: torch.Tensor = self.layer(features.roll((-1, -1), (2, 3)))
        return made


@fault("wrong-stride", "one convolution with a stride starts one pixel later")
def _(network: Deployable) -> nn.Module:
    strided = [
        (name, layer)
        for name, layer in layers(network, nn.Conv2d)
        if isinstance(layer, nn.Conv2d) and layer.stride[0] > 1
    ]
    if not strided:
        raise NotApplicableError("it has no convolution with a stride")
    name, layer = strided[-1]
    replace(network, name, _OtherPhase(layer))
    return network


class _MaxInstead(nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the largest value of each channel."""
        return features.amax(dim=(2, 3), keepdim=True)


@fault("max-instead-of-mean", "the last pooling takes the maximum instead of the mean")
def _(network: Deployable) -> nn.Module:
    found = layers(network, nn.AdaptiveAvgPool2d)
    replace(network, found[-1][0], _MaxInstead())
    return network


# --- Weights


@fault("one-sign-flipped", "the largest weight of one convolution has the wrong sign")
def _(network: Deployable) -> nn.Module:
    weight = weight_of(middle(network, nn.Conv2d)).view(-1)
    weight[int(weight.abs().argmax())] *= -1
    return network


@fault("channel-zeroed", "one output channel of one convolution is zero")
def _(network: Deployable) -> nn.Module:
    weight = weight_of(middle(network, nn.Conv2d))
    weight[int(weight.flatten(1).norm(dim=1).argmax())] = 0
    return network


@fault("low-bits-truncated", "the weights of one layer have lost 12 of their 24 bits")
def _(network: Deployable) -> nn.Module:
    weight = weight_of(middle(network, nn.Conv2d))
    weight.copy_((weight.contiguous().view(torch.int32) & ~0xFFF).view(torch.float32))
    return network


@fault("one-layer-in-bfloat16", "the weights of one layer were rounded to bfloat16")
def _(network: Deployable) -> nn.Module:
    weight = weight_of(middle(network, nn.Conv2d))
    weight.copy_(weight.bfloat16().float())
    return network


@fault("every-weight-in-float16", "all weights were rounded to float16, and the file says float32")
def _(network: Deployable) -> nn.Module:
    for parameter in network.parameters():
        parameter.detach().copy_(parameter.detach().half().float())
    return network


@fault("kernel-transposed", "the kernels of one convolution are transposed")
def _(network: Deployable) -> nn.Module:
    square = [
        layer
        for _, layer in layers(network, nn.Conv2d)
        if isinstance(layer, nn.Conv2d) and layer.kernel_size[0] == layer.kernel_size[1] > 1
    ]
    if not square:
        raise NotApplicableError("it has no square kernel")
    weight = weight_of(square[len(square) // 2])
    weight.copy_(weight.transpose(2, 3).clone())
    return network


@fault("weights-of-another-layer", "two layers of one shape have exchanged their weights")
def _(network: Deployable) -> nn.Module:
    by_shape: dict[torch.Size, torch.Tensor] = {}
    for _, layer in layers(network, nn.Conv2d):
        weight = weight_of(layer)
        if weight.shape in by_shape:
            first = by_shape[weight.shape]
            kept = first.clone()
            first.copy_(weight)
            weight.copy_(kept)
            return network
        by_shape[weight.shape] = weight
    raise NotApplicableError("it has no two convolutions of one shape")
