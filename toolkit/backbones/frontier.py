"""The frozen frontier: the tensors that cross from the frozen part of a network into the part that is trained.

The *prefix* is the largest part of the graph on which no trainable parameter and no training-mode behaviour acts: a
constant function of the image, which need not be computed once per epoch. The rest is the *suffix*. Both are found on
the graph that ``torch.fx`` traces. Modules that are frozen as a whole stay closed, so that code inside them which
cannot be traced does no harm.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
import torchvision.ops
from torch import fx, nn

from toolkit.backbones.backbone import Backbone
from toolkit.backbones.residual import drop_branches, mark_branches
from toolkit.backbones.surgery import TrainableParts, apply_modes, has_running_statistics
from toolkit.errors import first_line

CHECK_RELATIVE = 1e-4
"""How far the parts, run one after the other, may be from the whole: they compute the same operations, so rounding is
all there is."""


EXAMPLES = (2, 3)
"""Images of the batches that are run to see which axis is the batch."""

BATCH: Literal["batch"] = "batch"
"""Stands for the number of images, where another size is a number."""


class NoFrontierError(Exception):
    """The network cannot be cut; the message says why. Never leaves fine-tuning: training goes on without a cache."""


@dataclass(frozen=True)
class Tensor:
    """One tensor at the frontier.

    Attributes:
        name: of the node in the traced graph that computes it.
        shape: of one image's part, without the batch axis.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Numbers per image."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Cut:
    """Where one stage of training cuts the network.

    Attributes:
        tensors: the frontier.
        train: suffix with training-mode behaviour: the frontier's tensors, batch axis first, in; logits ``[N, C]`` out.
        infer: the same in inference mode. Both share their parameters with the network.
    """

    tensors: tuple[Tensor, ...]
    train: fx.GraphModule
    infer: fx.GraphModule


@dataclass(frozen=True)
class Division:
    """A network divided for one or more stages of training.

    Attributes:
        cuts: one per stage, in order.
        prefix: normalised float32 ``[N, 3, H, W]`` in; the tensors of all cuts out, each once, in the order of
            ``tensors``. It shares its modules with the network: put it into inference mode before it is run.
        tensors: what the prefix returns.
    """

    cuts: tuple[Cut, ...]
    prefix: fx.GraphModule
    tensors: tuple[Tensor, ...]


def divide_at_frontier(backbone: Backbone, stages: Sequence[TrainableParts]) -> Division:
    """Find the frontier of each stage, cut there, and compare the parts with the whole.

    Args:
        backbone: the network, on the CPU; left with the modes of the last stage. Parameters of earlier stages must be
            frozen or not such that each stage's frontier lies before everything that an earlier stage trains (see
            ``independent_stages``).
        stages: what each stage trains, from ``set_trainable``.

    Raises:
        NoFrontierError: the graph cannot be traced or cut, there is nothing frozen before the trained part, or the
            parts do not compute what the whole computes.
    """
    division = cut_at_frontier(backbone, stages)
    compare_parts(backbone, stages, division)
    return division


def cut_at_frontier(backbone: Backbone, stages: Sequence[TrainableParts], *, with_branches: bool = False) -> Division:
    """Do the same without comparing, for whoever knows what ``compare_parts`` would say.

    Args:
        backbone: as in ``divide_at_frontier``.
        stages: as there.
        with_branches: mark the residual branches of the suffixes that train, for ``drop_branches``.

    Raises:
        NoFrontierError: the graph cannot be traced or cut, or there is nothing frozen before the trained part.
    """
    model = backbone.model
    opened = _opened(backbone, stages)
    examples = _examples(backbone)
    model.eval()
    inference = _trace(model, opened)
    values = _record(model, inference, examples)
    cuts = []
    for parts in stages:
        apply_modes(backbone, parts)
        training = _trace(model, opened)
        # Behind the frontier the two graphs may number their nodes differently, so that each needs its own sizes.
        seen = _record(model, training, examples)
        names = _frontier(training, model, _trained([parts]), seen)
        if with_branches:
            _mark(training, model, parts, seen)
        tensors = tuple(Tensor(name, tuple(seen[0][name].shape[1:])) for name in names)
        cuts.append(Cut(tensors, _suffix(model, training, names, seen), _suffix(model, inference, names, values)))
    every = tuple({tensor.name: tensor for cut in cuts for tensor in cut.tensors}.values())
    return Division(tuple(cuts), _prefix(model, inference, [tensor.name for tensor in every]), every)


def trace_training(backbone: Backbone, parts: TrainableParts, drop_path: float) -> fx.GraphModule:
    """Return the whole network as one stage trains it, with stochastic depth; it shares its modules with the network.

    Args:
        backbone: the network, on the CPU; left with the modes of the stage.
        parts: what the stage trains, from ``set_trainable``.
        drop_path: see ``drop_branches``.

    Raises:
        NoFrontierError: the graph cannot be traced, or it does not compute what the network computes.
    """
    model, examples = backbone.model, _examples(backbone)
    graph, values = _trace_stage(backbone, parts, examples)
    _mark(graph, model, parts, values)
    whole = fx.GraphModule(model, graph)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        _require_same_training(model, whole, examples[0], examples[0])
    drop_branches(whole, drop_path)
    return whole


def residual_branches(backbone: Backbone, parts: TrainableParts) -> int:
    """Return how many residual branches a stage trains; ``backbone`` and ``parts`` as in ``trace_training``.

    Raises:
        NoFrontierError: the graph cannot be traced.
    """
    graph, values = _trace_stage(backbone, parts, _examples(backbone))
    return _mark(graph, backbone.model, parts, values)


def independent_stages(stages: Sequence[TrainableParts]) -> bool:
    """Tell whether no stage trains what a later one takes as frozen, so that one pass over the images serves all."""
    for earlier, later in pairwise(stages):
        allowed = {id(parameter) for parameter in (*later.head, *later.backbone)}
        if not {id(parameter) for parameter in (*earlier.head, *earlier.backbone)} <= allowed or (
            earlier.train_bn and not later.train_bn
        ):
            return False
    return True


def _trace_stage(
    backbone: Backbone, parts: TrainableParts, examples: Sequence[torch.Tensor]
) -> tuple[fx.Graph, list[Mapping[str, Any]]]:
    """Return the graph of the network as a stage trains it, and the value of each node for each example."""
    opened = _opened(backbone, [parts])
    apply_modes(backbone, parts)
    graph = _trace(backbone.model, opened)
    return graph, _record(backbone.model, graph, examples)


def _mark(graph: fx.Graph, model: nn.Module, parts: TrainableParts, values: Sequence[Mapping[str, Any]]) -> int:
    return mark_branches(graph, model, _trained([parts]), lambda node: _is_batch(node.name, values))


def _trained(stages: Sequence[TrainableParts]) -> set[int]:
    return {id(parameter) for parts in stages for parameter in (*parts.head, *parts.backbone)}


def _examples(backbone: Backbone) -> list[torch.Tensor]:
    """Return batches of noise."""
    side = backbone.image_size
    return [torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(batch)) for batch in EXAMPLES]


def _opened(backbone: Backbone, stages: Sequence[TrainableParts]) -> set[str]:
    """Return the modules that the tracer looks into.

    Those with a part that any stage trains or that acts in training mode.
    """
    trained, opened = _trained(stages), set[str]()
    for parts in stages:
        apply_modes(backbone, parts)
        for name, module in backbone.model.named_modules():
            if any(id(parameter) in trained for parameter in module.parameters()) or any(
                _acts_in_training(part) for part in module.modules()
            ):
                opened.add(name)
    return opened


def _acts_in_training(module: nn.Module) -> bool:
    """Tell whether a module computes something else now than in inference mode."""
    if not module.training:
        return False
    random = isinstance(module, nn.modules.dropout._DropoutNd) or type(module).__name__ in (
        "StochasticDepth",
        "DropPath",
        "PatchDropout",
    )
    return (
        (random and _probability(module) > 0)
        or has_running_statistics(module)
        or (isinstance(module, nn.MultiheadAttention) and module.dropout > 0)
    )


def _probability(module: nn.Module) -> float:
    for name in ("p", "drop_prob", "prob"):
        value = getattr(module, name, None)
        if isinstance(value, int | float):
            return float(value)
    return 1.0


class _Tracer(fx.Tracer):
    def __init__(self, opened: Collection[str]) -> None:
        functions, self._closed_types = _untraceable()
        super().__init__(autowrap_modules=(math, torchvision.ops), autowrap_functions=functions)  # type: ignore[arg-type]  # it takes any number
        self._opened = opened

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # Tracing into a layer that updates its statistics would update them now, and leave the update out of the graph.
        if module_qualified_name not in self._opened or isinstance(m, self._closed_types) or has_running_statistics(m):
            return True
        return super().is_leaf_module(m, module_qualified_name)


def _untraceable() -> tuple[tuple[Callable[..., Any], ...], tuple[type[nn.Module], ...]]:
    """Return functions and kinds of modules that tracing must not enter.

    Torchvision's operators, and what timm registers as such.
    """
    operators = [
        member for _, member in inspect.getmembers(torchvision.ops, inspect.isclass) if issubclass(member, nn.Module)
    ]
    closed = [kind for kind in operators if not issubclass(kind, nn.Sequential)]
    functions: list[Callable[..., Any]] = []
    if "timm" in sys.modules:  # a torchvision model does not wait for timm
        from timm.models._features_fx import get_notrace_functions, get_notrace_modules

        functions += get_notrace_functions()  # type: ignore[no-untyped-call]  # timm leaves it untyped
        closed += get_notrace_modules()  # type: ignore[no-untyped-call]  # timm leaves it untyped
    return tuple(functions), tuple(closed)


def _trace(model: nn.Module, opened: Collection[str]) -> fx.Graph:
    _, *options = inspect.signature(model.forward).parameters.values()
    defaults = {option.name: option.default for option in options if option.default is not option.empty}
    statistics = _statistics(model)
    try:
        graph = _Tracer(opened).trace(model, concrete_args=defaults or None)
    except Exception as error:  # tracing runs the network's own code on proxies, which may raise anything
        raise NoFrontierError(f"its graph cannot be traced ({first_line(error)})") from error
    finally:
        _restore(model, statistics)
    # Options (timm's attn_mask=None) became inputs that nothing but checks of their value uses.
    for option in [node for node in graph.nodes if node.op == "placeholder"][1:]:
        _erase(graph, option)
    graph.eliminate_dead_code(is_impure_node=_is_kept)
    return graph


def _erase(graph: fx.Graph, node: fx.Node) -> None:
    for user in list(node.users):
        _erase(graph, user)
    graph.erase_node(node)


def _is_kept(node: fx.Node) -> bool:
    """Keep what has no user but an effect: operations in place, and whole modules, which may contain some."""
    return node.op in ("placeholder", "output", "call_module") or _acts_in_place(node)


def _acts_in_place(node: fx.Node) -> bool:
    """Tell whether a node changes the tensor that it is called on: ``x.div_(2)``."""
    return node.op == "call_method" and str(node.target).endswith("_")


class _Recorder(fx.Interpreter):
    """Runs a graph once and keeps each node's value."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, Any] = {}

    def record(self, example: torch.Tensor) -> Mapping[str, Any]:
        try:
            with torch.no_grad():
                self.run(example)
        except Exception as error:  # a traced graph calls modules in ways that their code may not expect
            raise NoFrontierError(f"its traced graph cannot be run ({first_line(error)})") from error
        return self.values

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        # Only the shape is needed: keeping every activation would take as much memory as training.
        self.values[n.name] = torch.empty(value.shape, device="meta") if isinstance(value, torch.Tensor) else value
        return value


def _record(model: nn.Module, graph: fx.Graph, examples: Sequence[torch.Tensor]) -> list[Mapping[str, Any]]:
    """Return the value of each node for each example; leaves statistics and PyTorch's generator as they were."""
    statistics = _statistics(model)
    try:
        with torch.random.fork_rng(devices=[]):
            return [_Recorder(fx.GraphModule(model, graph)).record(example) for example in examples]
    finally:
        _restore(model, statistics)


def _frontier(
    graph: fx.Graph, model: nn.Module, trained: Collection[int], values: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return the names of the nodes whose values cross into the trained part, in the order of the graph."""
    modules = dict(model.named_modules())
    parameters = dict(model.named_parameters(remove_duplicate=False))
    trained_nodes: set[fx.Node] = set()
    of_image: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(argument in of_image for argument in node.all_input_nodes):
            of_image.add(node)
        if _is_trained(node, modules, parameters, trained) or any(
            argument in trained_nodes for argument in node.all_input_nodes
        ):
            trained_nodes.add(node)
    crossing: set[fx.Node] = set()
    pending = [argument for node in graph.nodes if node in trained_nodes for argument in node.all_input_nodes]
    while pending:
        node = pending.pop()
        if (
            node in trained_nodes
            or node in crossing
            or node not in of_image
            or _known_size(node.name, values) is not None
        ):
            continue
        if _is_batch(node.name, values):
            crossing.add(node)
        # an expression of sizes, or a tensor without the batch as its first axis: the suffix computes it again from
        # what it is made of
        else:
            pending += node.all_input_nodes
    if not trained_nodes:
        raise NoFrontierError("nothing in its graph is trained")
    if any(node.op == "placeholder" for node in crossing):
        raise NoFrontierError(
            "the trained part takes the image itself"
            if len(crossing) > 1
            else "nothing before the trained part is frozen"
        )
    return [node.name for node in graph.nodes if node in crossing and not _is_cheap(node, crossing, of_image, modules)]


def _is_cheap(
    node: fx.Node, crossing: Collection[fx.Node], of_image: Collection[fx.Node], modules: Mapping[str, nn.Module]
) -> bool:
    """Tell whether the suffix had better compute a node again.

    It has no parameters and all it needs crosses anyway (a pooling, a ``cat``).
    """
    if node.op == "call_module" and next(modules[str(node.target)].parameters(), None) is not None:
        return False
    needs = [argument for argument in node.all_input_nodes if argument in of_image]
    return bool(needs) and len(needs) == len(node.all_input_nodes) and all(argument in crossing for argument in needs)


def _is_trained(
    node: fx.Node, modules: Mapping[str, nn.Module], parameters: Mapping[str, nn.Parameter], trained: Collection[int]
) -> bool:
    if node.op == "call_module":
        module = modules[str(node.target)]
        return any(id(parameter) in trained for parameter in module.parameters()) or any(
            _acts_in_training(part) for part in module.modules()
        )
    if node.op == "get_attr":
        return id(parameters.get(str(node.target))) in trained
    return node.kwargs.get("training") is True


def _is_batch(name: str, values: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether a node's value is a tensor with the batch, 2 and 3 images, as its first axis and nowhere else."""
    shapes = [tuple(value.shape) for each in values if isinstance(value := each.get(name), torch.Tensor)]
    if len(shapes) != len(values):
        return False
    first, second = shapes
    return len(first) > 1 and first[0] == 2 and second[0] == 3 and first[1:] == second[1:]


def _known_size(name: str, values: Sequence[Mapping[str, Any]]) -> int | Literal["batch"] | None:
    """Return what a size asked of the image or of a frozen tensor is whatever the batch.

    The number itself, ``BATCH``, or None for neither.
    """
    first, second = (each.get(name) for each in values)
    if type(first) is not int or type(second) is not int:
        return None
    return first if first == second else BATCH if (first, second) == (2, 3) else None


def _suffix(
    model: nn.Module, graph: fx.Graph, names: Sequence[str], values: Sequence[Mapping[str, Any]]
) -> fx.GraphModule:
    """Copy what leads from the named nodes to the output.

    Sizes that were asked of the image are asked of the first of these.
    """
    suffix = fx.Graph()
    known = [suffix.placeholder(f"frontier_{index}") for index in range(len(names))]
    sizes = {node.name: size for node in graph.nodes if (size := _known_size(node.name, values)) is not None}
    needed = _needed(graph, [node for node in graph.nodes if node.op == "output"], {*names, *sizes})
    _require_names(graph, names)
    batch = suffix.call_method("size", (known[0], 0))
    copies: dict[fx.Node, Any] = {node: known[names.index(node.name)] for node in graph.nodes if node.name in names}
    for node in graph.nodes:
        if node in needed and node not in copies:
            size = sizes.get(node.name)
            copies[node] = (
                suffix.node_copy(node, lambda argument: copies[argument])
                if size is None
                else batch
                if size == BATCH
                else size
            )
    if not batch.users:
        suffix.erase_node(batch)
    return fx.GraphModule(model, suffix)


def _prefix(model: nn.Module, graph: fx.Graph, names: Sequence[str]) -> fx.GraphModule:
    """Copy what leads from the image to the named nodes."""
    prefix = fx.Graph()
    _require_names(graph, names)
    outputs = {node.name: node for node in graph.nodes if node.name in names}
    needed = _needed(graph, list(outputs.values()), set())
    copies: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node in needed:
            copies[node] = prefix.node_copy(node, lambda argument: copies[argument])
    prefix.output(tuple(copies[outputs[name]] for name in names))
    return fx.GraphModule(model, prefix)


def _require_names(graph: fx.Graph, names: Sequence[str]) -> None:
    missing = set(names) - {node.name for node in graph.nodes}
    if missing:
        raise NoFrontierError(f"its graph differs between training and inference at {', '.join(sorted(missing))}")


def _needed(graph: fx.Graph, ends: Sequence[fx.Node], stops: Collection[str]) -> set[fx.Node]:
    """Return what leads to the ends, and what changes it in place on the way, back to the named nodes."""
    needed: set[fx.Node] = set()
    pending = list(ends)
    while pending:
        node = pending.pop()
        if node not in needed:
            needed.add(node)
            if node.name not in stops:
                pending += node.all_input_nodes
                pending += [user for user in node.users if _acts_in_place(user) and user.args[0] is node]
    return needed


def compare_parts(backbone: Backbone, stages: Sequence[TrainableParts], division: Division) -> None:
    """Run the parts one after the other, in both modes and with the same random numbers, and compare with the whole.

    What decides the outcome is how the network was cut and what its modules do, not the values of its weights.

    Args:
        backbone: the network, on the CPU; left with the modes of the last stage.
        stages: as ``cut_at_frontier`` was given.
        division: what it returned.

    Raises:
        NoFrontierError: the parts do not compute what the whole computes.
    """
    model, (example, *_) = backbone.model, _examples(backbone)
    for parts, cut in zip(stages, division.cuts, strict=True):
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model.eval()
            tensors = dict(
                zip((tensor.name for tensor in division.tensors), _run(division.prefix, example), strict=True)
            )
            frontier = [tensors[tensor.name] for tensor in cut.tensors]
            _require_close(_run(cut.infer, *(tensor.clone() for tensor in frontier)), model(example), "inference")
            apply_modes(backbone, parts)
            _require_same_training(model, cut.train, example, *frontier)


def _require_same_training(model: nn.Module, part: nn.Module, example: torch.Tensor, *inputs: torch.Tensor) -> None:
    """Raise unless a part does in training mode what the whole does with an example, and updates what that updates."""
    whole, expected = _train_once(model, model, example)
    split, actual = _train_once(model, part, *(tensor.clone() for tensor in inputs))
    _require_close(split, whole, "training")
    if different := [name for name, buffer in expected.items() if not _same(actual[name], buffer)]:
        raise NoFrontierError(f"its parts do not update in training what the whole updates ({', '.join(different)})")


def _run(part: nn.Module, *inputs: torch.Tensor) -> Any:
    try:
        # Where a graph fails, GraphModule's own __call__ prints a traceback before it raises.
        return nn.Module.__call__(part, *inputs)
    except Exception as error:  # a graph may hold anything that tracing made of the network's code
        raise NoFrontierError(f"its parts cannot be run ({first_line(error)})") from error


def _train_once(model: nn.Module, part: nn.Module, *inputs: torch.Tensor) -> tuple[Any, dict[str, torch.Tensor]]:
    """Return the output and the network's statistics after it, and put back those from before."""
    before = _statistics(model)
    torch.manual_seed(0)
    try:
        return _run(part, *inputs), _statistics(model)
    finally:
        _restore(model, before)


def _same(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    return (
        torch.allclose(actual, expected, rtol=CHECK_RELATIVE)
        if expected.is_floating_point()
        else torch.equal(actual, expected)
    )


def _statistics(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def _restore(model: nn.Module, statistics: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(statistics[name])


def _require_close(actual: Any, expected: torch.Tensor, mode: str) -> None:
    if not isinstance(actual, torch.Tensor) or actual.shape != expected.shape:
        raise NoFrontierError(f"its parts do not give in {mode} the one tensor that the whole gives")
    scale = float(expected.abs().max().clamp(min=1e-3))
    error = float((actual - expected).abs().max())
    if not error <= CHECK_RELATIVE * scale:
        raise NoFrontierError(
            f"its parts do not compute in {mode} what the whole computes (they differ by {error:.2g} of {scale:.2g})"
        )
