"""What needs no compiler; what is compiled is judged by test_conformance."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.bundles import content_of
from toolkit.errors import BundleError, DeviceError
from toolkit.formats import aoti
from toolkit.formats.aoti import COMPILERS, AotiFormat


def test_it_is_offered_where_there_is_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name == "clang++" else None)
    monkeypatch.setattr(aoti, "sys", SimpleNamespace(platform="linux"))
    assert AotiFormat().unavailable() is None


@pytest.mark.parametrize(("platform", "sentence"), [("darwin", "on Linux only"), ("win32", "on Linux only")])
def test_it_is_not_offered_elsewhere(monkeypatch: pytest.MonkeyPatch, platform: str, sentence: str) -> None:
    monkeypatch.setattr(aoti, "sys", SimpleNamespace(platform=platform))
    assert sentence in str(AotiFormat().unavailable())


def test_without_a_compiler_it_names_those_it_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(aoti, "sys", SimpleNamespace(platform="linux"))
    assert AotiFormat().unavailable() == f"no C++ compiler is installed ({', '.join(COMPILERS)}): install g++"


def test_without_torch_that_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "torch is not installed" in str(AotiFormat().unavailable())


def test_machine_code_for_a_processor_does_not_run_on_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(DeviceError, match="is compiled for the CPU and does not run on CUDA"):
        AotiFormat().open(content_of(tmp_path / "model.aoti.pt2"), "cuda", 1)


def test_a_file_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "model.aoti.pt2").write_bytes(b"no package")
    with pytest.raises(BundleError, match=r"AOTInductor refuses .*model\.aoti\.pt2"):
        AotiFormat().open(content_of(tmp_path / "model.aoti.pt2"), "cpu", 1)


def test_its_artifacts_promise_nothing_on_another_machine() -> None:
    assert AotiFormat().portability == "same-machine"
