from __future__ import annotations

import pytest
import torch

from toolkit.errors import DeviceError
from toolkit.finetune.precision import Precision

CPU = torch.device("cpu")


def test_auto_on_a_cpu_is_float32() -> None:
    precision = Precision("auto", CPU)
    assert precision.narrow is None
    with precision.autocast():
        assert (torch.randn(2, 2) @ torch.randn(2, 2)).dtype == torch.float32
    assert precision.state() == {}


def test_bfloat16_computes_in_it_and_trains_float32_weights() -> None:
    precision = Precision("bfloat16", CPU)
    layer = torch.nn.Linear(4, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    before = layer.weight.detach().clone()
    with precision.autocast():
        output = layer(torch.randn(3, 4))
    assert output.dtype == torch.bfloat16
    precision.backward_and_step(output.float().sum(), optimizer)
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
    precision.backward_and_step(output.float().sum(), torch.optim.SGD(layer.parameters(), lr=0.1))
    assert precision.state()["scale"] > 1
