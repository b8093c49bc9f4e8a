"""The means of training, each as a change of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.errors import BenchmarkError
from toolkit.data.augment import default_views
from toolkit.recipe import Recipe

TEACHER = "teacher"
"""The means that needs a run of its own first."""


@dataclass(frozen=True)
class Means:
    """One means of training.

    Attributes:
        name: as the command line and the table have it.
        text: what it is.
        changes: fields of the recipe and their values, given today's.
    """

    name: str
    text: str
    changes: Callable[[Recipe], Mapping[str, Any]]


def _always(**fields: Any) -> Callable[[Recipe], Mapping[str, Any]]:
    changes = {name.replace("__", "."): value for name, value in fields.items()}
    return lambda _: changes


def _deeper(recipe: Recipe, blocks: int) -> int:
    unfreeze = recipe.stage2.unfreeze
    if not isinstance(unfreeze, int):
        raise BenchmarkError("stage2.unfreeze names blocks: give how many with --set stage2.unfreeze=3.")
    return unfreeze + blocks


def _refreshed(recipe: Recipe) -> Mapping[str, Any]:
    return {"cache.refresh": 1.0} if recipe.augment.changes_images else {"cache.refresh": 1.0, "augment.shift": 0.1}


def _twice_the_views(recipe: Recipe) -> Mapping[str, Any]:
    return {"cache.views": 2 * (recipe.cache.views or default_views(recipe.augment))}


def _rates(times: float) -> Callable[[Recipe], Mapping[str, Any]]:
    names = ("head_lr", "backbone_lr")
    return lambda recipe: {f"stage2.{name}": times * getattr(recipe.stage2, name) for name in names}


MEANS = (
    Means("ema", "exponential moving average of the weights, decay 0.99", _always(train__ema=0.99)),
    Means("ema-slow", "the same with decay 0.998", _always(train__ema=0.998)),
    Means("average", "mean of the weights after the last 3 epochs", _always(train__average_last=3)),
    Means("mixup", "mixup, alpha 0.2", _always(augment__mixup=0.2)),
    Means("cutmix", "cutmix on the kept maps, alpha 1", _always(augment__cutmix=1.0)),
    Means("both-mixes", "either of them in each batch", _always(augment__mixup=0.2, augment__cutmix=1.0)),
    Means("no-smoothing", "without label smoothing", _always(train__label_smoothing=0.0)),
    Means("layer-decay", "each block at 0.7 of the rate of the one behind it", _always(stage2__layer_decay=0.7)),
    Means(
        "no-probe",
        "without the linear probe: all its epochs in stage 2",
        lambda recipe: {"stage1.epochs": 0, "stage2.epochs": recipe.stage1.epochs + recipe.stage2.epochs},
    ),
    Means("crop", "random resized crops of at least 0.35 of the area", _always(augment__crop=0.35)),
    Means("randaugment", "RandAugment, 2 operations of magnitude 9", _always(augment__randaugment=2)),
    Means("erase", "random erasing with probability 0.25", _always(augment__erase=0.25)),
    Means("views", "twice the views", _twice_the_views),
    Means("drop-path", "stochastic depth, 0.1 in the last block", _always(train__drop_path=0.1)),
    Means("dropout", "dropout of 0.2 before the head", _always(train__dropout=0.2)),
    Means("sam", "sharpness-aware steps, rho 0.05", _always(train__sam_rho=0.05)),
    Means("train-bn", "BatchNorm trained", _always(train__train_bn=True)),
    Means(
        "bn-reestimate",
        "BatchNorm trained, its statistics estimated anew on 100 batches",
        _always(train__train_bn=True, train__bn_reestimate=100),
    ),
    Means("flip-test", "mirror images averaged, twice the cost of each prediction", _always(model__flip_test=True)),
    Means(
        "third-stage",
        "three blocks more in the last 2 epochs, at half the rates",
        lambda recipe: {
            **{f"stage3.{name}": value for name, value in recipe.stage2.model_dump().items()},
            "stage2.epochs": recipe.stage2.epochs - 2,
            "stage3.epochs": 2,
            "stage3.unfreeze": _deeper(recipe, 3),
            "stage3.head_lr": recipe.stage2.head_lr / 2,
            "stage3.backbone_lr": recipe.stage2.backbone_lr / 2,
        },
    ),
    Means("refresh", "a new view of each image in each epoch of stage 2 (shifts where nothing is drawn)", _refreshed),
    Means("longer", "twice the epochs of stage 2", lambda recipe: {"stage2.epochs": 2 * recipe.stage2.epochs}),
    Means("deeper", "a block more trained", lambda recipe: {"stage2.unfreeze": _deeper(recipe, 1)}),
    Means("much-deeper", "two blocks more trained", lambda recipe: {"stage2.unfreeze": _deeper(recipe, 2)}),
    Means("faster", "twice the rates of stage 2", _rates(2)),
    Means("slower", "half the rates of stage 2", _rates(1 / 2)),
    Means("much-slower", "a quarter of the rates of stage 2", _rates(1 / 4)),
    Means(
        "patience",
        "patience of 2 epochs; the best epoch on the images that judge is kept, which flatters it",
        _always(train__patience=2, train__keep="best"),
    ),
    Means(
        TEACHER,
        "a teacher's logits, weight 0.5, temperature 2",
        _always(distill__weight=0.5, distill__temperature=2.0),
    ),
)
