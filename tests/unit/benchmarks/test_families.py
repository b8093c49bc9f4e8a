"""What the walk over timm's families says of a network, and how it judges all of them."""

import os
import sys

import pytest
import torch
from torch import nn

from benchmarks import families
from benchmarks.families import Finding
from toolkit.backbones import create_backbone


def small(name="timm:test_efficientnet"):
    return create_backbone(name, weights="none", classes=3, image_size=32, seed=0)


def test_a_family_is_a_file_of_timm():
    known = families.families()
    assert len(known) > 90
    assert "resnet18" in known["resnet"]
    assert not any(name.startswith("test_") for names in known.values() for name in names)
    assert all(
        name in {n for names in known.values() for n in names} or "test_" in name for name in families.HEADS.values()
    )


def test_the_smallest_model_and_side(monkeypatch):
    assert families.smallest(["test_resnet", "test_vit2", "test_efficientnet"]) == "test_efficientnet"
    monkeypatch.setattr(families, "takes_image_size", lambda name, side: name == "timm:some" and side % 14 == 0)
    assert families.smallest_side("some") == 56
    assert families.smallest_side("other") is None


def test_a_good_network_has_nothing_against_it():
    finding = families.examine("efficientnet", "test_efficientnet", ())
    assert (finding.side, finding.border, finding.step, finding.said) == (32, "", "", "")
    assert finding.head == "classifier (Linear)"
    assert finding.blocks > 2
    assert not finding.cut.startswith(families.UNCUT)
    assert (finding.refused, finding.failed) == ("", "")


def test_what_toolkit_refuses_stands_as_its_sentence():
    finding = families.examine("vision_transformer", "no_such_model", ())
    assert finding.refused.startswith("no backbone 'timm:no_such_model'")
    assert not finding.failed


def test_what_moves_though_it_is_frozen_is_noticed(monkeypatch):
    backbone, real, sgd = small(), families.set_trainable, torch.optim.SGD
    frozen = next(module for module in backbone.model.modules() if isinstance(module, nn.Conv2d)).weight

    def thaw(backbone, unfreeze):
        parts = real(backbone, unfreeze)
        frozen.requires_grad_(True)
        return parts

    monkeypatch.setattr(families, "set_trainable", thaw)
    monkeypatch.setattr(torch.optim, "SGD", lambda given, **options: sgd([*given, frozen], **options))
    assert families.step(backbone).startswith("moved though frozen: ")


def test_what_is_written_to_the_terminal_is_heard():
    with families.heard() as said:
        os.write(2, b"from below ")
        sys.stderr.write("and from Python")
    assert "from below" in said()


ROW = Finding("resnet", "timm:resnet18", 11_000_000, 32, "fc (Linear)", 5, cut="layer3 256x2x2")
HEAD = Finding("one layer", "timm:resnet18", head="fc (Linear)", cut="x 1", formats={"onnx": "", "torchscript": ""})


def test_all_claims_are_met():
    assert all(claim.met for claim in families.claims([ROW], [HEAD]))


@pytest.mark.parametrize(
    ("number", "row", "head"),
    [
        (0, Finding("a", "timm:a", failed="not done after 3 s"), HEAD),
        (1, Finding("a", "timm:a", step="moved though frozen: stem", cut="x 1"), HEAD),
        (2, Finding("a", "timm:a", border="8 px without effect", cut="x 1"), HEAD),
        (3, Finding("a", "timm:a"), HEAD),
        (4, ROW, Finding("one layer", "timm:b", formats={"onnx": "logits differ"})),
        (5, Finding("a", "timm:a", said="Traceback", cut="x 1"), HEAD),
    ],
)
def test_each_claim_can_fail(number, row, head):
    assert [position for position, claim in enumerate(families.claims([row], [head])) if not claim.met] == [number]


def test_rows_of_other_families_are_kept(tmp_path, monkeypatch):
    made = []

    def examined(family, name, formats, limits):
        made.append(family)
        return Finding(family, f"timm:{name or family}", cut="x 1", formats=dict.fromkeys(formats, ""))

    monkeypatch.setattr(families, "in_its_own_process", examined)
    monkeypatch.setattr(families, "families", lambda: {"a": ["a"], "b": ["b"]})
    assert families.run(["--output", str(tmp_path)]) == 0
    assert made == ["a", "b", *families.HEADS]
    made.clear()
    assert families.run(["--output", str(tmp_path), "--family", "b"]) == 0
    assert made == ["b"]
    text = (tmp_path / "families.md").read_text()
    assert "| a | a |" in text
    assert "| b | b |" in text
    assert "| no classifier | mobilenetv5_300m_enc |" in text
