from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from toolkit.cli import doctor
from toolkit.cli.doctor import IDENTITY_MODEL, Finding
from toolkit.formats.onnx import preload_cuda

Run = Callable[..., tuple[int, str, str]]


def test_doctor_names_what_can_run(run: Run) -> None:
    code, out, _ = run("doctor")
    assert code == 0
    for part in ("onnxruntime on CPU", "torch", "fine-tuning and export yes", "format onnx"):
        assert part in out


def findings(monkeypatch: pytest.MonkeyPatch, without: tuple[str, ...]) -> dict[str, Finding]:
    """Examine a machine on which these packages cannot be imported."""
    for name in without:
        monkeypatch.setitem(sys.modules, name, None)
    return {finding.subject: finding for finding in doctor.examine()}


def test_without_onnxruntime_it_says_what_to_install_and_ends_in_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings(monkeypatch, ("onnxruntime", "torch"))
    assert found["onnxruntime on CPU"].usable is False
    assert "pip install 'vision-deploy-toolkit[cpu]'" in found["onnxruntime on CPU"].detail
    assert "pip install 'vision-deploy-toolkit[train]' to fine-tune and export" in found["torch"].detail
    assert found["fine-tuning and export"].detail.startswith("missing: torch; pip install")
    assert "format onnx" not in found
    assert run("doctor")[0] == 1


def test_two_builds_of_onnxruntime_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda distribution: "1.0")
    found = findings(monkeypatch, ("torch",))
    assert "overwrite each other" in found["onnxruntime"].detail


def test_a_provider_that_cannot_be_loaded_is_not_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def __init__(self, model: bytes, providers: list[str]) -> None:
            assert model == IDENTITY_MODEL

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    runtime = ModuleType("onnxruntime")
    vars(runtime).update(
        __version__="9.0",
        InferenceSession=Session,
        get_available_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        set_default_logger_severity=lambda level: None,
        preload_dlls=lambda: None,
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    found = findings(monkeypatch, ("torch",))
    assert found["onnxruntime on CPU"].usable is True
    assert found["onnxruntime on CUDA"].usable is False
    assert "its libraries (CUDA, cuDNN, driver) cannot be loaded here" in found["onnxruntime on CUDA"].detail


def test_an_engine_that_raises_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("illegal instruction\nmore")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    found = findings(monkeypatch, ("torch",))
    assert found["onnxruntime on CPU"].usable is False
    assert found["onnxruntime on CPU"].detail.endswith("RuntimeError: illegal instruction")


def test_without_preload_dlls_a_provider_is_tried_all_the_same() -> None:
    preload_cuda(ModuleType("onnxruntime"))  # 1.20 has no such call
    called: list[str] = []
    newer = ModuleType("onnxruntime")
    vars(newer)["preload_dlls"] = lambda: called.append("preloaded")
    preload_cuda(newer)
    assert called == ["preloaded"]
