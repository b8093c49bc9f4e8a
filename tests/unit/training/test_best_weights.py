from __future__ import annotations

import pytest
import torch

from toolkit.recipe import Recipe, load_recipe
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


def stages(*ends: tuple[int, int, float, float]) -> Best:
    """Offer epochs of two stages of three; each is stage, epoch, accuracy and loss."""
    best = Best()
    for stage, number, accuracy, loss in ends:
        done = Epoch(stage, number, 0.5, 0.8, loss, accuracy, 0.1, 0.01, 3.25)
        best.offer(done, {}, "best stage", ends_stage=number == 3)
    return best


def test_of_a_stage_the_last_epoch_is_kept_whatever_the_others_reached() -> None:
    best = stages((1, 1, 0.5, 1.0), (1, 3, 0.6, 0.9), (2, 1, 0.95, 0.1), (2, 2, 0.97, 0.1), (2, 3, 0.9, 0.3))
    assert (best.stage, best.epoch, best.accuracy) == (2, 3, 0.9)


def test_a_stage_that_is_worse_at_its_end_than_the_one_before_is_not_kept() -> None:
    best = stages((1, 3, 0.8, 0.9), (2, 2, 0.9, 0.1), (2, 3, 0.7, 0.3))
    assert (best.stage, best.epoch) == (1, 3)


def test_training_that_diverges_in_its_first_stage_keeps_the_newest_that_can_be_used() -> None:
    best = stages((1, 1, 0.5, 1.0), (1, 2, 0.4, 2.0), (1, 3, 0.1, float("nan")), (2, 1, 0.3, 2.0))
    assert (best.stage, best.epoch) == (2, 1)
    best = stages((1, 1, 0.5, 1.0), (1, 2, 0.4, 2.0), (1, 3, 0.1, float("nan")))
    assert (best.stage, best.epoch) == (1, 2)


def with_fields(**fields: object) -> Recipe:
    return load_recipe("folder").override({name.replace("__", "."): value for name, value in fields.items()})


@pytest.mark.parametrize(
    ("fields", "images", "kept"),
    [
        ({}, 49, "last sound"),
        ({}, 50, "best stage"),
        ({}, 999, "best stage"),
        ({}, 1000, "best"),
        ({"train__patience": 2}, 50, "best"),
        ({"stage2__schedule": "constant"}, 50, "best"),
        ({"stage2__schedule": "constant", "stage2__epochs": 0}, 50, "best stage"),
        ({"train__keep": "best"}, 5, "best"),
        ({"train__keep": "last"}, 5000, "last"),
    ],
)
def test_few_validation_images_choose_little_unless_they_are_asked_to(
    fields: dict[str, object], images: int, kept: str
) -> None:
    assert which_to_keep(with_fields(**fields), images) == kept


def test_it_is_said_what_five_images_can_tell() -> None:
    assert what_validation_tells(with_fields(), 5) == (
        "5 validation images: accuracy moves in steps of 20 points, and 4 of 5 right can be anything from 38% to 96% "
        "(95% interval). They are too few to choose an epoch by, so the weights of the last one are kept, or of the "
        "last one before their loss more than doubled (--keep best takes the best one all the same)"
    )
    assert "few for that" in what_validation_tells(with_fields(train__keep="best"), 5)
    assert what_validation_tells(with_fields(), 1000).endswith(
        "800 of 1000 right can be anything from 77% to 82% (95% interval); the weights of the best epoch are kept"
    )
    assert what_validation_tells(with_fields(), 144).endswith(
        "They tell whether a stage gains, and not which of its epochs is the best, so the weights after the last one "
        "are kept (--keep best takes the best)"
    )
