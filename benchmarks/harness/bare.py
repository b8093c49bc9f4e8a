"""A session of onnxruntime without anything around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toolkit.formats.onnx import import_onnxruntime


def open_bare(path: Path, threads: int | None = None) -> Any:  # onnxruntime ships no type information
    """Open a session of onnxruntime: with so many threads, which sleep when they wait, or as it comes."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Idle threads that wait in a loop would take the cores from those that decode.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
