"""What the walk over timm's families says of a network."""

import torch
from torch import nn

from benchmarks.networks import examination
from benchmarks.networks.examination import examine, step
from benchmarks.networks.finding import UNCUT
from toolkit.backbones import create_backbone


def small(name="timm:test_efficientnet"):
    return create_backbone(name, weights="none", classes=3, image_size=32, seed=0)


def test_a_good_network_has_nothing_against_it():
    finding = examine("efficientnet", "test_efficientnet", ())
    assert (finding.side, finding.border, finding.step, finding.said) == (32, "", "", "")
    assert finding.head == "classifier (Linear)"
    assert finding.blocks > 2
    assert not finding.cut.startswith(UNCUT)
    assert (finding.refused, finding.failed) == ("", "")


def test_what_toolkit_refuses_stands_as_its_sentence():
    finding = examine("vision_transformer", "no_such_model", ())
    assert finding.refused.startswith("no backbone 'timm:no_such_model'")
    assert not finding.failed


def test_what_moves_though_it_is_frozen_is_noticed(monkeypatch):
    backbone, real, sgd = small(), examination.set_trainable, torch.optim.SGD
    frozen = next(module for module in backbone.model.modules() if isinstance(module, nn.Conv2d)).weight

    def thaw(backbone, unfreeze):
        parts = real(backbone, unfreeze)
        frozen.requires_grad_(True)
        return parts

    monkeypatch.setattr(examination, "set_trainable", thaw)
    monkeypatch.setattr(torch.optim, "SGD", lambda given, **options: sgd([*given, frozen], **options))
    assert step(backbone).startswith("moved though frozen: ")
