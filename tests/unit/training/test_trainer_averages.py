"""Weights and BatchNorm statistics that are averaged."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tiny_runs import Run, kept_of, same

from toolkit.progress import Bar, Silent
from toolkit.training.batch_sources import BatchSource
from toolkit.training.group import Group
from toolkit.training.trainer import order_of_epoch


def weights_after_every_epoch(**changes: Any) -> list[dict[str, torch.Tensor]]:
    """Return the weights that training goes on with, of the last stage."""
    run = Run(**changes)
    run.trainer.run()
    return [saved.model for saved in run.saved if saved.stage == 2 and saved.epoch > 1]


def test_the_mean_of_the_last_epochs_is_what_is_looked_at_and_kept() -> None:
    plain = weights_after_every_epoch(stage2__epochs=4)
    run = Run(stage2__epochs=4, train__average_last=3)
    run.trainer.run()
    kept = kept_of(run)
    for name, value in kept.items():
        torch.testing.assert_close(value, torch.stack([weights[name] for weights in plain[1:]]).mean(0))
    # Training itself goes on with its own weights.
    assert same(run.trainer.variable(), plain[-1])
    run.trainer.load(kept)
    run.setting.backbone.model.eval()
    with Silent().bar("", 1, "") as bar:
        loss, _, _ = run.trainer._validate(run.trainer._data.image_batches(2), bar)
    assert loss == run.state.history[-1].validation_loss


def test_the_moving_average_is_kept_and_training_does_not_know_of_it() -> None:
    plain, run = Run(stage2__epochs=3), Run(stage2__epochs=3, train__ema=0.9)
    for each in (plain, run):
        each.trainer.run()
    assert [epoch.train_loss for epoch in run.state.history] == [epoch.train_loss for epoch in plain.state.history]
    assert same(run.weights(), plain.weights())
    assert not same(kept_of(run), kept_of(plain))
    assert run.state.history[-1].validation_loss != plain.state.history[-1].validation_loss
    # It begins anew with a stage, and a checkpoint at the end of one holds none.
    assert [saved.averaged for saved in run.saved] == [5, 0, 5, 10, 15, 0]
    assert run.saved[-1].average == {}


def test_statistics_that_are_trained_are_averaged_too() -> None:
    plain, run = (Run(train__train_bn=True, train__ema=decay) for decay in (0.0, 0.9))
    for each in (plain, run):
        each.trainer.run()
    name = "body.1.running_mean"
    assert not torch.equal(kept_of(run)[name], kept_of(plain)[name])
    assert kept_of(run)["body.1.num_batches_tracked"] == kept_of(plain)["body.1.num_batches_tracked"]


def test_without_any_means_nothing_is_averaged() -> None:
    run = Run()
    run.trainer.run()
    assert all(not saved.average for saved in run.saved)


BATCH_NORM = {"train__train_bn": True, "augment__shift": 0.2, "train__dropout": 0.5}


def statistics_by_hand(run: Run, stage: int, batches: int) -> torch.Tensor:
    """Return the mean of the means before the trained BatchNorm layer, with the weights that were kept."""
    order = order_of_epoch(run.setting, stage, 0)
    split, model = run.setting.dataset.split("train"), run.setting.backbone.model.eval()
    means = []
    for images in order.batches(0)[:batches]:
        pixels = torch.from_numpy(split.load(images, run.setting.preprocessing)).permute(0, 3, 1, 2)
        norm = run.setting.backbone.normalization
        mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (norm.mean, norm.std))
        with torch.no_grad():
            means.append(model.body[0](model.stem((pixels / 255 - mean) / std)).mean((0, 2, 3)))
    return torch.stack(means).mean(0)


@pytest.mark.parametrize("average", [{}, {"train__ema": 0.8}])
def test_statistics_are_estimated_anew_with_the_weights_that_are_kept(average: dict[str, Any]) -> None:
    plain, run = Run(**BATCH_NORM, **average), Run(**BATCH_NORM, **average, train__bn_reestimate=3)
    for each in (plain, run):
        each.trainer.run()
    before, after = kept_of(plain), kept_of(run)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        "body.1.running_mean",
        "body.1.running_var",
        "body.1.num_batches_tracked",
    }
    run.trainer.load(after)
    torch.testing.assert_close(after["body.1.running_mean"], statistics_by_hand(run, 2, 3))
    with Silent().bar("", 1, "") as bar:
        loss, accuracy, _ = run.trainer._validate(run.trainer._data.image_batches(2), bar)
    assert (run.state.best.loss, run.state.best.accuracy) == (loss, accuracy)
    assert run.listening.lines[-1].startswith("BatchNorm statistics estimated anew on 3 batches: validation loss ")


@pytest.mark.parametrize("average", [{}, {"train__ema": 0.8}, {"train__average_last": 2}])
def test_all_processes_look_with_the_statistics_of_the_first(average: dict[str, Any]) -> None:
    """A checkpoint has these, so that a run which goes on ends the same only if all looked with them before."""

    class Second(Group):
        """Stands for another process than the first, whose statistics are all 7."""

        def follow_first(self, tensors: Sequence[torch.Tensor]) -> None:
            for tensor in tensors:
                tensor.fill_(7)

    run, looked = Run(**BATCH_NORM, **average), []
    run.trainer._setting = replace(run.setting, group=Second())
    layer = run.setting.backbone.model.body[1]
    predict = run.trainer.predict

    def noted(batches: BatchSource, bar: Bar) -> npt.NDArray[np.float32]:
        looked.append({*layer.running_mean.tolist(), *layer.running_var.tolist()})
        return predict(batches, bar)

    run.trainer.predict = noted  # type: ignore[method-assign]
    run.trainer.run()
    # Stage 1 trains no such layer.
    assert looked[1:] == [{7.0}, {7.0}]
    assert looked[0] != {7.0}
    assert set(kept_of(run)["body.1.running_mean"].tolist()) == {7.0}
    assert set(layer.running_mean.tolist()) == {7.0}


def test_there_are_no_more_batches_than_images() -> None:
    run = Run(**BATCH_NORM, train__bn_reestimate=1000)
    run.trainer.run()
    # 18 images in batches of 4: the last two are left out.
    assert kept_of(run)["body.1.num_batches_tracked"] == 4


def test_a_run_that_was_killed_while_statistics_were_estimated_ends_the_same() -> None:
    whole = Run(**BATCH_NORM, train__bn_reestimate=2)
    whole.trainer.run()
    rest = Run(copy.deepcopy(whole.saved[-1]), **BATCH_NORM, train__bn_reestimate=2)
    rest.trainer.run()
    assert same(kept_of(rest), kept_of(whole))
    assert rest.state.best.accuracy == whole.state.best.accuracy


def test_where_no_batch_norm_is_trained_there_is_nothing_to_estimate() -> None:
    run = Run(stage2__unfreeze=0, **BATCH_NORM, train__bn_reestimate=2)
    run.trainer.run()
    assert run.listening.lines[-1] == (
        f"stage {run.state.best.stage}, whose weights are kept, trains no BatchNorm layer: there are no statistics to "
        "estimate anew"
    )
