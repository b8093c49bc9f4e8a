"""Faults of a network.

Each takes a right ``Deployable`` apart in one place, as a broken exporter or a wrong line of glue code would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from toolkit.backbones.deployable import Deployable

Outputs = tuple[torch.Tensor, torch.Tensor]
Break = Callable[[Deployable], nn.Module]


class NotApplicableError(Exception):
    """A network has nothing that this fault could break; the message says what is missing."""


@dataclass(frozen=True)
class NetworkFault:
    """One way to break a network."""

    name: str
    what: str
    """What is wrong, for the table."""
    apply: Break
    """Takes a network that may be changed in place, returns the broken one."""
    format: str = "onnx"
    """The format that it is exported to."""
    fixed_batch: int | None = None
    """Exported with this batch size instead of a dynamic one."""


FAULTS: list[NetworkFault] = []


def fault(name: str, what: str, **options: object) -> Callable[[Break], Break]:
    """Add a fault to the list."""

    def add(function: Break) -> Break:
        FAULTS.append(NetworkFault(name, what, function, **options))  # type: ignore[arg-type]  # the dataclass checks the names
        return function

    return add


class Around(nn.Module):
    """A network with something done to its input, and to its outputs."""

    def __init__(
        self,
        network: nn.Module,
        before: Callable[[torch.Tensor], torch.Tensor] | None = None,
        after: Callable[[Outputs], Outputs] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self._before = before
        self._after = after

    def forward(self, images: torch.Tensor) -> Outputs:
        """Return logits and probabilities."""
        outputs: Outputs = self.network(self._before(images) if self._before else images)
        return self._after(outputs) if self._after else outputs


def layers(network: nn.Module, *kinds: type[nn.Module]) -> list[tuple[str, nn.Module]]:
    """Return the layers of some kinds by name, in the order in which they were made.

    Raises:
        NotApplicableError: there is none.
    """
    found = [(name, module) for name, module in network.named_modules() if isinstance(module, kinds)]
    if not found:
        raise NotApplicableError(f"it has no {' or '.join(kind.__name__ for kind in kinds)}")
    return found


def middle(network: nn.Module, *kinds: type[nn.Module]) -> nn.Module:
    """Return the layer in the middle of those of some kinds."""
    found = layers(network, *kinds)
    return found[len(found) // 2][1]


def replace(network: nn.Module, name: str, module: nn.Module) -> None:
    """Put another module in the place of one."""
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, module)


def head(network: nn.Module) -> nn.Linear:
    """Return the last linear layer."""
    found = layers(network, nn.Linear)[-1][1]
    if not isinstance(found, nn.Linear):
        raise NotApplicableError("its head is no linear layer")
    return found


def weight_of(module: nn.Module) -> torch.Tensor:
    """Return a layer's weight for changing in place."""
    weight = module.weight
    if not isinstance(weight, torch.Tensor):
        raise NotApplicableError("the layer has no weight")
    return weight.detach()


ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.GELU)
HALF = torch.full((3,), 0.5)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# --- The input


@fault("wrong-mean", "the mean of another data set is subtracted (0.5, or ImageNet's where 0.5 is right)")
def _(network: Deployable) -> nn.Module:
    return _normalised(network, network.offset, HALF * 255, torch.tensor(IMAGENET_MEAN) * 255)


@fault("wrong-std", "divided by the standard deviation of another data set (0.5, or ImageNet's where 0.5 is right)")
def _(network: Deployable) -> nn.Module:
    return _normalised(network, network.scale, 1 / (HALF * 255), 1 / (torch.tensor(IMAGENET_STD) * 255))


def _normalised(network: Deployable, constant: torch.Tensor, value: torch.Tensor, other: torch.Tensor) -> nn.Module:
    """Change a constant of the normalisation to the first of two values that it does not have yet."""
    same = torch.allclose(constant.flatten(), value)
    constant.copy_((other if same else value).view_as(constant))
    return network


@fault("no-normalisation", "pixels are scaled to 0..1 and not normalised")
def _(network: Deployable) -> nn.Module:
    network.offset.zero_()
    network.scale.fill_(1 / 255)
    return network


@fault("mean-channels-reversed", "mean and standard deviation in the order of BGR")
def _(network: Deployable) -> nn.Module:
    if network.offset.unique().numel() == 1 and network.scale.unique().numel() == 1:
        raise NotApplicableError("its mean and standard deviation are the same in all channels")
    network.offset.copy_(network.offset.flip(1))
    network.scale.copy_(network.scale.flip(1))
    return network


@fault("divided-by-256", "pixels are divided by 256 instead of 255")
def _(network: Deployable) -> nn.Module:
    network.offset.mul_(256 / 255)
    network.scale.mul_(255 / 256)
    return network


@fault("bgr", "red and blue are exchanged")
def _(network: Deployable) -> nn.Module:
    return Around(network, before=lambda images: images.flip(3))


@fault("transposed", "height and width are exchanged")
def _(network: Deployable) -> nn.Module:
    return Around(network, before=lambda images: images.transpose(1, 2))


@fault("mirrored", "images are mirrored")
def _(network: Deployable) -> nn.Module:
    return Around(network, before=lambda images: images.flip(2))


@fault("upside-down", "rows are read from the bottom")
def _(network: Deployable) -> nn.Module:
    return Around(network, before=lambda images: images.flip(1))


@fault("shifted-by-one-pixel", "the image is rolled by one pixel")
def _(network: Deployable) -> nn.Module:
    return Around(network, before=lambda images: images.roll(1, 2))


@fault("grey", "the green channel stands in for all three")
def _(network: Deployable) -> nn.Module:
    return Around(network, before=lambda images: images[..., 1:2].expand(-1, -1, -1, 3))


@fault("signed-pixels", "pixels of 128 and more wrap around to negative numbers")
def _(network: Deployable) -> nn.Module:
    return Around(network, before=lambda images: torch.where(images >= 128, images - 128, images))


# --- The head


@fault("labels-permuted", "the rows of the head are in another order")
def _(network: Deployable) -> nn.Module:
    layer = head(network)
    order = torch.roll(torch.arange(layer.out_features), 1)
    weight_of(layer).copy_(weight_of(layer)[order].clone())
    if layer.bias is not None:
        layer.bias.detach().copy_(layer.bias.detach()[order].clone())
    return network


@fault("two-classes-swapped", "the weights of two classes are exchanged")
def _(network: Deployable) -> nn.Module:
    layer = head(network)
    weight_of(layer)[[0, 1]] = weight_of(layer)[[1, 0]].clone()
    if layer.bias is not None:
        layer.bias.detach()[[0, 1]] = layer.bias.detach()[[1, 0]].clone()
    return network


@fault("head-bias-dropped", "the head has lost its bias")
def _(network: Deployable) -> nn.Module:
    layer = head(network)
    if layer.bias is None or not layer.bias.detach().any():
        raise NotApplicableError("its head has no bias")
    layer.bias.detach().zero_()
    return network


@fault("one-class-dead", "the weights of one class are zero")
def _(network: Deployable) -> nn.Module:
    weight_of(head(network))[-1] = 0
    return network


# --- The outputs


@fault("softmax-over-the-batch", "softmax over the wrong axis")
def _(network: Deployable) -> nn.Module:
    return Around(network, after=lambda outputs: (outputs[0], outputs[0].softmax(dim=0)))


@fault("softmax-twice", "softmax of the probabilities")
def _(network: Deployable) -> nn.Module:
    return Around(network, after=lambda outputs: (outputs[0], outputs[1].softmax(dim=1)))


@fault("no-softmax", "logits are returned as probabilities")
def _(network: Deployable) -> nn.Module:
    return Around(network, after=lambda outputs: (outputs[0], outputs[0] + 0.0))


@fault("log-softmax", "logits are log-probabilities: the same classes, the same probabilities")
def _(network: Deployable) -> nn.Module:
    return Around(network, after=lambda outputs: (outputs[0].log_softmax(dim=1), outputs[1]))


@fault("temperature", "probabilities are calibrated with a temperature of 1.1 that nobody asked for")
def _(network: Deployable) -> nn.Module:
    return Around(network, after=lambda outputs: (outputs[0], (outputs[0] / 1.1).softmax(dim=1)))


@fault("outputs-exchanged", "probabilities are returned as logits and the other way round")
def _(network: Deployable) -> nn.Module:
    return Around(network, after=lambda outputs: (outputs[1] + 0.0, outputs[0] + 0.0))


# --- The batch, and what stays between calls


@fault("batch-of-one", "exported for a batch of 1", fixed_batch=1)
def _(network: Deployable) -> nn.Module:
    return network


@fault("batch-of-32", "exported for a batch of 32", fixed_batch=32)
def _(network: Deployable) -> nn.Module:
    return network


@fault("right-only-alone", "images of a batch leak into each other by one percent")
def _(network: Deployable) -> nn.Module:
    def leak(outputs: Outputs) -> Outputs:
        logits = 0.99 * outputs[0] + 0.01 * outputs[0].mean(dim=0, keepdim=True)
        return logits, logits.softmax(dim=1)

    return Around(network, after=leak)


@fault("brightness-of-the-batch", "each image is made as bright as the batch is on average: right alone")
def _(network: Deployable) -> nn.Module:
    def evened(images: torch.Tensor) -> torch.Tensor:
        pixels = images.float()
        own = pixels.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1)
        return (pixels * (pixels.mean() / own)).clamp(0, 255).round().to(torch.uint8)

    return Around(network, before=evened)


class _Counting(nn.Module):
    """Returns something else on every second call."""

    calls: torch.Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images: torch.Tensor) -> Outputs:
        """Return logits and probabilities."""
        self.calls.add_(1)
        logits = self.network(images)[0] * (1 + 0.01 * (self.calls % 2))
        return logits, logits.softmax(dim=1)


@fault("state-between-calls", "a counter is kept between calls and changes every second one", format="torchscript")
def _(network: Deployable) -> nn.Module:
    return _Counting(network)


class _Noisy(nn.Module):
    """Dropout that was left on before the softmax."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> Outputs:
        """Return logits and probabilities."""
        logits = nn.functional.dropout(self.network(images)[0], 0.1, training=True)
        return logits, logits.softmax(dim=1)


@fault("dropout-left-on", "dropout in training mode", format="torchscript")
def _(network: Deployable) -> nn.Module:
    return _Noisy(network)


class _Dividing(nn.Module):
    """Divides by the largest pixel of the image."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> Outputs:
        """Return logits and probabilities."""
        largest = images.float().amax(dim=(1, 2, 3)).unsqueeze(1)
        logits = self.network(images)[0] * (largest / largest)
        return logits, logits.softmax(dim=1)


@fault("not-a-number-on-black", "divided by the largest pixel, which is 0 in a black image")
def _(network: Deployable) -> nn.Module:
    return _Dividing(network)
