"""Parts of an ONNX graph: which nodes a tensor needs, and a model that ends at given tensors."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.dependencies import import_optional
from toolkit.distribution import pip_install
from toolkit.errors import BundleError, first_line

if TYPE_CHECKING:
    import onnx

SCOPES = "pkg.torch.onnx.name_scopes"
CLASSES = "pkg.torch.onnx.class_hierarchy"


class Graph:
    """A loaded ONNX model, whose nodes stand in an order of computation as the format demands.

    Attributes:
        nodes: in that order.
        producer: position of the node that computes a tensor, by the tensor's name.
    """

    def __init__(self, path: Path) -> None:
        """Load a model with the onnx package.

        Raises:
            MissingDependencyError: it is not installed.
            BundleError: the file is not a model.
        """
        onnx = import_optional(
            "onnx", f"bisection reads graphs with the onnx package, which is not installed: {pip_install('onnx')}"
        )
        try:
            self._model = onnx.load_model(path)
        except Exception as error:  # the protobuf library raises types of its own, which are no part of its interface
            raise BundleError(f"{path} cannot be read as an ONNX model: {first_line(error)}") from error
        self.nodes = list(self._model.graph.node)
        self.producer = {name: position for position, node in enumerate(self.nodes) for name in node.output if name}
        self._weights = {weight.name: weight for weight in self._model.graph.initializer}
        self._sparse = {weight.values.name: weight for weight in self._model.graph.sparse_initializer}

    def until(self, tensors: Sequence[str]) -> bytes:
        """Return a serialised model that computes these tensors from the graph's inputs, and nothing else."""
        import onnx

        needed: set[int] = set()
        names: set[str] = set()
        waiting = list(tensors)
        while waiting:
            name = waiting.pop()
            if name in names:
                continue
            names.add(name)
            position = self.producer.get(name)
            if position is not None and position not in needed:
                needed.add(position)
                waiting += _inputs(self.nodes[position])
        model = onnx.ModelProto()
        model.CopyFrom(_without_graph(self._model))
        model.graph.name = self._model.graph.name
        model.graph.input.extend(self._model.graph.input)
        model.graph.node.extend(self.nodes[position] for position in sorted(needed))
        model.graph.initializer.extend(weight for name, weight in self._weights.items() if name in names)
        model.graph.sparse_initializer.extend(weight for name, weight in self._sparse.items() if name in names)
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
        return bytes(model.SerializeToString())

    def module(self, node: onnx.NodeProto) -> str:
        """Return the PyTorch module that a node came from: by its weights and by what the exporter noted.

        Empty where neither says so.

        A convolution that a BatchNorm was folded into belongs to both.
        """
        owners = [name.rpartition(".")[0] for name in node.input if name in self._weights and "." in name]
        noted = {entry.key: entry.value for entry in node.metadata_props}
        # The last entry is the operator itself.
        scopes, classes = (_strings(noted.get(key, ""))[:-1] for key in (SCOPES, CLASSES))
        kind = f" ({classes[-1].rpartition('.')[2]})" if classes and scopes and scopes[-1] else ""
        if scopes and scopes[-1]:
            owners.append(scopes[-1])
        return " + ".join(dict.fromkeys(owners)) + kind


def _inputs(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the tensors a node needs, also those that a subgraph of it takes from outside."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _inputs(inner)
            yield from (value.name for value in graph.output)


def _without_graph(model: onnx.ModelProto) -> Any:
    import onnx

    shell = onnx.ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    shell.opset_import.extend(model.opset_import)
    shell.functions.extend(model.functions)
    return shell


def _strings(text: str) -> list[str]:
    """Read a list of strings as the exporter writes it; an empty one if it is written otherwise."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return []
    return [str(entry) for entry in value] if isinstance(value, list) else []
