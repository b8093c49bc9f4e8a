"""What a worker is asked to do: the first message it gets."""

from __future__ import annotations

from typing import Any

from toolkit.bundle.manifest import InputContract
from toolkit.results import Record


class Job(Record):
    """One row of the table: how to open the model, and the images to run it on."""

    factory: str
    """``module:function``. The function takes ``arguments``, imports the engine, and returns a function that opens the
    session."""
    arguments: dict[str, Any]
    """JSON values only."""
    images: str
    """A ``.npy`` file: uint8 ``[n, H, W, 3]``, prepared test images."""
    targets: str
    """A ``.npy`` file: int64 ``[n]``, their classes."""
    contract: InputContract
    min_seconds: float
    """Least measured time of one round."""
