"""``--recipe auto``.

The preferred job where its data and weights can be had, the embedded one where not, and never one for the other in
silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from toolkit.backbones.asked import check_backbone
from toolkit.data.registry import find_source, require_source
from toolkit.dependencies import require_for_training
from toolkit.errors import RecipeError, RunError
from toolkit.files import expanded
from toolkit.formats.registry import get_format
from toolkit.recipe import (
    AUTO,
    EMBEDDED_RECIPE,
    FIELDS_OF_STEPS,
    PATH_RECIPE,
    PREFERRED_RECIPE,
    Recipe,
    load_recipe,
)
from toolkit.run_folder import FinishedRun, find_run


def choose_recipe(name: str, overrides: Mapping[str, Any]) -> tuple[Recipe, str | None]:
    """Return the recipe to run and, where ``auto`` had to choose, one line that says what it chose and why.

    Args:
        name: ``auto``, a shipped recipe or the path of a TOML file.
        overrides: dotted fields and their values.

    Raises:
        RecipeError: no such recipe, or fields that are not valid.
        ToolkitError: see ``check_recipe``.
    """
    if name != AUTO:
        return check_recipe(localised(_overridden(load_recipe(name), overrides))), None
    preferred, embedded = load_recipe(PREFERRED_RECIPE), load_recipe(EMBEDDED_RECIPE)
    named = overrides.get("data.source")
    if named == embedded.data.source:
        return check_recipe(localised(_overridden(embedded, overrides))), None
    if named is not None and named != preferred.data.source:
        own = check_recipe(localised(_overridden(load_recipe(PATH_RECIPE), overrides)))
        return own, f"using the {own.name!r} recipe for {named}"
    preferred = check_recipe(localised(_overridden(preferred, overrides)))
    if named is not None:
        return preferred, None
    title = find_source(preferred.data.source).title
    reason = _why_not(preferred)
    if reason is None:
        return preferred, f"using the {preferred.name!r} recipe: {title} and the pretrained weights can be had"
    embedded = localised(_overridden(embedded, overrides))
    return embedded, f"USING THE EMBEDDED {embedded.name!r} RECIPE, NOT {title}: {reason}"


def _overridden(recipe: Recipe, overrides: Mapping[str, Any]) -> Recipe:
    """Return the recipe as a person wants it; whoever says something of the steps of stage 1 wants steps."""
    own = recipe.override(overrides)
    if own.stage1.solver == "auto" and "stage1.solver" not in overrides and overrides.keys() & FIELDS_OF_STEPS:
        return own.adapted({"stage1.solver": "steps"})
    return own


def check_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe that asks for nothing which is known not to be there, without importing anything heavy.

    Raises:
        DataError: there is no such data source.
        BackboneError: there is no such source of backbones, or no such file of weights.
        ExportError: there is no such format, which would be found out only after the training.
        RunError: there is no such run to be the teacher, or it is not finished.
        RecipeError: new views are to be drawn, and nothing is drawn of them.
    """
    if recipe.cache.refresh > 0 and not recipe.augment.changes_images:
        raise RecipeError(
            "--refresh-views draws new views, and this recipe changes no image: ask for a change too, e.g. with "
            "--augment-flip or --augment-crop, or leave it out."
        )
    require_source(recipe.data)
    check_backbone(recipe.backbone.name, recipe.backbone.weights)
    for name in recipe.export.formats:
        get_format(name)
    if recipe.distill.teacher is not None:
        FinishedRun.of(find_run(recipe.distill.teacher))
    return recipe


def _why_not(recipe: Recipe) -> str | None:
    """Say why the data or the weights of a recipe cannot be had. Both hosts are asked at once, for they may hang."""
    require_for_training("torch", "torchvision")
    from toolkit.backbones import weights_available

    name, weights = recipe.backbone.name, recipe.backbone.weights
    with ThreadPoolExecutor(max_workers=2) as pool:
        data_asked = pool.submit(find_source(recipe.data.source).unavailable, recipe.data)
        weights_asked = pool.submit(lambda: weights_available(name) if weights == "default" else None)
        reasons = []
        if (missing := data_asked.result()) is not None:
            reasons.append(missing)
        if (missing := weights_asked.result()) is not None:
            reasons.append(f"the weights of {name} cannot be had ({missing})")
    return "; ".join(reasons) or None


def localised(recipe: Recipe) -> Recipe:
    """Make paths absolute, so that later stages and ``--resume`` find what they name from anywhere.

    Those of a source that reads one, and of a teacher; a teacher that is not there stays as it is, to be refused.
    """
    changes = {}
    if find_source(recipe.data.source).reads_path:
        changes["data.source"] = str(expanded(recipe.data.source).resolve())
    if (teacher := recipe.distill.teacher) is not None:
        with suppress(RunError):
            changes["distill.teacher"] = str(find_run(teacher).path.resolve())
    return recipe.override(changes) if changes else recipe
