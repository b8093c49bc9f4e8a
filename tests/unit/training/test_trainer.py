from __future__ import annotations

import copy
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from signals import send_to_self
from tiny_training import LABELS, SIZE, Listening, tiny_recipe, tiny_setting, tiny_split

from toolkit.backbones.deployable import Deployable
from toolkit.data import Dataset, Split
from toolkit.data.dataset import split_of_arrays
from toolkit.errors import FileWriteError, RecipeError, TrainingError
from toolkit.progress import Bar, Silent
from toolkit.run_folder import SecondStageTrial, StageSummary
from toolkit.training import best_weights, few_images
from toolkit.training import trainer as trainer_module
from toolkit.training.activations import extraction
from toolkit.training.activations.cache import CacheWriter
from toolkit.training.batch_sources import ActivationBatches, BatchSource, EpochOrder, Indices
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
        self.data = TrainingData(self.setting)
        self.trainer = Trainer(self.setting, self.data, self.state, self._save, self.stopper, self._note)

    def finish(self) -> tuple[StageSummary, ...]:
        """Train on kept activations, and close them."""
        with self.data:
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


def require_same_end(rest: Run, whole: Run) -> None:
    assert same(rest.weights(), whole.weights())
    assert without_seconds(rest.state) == without_seconds(whole.state)
    assert rest.state.best.weights is not None
    assert whole.state.best.weights is not None
    assert same(rest.state.best.weights, whole.state.best.weights)


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
    "stochastic depth and dropout": {"train__drop_path": 0.5, "train__dropout": 0.3, **CHANGES},
    "sharpness": {"train__sam_rho": 0.1, "train__dropout": 0.3, **CHANGES},
    "statistics": {"train__bn_reestimate": 2, "train__average_last": 2, **CHANGES},
    "a third stage": {"stage3__epochs": 1, "stage3__unfreeze": 2, "stage3__backbone_lr": 0.01, **CHANGES},
}


@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("checkpoint", [2, 6, 8, 11, 13])
def test_with_any_means_it_goes_on_from_any_checkpoint(means: str, checkpoint: int) -> None:
    whole = Run(train__checkpoint_minutes=1e-9, **MEANS[means])
    whole.trainer.run()
    rest = Run(copy.deepcopy(whole.saved[checkpoint]), **MEANS[means])
    rest.trainer.run()
    require_same_end(rest, whole)


@pytest.mark.parametrize("checkpoint", range(1, 15))
def test_from_any_checkpoint_it_ends_as_if_it_had_not_been_interrupted(checkpoint: int) -> None:
    whole = Run(train__checkpoint_minutes=1e-9, **CHANGES)
    whole.trainer.run()
    assert len(whole.saved) == 3 * 5 + 3 + 2
    rest = Run(copy.deepcopy(whole.saved[checkpoint]), **CHANGES)
    rest.trainer.run()
    require_same_end(rest, whole)


@pytest.mark.usefixtures("in_torch")
@pytest.mark.parametrize("ended", [False, True])
def test_what_is_kept_anew_when_a_run_goes_on_is_of_the_network_as_it_was(own_cache: Path, ended: bool) -> None:
    """Stage 1 takes as frozen what stage 2 has trained: other runs may begin with what is kept for it."""
    changes = {"cache__use": True, "train__train_bn": True, "train__bn_reestimate": 2}
    whole = Run(**changes)
    whole.finish()
    before = {path: path.read_bytes() for path in own_cache.rglob("*.bin")}
    for folder in own_cache.iterdir():
        shutil.rmtree(folder)
    state = next(saved for saved in whole.saved if (saved.stage, saved.epoch) == ((3, 1) if ended else (2, 2)))
    rest = Run(copy.deepcopy(state), **changes)
    rest.finish()
    require_same_end(rest, whole)
    assert len(before) == 4
    assert {path: path.read_bytes() for path in own_cache.rglob("*.bin")} == before


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


@pytest.mark.parametrize(
    ("changes", "place", "flags"),
    [
        (
            {"stage1__head_lr": 1e38, "train__batch_size": 1},
            r"stage 1, epoch 1, step \d+ \(learning rates 1e\+38\)",
            "--stage1-head-lr",
        ),
        (
            {"stage1__epochs": 0, "stage2__backbone_lr": 1e38},
            r"stage 2, epoch 1, step \d \(learning rates 0\.1, 1e\+38\)",
            "--stage2-head-lr or --stage2-backbone-lr",
        ),
    ],
)
def test_a_loss_that_is_not_finite_is_named_with_its_place_and_rates(
    changes: dict[str, Any], place: str, flags: str
) -> None:
    run = Run(**changes)
    refused = rf"the loss is (nan|inf) at {place}: training has diverged\. Lower the rates, e\.g\. with {flags}\.$"
    with pytest.raises(TrainingError, match=refused):
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


def test_so_is_a_last_batch_of_one_image_for_each_of_several_processes() -> None:
    two, three = Group(rank=1, world=2), Group(rank=1, world=3)
    setting = replace(tiny_setting(tiny_recipe(train__batch_size=4, train__train_bn=True)), group=two)
    order = order_of_epoch(setting, 1, 1)
    # 18 images, of which the last two would be one for each.
    assert len(order.indices) == 16
    assert np.bincount(order.indices % 2).tolist() == [8, 8]
    assert {len(images) for images in share_of_order(order, two).batches(0)} == {2}
    frozen = replace(setting, recipe=tiny_recipe(train__batch_size=4))
    assert len(order_of_epoch(frozen, 1, 1).indices) == 18
    six = replace(setting, recipe=tiny_recipe(train__batch_size=12, train__train_bn=True), group=three)
    assert len(order_of_epoch(six, 1, 1).indices) == 18


@pytest.mark.parametrize(("batch", "world", "of_each"), [(1, 1, ""), (2, 2, " of each process")])
def test_batches_of_one_image_each_are_refused_where_batch_norm_is_trained(
    batch: int, world: int, of_each: str
) -> None:
    recipe = tiny_recipe(train__batch_size=batch, train__train_bn=True)
    setting = replace(tiny_setting(recipe), group=Group(world=world))
    with pytest.raises(RecipeError, match=f"at least two images per step{of_each}: raise --batch-size, or leave"):
        order_of_epoch(setting, 1, 1)
    assert len(order_of_epoch(replace(setting, recipe=tiny_recipe(train__batch_size=batch)), 1, 1).indices) == 18


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
        said = trainer._data.image_batches(2).part.infer(torch.from_numpy(np.stack(split.sources))).argmax(1).numpy()
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
        _, accuracy, score = other._validate(other._data.image_batches(2), bar)
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

    def judged(*arguments: Any) -> SecondStageTrial:
        return few_images.judged(*arguments).model_copy(update={"trained": trained})

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
    assert told[1].startswith("the solved head is not improved by stage 2, so training ends with it: out of fold ")
    assert (run.state.stage, run.saved[-1].stage) == (3, 3)


@pytest.mark.usefixtures("in_torch", "own_cache")
def test_a_second_stage_that_proved_itself_is_trained_as_if_it_had_not_been_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whatever_came_of_it(monkeypatch, trained=True)
    run = Run(train__ema=0.5, **FEW)
    first, second = run.finish()
    assert (first.epochs, second.epochs) == (1, 2)
    assert any(line.startswith("the solved head is improved by stage 2: ") for line in run.listening.lines)
    assert {step.stage for step in run.steps} == {2}
    monkeypatch.setattr(TrainingData, "stages_to_try", lambda _: ())
    untried = Run(train__ema=0.5, **FEW)
    untried.finish()
    assert not [line for line in untried.listening.lines if line.startswith("the solved head is improved")]
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


THIRD = {
    "stage3__epochs": 2,
    "stage3__unfreeze": ["stem.1", "body"],
    "stage3__head_lr": 0.1,
    "stage3__backbone_lr": 0.01,
}
"""A third stage, which trains more."""
ALL_MEANS = {
    "augment__mixup": 0.4,
    "train__ema": 0.5,
    "train__sam_rho": 0.05,
    "train__drop_path": 0.3,
    "train__dropout": 0.3,
    "train__train_bn": True,
    "train__bn_reestimate": 2,
    "model__flip_test": True,
    "cache__refresh": 0.5,
}


@pytest.mark.parametrize("further", [{}, THIRD], ids=["two stages", "three stages"])
@pytest.mark.usefixtures("in_torch", "own_cache")
def test_folds_with_all_means_at_work_leave_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, further: dict[str, Any]
) -> None:
    whatever_came_of_it(monkeypatch, trained=True)
    run = Run(**FEW, **ALL_MEANS, **further)
    summaries = run.finish()
    last = len(summaries)
    assert [summary.stage for summary in summaries] == list(range(1, last + 1))
    # What is tried draws no new views.
    assert run.listening.bars.count("frozen part, new views") == 2
    monkeypatch.setattr(TrainingData, "stages_to_try", lambda _: ())
    untried = Run(**FEW, **ALL_MEANS, **further)
    untried.finish()
    assert [bar for bar in run.listening.bars if "fold" in bar] == [
        f"stage{'s' * (last > 2)} {' and '.join(map(str, range(2, last + 1)))} without one fold after the other"
    ]
    assert same(run.weights(), untried.weights())
    assert same(kept_of(run), kept_of(untried))
    assert without_seconds(run.state) == without_seconds(untried.state)


@pytest.mark.usefixtures("in_torch", "own_cache")
def test_in_folds_every_means_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[dict[str, torch.Tensor]] = []
    right_in_fold = Trainer._right_in_fold

    def noted(self: Trainer, *arguments: Any) -> Any:
        right = right_in_fold(self, *arguments)
        trained.append({name: tensor.clone() for name, tensor in self.variable().items()})
        return right

    monkeypatch.setattr(Trainer, "_right_in_fold", noted)
    # Each by itself gives other weights than nothing does, in the first fold. Draws of the network are in all of them.
    shared = {"train__drop_path": 1e-9, "train__train_bn": True, **FEW}
    first = []
    for changes in (
        {},
        {"augment__mixup": 0.4},
        {"train__ema": 0.5},
        {"train__average_last": 2},
        {"train__sam_rho": 0.05},
        {"train__drop_path": 0.3},
        {"train__dropout": 0.3},
        {"train__bn_reestimate": 2},
        THIRD,
    ):
        trained.clear()
        Run(**{**shared, **changes}).finish()
        first.append(trained[0]["body.1.running_mean"])
        assert len(trained) == 5
    assert not [each for number, each in enumerate(first) for other in first[:number] if torch.equal(each, other)]


@pytest.mark.usefixtures("in_torch", "own_cache")
def test_images_that_judge_do_not_end_an_epoch_by_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    epochs: list[int] = []
    run_epoch = Trainer._run_epoch

    def noted(self: Trainer, stage: Any) -> None:
        epochs.append(self.state.epoch)
        run_epoch(self, stage)

    monkeypatch.setattr(Trainer, "_run_epoch", noted)
    whatever_came_of_it(monkeypatch, trained=True)
    run = Run(**FEW, **{**STILL, "stage2__epochs": 4, "train__patience": 1})
    run.finish()
    assert epochs == [1, 2, 3, 4] * 5 + [1, 2]


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.usefixtures("in_torch", "own_cache")
def test_a_third_stage_is_judged_with_the_second_and_shares_its_fate(
    monkeypatch: pytest.MonkeyPatch, trained: bool
) -> None:
    whatever_came_of_it(monkeypatch, trained=trained)
    whole = Run(train__checkpoint_minutes=1e-9, **FEW, **THIRD)
    summaries = whole.finish()
    assert [summary.stage for summary in summaries] == ([1, 2, 3] if trained else [1])
    assert {step.stage for step in whole.steps} == ({2, 3} if trained else set())
    assert (whole.state.stage, whole.state.best.stage) == (4, 3 if trained else 1)
    (told,) = (line for line in whole.listening.lines if "improved" in line)
    assert told.startswith(f"the solved head is {'' if trained else 'not '}improved by stages 2 and 3")
    for saved in whole.saved:
        rest = Run(copy.deepcopy(saved), **FEW, **THIRD)
        assert [summary.stage for summary in rest.finish()] == [summary.stage for summary in summaries]
        assert same(rest.weights(), whole.weights())
        assert same(kept_of(rest), kept_of(whole))
        assert rest.state.solved_head == whole.state.solved_head


@pytest.mark.usefixtures("in_torch", "own_cache")
def test_a_fold_is_judged_behind_its_last_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    predicted: list[npt.NDArray[np.float32]] = []
    judging: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = []
    predict, right_in_fold = Trainer.predict, Trainer._right_in_fold

    def noted(self: Trainer, batches: BatchSource, bar: Bar) -> npt.NDArray[np.float32]:
        predicted.append(predict(self, batches, bar))
        return predicted[-1]

    def compared(self: Trainer, sources: Any, trained: Indices, held: Indices) -> Any:
        right = right_in_fold(self, sources, trained, held)
        images = self._setting.dataset.split("train").load(held, self._setting.preprocessing)
        whole = Deployable(self._setting.backbone.model.eval(), self._setting.backbone.normalization)
        with torch.inference_mode():
            judging.append((predicted[-1], whole(torch.from_numpy(images))[0].numpy()))
        return right

    monkeypatch.setattr(Trainer, "predict", noted)
    monkeypatch.setattr(Trainer, "_right_in_fold", compared)
    # A rate at which the third stage changes what the second one took as frozen by more than rounding.
    Run(**FEW, **{**THIRD, "stage3__backbone_lr": 3.0}).finish()
    assert len(judging) == 5
    for ours, theirs in judging:
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("in_torch", "own_cache")
def test_folds_are_judged_with_the_weights_of_the_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def noted(*arguments: Any) -> SecondStageTrial:
        given.append(arguments[2])
        return few_images.judged(*arguments)

    monkeypatch.setattr(trainer_module, "judged", noted)
    run = Run(**FEW, train__class_weights="balanced")
    train = run.setting.dataset.split("train")
    train.targets[1:11:2] = 0
    run.finish()
    assert np.bincount(train.targets).tolist() == [14, 4]
    np.testing.assert_allclose(given[0], np.array([18 / 28, 18 / 8])[train.targets])
    assert any("with all classes counting alike" in line for line in run.listening.lines)


@pytest.mark.parametrize(
    "last", [{}, {"stage2__epochs": 1, "train__batch_size": 32}], ids=["early", "in the last step"]
)
@pytest.mark.usefixtures("in_torch", "own_cache")
def test_what_diverges_in_folds_is_left_out(last: dict[str, int]) -> None:
    run = Run(**FEW, stage2__head_lr=1e38, stage2__backbone_lr=1e38, **last)
    assert [summary.stage for summary in run.finish()] == [1]
    assert run.state.solved_head is not None
    trial = run.state.solved_head.second_stage
    assert trial is not None
    assert (trial.with_it, trial.without) == (0.0, 1.0)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in run.weights().values())


@pytest.mark.usefixtures("in_torch", "own_cache")
def test_batch_norm_that_folds_of_two_images_cannot_train_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiny_training.tiny_split", lambda name, count: tiny_split(name, min(count, 2)))
    run = Run(**FEW, train__train_bn=True)
    assert [summary.stage for summary in run.finish()] == [1]
    assert run.state.solved_head is not None
    assert (run.state.solved_head.images, run.state.solved_head.folds) == (2, 0)


@pytest.mark.usefixtures("in_torch", "own_cache")
def test_stages_that_no_one_pass_serves_are_not_tried() -> None:
    run = Run(**FEW, stage3__epochs=1, stage3__unfreeze=["stem.1"])
    assert [summary.stage for summary in run.finish()] == [1, 2, 3]
    assert run.state.solved_head is not None
    assert run.state.solved_head.second_stage is None


@pytest.mark.usefixtures("in_torch", "own_cache")
def test_a_third_stage_alone_behind_the_solved_head_is_tried() -> None:
    run = Run(**FEW, **THIRD, stage2__epochs=0)
    assert [summary.stage for summary in run.finish()] == [1]
    (told,) = (line for line in run.listening.lines if "improved" in line)
    assert told.startswith("the solved head is not improved by stage 3, so training ends with it: ")


@pytest.mark.usefixtures("in_torch", "own_cache")
def test_where_all_behind_the_head_is_left_out_no_statistics_are_estimated() -> None:
    run = Run(**FEW, train__train_bn=True, train__bn_reestimate=2)
    run.finish()
    assert run.listening.lines[-1] == (
        "stage 1, whose weights are kept, trains no BatchNorm layer: there are no statistics to estimate anew"
    )


def test_stochastic_depth_and_dropout_are_not_in_what_a_head_is_solved_on() -> None:
    weights = []
    for rate in (1e-9, 0.5):
        run = Run(stage1__solver="lbfgs", train__drop_path=rate, train__dropout=rate)
        run.trainer.run()
        weights.append((run.saved[0].model, run.weights()))
    (solved, trained), (also_solved, otherwise_trained) = weights
    assert same(solved, also_solved)
    assert not same(trained, otherwise_trained)


def test_without_kept_activations_the_head_is_solved_and_validation_watches_the_second_stage() -> None:
    run = Run(stage1__solver="lbfgs", cache__use=False)
    first, second = run.finish()
    assert (first.epochs, second.epochs) == (1, 2)
    assert run.state.solved_head is not None
    assert run.state.solved_head.second_stage is None
    assert (run.state.best.stage, run.state.best.epoch) == (2, 2)


def test_what_is_left_out_at_random_is_there_when_it_is_looked_at() -> None:
    plain, run = (Run(stage2__epochs=1, train__drop_path=rate, train__dropout=rate, **STILL) for rate in (1e-9, 0.6))
    for each in (plain, run):
        each.trainer.run()
    # No weight moves, so that only what is left out can differ.
    assert run.steps[-1].loss != plain.steps[-1].loss
    assert [epoch.validation_loss for epoch in run.state.history] == [
        epoch.validation_loss for epoch in plain.state.history
    ]


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


@pytest.mark.usefixtures("in_torch", "own_cache")
@pytest.mark.parametrize("cache", [True, False])
def test_a_third_stage_cuts_deeper_in_the_last_epochs(cache: bool) -> None:
    # With all blocks trained nothing is frozen, so the third stage takes a part of the first one.
    run = Run(cache__use=cache, stage3__epochs=2, stage3__unfreeze=["stem.1", "body"], stage3__schedule="cosine")
    before = run.weights()
    stages = run.trainer.run()
    run.trainer._data.close()
    assert [(stage.stage, stage.epochs, stage.trained) for stage in stages] == [
        (1, 1, ("fc",)),
        (2, 2, ("body", "fc")),
        (3, 2, ("stem.1", "body", "fc")),
    ]
    assert (run.state.stage, run.state.best.stage) == (4, 3)
    after = run.weights()
    assert torch.equal(before["stem.0.weight"], after["stem.0.weight"])
    assert not torch.equal(before["stem.1.weight"], after["stem.1.weight"])
    assert [saved.model["stem.1.weight"].tolist() for saved in run.saved if saved.stage < 3] == [
        before["stem.1.weight"].tolist()
    ] * 4


REFRESHED = {
    "cache__use": True,
    "cache__views": 2,
    "cache__refresh": 0.5,
    "augment__flip": True,
    "augment__shift": 0.3,
    "augment__crop": 0.4,
    "augment__erase": 0.5,
}


def refreshed(state: State | None = None, **changes: Any) -> Run:
    """Train with new views in each epoch of the last stage."""
    run = Run(state, **{**REFRESHED, **changes})
    with run.data:
        run.trainer.run()
    return run


@pytest.mark.usefixtures("in_torch", "own_cache")
class TestNewViews:
    def test_of_all_images_they_are_what_training_without_a_cache_sees(self) -> None:
        ours = refreshed(cache__refresh=1.0, stage1__epochs=0)
        kept = refreshed(cache__refresh=0.0, stage1__epochs=0)
        without = refreshed(cache__use=False, cache__refresh=0.0, stage1__epochs=0)
        losses = [[step.loss for step in run.steps] for run in (ours, without, kept)]
        assert len(losses[0]) == 2 * 5
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
        assert losses[0] != pytest.approx(losses[2], rel=1e-2)

    def test_they_are_made_before_each_epoch_of_the_last_stage_and_gone_at_the_end(self, own_cache: Path) -> None:
        run = refreshed()
        assert [bar for bar in run.listening.bars if "epoch" in bar or "new" in bar] == [
            "stage 1 epoch 1/1",
            "frozen part, new views",
            "stage 2 epoch 1/2",
            "frozen part, new views",
            "stage 2 epoch 2/2",
        ]
        assert [folder.name.endswith(".part") for folder in own_cache.iterdir()] == [False, False]
        alone = refreshed(stage2__epochs=0, stage1__epochs=2)
        assert alone.listening.bars.count("frozen part, new views") == 2

    def test_the_last_stage_may_be_the_third(self) -> None:
        deeper = {"stage3__epochs": 2, "stage3__unfreeze": ["stem.1", "body"], "train__drop_path": 0.3}
        whole = refreshed(**deeper, train__checkpoint_minutes=1e-9)
        assert [bar for bar in whole.listening.bars if "epoch" in bar or "new" in bar][-4:] == [
            "frozen part, new views",
            "stage 3 epoch 1/2",
            "frozen part, new views",
            "stage 3 epoch 2/2",
        ]
        assert whole.listening.bars.count("frozen part, new views") == 2
        middle = next(state for state in whole.saved if (state.stage, state.epoch, state.step) == (3, 2, 3))
        require_same_end(refreshed(copy.deepcopy(middle), **deeper, train__checkpoint_minutes=1e-9), whole)

    def test_the_views_that_are_kept_are_those_of_a_run_without(self, own_cache: Path) -> None:
        refreshed()
        before = {path: path.stat().st_mtime_ns for path in own_cache.rglob("*.bin")}
        refreshed(cache__refresh=0.0)
        assert {path: path.stat().st_mtime_ns for path in own_cache.rglob("*.bin")} == before

    @pytest.mark.parametrize("checkpoint", range(1, 15, 2))
    def test_from_any_checkpoint_it_ends_as_if_it_had_not_been_interrupted(self, checkpoint: int) -> None:
        changes = {"train__checkpoint_minutes": 1e-9, "augment__mixup": 0.4}
        whole = refreshed(**changes)
        rest = refreshed(copy.deepcopy(whole.saved[checkpoint]), **changes)
        require_same_end(rest, whole)

    def test_where_there_is_no_room_for_them_it_goes_on_with_those_that_are_kept_and_says_so_once(
        self, own_cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []

        def free(folder: Path) -> int:
            asked.append(1)
            # Training images, validation images and the first new views fit.
            return extraction.SPARE_BYTES + (10**9 if len(asked) <= 3 else 0)

        with monkeypatch.context() as patch:
            patch.setattr(extraction, "free_bytes", free)
            run = refreshed(stage2__epochs=4, train__checkpoint_minutes=1e-9)
        said = [line for line in run.listening.lines if "new views" in line]
        assert len(said) == 1
        assert said[0].startswith(
            "training goes on without new views, on those that are kept: the activations of new views need 0.0 GB, and "
        )
        assert run.listening.bars.count("frozen part, new views") == 1
        assert run.state.fixed_views
        # A run that goes on stays with them, although there is room again.
        fallen_back = next(state for state in run.saved if state.fixed_views)
        assert (fallen_back.stage, fallen_back.epoch, fallen_back.step) == (2, 2, 1)
        rest = refreshed(copy.deepcopy(fallen_back), stage2__epochs=4)
        assert "frozen part, new views" not in rest.listening.bars
        assert same(rest.weights(), run.weights())

    def test_a_disk_that_fills_up_meanwhile_is_no_end_either(
        self, own_cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        append = CacheWriter.append

        def full(writer: CacheWriter, tensors: Any) -> None:
            append(writer, tensors)
            if writer._key.rows == 9:
                raise FileWriteError("cannot write activations: No space left on device.")

        with monkeypatch.context() as patch:
            patch.setattr(CacheWriter, "append", full)
            run = refreshed()
        assert [line for line in run.listening.lines if "new views" in line] == [
            "training goes on without new views, on those that are kept: cannot write activations: No space left on "
            "device."
        ]
        assert [folder.name.endswith(".part") for folder in own_cache.iterdir()] == [False, False]
        assert same(run.weights(), refreshed(cache__refresh=0.0).weights())

    def test_asked_to_stop_while_they_are_made_it_stops_at_once(self, own_cache: Path) -> None:
        run = Run(**REFRESHED)
        run.listening._at = "frozen part, new views"
        run.listening._act = lambda: send_to_self(signal.SIGTERM)
        with run.data, pytest.raises(KeyboardInterrupt):
            run.trainer.run()
        assert (run.saved[-1].stage, run.saved[-1].epoch, run.saved[-1].step) == (2, 1, 0)
        assert {step.stage for step in run.steps} == {1}
        assert [folder.name.endswith(".part") for folder in own_cache.iterdir()] == [False, False]
        assert same(refreshed(copy.deepcopy(run.saved[-1])).weights(), refreshed().weights())

    def test_on_images_every_view_is_new_anyway(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(extraction, "free_bytes", lambda folder: 0)
        run = refreshed()
        assert "frozen part, new views" not in run.listening.bars
        assert same(run.weights(), refreshed(cache__use=False, cache__refresh=0.0).weights())


@pytest.mark.parametrize(("accuracies", "kept"), [((0.5, 0.9, 0.7), (2, 2)), ((0.8, 0.9, 0.7), (1, 1))])
def test_enough_validation_images_choose_between_the_ends_of_stages(
    monkeypatch: pytest.MonkeyPatch, accuracies: tuple[float, ...], kept: tuple[int, int]
) -> None:
    monkeypatch.setattr(best_weights, "ENOUGH_IMAGES", 6)
    said = iter(accuracies)

    def validate(self: Trainer, batches: BatchSource, bar: Bar) -> tuple[float, float, float]:
        accuracy = next(said)
        return 1.0, accuracy, accuracy

    monkeypatch.setattr(Trainer, "_validate", validate)
    run = Run(stage1__schedule="cosine", stage2__schedule="one_cycle")
    run.finish()
    assert (run.state.best.stage, run.state.best.epoch) == kept
