from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torchvision.models.mobilenetv3 import InvertedResidual

from toolkit.backbones import Backbone, create_backbone, set_trainable
from toolkit.backbones.frontier import residual_branches
from toolkit.backbones.residual import BRANCH, drop_branches, mark_branches


class Block(nn.Module):
    """Adds a layer to what it takes."""

    def __init__(self, join: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.join = join

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.join(x, self.layer(x))


WAYS = {
    "plus": lambda x, branch: x + branch,
    "the other way round": lambda x, branch: branch + x,
    "in place": lambda x, branch: branch.add_(x),
    "torch.add": torch.add,
}


def marked(model: nn.Module, trained: set[int] | None = None) -> fx.GraphModule:
    """Trace a network of which everything is trained, or what is given, and mark its branches."""
    graph = fx.Tracer().trace(model)
    every = {id(parameter) for parameter in model.parameters()}
    mark_branches(graph, model, every if trained is None else trained, lambda _: True)
    return fx.GraphModule(model, graph)


def count(part: fx.GraphModule) -> int:
    return sum(BRANCH in node.meta for node in part.graph.nodes)


@pytest.mark.parametrize("way", WAYS)
def test_each_image_has_its_branch_or_has_not(way: str) -> None:
    block = Block(WAYS[way])
    part = marked(block)
    assert count(part) == 1
    drop_branches(part, 0.25)
    images = torch.randn(4000, 3)
    torch.manual_seed(1)
    with torch.no_grad():
        after, branch = part(images), block.layer(images)
    dropped = (after == images).all(1)
    torch.testing.assert_close(after[~dropped], (images + branch / 0.75)[~dropped])
    assert 900 < dropped.sum() < 1100
    # What is left out is made up for: on average the block gives what it would.
    torch.testing.assert_close((after - images).mean(0), branch.mean(0), atol=0.05, rtol=0)


def test_the_rate_rises_from_the_first_to_the_last() -> None:
    part = marked(nn.Sequential(*(Block(WAYS["plus"]) for _ in range(4))))
    drop_branches(part, 0.4)
    rates = [node.args[1] for node in part.graph.nodes if node.name.startswith("stochastic_depth")]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_the_generator_alone_decides() -> None:
    part = marked(Block(WAYS["plus"]))
    drop_branches(part, 0.5)
    images = torch.randn(64, 3)
    outputs = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        outputs.append(part(images))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_the_network_itself_and_its_other_graphs_stay_as_they_are() -> None:
    block = Block(WAYS["plus"])
    other = marked(block)
    drop_branches(marked(block), 0.9)
    images = torch.randn(64, 3)
    assert torch.equal(block.train()(images), images + block.layer(images))
    assert torch.equal(other(images), images + block.layer(images))
    assert list(block.state_dict()) == ["layer.weight", "layer.bias"]


def test_a_branch_that_is_not_trained_is_left_alone() -> None:
    blocks = nn.Sequential(Block(WAYS["plus"]), Block(WAYS["plus"]))
    part = marked(blocks, {id(parameter) for parameter in blocks[1].parameters()})
    (node,) = [node for node in part.graph.nodes if BRANCH in node.meta]
    assert str(node.args[node.meta[BRANCH]].target) == "1.layer"


class Response(nn.Module):
    """A normalisation with a shortcut of its own, as ConvNeXt V2 has it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.norm = nn.LayerNorm(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.norm(x * self.weight)


class Standardised(nn.Module):
    """A layer that computes its matrix from what is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x @ (self.weight - self.weight.mean())


class Projected(nn.Module):
    """A block whose shortcut has a layer too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.shortcut = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + self.shortcut(x)


class Handed(Block):
    """Has a module that does nothing in place of a layer in its shortcut."""

    def __init__(self) -> None:
        super().__init__(lambda x, branch: branch + self.shortcut(x))
        self.shortcut = nn.Identity()


class Positions(nn.Module):
    """Adds what does not depend on the image."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(3, 3))
        self.layer = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + self.layer(self.positions).mean(0)


@pytest.mark.parametrize(
    ("network", "branches"), [(Response, 0), (Standardised, 1), (Projected, 0), (Handed, 1), (Positions, 0)]
)
def test_what_is_a_branch(network: Callable[[], nn.Module], branches: int) -> None:
    assert count(marked(network())) == branches


def trained_branches(name: str, unfreeze: int | list[str] | None, size: int = 32) -> tuple[int, Backbone]:
    """Return how many branches there are in some blocks, or in all of them."""
    backbone = create_backbone(name, weights="none", classes=3, image_size=size, seed=0)
    parts = set_trainable(backbone, len(backbone.blocks) if unfreeze is None else unfreeze)
    return residual_branches(backbone, parts), backbone


@pytest.mark.parametrize(
    ("name", "unfreeze", "branches"),
    [
        ("resnet18", ["layer4"], 1),  # the first block of a stage has a layer in its shortcut
        ("resnet18", ["layer1", "layer2"], 3),
        ("resnet18", 0, 0),
        ("squeezenet1_1", 3, 0),
        ("densenet121", 1, 0),
    ],
)
def test_networks_have_as_many_as_their_blocks(name: str, unfreeze: int | list[str], branches: int) -> None:
    assert trained_branches(name, unfreeze)[0] == branches


def test_mobilenet_has_one_per_block_with_a_shortcut() -> None:
    found, backbone = trained_branches("mobilenet_v3_small", ["features"])
    blocks = [module for module in backbone.model.modules() if isinstance(module, InvertedResidual)]
    assert found == sum(block.use_res_connect for block in blocks) > 0


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:tf_efficientnet_lite0", "timm:test_convnext2"])
def test_timm_would_leave_out_the_same(name: str) -> None:
    """Every place that timm keeps for its own layer is found, and no other."""
    found, backbone = trained_branches(name, None, 160)
    places = [place for place, _ in backbone.model.named_modules() if place.rpartition(".")[2].startswith("drop_path")]
    without_shortcut = [
        place
        for place in places
        if not getattr(backbone.model.get_submodule(place.rpartition(".")[0]), "has_skip", True)
    ]
    assert found == len(places) - len(without_shortcut) > 0
