"""Few images: what folds say of the stages behind a solved head."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tiny_runs import STILL, Run, kept_of, same, without_seconds
from tiny_training import tiny_split

from toolkit.backbones.deployable import Deployable
from toolkit.progress import Bar
from toolkit.run_folder import SecondStageTrial
from toolkit.training import few_images
from toolkit.training import trainer as trainer_module
from toolkit.training.batch_sources import ActivationBatches, BatchSource, Indices
from toolkit.training.interruption import StoppedError
from toolkit.training.logistic_regression import LogisticRegression
from toolkit.training.trainer import Trainer
from toolkit.training.training_data import TrainingData

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
