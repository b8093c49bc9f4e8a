"""Every torchvision classification model goes through the same surgery and one training step, with random weights."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterator

import pytest
import torch
from daily import daily
from torch import nn

from toolkit.backbones import Backbone, Block, create_backbone, set_trainable, source_torchvision
from toolkit.backbones.surgery import has_running_statistics

CLASSES = 3
SMALLEST = {"alexnet": 64, "inception_v3": 75, "maxvit_t": 224, "vit_h_14": 28}
"""Sides in pixels where 32 is too small or no multiple of the patch size."""

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def cheap_initialisation(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fill weights from one short table of random numbers.

    Drawing 644 million of them would take longer than the test.
    """
    table = torch.randn(1 << 16, generator=torch.Generator().manual_seed(0)) * 0.05

    def fill(tensor: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
        with torch.no_grad():
            flat = tensor.view(-1)
            whole = flat.numel() // len(table) * len(table)
            flat[:whole].view(-1, len(table)).copy_(table.expand(whole // len(table), -1))
            flat[whole:].copy_(table[: flat.numel() - whole])
        return tensor

    for name in ("kaiming_normal_", "kaiming_uniform_", "xavier_uniform_", "trunc_normal_", "normal_", "uniform_"):
        monkeypatch.setattr(nn.init, name, fill)
    yield
    gc.collect()


def block_tensors(model: nn.Module, block: Block) -> Iterator[str]:
    for path in block.modules:
        module = model.get_submodule(path)
        yield from (name for name, _ in (*module.named_parameters(path), *module.named_buffers(path)))
    yield from block.parameters


def digests(model: nn.Module) -> dict[str, bytes]:
    """Hash each tensor, so that a network of 2.6 GB need not be kept twice."""
    return {
        name: hashlib.blake2b(tensor.detach().contiguous().numpy(), digest_size=16).digest()
        for name, tensor in model.state_dict().items()
    }


def check_blocks_cover_everything_once(backbone: Backbone) -> None:
    model = backbone.model
    in_blocks = [name for block in backbone.blocks for name in block_tensors(model, block)]
    everything = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    in_head = {name for name in everything if name.startswith(tuple(f"{layer}." for layer in backbone.head))}
    assert len(in_blocks) == len(set(in_blocks))
    assert set(in_blocks) == everything - in_head
    assert in_head


@pytest.mark.parametrize("name", daily(source_torchvision.names(), "resnet18"))
def test_surgery_and_one_step(name: str) -> None:
    size = SMALLEST.get(name, 32)
    backbone = create_backbone(name, weights="none", classes=CLASSES, image_size=size, seed=0)
    model = backbone.model
    assert len(backbone.head) == 1
    assert next(iter(model.get_submodule(backbone.head[0]).parameters())).shape[0] == CLASSES
    check_blocks_cover_everything_once(backbone)

    parts = set_trainable(backbone, 1)
    assert parts.names == (backbone.blocks[-1].name, *backbone.head)
    before = digests(model)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    optimizer = torch.optim.SGD(
        [{"params": parts.head}, {"params": parts.backbone}], lr=0.1, momentum=0.9, weight_decay=0.1
    )
    logits = model(images)
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (2, CLASSES)
    nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()
    optimizer.step()

    after = digests(model)
    moved = {key for key in after if after[key] != before[key]}
    unfrozen = {
        *block_tensors(model, backbone.blocks[-1]),
        *(f"{backbone.head[0]}.{key}" for key in ("weight", "bias")),
    }
    assert moved <= unfrozen
    assert f"{backbone.head[0]}.weight" in moved
    assert moved - {f"{backbone.head[0]}.weight", f"{backbone.head[0]}.bias"}
    statistics = {
        f"{path}.{key}"
        for path, module in model.named_modules()
        if has_running_statistics(module)
        for key, _ in module.named_buffers()
    }
    assert not moved & statistics
    del optimizer

    # Without training mode for everything, a network that answers with a tuple in it would pass.
    model.requires_grad_(False).train()
    with torch.no_grad():
        whole = model(
            images.repeat_interleave(2, 2).repeat_interleave(2, 3)
            if size <= 40 and not name.startswith("vit")
            else images
        )
    assert isinstance(whole, torch.Tensor)
    assert whole.shape == (2, CLASSES)
