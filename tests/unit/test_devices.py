from __future__ import annotations

import pytest

from toolkit.devices import check_device, index_of, is_device, kind_of, require_cuda_device
from toolkit.errors import DeviceError


@pytest.mark.parametrize(
    ("device", "kind", "index"),
    [("cpu", "cpu", 0), ("cuda", "cuda", 0), ("cuda:0", "cuda", 0), ("cuda:1", "cuda", 1), ("cuda:15", "cuda", 15)],
)
def test_a_name_says_kind_and_index(device: str, kind: str, index: int) -> None:
    assert is_device(device)
    assert (kind_of(device), index_of(device), check_device(device)) == (kind, index, device)


@pytest.mark.parametrize("device", ["", "gpu", "cpu:1", "cuda:", "cuda:-1", "cuda:x", "cuda:01", "cuda:1 ", "CUDA", 1])
def test_anything_else_is_refused(device: str) -> None:
    assert not is_device(device)
    with pytest.raises(DeviceError, match="give one of auto, cpu, cuda, cuda:N"):
        check_device(device, "auto")


def test_a_gpu_that_is_not_there_is_refused_and_those_that_are_named() -> None:
    require_cuda_device("cuda", 1, "PyTorch")
    require_cuda_device("cuda:3", 4, "PyTorch")
    with pytest.raises(DeviceError, match="there is no cuda:1 here: PyTorch sees cuda:0 alone"):
        require_cuda_device("cuda:1", 1, "PyTorch")
    with pytest.raises(DeviceError, match="there is no cuda:4 here: PyTorch sees cuda:0 to cuda:3"):
        require_cuda_device("cuda:4", 4, "PyTorch")
