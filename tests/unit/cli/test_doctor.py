from __future__ import annotations

from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]


def test_doctor_names_what_can_run(run: Run) -> None:
    code, out, _ = run("doctor")
    assert code == 0
    for part in ("onnxruntime on CPU", "torch", "fine-tuning and export yes", "format onnx"):
        assert part in out
