from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from toolkit.errors import BundleError, ExportError
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


class Plain:
    """A format that says only what has no default, and inherits nothing."""

    name, precision, suffix = "plain", "float32", ".plain"

    def unavailable(self) -> str | None: ...
    def export(self, *_: Any) -> None: ...
    def facts(self, *_: Any) -> None: ...
    def open(self, *_: Any) -> None: ...


def test_what_a_format_does_not_say_is_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    entry(lambda: Plain, monkeypatch)
    plain = registry.get_format("plain")
    assert (plain.family, plain.engine, plain.calibrates) == ("plain", None, False)
    # Nobody has promised that its files hold no code, and nobody has said that they are ONNX graphs.
    assert (plain.carries_code, plain.bisectable, plain.narrow_type) == (True, False, None)


def test_what_a_format_says_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    class Told(Plain):
        family, engine, carries_code = "tar", "tarfile", False

    entry(lambda: Told, monkeypatch)
    told = registry.get_format("plain")
    assert (told.family, told.engine, told.carries_code, told.bisectable) == ("tar", "tarfile", False, False)


def test_a_format_that_lacks_what_has_no_default_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Half:
        name, precision = "half", "float16"

    entry(lambda: Half, monkeypatch)
    with pytest.raises(ExportError, match="'extra' of their-package lacks suffix, unavailable, export, facts, open"):
        registry.formats()


def test_a_file_of_another_family_than_the_format_reads_is_refused() -> None:
    assert registry.get_format("onnx-int8", "onnx").name == "onnx-int8"
    with pytest.raises(BundleError, match="is of the family 'torchscript', and that format reads 'onnx'"):
        registry.get_format("onnx-int8", "torchscript")


@pytest.mark.parametrize(
    ("name", "family", "engine", "carries_code", "bisectable", "narrow_type"),
    [
        ("torchscript", "torchscript", "torch", True, False, None),
        ("onnx", "onnx", "onnxruntime", False, True, None),
        ("onnx-int8", "onnx", "onnxruntime", False, True, "int8"),
        ("onnx-fp16", "onnx", "onnxruntime", False, True, "float16"),
        ("openvino", "openvino", "openvino", False, False, None),
        ("pt2", "pt2", "torch", True, False, None),
        ("aoti", "aoti", "torch", True, False, None),
    ],
)
def test_what_the_packages_own_formats_say_of_themselves(
    name: str, family: str, engine: str, carries_code: bool, bisectable: bool, narrow_type: str | None
) -> None:
    own = registry.get_format(name)
    assert (own.family, own.engine, own.carries_code) == (family, engine, carries_code)
    assert (own.bisectable, own.narrow_type) == (bisectable, narrow_type)
