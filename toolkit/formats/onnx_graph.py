"""What lowering the precision of an ONNX graph needs to know.

Where its layers are, and which values flow through it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from toolkit.formats.onnx import open_session

if TYPE_CHECKING:
    import onnx

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that multiply by weights: nearly all of the time is spent in them."""
SHAPES = ("Shape", "Size")
"""Operators whose result does not depend on the values of their input."""
FloatType = Literal["FLOAT", "FLOAT16"]
"""As the ONNX format names it."""
REDUCTIONS = ("ReduceMin", "ReduceMax")
"""What is taken of a tensor whose range is asked for; the output that holds it is called by the name of the tensor and
this."""


@dataclass(frozen=True)
class Extremes:
    """Largest absolute values in a graph."""

    tensors: dict[str, float]
    """Of every float32 tensor that a node makes, over all images that were run."""
    initializers: dict[str, float]
    """Of every float32 weight or constant."""


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node of the graph a name of its own, keeping those that are unique already."""
    taken: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{number}"
            while node.name in taken:
                node.name += "_"
        taken.add(node.name)


def outside_layers(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the nodes that no result of a layer with weights flows into.

    Normalisation of pixels, and arithmetic on shapes.

    Rounding a constant of the normalisation shifts every pixel of every image, and rounding a size makes another size;
    and both cost next to nothing as they are.
    """
    flowing: set[str] = set()
    outside = set()
    for node in graph.node:
        if node.op_type in LAYERS or (node.op_type not in SHAPES and any(name in flowing for name in node.input)):
            flowing.update(node.output)
        else:
            outside.add(node.name)
    return outside


def layer_groups(graph: onnx.GraphProto, members: set[str], most: int) -> list[tuple[str, ...]]:
    """Divide nodes into groups of neighbours, in the order of computation: a layer with weights and what follows it.

    Args:
        graph: whose nodes.
        members: names of the nodes to divide.
        most: how many groups at most; where there are more layers, neighbouring ones share a group.

    Returns:
        Names, each in exactly one group.
    """
    single: list[list[str]] = []
    for node in graph.node:
        if node.name not in members:
            continue
        if not single or node.op_type in LAYERS:
            single.append([])
        single[-1].append(node.name)
    if not single:
        return []
    parts = np.array_split(np.arange(len(single)), min(most, len(single)))
    return [tuple(name for index in part for name in single[index]) for part in parts]


def float_tensors(model: onnx.ModelProto, kind: FloatType = "FLOAT") -> dict[str, int]:
    """Return the tensors of a floating point type that nodes make, as far as shape inference knows them.

    Args:
        model: the graph.
        kind: ``FLOAT`` for float32, ``FLOAT16``.

    Returns:
        Name to elements for one image; an unknown axis beside the first counts as 1.
    """
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model).graph
    computed = {name for node in inferred.node for name in node.output}
    sizes = {}
    for value in (*inferred.value_info, *inferred.output):
        tensor = value.type.tensor_type
        if value.name in computed and tensor.elem_type == onnx.TensorProto.DataType.Value(kind):
            sizes[value.name] = int(np.prod([max(1, axis.dim_value) for axis in tensor.shape.dim[1:]], dtype=np.int64))
    return sizes


def extremes(
    model: onnx.ModelProto, batches: Iterable[npt.NDArray[np.generic]], scratch: Path, threads: int
) -> Extremes:
    """Run a graph and find the largest absolute value of every float32 tensor in it.

    Arguments as in ``value_ranges``.
    """
    ranges = value_ranges(model, float_tensors(model), batches, scratch, threads)
    return Extremes({name: float(np.abs(limits).max()) for name, limits in ranges.items()}, dict(_initializers(model)))


def value_ranges(
    model: onnx.ModelProto,
    names: Iterable[str],
    batches: Iterable[npt.NDArray[np.generic]],
    scratch: Path,
    threads: int,
    kind: FloatType = "FLOAT",
) -> dict[str, tuple[float, float]]:
    """Run a graph and find the least and the largest value of some tensors in it.

    Both are taken inside the graph, so that the engine frees a tensor as soon as they are known: memory is that of one
    ordinary run, however many tensors there are.

    Args:
        model: the graph; it is not changed.
        names: of tensors that a node makes.
        batches: encoded inputs.
        scratch: a folder for a temporary model file.
        threads: CPU threads.
        kind: type of the tensors. Where the engine computes float16 in float32, the values are those of float32.

    Returns:
        Least and largest value by name, NaN where one of the values is not a number.
    """
    import onnx

    wanted = list(names)
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    for name in wanted:
        wide = name
        if kind != "FLOAT":
            wide = f"{name}/float32"
            probe.graph.node.append(onnx.helper.make_node("Cast", [name], [wide], to=onnx.TensorProto.FLOAT))
        for reduction in REDUCTIONS:
            reduced = f"{name}/{reduction}"
            probe.graph.node.append(onnx.helper.make_node(reduction, [wide], [reduced], keepdims=0))
            probe.graph.output.append(onnx.helper.make_tensor_value_info(reduced, onnx.TensorProto.FLOAT, []))
    path = scratch / "probe.onnx"
    onnx.save_model(probe, path)
    session = open_session(path, "cpu", threads)
    # numpy's minimum and maximum keep a NaN once there is one.
    least, largest = np.full(len(wanted), np.inf), np.full(len(wanted), -np.inf)
    for inputs in batches:
        limits = np.array(session.run(None, {model.graph.input[0].name: inputs}), np.float64).reshape(
            -1, len(REDUCTIONS)
        )
        least, largest = np.minimum(least, limits[:, 0]), np.maximum(largest, limits[:, 1])
    return {name: (low, high) for name, low, high in zip(wanted, least.tolist(), largest.tolist(), strict=True)}


def _initializers(model: onnx.ModelProto) -> Iterator[tuple[str, float]]:
    import onnx

    for initializer in model.graph.initializer:
        if initializer.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(initializer)
            yield initializer.name, float(np.abs(values).max(initial=0.0))
