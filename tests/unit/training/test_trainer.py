from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import LABELS, SIZE, Listening, tiny_recipe, tiny_setting, tiny_split

from toolkit.data import Dataset, Split
from toolkit.data.dataset import split_of_arrays
from toolkit.errors import RecipeError, TrainingError
from toolkit.progress import Silent
from toolkit.run_folder import SecondStageTrial, StageSummary
from toolkit.training import few_images
from toolkit.training import trainer as trainer_module
from toolkit.training.batch_sources import ActivationBatches, EpochOrder, Indices
from toolkit.training.checkpoint import State
from toolkit.training.group import Group
from toolkit.training.interruption import StoppedError, Stopper
from toolkit.training.logistic_regression import LogisticRegression
from toolkit.training.meter import Step
from toolkit.training.setting import Setting
from toolkit.training.trainer import Trainer, order_of_epoch, share_of_order
from toolkit.training.training_data import TrainingData


class Run:
    """A trainer over tiny images, with everything that it told."""

    def __init__(
        self, state: State | None = None, on_step: Callable[[Step], None] | None = None, **changes: Any
    ) -> None:
        self.listening = Listening()
        self.setting: Setting = tiny_setting(tiny_recipe(**changes), self.listening)
        self.state = state or State()
        self.steps: list[Step] = []
        self.saved: list[State] = []
        self.stopper = Stopper()
        self._on_step = on_step
        self._data = TrainingData(self.setting)
        self.trainer = Trainer(self.setting, self._data, self.state, self._save, self.stopper, self._note)

    def finish(self) -> tuple[StageSummary, ...]:
        """Train on kept activations, and close them."""
        with self._data:
            return self.trainer.run()

    def _save(self) -> None:
        self.saved.append(copy.deepcopy(self.state))

    def _note(self, step: Step) -> None:
        self.steps.append(step)
        if self._on_step is not None:
            self._on_step(step)

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in self.setting.backbone.model.state_dict().items()}


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def without_seconds(state: State) -> list[Any]:
    return [replace(epoch, seconds=0.0) for epoch in state.history]


def test_both_stages_are_trained_and_the_loss_falls() -> None:
    run = Run(stage2__epochs=4)
    first, second = run.trainer.run()
    assert (first.stage, first.epochs, first.trained) == (1, 1, ("fc",))
    assert (second.stage, second.epochs, second.trained) == (2, 4, ("body", "fc"))
    assert first.trainable_parameters == 6 * 2 + 2
    assert [(epoch.stage, epoch.epoch) for epoch in run.state.history] == [(1, 1), (2, 1), (2, 2), (2, 3), (2, 4)]
    assert run.state.history[-1].train_loss < run.state.history[0].train_loss
    assert run.state.history[0].backbone_lr == 0.0
    assert run.state.history[-1].backbone_lr == 0.01
    assert run.state.best.accuracy == max(epoch.validation_accuracy for epoch in run.state.history)
    assert (run.state.stage, run.state.epoch, run.state.step) == (3, 1, 0)
    assert first.seconds > 0


def test_the_observer_is_told_of_every_step_and_the_history_adds_them_up() -> None:
    run = Run()
    run.trainer.run()
    assert [(step.stage, step.epoch, step.number) for step in run.steps] == [
        (stage, epoch, number) for stage, epoch in ((1, 1), (2, 1), (2, 2)) for number in range(1, 6)
    ]
    last = [step for step in run.steps if (step.stage, step.epoch) == (2, 2)]
    assert [step.images for step in last] == [4, 4, 4, 4, 2]
    assert run.state.history[-1].train_loss == pytest.approx(sum(step.loss * step.images for step in last) / 18)
    assert run.state.history[-1].train_accuracy == pytest.approx(sum(step.right for step in last) / 18)
    assert last[0].rates == (0.1, 0.01)


def test_frozen_weights_and_statistics_stay_as_they_were() -> None:
    run = Run()
    before = run.weights()
    run.trainer.run()
    after = run.weights()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.partition(".")[0] for name in changed} == {"body", "fc"}
    assert not [name for name in changed if "running" in name]


def test_a_checkpoint_after_every_epoch_and_one_at_the_end_of_a_stage() -> None:
    run = Run()
    run.trainer.run()
    assert [(saved.stage, saved.epoch, saved.step) for saved in run.saved] == [
        (1, 2, 0),
        (2, 1, 0),
        (2, 2, 0),
        (2, 3, 0),
        (3, 1, 0),
    ]
    assert run.saved[0].optimizer
    assert not run.saved[1].optimizer
    assert set(run.saved[-1].model) == {
        name
        for name in run.weights()
        if name.startswith(("body", "fc")) and not name.endswith(("mean", "var", "tracked"))
    }


CHANGES = {"augment__mixup": 0.4, "augment__shift": 0.2, "stage2__schedule": "cosine", "train__train_bn": True}


MEANS = {
    "moving average": {"train__ema": 0.8, **CHANGES},
    "mean of epochs": {"train__average_last": 2, "stage2__layer_decay": 0.5, **CHANGES},
    "patience and cutmix": {"train__patience": 1, "augment__cutmix": 1.0, "stage2__head_lr": 1e-9, **CHANGES},
}


@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("checkpoint", [2, 6, 8, 11, 13])
def test_with_any_means_it_goes_on_from_any_checkpoint(means: str, checkpoint: int) -> None:
    whole = Run(train__checkpoint_minutes=1e-9, **MEANS[means])
    whole.trainer.run()
    rest = Run(copy.deepcopy(whole.saved[checkpoint]), **MEANS[means])
    rest.trainer.run()
    assert same(rest.weights(), whole.weights())
    assert without_seconds(rest.state) == without_seconds(whole.state)
    assert rest.state.best.weights is not None
    assert whole.state.best.weights is not None
    assert same(rest.state.best.weights, whole.state.best.weights)


@pytest.mark.parametrize("checkpoint", range(1, 15))
def test_from_any_checkpoint_it_ends_as_if_it_had_not_been_interrupted(checkpoint: int) -> None:
    whole = Run(train__checkpoint_minutes=1e-9, **CHANGES)
    whole.trainer.run()
    assert len(whole.saved) == 3 * 5 + 3 + 2
    rest = Run(copy.deepcopy(whole.saved[checkpoint]), **CHANGES)
    rest.trainer.run()
    assert same(rest.weights(), whole.weights())
    assert without_seconds(rest.state) == without_seconds(whole.state)
    assert rest.state.best.weights is not None
    assert whole.state.best.weights is not None
    assert same(rest.state.best.weights, whole.state.best.weights)


def test_asked_to_stop_it_ends_after_the_step_and_has_saved_it() -> None:
    def stop(step: Step) -> None:
        run.stopper.requested = (step.stage, step.number) == (2, 3)

    run = Run(on_step=stop)
    with pytest.raises(StoppedError, match=r"stopped at stage 2, epoch 1, step 3, and saved\."):
        run.trainer.run()
    assert (run.saved[-1].stage, run.saved[-1].epoch, run.saved[-1].step) == (2, 1, 3)
    assert run.saved[-1].seen == 12
    rest, whole = Run(copy.deepcopy(run.saved[-1])), Run()
    for each in (rest, whole):
        each.trainer.run()
    assert same(rest.weights(), whole.weights())


def test_a_loss_that_is_not_finite_is_named_with_its_place_and_rates() -> None:
    run = Run(stage1__epochs=0, stage2__backbone_lr=1e38)
    with pytest.raises(
        TrainingError,
        match=r"the loss is (nan|inf) at stage 2, epoch 1, step \d \(learning rates 0\.1, 1e\+38\): training has "
        r"diverged\. Lower the rates, e\.g\. with --stage1-head-lr or --stage2-backbone-lr\.",
    ):
        run.trainer.run()
    assert not np.isfinite(run.steps[-1].loss)


def test_the_log_names_stage_and_epoch() -> None:
    run = Run()
    run.trainer.run()
    assert run.listening.bars == ["stage 1 epoch 1/1", "stage 2 epoch 1/2", "stage 2 epoch 2/2"]
    assert [line.partition(":")[0] for line in run.listening.lines] == run.listening.bars


def test_a_stage_that_has_ended_is_not_trained_again_but_summed_up() -> None:
    whole = Run()
    whole.trainer.run()
    again = Run(copy.deepcopy(whole.saved[-1]))
    summaries = again.trainer.run()
    assert [summary.trained for summary in summaries] == [("fc",), ("body", "fc")]
    assert again.steps == []
    assert same(again.weights(), whole.weights())


def test_a_last_batch_of_one_image_is_left_out_where_batch_norm_is_trained() -> None:
    setting = tiny_setting(tiny_recipe(train__batch_size=17, train__train_bn=True))
    assert len(order_of_epoch(setting, 1, 1).indices) == 17
    assert len(order_of_epoch(tiny_setting(tiny_recipe(train__batch_size=17)), 1, 1).indices) == 18
    one_image = Dataset("made", LABELS, {"train": tiny_split("train", 1)})
    with pytest.raises(RecipeError, match="--train-bn needs at least two images per step"):
        order_of_epoch(replace(setting, dataset=one_image), 1, 1)


def test_processes_share_every_batch() -> None:
    order = EpochOrder(np.array([2, 0, 5, 1, 4, 3], np.int64), 4, (0, 1, 1))
    shares = [share_of_order(order, Group(rank=rank, world=2)) for rank in range(2)]
    assert [(2 * share.indices + rank).tolist() for rank, share in enumerate(shares)] == [[2, 0, 4], [5, 1, 3]]
    assert {share.batch_size for share in shares} == {2}
    assert share_of_order(order, Group()) is order


def overlapping(name: str, counts: tuple[int, int], seed: int) -> Split:
    """Return darker and brighter pictures of one grey each, some of each class like the other."""
    targets = np.repeat(np.arange(2), counts)
    greys = np.random.default_rng(seed).normal(100 + 40 * targets, 30).clip(0, 255)
    images = np.broadcast_to(greys[:, None, None, None], (len(targets), SIZE, SIZE, 3)).astype(np.uint8)
    return split_of_arrays(name, images, targets, tuple(f"{name}/{index}" for index in range(len(targets))), LABELS)


def trained_on_imbalance(**changes: Any) -> Trainer:
    recipe = tiny_recipe(**{"stage1__epochs": 8, "stage2__epochs": 4, "train__batch_size": 10, **changes})
    splits = {"train": overlapping("train", (90, 10), 0), "validation": overlapping("validation", (60, 60), 1)}
    setting = replace(tiny_setting(recipe), dataset=Dataset("made", LABELS, splits))
    trainer = Trainer(setting, TrainingData(setting), State(), lambda: None, Stopper())
    trainer.run()
    return trainer


def recalls(trainer: Trainer) -> tuple[float, float]:
    split = trainer._setting.dataset.split("validation")
    with torch.inference_mode():
        said = trainer._data.image_batches().part.infer(torch.from_numpy(np.stack(split.sources))).argmax(1).numpy()
    first, second = (float((said[split.targets == target] == target).mean()) for target in (0, 1))
    return first, second


def test_balanced_weights_find_more_of_the_rare_class() -> None:
    plain, balanced = (recalls(trained_on_imbalance(train__class_weights=name)) for name in ("none", "balanced"))
    assert balanced[1] >= plain[1] + 0.3
    assert sum(balanced) > sum(plain)


def test_with_class_weights_epochs_are_compared_by_the_recall_of_all_classes() -> None:
    trainer = trained_on_imbalance(train__class_weights="balanced", train__keep="best")
    weights = np.array(trainer._setting.class_weights)
    assert weights.tolist() == [100 / 180, 5.0]
    splits = {**trainer._setting.dataset.splits, "validation": overlapping("validation", (90, 10), 1)}
    setting = replace(trainer._setting, dataset=Dataset("made", LABELS, splits))
    other = Trainer(setting, TrainingData(setting), State(), lambda: None, Stopper())
    setting.backbone.model.eval()
    with Silent().bar("", 1, "") as bar:
        _, accuracy, score = other._validate(other._data.image_batches(), bar)
    first, second = recalls(other)
    assert accuracy == pytest.approx((90 * first + 10 * second) / 100)
    assert score == pytest.approx((first + second) / 2)


def test_the_last_epoch_is_kept_where_there_are_few_validation_images() -> None:
    few, asked = Run(stage2__epochs=3), Run(stage2__epochs=3, train__keep="best")
    few.trainer.run()
    asked.trainer.run()
    assert (few.state.best.stage, few.state.best.epoch) == (2, 3)
    best = max(asked.state.history, key=lambda epoch: (epoch.validation_accuracy, -epoch.validation_loss))
    assert (asked.state.best.stage, asked.state.best.epoch) == (best.stage, best.epoch)


def kept_of(run: Run) -> dict[str, torch.Tensor]:
    assert run.state.best.weights is not None
    return run.state.best.weights


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
        loss, _, _ = run.trainer._validate(run.trainer._data.image_batches(), bar)
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


STILL = {"stage1__head_lr": 1e-30, "stage2__head_lr": 1e-30, "stage2__backbone_lr": 1e-30}
"""Rates at which nothing changes, so that no epoch is better than the first."""


def test_patience_ends_a_stage_that_gets_no_better() -> None:
    run = Run(stage1__epochs=5, stage2__epochs=6, train__patience=2, **STILL)
    first, second = run.trainer.run()
    assert (first.epochs, second.epochs) == (3, 3)
    assert [(epoch.stage, epoch.epoch) for epoch in run.state.history] == [
        (stage, epoch) for stage in (1, 2) for epoch in (1, 2, 3)
    ]
    assert (
        "stage 2 ends after epoch 3 of 6: the last 2 epochs have been no better on the validation images"
        in run.listening.lines
    )


def test_patience_lets_a_stage_that_gets_better_end_as_it_would() -> None:
    run = Run(stage2__epochs=4, train__patience=1, stage2__backbone_lr=0.001)
    _, second = run.trainer.run()
    losses = [epoch.validation_loss for epoch in run.state.history if epoch.stage == 2]
    assert losses == sorted(losses, reverse=True)
    assert second.epochs == 4
    assert not [line for line in run.listening.lines if "no better" in line]


def test_each_block_has_its_rate() -> None:
    run = Run(stage1__epochs=0, stage2__unfreeze=2, stage2__layer_decay=0.25)
    before = run.weights()
    run.trainer.run()
    assert run.steps[0].rates == (0.1, 0.01, 0.0025)
    assert run.state.history[0].backbone_lr == 0.01
    assert not torch.equal(run.weights()["stem.0.weight"], before["stem.0.weight"])


FEW = {"stage1__solver": "lbfgs", "cache__use": True, "augment__shift": 0.2, "cache__views": 2}
"""18 training images, whose head is solved, and 6 validation images, which cannot tell what stage 2 gains."""


def whatever_came_of_it(monkeypatch: pytest.MonkeyPatch, *, trained: bool) -> None:
    """Have the folds say that stage 2 is worth it, or that it is not."""

    def judged(without: Any, with_it: Any) -> SecondStageTrial:
        return few_images.judged(without, with_it).model_copy(update={"trained": trained})

    monkeypatch.setattr(trainer_module, "judged", judged)


@pytest.mark.usefixtures("in_torch", "own_cache")
def test_where_the_solved_head_is_enough_the_second_stage_is_left_out_and_that_is_said() -> None:
    run = Run(**FEW)
    before = run.weights()
    (summary,) = run.finish()
    assert (summary.stage, summary.epochs, summary.trained) == (1, 1, ("fc",))
    assert [(epoch.stage, epoch.epoch) for epoch in run.state.history] == [(1, 1)]
    assert run.state.history[0].validation_accuracy == 1.0
    assert (run.state.best.stage, run.state.best.epoch) == (1, 1)
    assert run.steps == []
    changed = {name for name, tensor in run.weights().items() if not torch.equal(tensor, before[name])}
    assert changed == {"fc.weight", "fc.bias"}
    head = run.state.solved_head
    assert head is not None
    assert head.second_stage is not None
    assert (head.accuracy, head.second_stage.without, head.second_stage.trained) == (1.0, 1.0, False)
    told = [line for line in run.listening.lines if "head" in line]
    assert told[0].startswith("9 training images a class: the head is solved as logistic regression (L2 penalty ")
    assert told[1].startswith("stage 2 does not improve the solved head and is left out: out of fold ")
    assert (run.state.stage, run.saved[-1].stage) == (3, 3)


@pytest.mark.usefixtures("in_torch", "own_cache")
def test_a_second_stage_that_proved_itself_is_trained_as_if_it_had_not_been_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whatever_came_of_it(monkeypatch, trained=True)
    run = Run(train__ema=0.5, **FEW)
    first, second = run.finish()
    assert (first.epochs, second.epochs) == (1, 2)
    assert any(line.startswith("stage 2 improves the solved head and goes on") for line in run.listening.lines)
    assert {step.stage for step in run.steps} == {2}
    monkeypatch.setattr(trainer_module, "cross_validates", lambda *_: False)
    untried = Run(train__ema=0.5, **FEW)
    untried.finish()
    assert not [line for line in untried.listening.lines if line.startswith("stage 2 improves")]
    assert same(run.weights(), untried.weights())
    assert same(kept_of(run), kept_of(untried))
    assert without_seconds(run.state) == without_seconds(untried.state)
    assert untried.state.solved_head is not None
    assert untried.state.solved_head.second_stage is None


@pytest.mark.usefixtures("in_torch", "own_cache")
def test_every_image_is_judged_once_by_a_network_that_did_not_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[tuple[set[int], set[int]]] = []
    solved: list[int] = []
    fold, solve = ActivationBatches.fold, LogisticRegression.solve

    def noted_fold(self: ActivationBatches, trained: Indices, held: Indices) -> ActivationBatches:
        parts.append((set(trained.tolist()), set(held.tolist())))
        return fold(self, trained, held)

    def noted_solve(self: LogisticRegression, l2: float, images: Any = None, start: Any = None) -> torch.Tensor:
        solved.append(18 if images is None else int(images.sum()))
        return solve(self, l2, images, start)

    monkeypatch.setattr(ActivationBatches, "fold", noted_fold)
    monkeypatch.setattr(LogisticRegression, "solve", noted_solve)
    Run(**FEW).finish()
    assert len(parts) == 5
    for trained, held in parts:
        assert trained | held == set(range(18))
        assert not trained & held
    assert sorted(image for _, held in parts for image in held) == list(range(18))
    # The last ones: the head of all images, then those of the folds.
    assert solved[-6:] == [18, *(len(trained) for trained, _ in parts)]


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.usefixtures("in_torch", "own_cache")
def test_a_run_of_few_images_goes_on_from_any_checkpoint(monkeypatch: pytest.MonkeyPatch, trained: bool) -> None:
    whatever_came_of_it(monkeypatch, trained=trained)
    whole = Run(train__checkpoint_minutes=1e-9, **FEW)
    summaries = whole.finish()
    # The head, what came of the folds, and either a checkpoint for every step and epoch or one for the end.
    assert len(whole.saved) == (1 + 1 + 2 * (5 + 1) + 1 if trained else 3)
    for saved in whole.saved:
        rest = Run(copy.deepcopy(saved), **FEW)
        assert [summary.stage for summary in rest.finish()] == [summary.stage for summary in summaries]
        assert same(rest.weights(), whole.weights())
        assert same(kept_of(rest), kept_of(whole))
        assert without_seconds(rest.state) == without_seconds(whole.state)
        assert rest.state.solved_head == whole.state.solved_head


@pytest.mark.usefixtures("in_torch", "own_cache")
def test_asked_to_stop_between_folds_it_tries_them_again_and_ends_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whatever_came_of_it(monkeypatch, trained=True)
    run = Run(**FEW)

    def stop() -> None:
        run.stopper.requested = True

    run.listening._at, run.listening._act = "stage 2 without one fold after the other", stop
    with pytest.raises(StoppedError, match=r"^stopped before stage 2, and saved\.$"):
        run.finish()
    assert [(saved.stage, saved.epoch, saved.step) for saved in run.saved] == [(2, 1, 0)]
    rest, whole = Run(copy.deepcopy(run.saved[-1]), **FEW), Run(**FEW)
    for each in (rest, whole):
        each.finish()
    assert same(rest.weights(), whole.weights())
    assert rest.state.solved_head == whole.state.solved_head


def test_without_kept_activations_the_head_is_solved_and_validation_watches_the_second_stage() -> None:
    run = Run(stage1__solver="lbfgs", cache__use=False)
    first, second = run.finish()
    assert (first.epochs, second.epochs) == (1, 2)
    assert run.state.solved_head is not None
    assert run.state.solved_head.second_stage is None
    assert (run.state.best.stage, run.state.best.epoch) == (2, 2)
