from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import tiny_recipe, tiny_setting
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from toolkit.backbones import create_backbone, set_trainable
from toolkit.backbones.deployable import Deployable
from toolkit.run_folder import DepthwiseGradient, DepthwiseShape
from toolkit.training import depthwise
from toolkit.training.batch_sources import LogitsNetwork
from toolkit.training.depthwise import DepthwiseGradients, call_of, choose_way, gradient_by_products, output_size
from toolkit.training.step import make_learner, training_step

RELATIVE = 1e-5
ALWAYS = 10**9


def shape_of(
    channels: int = 6, size: int | tuple[int, int] = 4, kernel: int | tuple[int, int] = 3, **changes: Any
) -> DepthwiseShape:
    """Return a shape with padding that keeps the size, where nothing else is said."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    fields = {
        "channels": channels,
        "size": (size, size) if isinstance(size, int) else size,
        "kernel": (height, width),
        "stride": (1, 1),
        "padding": (height // 2, width // 2),
        "dilation": (1, 1),
    }
    return DepthwiseShape.model_validate({**fields, **changes})


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let products be taken for maps and kernels of any size."""
    monkeypatch.setattr(depthwise, "MOST_CELLS", {"all": ALWAYS})
    monkeypatch.setattr(depthwise, "MOST_PAIRS", ALWAYS)
    monkeypatch.setattr(depthwise, "FAST_KERNEL", 0)


def ours() -> DepthwiseGradients:
    """Return what takes products under ``everywhere``."""
    return DepthwiseGradients("all")


class Leaves:
    """Input, weight and bias of a convolution, the same numbers each time."""

    def __init__(self, shape: DepthwiseShape, images: int = 3, kind: torch.dtype = torch.float32) -> None:
        generator = torch.Generator().manual_seed(1)

        def made(*sizes: int) -> torch.Tensor:
            return torch.randn(*sizes, generator=generator, dtype=torch.float64).to(kind)

        self.shape = shape
        self.images = made(images, shape.channels, *shape.size)
        self.weight = made(shape.channels, 1, *shape.kernel)
        self.bias = made(shape.channels)
        self.upstream = made(images, shape.channels, *output_size(shape))

    def gradients(self, context: Any = None, layout: Any = lambda images: images) -> list[torch.Tensor]:
        """Return output, and the gradients of input, weight and bias, computed in a context."""
        images, weight, bias = (
            tensor.detach().clone().requires_grad_() for tensor in (self.images, self.weight, self.bias)
        )
        shape = self.shape
        with context or nullcontext():
            output = functional.conv2d(
                layout(images), weight, bias, shape.stride, shape.padding, shape.dilation, shape.channels
            )
        output.backward(layout(self.upstream).to(output.dtype))
        return [output.detach(), *(required(leaf.grad) for leaf in (images, weight, bias))]


def required(tensor: torch.Tensor | None) -> torch.Tensor:
    assert tensor is not None
    return tensor


def assert_close(found: torch.Tensor, expected: torch.Tensor, relative: float = RELATIVE) -> None:
    """Compare gradients of one shape and type: to so much of the largest number."""
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if expected.numel():
        assert (found - expected).abs().max() <= relative * expected.abs().max()


def assert_same_gradients(shape: DepthwiseShape, images: int = 3, **options: Any) -> None:
    leaves, mode = Leaves(shape, images), ours()
    expected, found = leaves.gradients(**options), leaves.gradients(mode, **options)
    assert mode.chosen() == (DepthwiseGradient(shape=shape, way="products"),)
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        if index == 2:
            assert_close(one, other)
        else:
            # Output, and the gradients of input and bias, are PyTorch's own.
            assert torch.equal(one, other)


SHAPES = {
    "EfficientNet-Lite0 at 64 px": shape_of(1152, 2, 5),
    "EfficientNet-Lite0 at 128 px": shape_of(1152, 4, 5),
    "EfficientNet-Lite0 at 128 px, its last 3 x 3": shape_of(1152, 4, 3),
    "EfficientNet-Lite0 at 224 px": shape_of(1152, 7, 5),
    "MobileNetV3 at 128 px, its last stride": shape_of(672, 8, 5, stride=(2, 2)),
    "ConvNeXt at 224 px": shape_of(768, 7, 7),
    "ConvNeXt at 64 px": shape_of(768, 2, 7),
    "one pixel": shape_of(5, 1, 3),
    "two channels": shape_of(2, 4, 3),
    "odd, of unequal sides": shape_of(6, (5, 3), 3),
    "an even kernel": shape_of(6, (5, 4), 2),
    "a kernel of unequal sides": shape_of(6, 5, (1, 3)),
    "strides of unequal length": shape_of(6, (7, 6), 3, stride=(2, 3)),
    "dilated": shape_of(6, 7, 3, dilation=(2, 2), padding=(2, 2)),
    "dilated, with a stride": shape_of(6, (9, 7), 3, dilation=(3, 2), stride=(2, 1), padding=(1, 2)),
    "without padding": shape_of(6, 5, 3, padding=(0, 0)),
    "padding beyond the kernel": shape_of(6, 3, 3, padding=(4, 3)),
    "padding of unequal sides": shape_of(6, (4, 5), 3, padding=(0, 2)),
    "pixels that no kernel reaches": shape_of(6, 6, 2, stride=(4, 4), padding=(0, 0)),
}


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("name", SHAPES)
def test_the_gradients_are_those_of_pytorch(name: str) -> None:
    assert_same_gradients(SHAPES[name])


def test_one_gradient_written_out() -> None:
    """A kernel of 1 x 2 on a row of three: each weight is met by two places of the output."""
    shape = shape_of(2, (1, 3), (1, 2), padding=(0, 0))
    images = torch.tensor([[[[1.0, 2, 3]], [[4, 5, 6]]], [[[1, 0, 0]], [[0, 0, 1]]]])
    upstream = torch.tensor([[[[1.0, 10]], [[1, 0]]], [[[5, 5]], [[0, 7]]]])
    found = gradient_by_products(images, upstream, shape)
    # First channel: 1*1 + 10*2 + 5*1, and 1*2 + 10*3; second: 1*4, and 1*5 + 7*1.
    assert found.tolist() == [[[[26.0, 32.0]]], [[[4.0, 12.0]]]]


def channels_last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def every_second(tensor: torch.Tensor) -> torch.Tensor:
    """Return the same numbers as a part of a larger tensor, with gaps between them."""
    wide = torch.zeros(*tensor.shape[:3], 2 * tensor.shape[3], dtype=tensor.dtype)
    wide[..., ::2] = tensor
    return wide[..., ::2]


def transposed(tensor: torch.Tensor) -> torch.Tensor:
    """Return the same numbers with height and width exchanged in memory."""
    return tensor.transpose(2, 3).contiguous().transpose(2, 3)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("layout", [channels_last, every_second, transposed])
@pytest.mark.parametrize("images", [1, 3])
def test_the_layout_in_memory_changes_nothing(layout: Any, images: int) -> None:
    assert_same_gradients(shape_of(16, (5, 4), 3), images, layout=layout)


@pytest.mark.usefixtures("everywhere")
def test_an_empty_batch_has_a_gradient_of_zeros() -> None:
    found = Leaves(shape_of(), images=0).gradients(ours())
    assert found[2].shape == (6, 1, 3, 3)
    assert not found[2].any()


@pytest.mark.usefixtures("everywhere")
def test_float64_is_computed_in_float64() -> None:
    leaves = Leaves(shape_of(6, 5, 3), kind=torch.float64)
    assert_close(leaves.gradients(ours())[2], leaves.gradients()[2], 1e-13)


@pytest.mark.usefixtures("everywhere")
def test_autocast_rounds_once_what_is_summed_in_float32() -> None:
    leaves = Leaves(shape_of(6, 4, 5), images=16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = leaves.gradients()
        mode = ours()
        found = leaves.gradients(mode)
    assert mode.chosen()[0].way == "products"
    assert [tensor.dtype for tensor in found] == [tensor.dtype for tensor in expected]
    assert found[0].dtype == torch.bfloat16
    assert found[2].dtype == torch.float32
    images, upstream = (tensor.bfloat16().double() for tensor in (leaves.images, leaves.upstream))
    exact = gradient_by_products(images, upstream, leaves.shape)
    # Half a unit in the last of bfloat16's 8 digits.
    assert torch.all((found[2] - exact).abs() <= 2**-8 * exact.abs() + 1e-5)
    assert_close(found[2], expected[2], 2**-6)


@pytest.mark.usefixtures("everywhere")
def test_it_may_be_differentiated_twice() -> None:
    shape = shape_of(2, 3, 3, stride=(2, 2))
    leaves = Leaves(shape, images=2, kind=torch.float64)

    def convolve(images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        with ours():
            return functional.conv2d(images, weight, bias, shape.stride, shape.padding, groups=shape.channels)

    inputs = tuple(tensor.requires_grad_() for tensor in (leaves.images, leaves.weight, leaves.bias))
    assert torch.autograd.gradcheck(convolve, inputs)
    assert torch.autograd.gradgradcheck(convolve, inputs)


@pytest.mark.usefixtures("everywhere")
def test_only_what_is_asked_for_is_computed() -> None:
    leaves = Leaves(shape_of())
    weight = leaves.weight.requires_grad_()
    with ours():
        functional.conv2d(leaves.images, weight, None, padding=1, groups=6).backward(leaves.upstream)
    assert leaves.images.grad is None
    assert_close(required(weight.grad), leaves.gradients()[2])


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("count", [1, 2, 3])
def test_with_one_number_of_threads_it_repeats_bit_for_bit(count: int) -> None:
    leaves = Leaves(shape_of(96, 4, 5), images=16)
    with threads(count):
        first, *others = (leaves.gradients(ours(), channels_last)[2] for _ in range(5))
    assert all(torch.equal(first, other) for other in others)
    assert_close(first, leaves.gradients()[2])


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize(
    ("padding", "chosen"), [("same", True), ("valid", True), (1, True), ((1,), True), ([1, 2], True)]
)
def test_every_way_to_give_padding_means_what_it_does_in_pytorch(padding: Any, chosen: bool) -> None:
    layer = nn.Conv2d(6, 6, 3, groups=6, padding=padding)
    assert_same_layer(layer, torch.randn(2, 6, 5, 4), chosen)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_a_layer_that_pads_by_itself_is_convolved_without_padding(mode: str) -> None:
    layer = nn.Conv2d(6, 6, 3, groups=6, padding=1, padding_mode=mode)
    assert_same_layer(layer, torch.randn(2, 6, 5, 4), True)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 6, 3),
        nn.Conv2d(6, 6, 3, groups=3),
        nn.Conv2d(6, 12, 3, groups=6),
        nn.Conv2d(6, 6, 2, groups=6, padding="same"),
    ],
    ids=["full", "groups of two", "two kernels per channel", "one pixel more on one side"],
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_what_is_not_ours_is_left_to_pytorch(layer: nn.Conv2d) -> None:
    assert_same_layer(layer, torch.randn(2, 6, 5, 4), False)


def assert_same_layer(layer: nn.Conv2d, images: torch.Tensor, chosen: bool) -> None:
    mode, found = ours(), []
    for context in (nullcontext(), mode):
        layer.zero_grad()
        with context:
            layer(images).square().sum().backward()
        found.append([required(parameter.grad).clone() for parameter in layer.parameters()])
    assert bool(mode.chosen()) is chosen
    for one, other in zip(*found, strict=True):
        assert_close(one, other)


@pytest.mark.usefixtures("everywhere")
def test_what_is_not_trained_is_left_to_pytorch() -> None:
    layer, images, mode = nn.Conv2d(6, 6, 3, groups=6), torch.randn(2, 6, 5, 5), ours()
    with mode, torch.no_grad():
        layer(images)
    layer.requires_grad_(False)
    with mode:
        layer(images.requires_grad_())
        layer(images[0])
    assert mode.chosen() == ()


@pytest.mark.usefixtures("everywhere")
def test_pytorch_says_itself_what_it_refuses() -> None:
    layer = nn.Conv2d(6, 6, 5, groups=6)
    with ours(), pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        layer(torch.randn(2, 6, 3, 3))
    with ours(), pytest.raises(RuntimeError, match="type"):
        layer(torch.randn(2, 6, 7, 7, dtype=torch.float64))


@pytest.mark.parametrize("instructions", depthwise.MOST_CELLS)
def test_small_maps_are_products_and_large_ones_are_not(instructions: str) -> None:
    assert choose_way(shape_of(1152, 4, 5), instructions) == "products"
    assert choose_way(shape_of(1152, 2, 3), instructions) == "products"
    assert choose_way(shape_of(768, 7, 7), instructions) == "products"
    assert choose_way(shape_of(384, 8, 7), instructions) == "products"
    assert choose_way(shape_of(672, 8, 5), instructions) == "pytorch"
    assert choose_way(shape_of(672, 11, 5, stride=(2, 2), padding=(0, 0)), instructions) == "pytorch"
    assert choose_way(shape_of(96, 56, 3), instructions) == "pytorch"


@pytest.mark.parametrize("instructions", depthwise.MOST_CELLS)
def test_kernels_that_pytorch_is_fast_with_are_left_to_it(instructions: str) -> None:
    assert choose_way(shape_of(1152, 4, 3), instructions) == "pytorch"
    assert choose_way(shape_of(1152, 3, 3), instructions) == "pytorch"
    assert choose_way(shape_of(1152, 3, 3, stride=(2, 2)), instructions) == "products"
    assert choose_way(shape_of(1152, 4, 3, stride=(2, 2)), instructions) == "pytorch"
    assert choose_way(shape_of(1152, (4, 2), 3), instructions) == "products"


def test_maps_of_seven_and_kernels_of_five_are_products_where_they_are_faster() -> None:
    assert choose_way(shape_of(960, 7, 5), "AVX512") == "products"
    assert choose_way(shape_of(960, 7, 5), "AVX2") == "pytorch"


@pytest.mark.parametrize("instructions", depthwise.MOST_CELLS)
def test_pairs_that_would_fill_the_memory_are_not_made(instructions: str) -> None:
    assert choose_way(shape_of(128, 8, 31), instructions) == "products"
    assert choose_way(shape_of(128, 28, 31), instructions) == "pytorch"


def test_where_nothing_was_measured_nothing_changes() -> None:
    assert choose_way(shape_of(1152, 4, 5), "DEFAULT") == "pytorch"


def test_a_run_that_goes_on_computes_as_it_began() -> None:
    shape = shape_of(6, 4, 5)
    mode = DepthwiseGradients("AVX2")
    Leaves(shape).gradients(mode)
    assert [found.way for found in mode.chosen()] == ["products"]
    elsewhere = DepthwiseGradients("DEFAULT")
    elsewhere.load(mode.state())
    assert elsewhere.chosen() == mode.chosen()
    Leaves(shape).gradients(elsewhere)
    assert elsewhere.chosen() == mode.chosen()


def losses(instructions: str, steps: int) -> tuple[list[float], tuple[DepthwiseGradient, ...]]:
    """Train a network that has depthwise convolutions on maps of 4 to 1 pixels, and return the loss of each step."""
    backbone = create_backbone("timm:test_efficientnet", weights="none", classes=2, image_size=32, seed=0)
    setting = tiny_setting(tiny_recipe(train__batch_size=8))
    setting = replace(setting, backbone=backbone, depthwise=DepthwiseGradients(instructions))
    parts = set_trainable(backbone, len(backbone.blocks), train_bn=True)
    backbone.model.to(memory_format=torch.channels_last)
    learner = make_learner(
        setting, setting.recipe.stage2, parts, LogitsNetwork(Deployable(backbone.model, backbone.normalization))
    )
    draw = np.random.default_rng(0)
    found = []
    for step in range(steps):
        images = torch.from_numpy(draw.integers(0, 256, (8, 32, 32, 3), np.uint8))
        targets = torch.from_numpy(draw.integers(0, 2, 8))
        found.append(training_step(learner, [images], targets, np.random.SeedSequence(step)).loss.item())
    return found, setting.depthwise.chosen()


def test_a_training_has_the_losses_of_pytorch_step_by_step() -> None:
    expected, untouched = losses("DEFAULT", 8)
    found, chosen = losses("AVX2", 8)
    assert {each.way for each in untouched} == {"pytorch"}
    assert "products" in {each.way for each in chosen}
    assert expected[0] != expected[-1]
    assert found == pytest.approx(expected, rel=RELATIVE)


class Calls(TorchFunctionMode):
    """Notes the shape of every depthwise convolution, also of one without data."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[DepthwiseShape] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == functional.conv2d:
            call = call_of(*args, **(kwargs or {}))
            if call is not None:
                self.shapes.add(call.shape)
        return func(*args, **(kwargs or {}))


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of how torchvision will initialise GoogLeNet
def test_every_shape_of_every_family_has_the_gradients_of_pytorch() -> None:
    """Of the first model of each family of timm and of torchvision's, at three sizes, what the rule takes."""
    import timm
    import torchvision

    from benchmarks.networks.catalogue import families
    from toolkit.backbones.meta import dry_run, on_meta

    calls, of_families = Calls(), 0
    builders = [
        *(lambda name=models[0]: timm.create_model(name, pretrained=False) for models in families().values()),
        *(
            lambda name=name: torchvision.models.get_model(name, weights=None)
            for name in torchvision.models.list_models(module=torchvision.models)
        ),
    ]
    for build in builders:
        model, before = on_meta(build).eval(), len(calls.shapes)
        for side in (64, 128, 224):
            try:
                with calls:
                    dry_run(model, side)
            except (RuntimeError, AssertionError, ValueError, TypeError):  # it takes another size
                continue
        of_families += len(calls.shapes) > before
    taken = [
        shape
        for shape in calls.shapes
        if any(choose_way(shape, instructions) == "products" for instructions in depthwise.MOST_CELLS)
    ]
    assert of_families > 20
    assert len(taken) > 100
    for shape in taken:
        leaves, mode = Leaves(shape, 2), DepthwiseGradients("all")
        mode.load([{"shape": shape.model_dump(), "way": "products"}])
        assert_close(leaves.gradients(mode, channels_last)[2], leaves.gradients(layout=channels_last)[2])
