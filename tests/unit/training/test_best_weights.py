from __future__ import annotations

import pytest
import torch

from toolkit.recipe import TrainRecipe
from toolkit.training.best_weights import Best, what_validation_tells, which_to_keep
from toolkit.training.history import Epoch


def epoch(accuracy: float, loss: float = 1.0, number: int = 1) -> Epoch:
    return Epoch(2, number, 0.5, 0.8, loss, accuracy, 0.1, 0.01, 3.25)


def test_the_best_epoch_has_the_highest_accuracy_then_the_lowest_loss() -> None:
    best = Best()
    weights = {"w": torch.zeros(1)}
    for done, value in (
        (epoch(0.5), 1.0),
        (epoch(0.7, 0.9, 2), 2.0),
        (epoch(0.7, 0.8, 3), 3.0),
        (epoch(0.6, 0.1, 4), 4.0),
    ):
        weights["w"][0] = value
        best.offer(done, weights)
    assert (best.epoch, best.accuracy, best.loss) == (3, 0.7, 0.8)
    assert best.weights is not None
    assert best.weights["w"].item() == 3.0


def test_an_epoch_without_a_usable_loss_is_never_the_best() -> None:
    best = Best()
    for accuracy, loss in ((float("nan"), 1.0), (0.9, float("nan")), (0.9, float("inf"))):
        best.offer(epoch(accuracy, loss), {})
        assert best.weights is None


def test_the_last_epoch_is_kept_where_it_is_wanted() -> None:
    best = Best()
    for done in (epoch(0.9, 0.1, 1), epoch(0.5, 2.0, 2)):
        best.offer(done, {"w": torch.full((1,), float(done.epoch))}, "last")
    assert (best.epoch, best.accuracy) == (2, 0.5)
    assert best.weights is not None
    assert best.weights["w"].item() == 2.0


def test_a_last_epoch_that_undid_what_there_was_is_not_kept() -> None:
    best = Best()
    kept = []
    for number, loss in enumerate((0.5, 0.08, 1.3, 0.9, 0.2, float("nan"), 0.6), start=1):
        best.offer(epoch(0.9, loss, number), {}, "last sound")
        kept.append(best.epoch)
    assert kept == [1, 2, 2, 2, 5, 5, 5]


def test_another_score_than_the_accuracy_can_decide() -> None:
    best = Best()
    for done, score in ((epoch(0.9, 0.1, 1), 0.5), (epoch(0.8, 0.2, 2), 0.7)):
        best.offer(done, {}, "best", score)
    assert (best.epoch, best.accuracy, best.score) == (2, 0.8, 0.7)


@pytest.mark.parametrize(
    ("keep", "images", "kept"),
    [("auto", 49, "last sound"), ("auto", 50, "best"), ("best", 5, "best"), ("last", 5000, "last")],
)
def test_few_validation_images_choose_nothing_unless_they_are_asked_to(keep: str, images: int, kept: str) -> None:
    assert which_to_keep(TrainRecipe.model_validate({"keep": keep}), images) == kept


def test_it_is_said_what_five_images_can_tell() -> None:
    assert what_validation_tells(TrainRecipe.model_validate({}), 5) == (
        "5 validation images: accuracy moves in steps of 20 points, and 4 of 5 right can be anything from 38% to 96% "
        "(95% interval). They are too few to choose an epoch by, so the weights of the last one are kept, or of the "
        "last one before their loss more than doubled (--keep best takes the best one all the same)"
    )
    assert "few for that" in what_validation_tells(TrainRecipe.model_validate({"keep": "best"}), 5)
    assert what_validation_tells(TrainRecipe.model_validate({}), 1000).endswith(
        "800 of 1000 right can be anything from 77% to 82% (95% interval); the weights of the best epoch are kept"
    )
