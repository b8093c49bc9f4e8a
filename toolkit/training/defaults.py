"""Defaults of a recipe that a network cannot take, adapted to it and said. What a person gave is refused instead."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.backbones import Backbone, create_backbone, select_blocks, set_trainable
from toolkit.backbones.frontier import NoFrontierError, residual_branches
from toolkit.backbones.regularization import set_head_dropout, without_own_depth
from toolkit.errors import BackboneError, ImageSizeError
from toolkit.progress import Reporter
from toolkit.recipe import Recipe

_ATTEMPTS = 3
"""How many image sizes are tried before a network's own."""


def create_fitting(recipe: Recipe, classes: int, reporter: Reporter) -> tuple[Recipe, Backbone, tuple[str, ...]]:
    """Create the backbone of a recipe.

    An image size, blocks to unfreeze and stochastic depth that are defaults, a shipped recipe's or the field's own,
    give way where the network cannot take them.

    Returns:
        the recipe as it can be run, the backbone, and a sentence for each field that is not the recipe's.

    Raises:
        BackboneError: there is no such backbone, its weights cannot be used, or it cannot take what a person gave.
        DownloadError: its weights cannot be fetched.
    """
    asked = recipe.backbone.image_size
    recipe, backbone = _create(recipe, classes, reporter)
    adapted = []
    if recipe.backbone.image_size != asked:
        adapted.append(
            f"image_size is {backbone.image_size} instead of the recipe's {asked}, which {backbone.name} cannot take"
        )
    for number, stage in recipe.stages:
        field = f"stage{number}.unfreeze"
        try:
            select_blocks(backbone, stage.unfreeze)
        except BackboneError:
            if recipe.is_given(field):
                raise
            fitting = _fitting(backbone, stage.unfreeze)
            recipe = recipe.adapted({field: fitting})
            names = ", ".join(block.name for block in backbone.blocks[len(backbone.blocks) - fitting :]) or "none"
            adapted.append(
                f"{field} is {fitting} ({names}) instead of the recipe's {_shown(stage.unfreeze)}: {backbone.name} has "
                f"{len(backbone.blocks)} blocks ({', '.join(block.name for block in backbone.blocks)})"
            )
    recipe, further = regularised(recipe, backbone)
    adapted += further
    for sentence in adapted:
        reporter.line(f"adapted: {sentence}")
    return recipe, backbone, tuple(adapted)


def regularised(recipe: Recipe, backbone: Backbone) -> tuple[Recipe, list[str]]:
    """Set what the network leaves out at random while it is trained; see ``create_fitting``."""
    adapted = []
    if recipe.train.drop_path is not None:
        without_own_depth(backbone.model)
        if recipe.train.drop_path > 0 and (problem := _without_branches(recipe, backbone)):
            if recipe.is_given("train.drop_path"):
                raise BackboneError(f"{problem}: leave --drop-path out.")
            recipe = recipe.adapted({"train.drop_path": 0.0})
            adapted.append(f"drop_path is 0: {problem}")
    if recipe.train.dropout is not None:
        set_head_dropout(backbone, recipe.train.dropout)
    return recipe, adapted


def _without_branches(recipe: Recipe, backbone: Backbone) -> str | None:
    """Say why stochastic depth has nothing to leave out; None where a stage trains residual branches."""
    try:
        trained = [set_trainable(backbone, stage.unfreeze) for _, stage in recipe.stages]
        if any(residual_branches(backbone, parts) for parts in trained):
            return None
    except NoFrontierError as error:
        return f"no residual branch can be found in {backbone.name}, {error}"
    finally:
        backbone.model.eval()
    blocks = ", ".join(dict.fromkeys(name for parts in reversed(trained) for name in parts.names))
    return f"there is no residual branch to leave out in what is trained of {backbone.name} ({blocks})"


def _create(recipe: Recipe, classes: int, reporter: Reporter) -> tuple[Recipe, Backbone]:
    """Create the backbone at the recipe's image size; where that is a default, at the nearest one that it takes."""
    for _ in range(_ATTEMPTS):
        try:
            return recipe, _backbone(recipe, recipe.backbone.image_size, classes, reporter)
        except ImageSizeError as error:
            if recipe.is_given("backbone.image_size") or recipe.backbone.image_size is None:
                raise
            wanted = recipe.backbone.image_size
            larger = [size for size in error.sizes if size >= wanted]
            recipe = recipe.adapted({"backbone.image_size": larger[0] if larger else error.sizes[-1]})
    backbone = _backbone(recipe, None, classes, reporter)
    return recipe.adapted({"backbone.image_size": backbone.image_size}), backbone


def _backbone(recipe: Recipe, image_size: int | None, classes: int, reporter: Reporter) -> Backbone:
    return create_backbone(
        recipe.backbone.name,
        weights=recipe.backbone.weights,
        classes=classes,
        image_size=image_size,
        seed=recipe.seed,
        reporter=reporter,
    )


def _fitting(backbone: Backbone, unfreeze: int | Sequence[str]) -> int:
    """Return how many of the last blocks stand for what the network does not have.

    All of them for too many, and the last one for a name of another network's.
    """
    blocks = len(backbone.blocks)
    return min(unfreeze, blocks) if isinstance(unfreeze, int) else min(1, blocks)


def _shown(unfreeze: int | Sequence[str]) -> str:
    return str(unfreeze) if isinstance(unfreeze, int) else ", ".join(unfreeze)
