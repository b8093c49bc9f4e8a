"""float32 to float16 on an ONNX graph, node by node.

The converters that exist (onnxconverter-common, onnxruntime.transformers.float16) cast every result of a float32 node
back to float16, so that a value beyond the range of float16 becomes infinite between two nodes that were both kept in
float32. Here a tensor has the type of the node that makes it, and is cast only where a node of the other type reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

LARGEST_FLOAT16 = 65504.0
SMALLEST_FLOAT16 = 2.0**-24


@dataclass(frozen=True)
class _Types:
    """Which inputs and outputs of a node become float16; by position."""

    inputs: tuple[bool, ...]
    outputs: tuple[bool, ...]


def to_float16(model: onnx.ModelProto, keep: set[str]) -> onnx.ModelProto:
    """Return a copy of a float32 model that computes in float16, with float32 inputs and outputs as before.

    Args:
        model: every node has a name of its own.
        keep: names of nodes that stay in float32.

    Returns:
        The converted model. Nodes that have no float16 variant stay in float32 too.
    """
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model)
    converted = _Conversion(inferred, keep).run()
    return onnx.shape_inference.infer_shapes(converted)


class _Conversion:
    """One conversion: rebuilds the list of nodes and the initializers of a graph."""

    def __init__(self, model: onnx.ModelProto, keep: set[str]) -> None:
        from onnx import TensorProto

        graph = model.graph
        self._model = model
        self._keep = keep
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        values = (*graph.value_info, *graph.input, *graph.output)
        self._floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
        self._floats |= {name for name, tensor in self._initializers.items() if tensor.data_type == TensorProto.FLOAT}
        self._outputs = {value.name for value in graph.output}
        self._halves: dict[str, str] = {}
        """Float tensor to the name of its float16 form, where there is one already."""
        self._full: set[str] = set(self._initializers) | {value.name for value in graph.input}
        """Float tensors whose float32 form exists under their own name."""
        self._nodes: list[onnx.NodeProto] = []

    def run(self) -> onnx.ModelProto:
        """Return the converted model."""
        import onnx

        for node in self._model.graph.node:
            self._convert(node, _float16_types(node, self._opsets, self._floats, node.name in self._keep))
        for name in self._outputs & self._halves.keys() - self._full:
            self._as_float32(name)
        converted = onnx.ModelProto()
        converted.CopyFrom(self._model)
        graph = converted.graph
        for field in ("node", "value_info", "initializer"):
            graph.ClearField(field)
        graph.node.extend(self._nodes)
        read = {name for node in self._nodes for name in node.input} | self._outputs
        graph.initializer.extend(tensor for name, tensor in self._initializers.items() if name in read)
        return converted

    def _convert(self, node: onnx.NodeProto, types: _Types) -> None:
        from onnx import TensorProto

        new = type(node)()
        new.CopyFrom(node)
        for position, name in enumerate(node.input):
            if name in self._floats:
                half = position < len(types.inputs) and types.inputs[position]
                new.input[position] = self._as_float16(name) if half else self._as_float32(name)
        for position, name in enumerate(node.output):
            if name not in self._floats:
                continue
            if types.outputs[position]:
                new.output[position] = self._halves[name] = f"{name}/float16"
            else:
                self._full.add(name)
        if node.op_type == "Cast" and any(types.outputs):
            next(attribute for attribute in new.attribute if attribute.name == "to").i = TensorProto.FLOAT16
        self._nodes.append(new)

    def _as_float16(self, name: str) -> str:
        """Return the name of a tensor's float16 form, casting it where there is none yet."""
        if name not in self._halves:
            self._halves[name] = f"{name}/float16"
            if name in self._initializers:
                self._initializers[self._halves[name]] = _half(self._initializers[name], self._halves[name])
            else:
                self._cast(name, self._halves[name], "FLOAT16")
        return self._halves[name]

    def _as_float32(self, name: str) -> str:
        if name not in self._full:
            self._cast(self._halves[name], name, "FLOAT")
            self._full.add(name)
        return name

    def _cast(self, source: str, target: str, to: str) -> None:
        from onnx import TensorProto, helper

        self._nodes.append(
            helper.make_node("Cast", [source], [target], name=f"{target}/cast", to=TensorProto.DataType.Value(to))
        )


def _half(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    """Round a weight to float16.

    What is nonzero stays so: a variance or an epsilon that became 0 would be divided by.
    """
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    tiny = (values != 0) & (np.abs(values) < SMALLEST_FLOAT16)
    rounded = np.where(tiny, np.copysign(SMALLEST_FLOAT16, values), values)
    with np.errstate(
        over="ignore"
    ):  # what does not fit becomes infinite; whoever does not want that keeps its nodes in float32
        return numpy_helper.from_array(rounded.astype(np.float16), name)


def _float16_types(node: onnx.NodeProto, opsets: dict[str, int], floats: set[str], keep: bool) -> _Types:
    """Decide for one node: all its floats become float16 that its operator allows to, or none do.

    Whether an operator has a float16 variant is read from its ONNX schema. A node stays in float32 where it has none,
    where it holds a subgraph, or where it makes floats out of something else (a constant in an attribute), whose type
    its attributes decide.
    """
    nothing = _Types((False,) * len(node.input), (False,) * len(node.output))
    schema = (
        None
        if keep or any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
        else _schema(node, opsets)
    )
    if schema is None:
        return nothing
    allowed = {
        constraint.type_param_str: "tensor(float16)" in constraint.allowed_type_strs
        for constraint in schema.type_constraints
    }
    inputs = _variables(list(node.input), schema.inputs, floats)
    outputs = _variables(list(node.output), schema.outputs, floats)
    bound = {variable for variable in (*inputs, *outputs) if variable in allowed}
    if not bound or not all(allowed[variable] for variable in bound):
        return nothing
    if node.op_type != "Cast" and any(variable in allowed and variable not in inputs for variable in outputs):
        return nothing
    return _Types(tuple(variable in allowed for variable in inputs), tuple(variable in allowed for variable in outputs))


def _schema(node: onnx.NodeProto, opsets: dict[str, int]) -> onnx.defs.OpSchema | None:
    import onnx

    domain = "" if node.domain == "ai.onnx" else node.domain
    try:
        return onnx.defs.get_schema(node.op_type, opsets.get(node.domain, 1), domain)
    except onnx.defs.SchemaError:
        return None


def _variables(
    names: Sequence[str], parameters: Sequence[onnx.defs.OpSchema.FormalParameter], floats: set[str]
) -> tuple[str, ...]:
    """Return the type variable of each argument that is a float, and nothing for the others.

    A last parameter may stand for many.
    """
    types = [parameters[min(position, len(parameters) - 1)].type_str for position in range(len(names))]
    return tuple(kind if name in floats else "" for name, kind in zip(names, types, strict=True))
