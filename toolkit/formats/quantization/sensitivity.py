"""Which nodes suffer most from quantisation, measured one group at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from toolkit.bundle.content import Content
from toolkit.formats.onnx import OnnxSession
from toolkit.results import GroupSensitivity

if TYPE_CHECKING:
    import onnx

MOST_GROUPS = 24
"""Each group costs one quantisation of the graph and one opened session."""
IMAGES = 32

Logits = npt.NDArray[np.float32]


def measure(
    groups: Sequence[tuple[str, ...]],
    quantize_only: Callable[[tuple[str, ...]], onnx.ModelProto],
    inputs: npt.NDArray[np.generic],
    reference: Logits,
    scratch: Path,
    threads: int,
) -> tuple[GroupSensitivity, ...]:
    """Quantise each group alone, everything else in float32, and compare the logits with those of the float32 graph.

    Args:
        groups: names of nodes.
        quantize_only: returns the graph with only these nodes quantised.
        inputs: some encoded training images.
        reference: logits of the float32 graph for them, ``[n, C]``.
        scratch: folder for a temporary model file.
        threads: CPU threads.

    Returns:
        One record per group, most sensitive first.
    """
    import onnx

    path = scratch / "group.onnx"
    measured = []
    for nodes in groups:
        onnx.save_model(quantize_only(nodes), path)
        logits = OnnxSession(Content.of(path), "cpu", threads).run(inputs)["logits"]
        measured.append(GroupSensitivity(nodes=nodes, sqnr_decibels=sqnr_decibels(reference, logits)))
    return tuple(sorted(measured, key=lambda group: group.sqnr_decibels))


def sqnr_decibels(reference: Logits, actual: Logits) -> float:
    """Return the ratio of signal to quantisation noise over all elements of two arrays, in decibels.

    Infinite where they are equal.
    """
    signal = float(np.square(reference, dtype=np.float64).sum())
    noise = float(np.square(np.asarray(reference, np.float64) - actual).sum())
    if not math.isfinite(noise):
        return -math.inf
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def kept_in_float(ranked: Iterable[GroupSensitivity], groups: int) -> tuple[str, ...]:
    """Return the nodes of the most sensitive groups."""
    return tuple(name for group in list(ranked)[:groups] for name in group.nodes)
