from __future__ import annotations

import pytest
import torch
from torch import nn

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


@pytest.mark.parametrize(
    ("trained", "multiplies", "chosen"),
    [
        ([PLAIN], True, "bfloat16"),
        ([PLAIN], False, "float32"),
        ([PLAIN, DEPTHWISE], True, "float32"),
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
