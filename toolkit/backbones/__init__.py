"""Backbones: where networks come from, and the surgery that prepares them for fine-tuning.

The names are loaded on first use: what a person asks for is looked at (``asked``) before PyTorch is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.backbones.backbone import Backbone, Block
    from toolkit.backbones.create import build_architecture, create_backbone, takes_image_size, weights_available
    from toolkit.backbones.registry import canonical_name
    from toolkit.backbones.summary import BackboneSummary, list_backbones
    from toolkit.backbones.surgery import (
        TrainableParts,
        apply_modes,
        has_linear_head,
        head_layer,
        select_blocks,
        set_trainable,
        watching_head,
    )
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
    "has_linear_head",
    "head_layer",
    "list_backbones",
    "load_weights",
    "save_weights",
    "select_blocks",
    "set_trainable",
    "takes_image_size",
    "watching_head",
    "weights_available",
]

_HOME = {
    "Backbone": "backbone",
    "BackboneSummary": "summary",
    "Block": "backbone",
    "TrainableParts": "surgery",
    "apply_modes": "surgery",
    "build_architecture": "create",
    "canonical_name": "registry",
    "create_backbone": "create",
    "has_linear_head": "surgery",
    "head_layer": "surgery",
    "list_backbones": "summary",
    "load_weights": "weights",
    "save_weights": "weights",
    "select_blocks": "surgery",
    "set_trainable": "surgery",
    "takes_image_size": "create",
    "watching_head": "surgery",
    "weights_available": "create",
}


def __getattr__(name: str) -> Any:
    """Import a name from its module the first time it is asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
