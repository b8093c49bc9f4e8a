"""Which weights training may change: what a checkpoint keeps, and what a measurement puts back."""

from __future__ import annotations

import torch

from toolkit.backbones import Backbone, TrainableParts, set_trainable
from toolkit.recipe import Recipe


def trained_tensors(backbone: Backbone, parts: TrainableParts) -> dict[str, torch.Tensor]:
    """Return the parameters and buffers that a stage changes, by name; the modes are to be those of its training."""
    changing = {id(parameter) for parameter in (*parts.head, *parts.backbone)}
    for module in backbone.model.modules():
        if module.training and parts.train_bn:
            changing |= {id(buffer) for buffer in module.buffers(recurse=False)}
    tensors = (
        *backbone.model.named_parameters(remove_duplicate=False),
        *backbone.model.named_buffers(remove_duplicate=False),
    )
    kept = backbone.model.state_dict().keys()
    return {name: tensor for name, tensor in tensors if id(tensor) in changing and name in kept}


def variable_tensors(recipe: Recipe, backbone: Backbone) -> list[str]:
    """Return the names of the parameters and buffers that any stage may change.

    Leaves the backbone as the last stage trains it (see ``set_trainable``).
    """
    changing: set[str] = set()
    for _, stage in recipe.stages:
        parts = set_trainable(backbone, stage.unfreeze, train_bn=recipe.train.train_bn)
        changing |= trained_tensors(backbone, parts).keys()
    return [name for name in backbone.model.state_dict() if name in changing]
