"""What is done differently where images are few: the head is solved, and the second stage has to prove itself.

With few images stage 1 makes so few steps that its head is far from the best one, and a judge as simple as logistic
regression over what the frozen network makes of the images beats it. So the head is that regression, and the second
stage goes on from it ("linear probe first, then fine-tuning", Kumar et al. 2022), and a third one from that. Where
validation images are too few to tell whether they gained anything, the training images tell, each by a network that was
not trained on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from toolkit.backbones import Backbone, has_linear_head
from toolkit.compare.out_of_fold import divide_into_folds
from toolkit.data import Dataset, Split
from toolkit.errors import BackboneError
from toolkit.recipe import Recipe
from toolkit.run_folder import SecondStageTrial, SolvedHead
from toolkit.training.best_weights import which_to_keep

FEW_OF_A_CLASS = 50
FEW_IN_ALL = 1000
"""Up to so many training images are few; of a class that is the mean."""
MOST_NUMBERS = 200_000
"""Images times classes up to which solving takes seconds, not minutes; of more views only so many are used."""
FOLDS = 5
ROUNDING = 1e-9
"""Shares of the images that differ by no more are equal."""

Right = npt.NDArray[np.bool_]


def with_solver(recipe: Recipe, backbone: Backbone, dataset: Dataset) -> Recipe:
    """Return the recipe with ``stage1.solver`` as it is to be: ``steps`` or ``lbfgs``.

    Raises:
        BackboneError: a person asked for lbfgs, and the network does not end in a linear layer.
    """
    solver = recipe.stage1.solver
    if solver == "steps":
        return recipe
    if solver == "lbfgs":
        if not has_linear_head(backbone):
            raise BackboneError(
                f"{backbone.name} does not end in one linear layer, so that its head cannot be solved: give "
                "--stage1-solver steps."
            )
        return recipe
    few = recipe.obstacle_to_solving is None and is_few(len(dataset.split("train")), len(dataset.labels))
    return recipe.adapted({"stage1.solver": "lbfgs" if few and has_linear_head(backbone) else "steps"})


def is_few(images: int, classes: int) -> bool:
    """Tell whether so many training images are few."""
    return images <= max(FEW_IN_ALL, FEW_OF_A_CLASS * classes) and images * classes <= MOST_NUMBERS


def views_to_use(images: int, classes: int, views: int) -> int:
    """Return how many of the views that are kept of each image the head is solved on."""
    return max(1, min(views, MOST_NUMBERS // (images * classes)))


def cross_validates(recipe: Recipe, validation_images: int, processes: int) -> bool:
    """Tell whether the stages behind a solved head have to prove themselves in folds of the training images.

    That takes four times as long as they do, which is little where there are so few images. Without kept activations it
    would not be, and several processes hold a part of the images each.

    Args:
        recipe: as it is to be run, see ``with_solver``.
        validation_images: of all processes.
        processes: that train together.
    """
    return (
        recipe.stage1.solver == "lbfgs"
        and len(behind_head(number for number, _ in recipe.stages)) > 0
        and recipe.cache.use
        and processes == 1
        and which_to_keep(recipe, validation_images) == "last sound"
    )


def behind_head(stages: Iterable[int]) -> tuple[int, ...]:
    """Return those of some stages, given by their numbers, that go on from the head which the first one found."""
    return tuple(number for number in stages if number > 1)


def stages_in_words(numbers: tuple[int, ...]) -> str:
    """Return ``stage 2``, or ``stages 2 and 3``."""
    return f"stage{'s' if len(numbers) > 1 else ''} {' and '.join(map(str, numbers))}"


def folds_of(train: Split, seed: int) -> npt.NDArray[np.int64] | None:
    """Return the fold of each training image, int64 ``[n]``; copies stay together. None where no two images differ.

    Args:
        train: the training images.
        seed: of the recipe.
    """
    if train.digests:
        _, groups = np.unique(np.array(train.digests), return_inverse=True)
    else:
        groups = np.arange(len(train))
    count = min(FOLDS, len(np.unique(groups)))
    if count < 2:
        return None
    return divide_into_folds(train.targets, groups.reshape(-1).astype(np.int64), count, [seed])


def judged(without: Right, with_it: Right, weights: npt.NDArray[np.float64] | None = None) -> SecondStageTrial:
    """Decide whether the stages behind the head are worth it: whether more images are right with them, out of fold.

    Which of the two is better is all that is asked: where they cannot be told apart neither is far behind, and to ask
    for a difference of a standard error would leave out much that helps, for of few images that is many points.

    Args:
        without: which images are right with the solved head alone, out of fold, bool ``[n]``.
        with_it: which are right with these stages behind it, in the same folds.
        weights: of the images, ``[n]``; by default they count alike.
    """
    images = len(without)
    weights = np.ones(images) if weights is None else weights
    differences = weights / weights.mean() * (with_it.astype(np.float64) - without)
    return SecondStageTrial(
        without=float(weights[without].sum() / weights.sum()),
        with_it=float(weights[with_it].sum() / weights.sum()),
        standard_error=float(differences.std(ddof=1)) / math.sqrt(images) if images > 1 else 0.0,
        trained=bool(differences.mean() > ROUNDING),
    )


def solved_line(head: SolvedHead, classes: int) -> str:
    """Say how the head was found and why."""
    right = (
        "" if head.accuracy is None else f", in {head.folds} folds {head.accuracy:.1%} of the training images are right"
    )
    of_each = head.images / classes
    each = f"{of_each:.3g}" if of_each < 100 else f"{of_each:,.0f}"
    return (
        f"{each} training image{'' if each == '1' else 's'} a class: the head is solved as logistic regression "
        f"(L2 penalty {head.l2:.2g}{right})"
    )


def trial_line(trial: SecondStageTrial, stages: tuple[int, ...], *, weighted: bool = False) -> str:
    """Say what came of the stages, given by their numbers, that were tried; ``weighted`` where classes count alike."""
    named = stages_in_words(stages)
    points = (
        f"out of fold{', with all classes counting alike,' if weighted else ''} {trial.with_it:.1%} of the training "
        f"images are right with {named}, {trial.without:.1%} without, "
        f"and one standard error is {100 * trial.standard_error:.1f} points"
    )
    if trial.trained:
        return f"the solved head is improved by {named}: {points}"
    if trial.with_it == trial.without == 0:
        points = f"out of fold no image is right with {named} or without, as none is that is the only one of its class"
    return f"the solved head is not improved by {named}, so training ends with it: {points}"
