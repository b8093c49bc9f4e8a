"""The range of each activation, found on training images by onnxruntime's calibrators in one pass for all methods."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from toolkit.formats.onnx_graph import float_tensors
from toolkit.results import CalibrationMethod

if TYPE_CHECKING:
    import onnx

PERCENTILE = 99.99
HISTOGRAM_BINS = 2048
ENTROPY_MERGES = 4
"""Neighbouring bins that become one for the entropy method, whose time grows with the square of their number."""
ENTROPY_LEVELS = 128
"""Levels that the entropy method divides a candidate range into (Migacz, 8-bit Inference with TensorRT, 2017)."""
MEMORY_BYTES = 256 * 2**20
"""What the activations of one batch may take while their histograms are made."""
LARGEST_BATCH = 32

Ranges = dict[CalibrationMethod, Any]  # onnxruntime ships no type information
"""Method to ``onnxruntime.quantization.calibrate.TensorsData``."""


def batch_size_for(model: onnx.ModelProto) -> int:
    """Return how many images of a graph may be run at once with every activation kept."""
    per_image = 4 * sum(float_tensors(model).values())
    return max(1, min(LARGEST_BATCH, MEMORY_BYTES // max(1, per_image)))


def find_ranges(
    model: Path,
    operators: list[str],
    batches: Iterator[npt.NDArray[np.generic]],
    input_name: str,
    scratch: Path,
    on_batch: Callable[[], None] = lambda: None,
) -> Ranges:
    """Run a float32 graph and choose a range for each activation, once per method.

    Memory: one batch of every activation, and a histogram of some thousand bins for each.

    Args:
        model: file of the graph after onnxruntime's pre-processing.
        operators: whose inputs and outputs get a range.
        batches: encoded training images.
        input_name: of the graph.
        scratch: folder for a temporary model file.
        on_batch: called after each batch.
    """
    from onnxruntime.quantization.calibrate import CalibrationMethod as Method
    from onnxruntime.quantization.calibrate import HistogramCollector, TensorsData, create_calibrator

    options = {"symmetric": False, "num_bins": HISTOGRAM_BINS, "percentile": PERCENTILE}
    # The calibrators print to standard output, which belongs to the result of a command.
    with contextlib.redirect_stdout(io.StringIO()):
        calibrator = create_calibrator(
            model, operators, str(scratch / "augmented.onnx"), calibrate_method=Method.Percentile, extra_options=options
        )
        for inputs in batches:
            # The calibrator keeps all outputs of what one reader gives until it has read it all; so each reader gives
            # one batch.
            calibrator.collect_data(_OneBatch({input_name: inputs}))
            on_batch()
        histograms = calibrator.collector.get_histogram_dict()
        entropy = HistogramCollector(
            "entropy", False, HISTOGRAM_BINS // ENTROPY_MERGES, ENTROPY_LEVELS, PERCENTILE, "same"
        )
        entropy.histogram_dict = {name: merge_bins(histogram, ENTROPY_MERGES) for name, histogram in histograms.items()}
        return {
            "minmax": TensorsData(
                Method.MinMax, {name: (histogram[2], histogram[3]) for name, histogram in histograms.items()}
            ),
            "entropy": TensorsData(Method.Entropy, entropy.compute_collection_result()),
            "percentile": calibrator.compute_data(),
        }


class _OneBatch:
    """A reader for onnxruntime (``CalibrationDataReader``) that gives one batch."""

    def __init__(self, inputs: dict[str, npt.NDArray[np.generic]]) -> None:
        self._waiting = [inputs]

    def get_next(self) -> dict[str, npt.NDArray[np.generic]] | None:
        """Return the batch once, then None."""
        return self._waiting.pop() if self._waiting else None


def merge_bins(histogram: tuple[Any, ...], factor: int) -> tuple[Any, ...]:
    """Merge neighbouring bins of a histogram that is symmetric about zero.

    Args:
        histogram: counts ``[2 k]``, edges ``[2 k + 1]``, least and largest value, and the outermost edge, as
            onnxruntime keeps them.
        factor: how many bins become one. Empty bins are added at both ends where ``k`` is not a multiple of it.

    Returns:
        The same five with fewer bins; zero stays an edge.
    """
    counts, edges, least, largest, _ = histogram
    half = len(counts) // 2
    added = -half % factor
    width = edges[half + 1] - edges[half]
    merged = np.pad(counts, added).reshape(-1, factor).sum(axis=1)
    outermost = np.asarray(width * (half + added), dtype=edges.dtype)
    return merged, np.linspace(-outermost, outermost, len(merged) + 1, dtype=edges.dtype), least, largest, outermost
