"""float16 files on a CPU: whether every value fits. A CPU computes them in float32, so that what a GPU makes infinite looks right there."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from toolkit.bundle.manifest import InputContract
from toolkit.errors import first_line
from toolkit.formats.half import LARGEST_FLOAT16
from toolkit.formats.onnx_graph import extremes
from toolkit.verify.candidate import CannotRunError
from toolkit.verify.inputs import MAIN_BATCH, Images


@dataclass(frozen=True)
class HalfRange:
    """The largest values that a graph stores as float16."""

    tensors: int
    """How many were looked at."""
    largest: float
    """NaN where one is not a number."""
    too_large: dict[str, float]
    """Of those that float16 cannot hold, by the tensor's name."""


def can_measure() -> bool:
    """Return whether the onnx package is at hand, which rewrites the graph."""
    return importlib.util.find_spec("onnx") is not None


def half_range(file: Path, contract: InputContract, images: Images, threads: int) -> HalfRange:
    """Run images through a float16 graph and find the largest absolute value of everything that is float16 in it.

    Args:
        file: an ONNX file.
        contract: how pixels are fed.
        images: uint8 ``[n, H, W, 3]``.
        threads: CPU threads.

    Raises:
        CannotRunError: the graph cannot be read or run with its values as outputs.
    """
    import onnx

    try:
        with tempfile.TemporaryDirectory(prefix="toolkit-") as scratch:
            found = extremes(onnx.load_model(file), _batches(contract, images), Path(scratch), threads, "FLOAT16").tensors
    except Exception as error:  # an engine may raise anything, and whatever it raises is the verdict
        raise CannotRunError(f"its float16 values cannot be looked at: {first_line(error)}") from error
    too_large = {name: value for name, value in found.items() if not value <= LARGEST_FLOAT16}
    return HalfRange(len(found), float(np.max(list(found.values()), initial=0.0)), too_large)


def _batches(contract: InputContract, images: Images) -> Iterator[npt.NDArray[np.generic]]:
    for start in range(0, len(images), MAIN_BATCH):
        yield contract.encode(images[start : start + MAIN_BATCH].copy())
