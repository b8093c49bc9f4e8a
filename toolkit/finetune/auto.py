"""``--recipe auto``.

The CIFAR-10 job where its data and weights can be had, the embedded one where not, and never one for the other in
silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from toolkit.backbones import weights_available
from toolkit.data import cifar10
from toolkit.download import probe
from toolkit.recipe import Recipe, load_recipe

PROBE_SECONDS = 5.0
"""Both hosts are asked at once, so finding out that none answers takes this long."""


def choose_recipe(name: str, overrides: Mapping[str, Any]) -> tuple[Recipe, str | None]:
    """Return the recipe to run and, where ``auto`` had to choose, one line that says what it chose and why.

    Args:
        name: ``auto``, a shipped recipe or the path of a TOML file.
        overrides: dotted fields and their values.

    Raises:
        RecipeError: no such recipe, or fields that are not valid.
    """
    if name != "auto":
        return _localised(load_recipe(name).override(overrides)), None
    source = overrides.get("data.source")
    if source == "digits":
        return load_recipe("digits").override(overrides), None
    if source is not None and source != "cifar10":
        return _localised(load_recipe("folder").override(overrides)), f"using the 'folder' recipe for {source}"
    wanted = load_recipe("cifar10").override(overrides)
    if source == "cifar10":
        return wanted, None
    reason = _why_not(wanted)
    if reason is None:
        return wanted, "using the 'cifar10' recipe: CIFAR-10 and the pretrained weights can be had"
    embedded = load_recipe("digits").override(overrides)
    return embedded, f"USING THE EMBEDDED 'digits' RECIPE, NOT CIFAR-10: {reason}"


def _why_not(recipe: Recipe) -> str | None:
    root = Path(recipe.data.root) if recipe.data.root else cifar10.default_root()
    with ThreadPoolExecutor(max_workers=2) as pool:
        data = pool.submit(lambda: None if cifar10.is_on_disk(root) else probe(cifar10.archive_url(), PROBE_SECONDS))
        weights = pool.submit(
            lambda: weights_available(recipe.backbone.name) if recipe.backbone.weights == "default" else None
        )
        reasons = []
        if (missing := data.result()) is not None:
            reasons.append(f"CIFAR-10 is not in {root} and cannot be downloaded ({missing})")
        if (missing := weights.result()) is not None:
            reasons.append(f"the weights of {recipe.backbone.name} cannot be had ({missing})")
    return "; ".join(reasons) or None


def _localised(recipe: Recipe) -> Recipe:
    """Make a folder's path absolute, so that later stages find the data from anywhere."""
    if recipe.data.source in ("cifar10", "digits"):
        return recipe
    return recipe.override({"data.source": str(Path(recipe.data.source).expanduser().resolve())})
