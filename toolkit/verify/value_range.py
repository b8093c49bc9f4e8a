"""Whether the values inside an ONNX file fit the numbers that it stores them as.

Neither fault shows for certain in the outputs: a CPU computes float16 in float32, so that what a GPU makes infinite
looks right there; and 8-bit numbers whose ranges are far too wide lose most of their levels, which easy images survive
and others do not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from toolkit.bundle.manifest import InputContract
from toolkit.dependencies import is_installed
from toolkit.errors import first_line
from toolkit.formats.base import NarrowType
from toolkit.formats.half import LARGEST_FLOAT16
from toolkit.formats.onnx_graph import float_tensors, value_ranges
from toolkit.formats.quantization.graph import activation_ranges
from toolkit.results import Tolerance
from toolkit.verify.candidate import CannotRunError
from toolkit.verify.inputs import MAIN_BATCH, Images, Inputs

if TYPE_CHECKING:
    import onnx

LEVELS = 255
"""Steps of an 8-bit number: what moves by less than one of them says nothing about its range."""


@dataclass(frozen=True)
class RangeFinding:
    """What was found out about the values of one file."""

    failures: tuple[str, ...]
    detail: str


def examine_ranges(
    file: Path, narrow_type: NarrowType, tolerance: Tolerance, contract: InputContract, inputs: Inputs, threads: int
) -> RangeFinding | None:
    """Run images through an ONNX file and hold the values inside against the numbers that store them.

    Args:
        file: an ONNX file.
        narrow_type: what is looked at: float16 values that do not fit, 8-bit ranges that are hardly used.
        tolerance: how much of an 8-bit range must be used.
        contract: how pixels are fed.
        inputs: what is run through it. Edge inputs count for float16; noise and single colours would use 8-bit ranges
            as no real image does.
        threads: CPU threads.

    Returns:
        None where there is nothing to look at: no 8-bit activations, or no onnx package, which rewrites the graph.

    Raises:
        CannotRunError: the graph cannot be read or run with its values as outputs.
    """
    if not is_installed("onnx"):
        return None
    import onnx

    examine = {"float16": _float16, "int8": _int8}[narrow_type]
    images = inputs.images[: inputs.test_images] if narrow_type == "int8" else inputs.images
    try:
        return examine(onnx.load_model(file), tolerance, list(_batches(contract, images)), threads)
    except Exception as error:  # an engine may raise anything, and whatever it raises is the verdict
        raise CannotRunError(f"the values inside it cannot be looked at: {first_line(error)}") from error


def _float16(
    model: onnx.ModelProto, _: Tolerance, batches: list[npt.NDArray[np.generic]], threads: int
) -> RangeFinding:
    names = float_tensors(model, "FLOAT16")
    with tempfile.TemporaryDirectory(prefix="toolkit-") as scratch:
        ranges = value_ranges(model, names, batches, Path(scratch), threads, "FLOAT16")
    largest = {name: float(np.abs(limits).max()) for name, limits in ranges.items()}
    too_large = {name: value for name, value in largest.items() if not value <= LARGEST_FLOAT16}
    return RangeFinding(
        tuple(
            f"{name} reaches {value:.3g}, and float16 holds {LARGEST_FLOAT16:.0f} at most"
            for name, value in too_large.items()
        ),
        f"the largest of {len(ranges)} float16 tensors is {np.max(list(largest.values()), initial=0.0):.3g}, of "
        f"{LARGEST_FLOAT16:.0f} that fit",
    )


def _int8(
    model: onnx.ModelProto, tolerance: Tolerance, batches: list[npt.NDArray[np.generic]], threads: int
) -> RangeFinding | None:
    stored = activation_ranges(model.graph)
    if not stored:
        return None
    with tempfile.TemporaryDirectory(prefix="toolkit-") as scratch:
        ranges = value_ranges(model, stored, batches, Path(scratch), threads)
    used = {name: _share(ranges[name], limits) for name, limits in stored.items()}
    failures = []
    median, least = float(np.median(list(used.values()))), tolerance.least_range_use
    if tolerance.median_range_use is not None and not median >= tolerance.median_range_use:
        failures.append(
            f"half of its {len(used)} quantised activations use {median:.1%} of their range or less, and a right "
            "calibration leaves "
            f"{tolerance.median_range_use:.1%} or more: it was calibrated on other images or for other weights"
        )
    if least is not None:
        # A tensor that stays on one level may belong to a feature that these images do not have.
        failures += [
            f"{name} uses {share:.1%} of its 8-bit range, least {least:.1%}"
            for name, share in used.items()
            if 1 / LEVELS <= share < least
        ]
    detail = (
        f"{len(used)} quantised activations use {median:.0%} of their range at the median, the least "
        f"{min(used.values()):.0%}"
    )
    return RangeFinding(tuple(failures), detail)


def _share(values: tuple[float, float], limits: tuple[float, float]) -> float:
    """Return which share of a quantised range lies between the least and the largest value."""
    inside = min(values[1], limits[1]) - max(values[0], limits[0])
    return max(0.0, inside) / (limits[1] - limits[0])


def _batches(contract: InputContract, images: Images) -> Iterator[npt.NDArray[np.generic]]:
    for start in range(0, len(images), MAIN_BATCH):
        yield contract.encode(images[start : start + MAIN_BATCH].copy())
