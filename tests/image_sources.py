"""What tests give to a predictor as an image."""

from __future__ import annotations

import io
import threading

import numpy as np
from PIL import Image


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class Held:
    """A file, and no ``BytesIO``, that is not read on before somebody says so."""

    def __init__(self, content: bytes, reading: threading.Event, go_on: threading.Event) -> None:
        self._inner = io.BytesIO(content)
        self._reading = reading
        self._go_on = go_on

    def read(self, size: int | None = -1) -> bytes:
        self._reading.set()
        self._go_on.wait(60)
        return self._inner.read(size)

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)
