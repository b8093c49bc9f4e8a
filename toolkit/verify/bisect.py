"""The first node of an ONNX graph whose output leaves tolerance.

Two graphs with the same names of tensors are run side by side, in the order of computation, a few tensors at a time,
without optimisations. All tensors are looked at and none is skipped: a binary search would be wrong wherever a later
node hides a fault (a ReLU, a clip, a pooling). Memory holds the two models and the few tensors of one step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.bundle.manifest import InputContract
from toolkit.errors import BundleError, ToolkitError
from toolkit.formats.onnx import import_onnxruntime
from toolkit.results import Bisection, DivergedNode, Tolerance
from toolkit.verify.graph import Graph
from toolkit.verify.inputs import Images, Inputs

STEP = 8
"""Tensors that are read at once."""
SAMPLES = 4
"""Test images; two edge inputs join them."""
BEFORE, AFTER = 6, 6
"""Nodes of the path that are told."""
LEAST_COMMON = 0.5
"""Graphs that share a smaller part of their tensors are of different structure."""


def bisect_artifact(
    artifact: Path, reference: Path, contract: InputContract, inputs: Inputs, tolerance: Tolerance
) -> Bisection:
    """Find the first node whose output differs from that of the reference.

    Args:
        artifact: the ONNX file that fails.
        reference: an ONNX file of the same network, exported in the same way, e.g. a fresh one.
        contract: how pixels are fed.
        inputs: images to run: the first test images and two of the edge inputs, in one batch.
        tolerance: of the artifact.

    Raises:
        BundleError: a file is not a model, or the graphs have different structure.
        MissingDependencyError: onnx or onnxruntime is not installed.
    """
    mine, theirs = Graph(artifact), Graph(reference)
    common = [
        position
        for position, node in enumerate(theirs.nodes)
        if any(name in mine.producer for name in node.output if name)
    ]
    if len(common) < LEAST_COMMON * len(theirs.nodes):
        raise BundleError(
            f"{artifact.name} shares only {len(common)} of {len(theirs.nodes)} nodes with {reference.name}: "
            "bisection needs two exports of one network."
        )
    images = sample(inputs)
    compared: list[tuple[int, DivergedNode]] = []
    first: int | None = None
    for position, node in _walk(mine, theirs, common, contract.encode(images)):
        compared.append((position, node))
        if first is None and node.error > tolerance.tensor_relative:
            first = len(compared) - 1
        if first is not None and len(compared) > first + AFTER:
            break
    end = len(theirs.nodes) if first is None else compared[first][0]
    return Bisection(
        reference=reference.name,
        samples=len(images),
        compared=len(compared),
        allowed=tolerance.tensor_relative,
        first=None if first is None else compared[first][1],
        path=() if first is None else tuple(node for _, node in compared[max(0, first - BEFORE) : first + AFTER + 1]),
        lacking=tuple(node.name for position, node in enumerate(theirs.nodes[:end]) if position not in set(common)),
    )


def sample(inputs: Inputs) -> Images:
    """Return the first test images and the white and the first random edge input, uint8 ``[n, H, W, 3]``."""
    edges = [inputs.test_images + place for place in (1, 2) if inputs.test_images + place < len(inputs.names)]
    return inputs.images[[*range(min(SAMPLES, inputs.test_images)), *edges]]


def _walk(
    mine: Graph, theirs: Graph, common: Sequence[int], encoded: npt.NDArray[np.generic]
) -> Iterator[tuple[int, DivergedNode]]:
    """Yield each node that both graphs have, with its error, in the order of computation."""
    for start in range(0, len(common), STEP):
        positions = common[start : start + STEP]
        tensors = [name for position in positions for name in theirs.nodes[position].output if name in mine.producer]
        expected, actual = _run(theirs, tensors, encoded), _run_or_split(mine, tensors, encoded)
        for position in positions:
            node = theirs.nodes[position]
            errors = {name: _error(expected[name], actual[name]) for name in node.output if name in expected}
            worst = max(errors, key=lambda name: errors[name])
            yield (
                position,
                DivergedNode(
                    node=node.name, operator=node.op_type, module=theirs.module(node), tensor=worst, error=errors[worst]
                ),
            )


def _run_or_split(
    graph: Graph, tensors: Sequence[str], encoded: npt.NDArray[np.generic]
) -> dict[str, npt.NDArray[Any] | None]:
    """Read tensors together; where that fails, one by one, so that the one which cannot be computed is known (None)."""
    try:
        return {**_run(graph, tensors, encoded)}
    except _EngineError:
        if len(tensors) == 1:
            return {tensors[0]: None}
        return {name: values for tensor in tensors for name, values in _run_or_split(graph, [tensor], encoded).items()}


class _EngineError(ToolkitError):
    """Onnxruntime refuses a graph or cannot run it."""


def _run(graph: Graph, tensors: Sequence[str], encoded: npt.NDArray[np.generic]) -> dict[str, npt.NDArray[Any]]:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(graph.until(tensors), options, providers=["CPUExecutionProvider"])
        outputs = session.run(list(tensors), {value.name: encoded for value in session.get_inputs()})
    except Exception as error:  # onnxruntime's exceptions have no common base below Exception
        raise _EngineError(f"onnxruntime cannot compute {', '.join(tensors)}: {error}") from error
    return dict(zip(tensors, outputs, strict=True))


def _error(expected: npt.NDArray[Any], actual: npt.NDArray[Any] | None) -> float:
    """Return the largest difference as a share of the largest expected value.

    0 where all values are the same, infinite where none can be told.
    """
    if actual is None or expected.shape != actual.shape:
        return math.inf
    if not expected.size or np.array_equal(expected, actual):
        return 0.0
    reference, given = expected.astype(np.float64), actual.astype(np.float64)
    if not (np.isfinite(reference).all() and np.isfinite(given).all()):
        return math.inf
    scale = float(np.abs(reference).max())
    difference = float(np.abs(given - reference).max())
    return difference / scale if scale else math.inf
