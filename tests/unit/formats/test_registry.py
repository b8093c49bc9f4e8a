from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from toolkit.errors import ExportError
from toolkit.formats import registry
from toolkit.formats.onnx import OnnxFormat


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    registry.formats.cache_clear()
    yield
    registry.formats.cache_clear()


def entry(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    point = SimpleNamespace(name="extra", dist=SimpleNamespace(name="their-package"), value="theirs:Format", load=load)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "toolkit.formats" else [])


def test_the_packages_own_formats() -> None:
    assert list(registry.formats()) == ["torchscript", "onnx", "onnx-int8", "onnx-fp16", "openvino", "pt2", "aoti"]
    with pytest.raises(ExportError, match="no format 'onx'; formats here are torchscript, onnx, onnx-int8"):
        registry.get_format("onx")


def test_a_format_of_another_package_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Theirs(OnnxFormat):
        name = "theirs"

    entry(lambda: Theirs, monkeypatch)
    assert isinstance(registry.get_format("theirs"), Theirs)


def test_a_format_that_cannot_be_loaded_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> None:
        raise ImportError("no module named engine")

    entry(load, monkeypatch)
    with pytest.raises(ExportError, match=r"'extra' of their-package cannot be loaded .*no module named engine"):
        registry.formats()


def test_a_name_that_is_taken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry(lambda: OnnxFormat, monkeypatch)
    with pytest.raises(ExportError, match="their-package adds a format named 'onnx', which exists already"):
        registry.formats()
