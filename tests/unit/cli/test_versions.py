from __future__ import annotations

import platform
from importlib import metadata

import pytest

import toolkit
from toolkit.cli.versions import versions


def test_what_is_installed_is_listed_with_its_version() -> None:
    first, python, *engines = versions()
    assert first == f"toolkit {toolkit.__version__}"
    assert python.startswith(f"Python {platform.python_version()} on ")
    assert f"torch {metadata.version('torch')}" in engines
    assert all(len(line.split()) == 2 for line in engines)


def test_what_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name != "onnxruntime":
            raise metadata.PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(metadata, "version", version)
    assert list(versions())[2:] == ["onnxruntime 1.2.3"]
