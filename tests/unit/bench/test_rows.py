"""Which rows there are."""

import sys
from types import ModuleType

import pytest

from toolkit.bench import rows
from toolkit.errors import DeviceError


@pytest.mark.parametrize(("asked", "expected"), [("cpu", ("cpu",)), ("cuda", ("cuda",))])
def test_a_named_device_is_taken_as_it_is(asked, expected):
    assert rows.devices(asked) == expected


@pytest.mark.parametrize(("usable", "expected"), [(True, ("cpu", "cuda")), (False, ("cpu",))])
def test_auto_has_cuda_rows_only_where_there_is_a_gpu(monkeypatch, usable, expected):
    monkeypatch.setattr(rows, "_cuda_usable", lambda: usable)
    assert rows.devices("auto") == expected


def test_an_unknown_device():
    with pytest.raises(DeviceError, match="no device 'tpu': give one of auto, cpu, cuda"):
        rows.devices("tpu")


def fake_engines(monkeypatch, torch_cuda, providers, gpu):
    torch, onnxruntime = ModuleType("torch"), ModuleType("onnxruntime")
    torch.cuda = ModuleType("cuda")
    torch.cuda.is_available = lambda: torch_cuda
    onnxruntime.get_available_providers = lambda: providers
    monkeypatch.setitem(sys.modules, "torch", torch if torch_cuda is not None else None)
    monkeypatch.setitem(sys.modules, "onnxruntime", onnxruntime if providers is not None else None)
    monkeypatch.setattr("toolkit.provenance._gpu", lambda: gpu)


@pytest.mark.parametrize(
    ("torch_cuda", "providers", "gpu", "usable"),
    [
        (True, None, None, True),
        (False, ["CUDAExecutionProvider", "CPUExecutionProvider"], "A GPU", True),
        (
            False,
            ["CUDAExecutionProvider", "CPUExecutionProvider"],
            None,
            False,
        ),  # the provider is compiled in, but there is no GPU
        (False, ["CPUExecutionProvider"], "A GPU", False),
        (None, ["CUDAExecutionProvider"], "A GPU", True),
        (None, None, "A GPU", False),
    ],
)
def test_cuda_is_usable_by_either_engine(monkeypatch, torch_cuda, providers, gpu, usable):
    fake_engines(monkeypatch, torch_cuda, providers, gpu)
    assert rows._cuda_usable() is usable
