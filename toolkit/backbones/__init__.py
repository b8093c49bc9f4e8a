"""Backbones: where networks come from, and the surgery that prepares them for fine-tuning."""

from __future__ import annotations

from toolkit.backbones.backbone import Backbone, Block
from toolkit.backbones.create import build_architecture, create_backbone, takes_image_size, weights_available
from toolkit.backbones.registry import canonical_name
from toolkit.backbones.summary import BackboneSummary, list_backbones
from toolkit.backbones.surgery import TrainableParts, apply_modes, select_blocks, set_trainable
from toolkit.backbones.weights import load_weights, save_weights

__all__ = [
    "Backbone",
    "BackboneSummary",
    "Block",
    "TrainableParts",
    "apply_modes",
    "build_architecture",
    "canonical_name",
    "create_backbone",
    "list_backbones",
    "load_weights",
    "save_weights",
    "select_blocks",
    "set_trainable",
    "takes_image_size",
    "weights_available",
]
