from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

Run = Callable[..., tuple[int, str, str]]


@dataclass
class Known:
    precision: str
    suffix: str
    reason: str | None

    def unavailable(self) -> str | None:
        return self.reason


def test_a_line_per_format_and_why_it_cannot_be_used_here(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"onnx": Known("float32", ".onnx", None), "other": Known("int4", ".x", "its engine is not installed")}
    monkeypatch.setattr("toolkit.formats.registry.formats", lambda: known)
    assert run("formats") == (
        0,
        "format         precision  file                     here\n"
        "onnx           float32    model.onnx               yes\n"
        "other          int4       model.x                  no: its engine is not installed\n",
        "",
    )


def test_the_real_ones(run: Run) -> None:
    code, out, _ = run("formats")
    assert code == 0
    assert {"onnx", "torchscript", "onnx-int8", "onnx-fp16"} <= {line.split()[0] for line in out.splitlines()}
