from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import LABELS, tiny_backbone, tiny_recipe, tiny_split
from torch import nn

from toolkit.data import Dataset
from toolkit.errors import BackboneError
from toolkit.run_folder import SecondStageTrial, SolvedHead
from toolkit.training.few_images import (
    FEW_IN_ALL,
    FEW_OF_A_CLASS,
    MOST_NUMBERS,
    cross_validates,
    folds_of,
    is_few,
    judged,
    solved_line,
    trial_line,
    views_to_use,
    with_solver,
)


@pytest.mark.parametrize(
    ("images", "classes", "few"),
    [
        (54, 3, True),
        (1000, 10, True),
        (1001, 10, False),
        (1800, 10, False),
        (2000, 100, True),
        (2001, 100, False),
        (5000, 50, False),
    ],
)
def test_few_is_few_of_a_class_or_in_all_and_soon_solved(images: int, classes: int, few: bool) -> None:
    assert is_few(images, classes) is few


def test_the_documentation_says_which_images_are_few() -> None:
    page = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
    section = page.split("## Few images")[1].split("\n## ")[0]
    for said in (f"up to {FEW_IN_ALL:,} training images", f"{FEW_OF_A_CLASS} a class", f"at most {MOST_NUMBERS:,}"):
        assert said in " ".join(section.split())
    assert is_few(449, 445)
    assert not is_few(450, 450)


def test_more_views_are_used_where_that_stays_short() -> None:
    assert views_to_use(54, 3, 4) == 4
    assert views_to_use(1000, 100, 4) == 2
    assert views_to_use(MOST_NUMBERS, 2, 4) == 1


def dataset(count: int) -> Dataset:
    return Dataset("made", LABELS, {"train": tiny_split("train", count)})


def test_auto_is_chosen_by_the_images_the_network_and_the_recipe() -> None:
    auto = tiny_recipe(stage1__solver="auto")
    assert with_solver(auto, tiny_backbone(), dataset(18)).stage1.solver == "lbfgs"
    assert with_solver(auto, tiny_backbone(), dataset(1002)).stage1.solver == "steps"
    for changes in ({"train__loss": "mse"}, {"stage1__unfreeze": 1}, {"stage1__epochs": 0}):
        recipe = tiny_recipe(stage1__solver="auto", **changes)
        assert with_solver(recipe, tiny_backbone(), dataset(18)).stage1.solver == "steps"
    steps = tiny_recipe()
    assert with_solver(steps, tiny_backbone(), dataset(18)) is steps
    # Chosen once and for all: a run that goes on reads what was chosen.
    assert not with_solver(tiny_recipe().adapted({"stage1.solver": "auto"}), tiny_backbone(), dataset(18)).is_given(
        "stage1.solver"
    )


class Bent(nn.Module):
    """A network with something behind its head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten())
        self.fc = nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.stem(images)).relu()
        return logits


def test_a_head_that_is_not_linear_makes_steps_unless_a_person_asks() -> None:
    backbone = replace(tiny_backbone(), model=Bent())
    assert with_solver(tiny_recipe(stage1__solver="auto"), backbone, dataset(18)).stage1.solver == "steps"
    refused = r"^test:tiny does not end in one linear layer, .* --stage1-solver steps\.$"
    with pytest.raises(BackboneError, match=refused):
        with_solver(tiny_recipe(stage1__solver="lbfgs"), backbone, dataset(18))


def test_the_second_stage_is_tried_where_validation_cannot_tell_and_folds_are_cheap() -> None:
    recipe = tiny_recipe(stage1__solver="lbfgs", cache__use=True)
    assert cross_validates(recipe, 6, 1)
    assert not cross_validates(recipe, 50, 1)
    assert not cross_validates(recipe, 6, 2)
    for changes in ({"cache__use": False}, {"train__keep": "best"}, {"stage2__epochs": 0}, {"stage1__solver": "steps"}):
        assert not cross_validates(tiny_recipe(**{"stage1__solver": "lbfgs", "cache__use": True, **changes}), 6, 1)
    assert cross_validates(recipe.override({"stage2.epochs": 0, "stage3.epochs": 1, "stage3.unfreeze": 1}), 6, 1)


def test_every_fold_has_its_share_of_every_class_and_copies_stay_together() -> None:
    split = tiny_split("train", 40)
    folds = folds_of(split, 0)
    assert folds is not None
    assert np.bincount(folds).tolist() == [8] * 5
    assert all(np.bincount(split.targets[folds == fold]).tolist() == [4, 4] for fold in range(5))
    copies = replace(split, digests=(*split.digests[:20], *split.digests[:20]))
    folds = folds_of(copies, 0)
    assert folds is not None
    assert (folds[:20] == folds[20:]).all()
    for images, sizes in ((replace(split, digests=()), [8] * 5), (tiny_split("train", 3), [1] * 3)):
        folds = folds_of(images, 0)
        assert folds is not None
        assert np.bincount(folds).tolist() == sizes
    assert folds_of(replace(tiny_split("train", 2), digests=(b"a", b"a")), 0) is None


def right(count: int, of: int = 100) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.arange(of) < count


@pytest.mark.parametrize(
    ("won", "lost", "error", "trained"),
    [
        (0, 0, 0.0, False),
        (1, 0, 0.01, True),
        (6, 5, 0.0333, True),
        (5, 5, 0.0318, False),  # of two that are equal the simpler one
        (5, 6, 0.0333, False),
        (10, 1, 0.0319, True),
        (0, 9, 0.0288, False),
    ],
)
def test_the_second_stage_must_have_more_images_right_out_of_fold(
    won: int, lost: int, error: float, trained: bool
) -> None:
    other = right(80)
    other[80 - lost : 80], other[80 : 80 + won] = False, True
    trial = judged(right(80), other)
    assert (trial.without, trial.with_it) == (0.80, pytest.approx(0.80 + (won - lost) / 100))
    difference = other.astype(float) - right(80)
    assert trial.standard_error == pytest.approx(difference.std(ddof=1) / 10)
    assert trial.standard_error == pytest.approx(error, abs=2e-4)
    assert trial.trained is trained


def test_a_single_image_has_no_standard_error() -> None:
    trial = judged(right(0, 1), right(1, 1))
    assert (trial.standard_error, trial.trained) == (0.0, True)


def test_with_class_weights_images_count_as_much_as_in_the_loss() -> None:
    targets = np.repeat([0, 1], [90, 10])
    weights = np.array([100 / 180, 100 / 20])[targets]  # balanced
    without, with_it = targets == 0, np.ones(100, np.bool_)
    with_it[:20] = False  # all of the rare class are right, and 20 of the other are not any more
    assert not judged(without, with_it).trained
    trial = judged(without, with_it, weights)
    assert trial.trained
    assert (trial.without, trial.with_it) == (pytest.approx(0.5), pytest.approx((70 / 90 + 1) / 2))
    assert trial.standard_error == pytest.approx((weights * (with_it.astype(float) - without)).std(ddof=1) / 10)
    # One of ten for nine of ninety is even, whatever rounding makes of it.
    even = targets == 0
    even[:9], even[90] = False, True
    assert not judged(without, even, weights).trained
    assert not judged(even, without, weights).trained


HEAD = SolvedHead(images=180, views=4, l2=0.01, folds=5, accuracy=0.889)


def test_what_was_done_is_said() -> None:
    assert solved_line(HEAD, 10) == (
        "18 training images a class: the head is solved as logistic regression (L2 penalty 0.01, in 5 folds 88.9% of "
        "the training images are right)"
    )
    assert solved_line(HEAD.model_copy(update={"accuracy": None, "folds": 0}), 7).startswith("25.7 training images a")
    assert "fold" not in solved_line(HEAD.model_copy(update={"accuracy": None, "folds": 0}), 7)
    for images, classes, each in ((7, 7, "1 training image a"), (50_000, 10, "5,000 training images a")):
        assert solved_line(HEAD.model_copy(update={"images": images}), classes).startswith(f"{each} class: the head is")
    trial = SecondStageTrial(without=0.889, with_it=0.872, standard_error=0.0214, trained=False)
    told = (
        "out of fold 87.2% of the training images are right with stage 2, 88.9% without, and one standard error is 2.1 "
        "points"
    )
    assert trial_line(trial, (2,)) == f"the solved head is not improved by stage 2, so training ends with it: {told}"
    nothing = trial_line(SecondStageTrial(without=0.0, with_it=0.0, standard_error=0.0, trained=False), (2,))
    assert nothing == (
        "the solved head is not improved by stage 2, so training ends with it: out of fold no image is right with "
        "stage 2 or without, as none is that is the only one of its class"
    )
    better = trial.model_copy(update={"trained": True})
    assert trial_line(better, (2,)) == f"the solved head is improved by stage 2: {told}"
    assert trial_line(better, (2,), weighted=True).startswith(
        "the solved head is improved by stage 2: out of fold, with all classes counting alike, 87.2% of the training "
    )
    assert trial_line(better, (2, 3)).startswith("the solved head is improved by stages 2 and 3: out of fold 87.2% of ")
