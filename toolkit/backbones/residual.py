"""Residual branches: what a block adds to its own input, and stochastic depth, which leaves it out now and then.

Branches are found on a traced graph, so that any network has them whose blocks add what they compute to what they took,
whether or not its authors thought of stochastic depth. Only the graph that training runs is changed: the network, and
with it whatever is exported, knows nothing of it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping

import torch
from torch import fx, nn
from torchvision.ops import stochastic_depth

BRANCH = "residual branch"
"""Under this key a node's ``meta`` says which of the two operands of an addition is one."""
_ADDITIONS = (operator.add, torch.add)


def mark_branches(
    graph: fx.Graph, model: nn.Module, trained: Collection[int], has_images_first: Callable[[fx.Node], bool]
) -> int:
    """Mark the additions of a graph that join a residual branch and its shortcut; returns how many there are.

    An addition does if one of its operands, the shortcut, is what the other one was computed from. In the branch
    something must be trained that is a layer: normalisations with a shortcut of their own are none. Blocks whose
    shortcut has layers too keep their branch.

    Args:
        graph: of the network in training mode.
        model: the network that was traced.
        trained: ids of the parameters that are trained.
        has_images_first: tells whether the first axis of a node's value is that of the images.
    """
    modules = dict(model.named_modules())
    parameters = dict(model.named_parameters(remove_duplicate=False))
    places = {node: 1 << number for number, node in enumerate(graph.nodes)}
    before: dict[fx.Node, int] = {}
    for node in graph.nodes:
        before[node] = 0
        for source in node.all_input_nodes:
            before[node] |= before[source] | places[source]
    layers = _trained_layers(graph, modules, parameters, trained)
    found = 0
    for node in graph.nodes:
        for number, branch, joined in _operands(node):
            shortcut = _without_identities(joined, modules)
            if not before[branch] & places[shortcut] or not has_images_first(branch):
                continue
            inside = before[branch] | places[branch]
            if any(before[layer] & places[shortcut] and inside & places[layer] for layer in layers):
                node.meta[BRANCH] = number
                found += 1
    return found


def drop_branches(part: fx.GraphModule, rate: float) -> None:
    """Have a graph leave its marked branches out for some images of each batch, drawn anew in every pass.

    Stochastic depth (Huang et al. 2016): the rate rises linearly from the first branch to the last, which has ``rate``,
    and what is not left out is divided by the share that is kept.

    Args:
        part: changed in place; it draws in training and in inference mode.
        rate: 0 to 1, without 1.
    """
    marked = [node for node in part.graph.nodes if BRANCH in node.meta]
    for number, node in enumerate(marked, 1):
        operand = node.meta[BRANCH]
        with part.graph.inserting_before(node):
            kept = part.graph.call_function(
                stochastic_depth, (node.args[operand], rate * number / len(marked), "row", True)
            )
        node.update_arg(operand, kept)
    part.recompile()


def _operands(node: fx.Node) -> list[tuple[int, fx.Node, fx.Node]]:
    """Return the operands of an addition of two tensors, each with its number and the other one; else nothing."""
    adds = (node.op == "call_function" and node.target in _ADDITIONS) or (
        node.op == "call_method" and node.target in ("add", "add_")
    )
    if not adds or node.kwargs or len(node.args) != 2:
        return []
    first, second = node.args
    if not isinstance(first, fx.Node) or not isinstance(second, fx.Node):
        return []
    return [(0, first, second), (1, second, first)]


def _without_identities(node: fx.Node, modules: Mapping[str, nn.Module]) -> fx.Node:
    """Return what a node hands on, where networks put a module that does nothing in place of a layer."""
    while node.op == "call_module" and isinstance(modules[str(node.target)], nn.Identity):
        node = node.all_input_nodes[0]
    return node


def _trained_layers(
    graph: fx.Graph,
    modules: Mapping[str, nn.Module],
    parameters: Mapping[str, nn.Parameter],
    trained: Collection[int],
) -> list[fx.Node]:
    """Return the nodes that multiply by a trained matrix or kernel."""

    def is_matrix(parameter: nn.Parameter | None) -> bool:
        return parameter is not None and id(parameter) in trained and sum(side > 1 for side in parameter.shape) > 1

    of_image: set[fx.Node] = set()
    weights: set[fx.Node] = set()
    layers = []
    for node in graph.nodes:
        sources = node.all_input_nodes
        if node.op == "placeholder" or any(source in of_image for source in sources):
            of_image.add(node)
            # A kernel may have been computed from the one that is trained, e.g. standardised.
            if any(source in weights for source in sources) or (
                node.op == "call_module" and any(map(is_matrix, modules[str(node.target)].parameters()))
            ):
                layers.append(node)
        elif any(source in weights for source in sources) or (
            node.op == "get_attr" and is_matrix(parameters.get(str(node.target)))
        ):
            weights.add(node)
    return layers
