from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from toolkit.errors import DeviceError
from toolkit.training import precision as precision_module
from toolkit.training.precision import Precision, choose_precision, multiplies_bfloat16

CPU = torch.device("cpu")


def test_float32_leaves_everything_as_it_is() -> None:
    precision = Precision("float32", CPU)
    assert precision.narrow is None
    with precision.autocast():
        assert (torch.randn(2, 2) @ torch.randn(2, 2)).dtype == torch.float32
    assert precision.state() == {}


PLAIN = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 4))
DEPTHWISE = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4))
GROUPED_ALONE = nn.Conv2d(4, 4, 3, groups=2)


@pytest.mark.parametrize(
    ("trained", "multiplies", "chosen"),
    [
        ([PLAIN], True, "bfloat16"),
        ([PLAIN], False, "float32"),
        ([PLAIN, DEPTHWISE], True, "bfloat16"),
        ([PLAIN, DEPTHWISE], False, "float32"),
        ([GROUPED_ALONE], True, "float32"),
        ([nn.ReLU()], True, "float32"),
        ([], True, "float32"),
    ],
)
def test_auto_on_a_cpu_looks_at_the_processor_and_at_what_is_trained(
    trained: list[nn.Module], multiplies: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision_module, "multiplies_bfloat16", lambda: multiplies)
    assert choose_precision("auto", CPU, trained) == chosen


@pytest.mark.parametrize(("multiplies", "chosen"), [(True, "bfloat16"), (False, "float16")])
def test_auto_on_cuda_wants_a_card_that_multiplies_bfloat16(
    multiplies: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A card before Ampere: PyTorch says yes unless it is told not to count what it computes in float32.
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or multiplies
    )
    assert choose_precision("auto", torch.device("cuda"), []) == chosen


def test_what_was_asked_for_is_chosen() -> None:
    assert choose_precision("bfloat16", CPU, [DEPTHWISE]) == "bfloat16"
    assert choose_precision("float32", CPU, [PLAIN]) == "float32"


def test_a_pytorch_that_does_not_know_the_processor_means_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not multiplies_bfloat16()


def test_bfloat16_computes_in_it_and_trains_float32_weights() -> None:
    precision = Precision("bfloat16", CPU)
    layer = torch.nn.Linear(4, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    before = layer.weight.detach().clone()
    with precision.autocast():
        output = layer(torch.randn(3, 4))
    assert output.dtype == torch.bfloat16
    precision.backward(output.float().sum())
    precision.step(optimizer)
    assert layer.weight.dtype == torch.float32
    assert not torch.equal(layer.weight, before)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_on_a_cpu_grouped_convolutions_stay_in_float32(groups: int, axes: int) -> None:
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1](4, 4, 3, groups=groups)
    # As a layer before it leaves them.
    images = torch.randn(2, 4, *[5] * axes).bfloat16().requires_grad_()
    with Precision("bfloat16", CPU).autocast():
        output = layer(images)
        product = output.flatten(1) @ torch.randn(output[0].numel(), 2)
    assert output.dtype == (torch.bfloat16 if groups == 1 else torch.float32)
    assert product.dtype == torch.bfloat16
    product.float().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
    assert images.grad is not None
    assert images.grad.dtype == torch.bfloat16
    if groups > 1:
        assert torch.equal(output, layer(images.detach().float()))


def test_groups_may_be_named() -> None:
    weight, images = torch.randn(4, 1, 3, 3), torch.randn(2, 4, 5, 5)
    with Precision("bfloat16", CPU).autocast():
        output = nn.functional.conv2d(weight=weight, input=images, groups=4)
    assert torch.equal(output, nn.functional.conv2d(images, weight, groups=4))


def test_who_looks_at_convolutions_is_told_of_those_in_float32() -> None:
    seen = []

    class Looking(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is nn.functional.conv2d:
                seen.append((args[0].dtype, torch.is_autocast_enabled("cpu")))
            return func(*args, **(kwargs or {}))

    with Looking(), Precision("bfloat16", CPU).autocast():
        DEPTHWISE(torch.randn(1, 3, 5, 5))
    assert seen == [(torch.float32, True), (torch.float32, False)]


def test_float16_on_a_cpu_is_refused() -> None:
    with pytest.raises(DeviceError, match="needs CUDA: use float32 or bfloat16"):
        Precision("float16", CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_float16_scales_its_gradients_on_cuda() -> None:
    precision = Precision("float16", torch.device("cuda"))
    layer = torch.nn.Linear(4, 2).cuda()
    with precision.autocast():
        output = layer(torch.randn(3, 4, device="cuda"))
    precision.backward(output.float().sum())
    precision.step(torch.optim.SGD(layer.parameters(), lr=0.1))
    assert precision.state()["scale"] > 1
