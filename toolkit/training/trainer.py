"""The training loop: epochs of one stage, validation after each, the best weights kept, a checkpoint often enough."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from toolkit.backbones import TrainableParts, apply_modes, set_trainable
from toolkit.compare.metrics import loss_and_accuracy
from toolkit.errors import RecipeError, TrainingError
from toolkit.progress import Bar, Silent
from toolkit.recipe import StageRecipe
from toolkit.run_folder import SecondStageTrial, StageSummary
from toolkit.training.averaging import first_averaged
from toolkit.training.batch_norm import estimating, trained_layers
from toolkit.training.batch_sources import ActivationBatches, BatchSource, EpochOrder, Indices
from toolkit.training.best_weights import which_to_keep
from toolkit.training.checkpoint import State
from toolkit.training.few_images import (
    Right,
    folds_of,
    judged,
    solved_line,
    stages_in_words,
    trial_line,
)
from toolkit.training.group import Group, epoch_order
from toolkit.training.history import Epoch
from toolkit.training.interruption import StoppedError, Stopper
from toolkit.training.meter import Meter, Step, StepObserver
from toolkit.training.optim import make_scheduler
from toolkit.training.precision import Precision
from toolkit.training.setting import Setting
from toolkit.training.solved_head import problem_of, put_head, solve_head
from toolkit.training.step import Learner, make_learner, training_step
from toolkit.training.training_data import FoldData, TrainingData, chosen_of
from toolkit.training.variable import variable_tensors


@dataclass(frozen=True)
class _Stage:
    """A stage while it trains."""

    number: int
    epochs: int
    is_last: bool
    parts: TrainableParts
    batches: BatchSource
    learner: Learner
    scheduler: torch.optim.lr_scheduler.LRScheduler

    @property
    def rates(self) -> tuple[float, ...]:
        """Learning rates of the next step: of the head and, where blocks are unfrozen, of these."""
        return tuple(group["lr"] for group in self.learner.optimizer.param_groups)


class Trainer:
    """All stages over one backbone.

    Attributes:
        state: where the run is.
    """

    def __init__(
        self,
        setting: Setting,
        data: TrainingData | FoldData,
        state: State,
        save: Callable[[], None],
        stopper: Stopper,
        on_step: StepObserver | None = None,
    ) -> None:
        """Prepare.

        Args:
            setting: the run; the state's weights are loaded into its backbone if there are any.
            data: what each stage trains on.
            state: where to start.
            save: writes ``state`` as a checkpoint and the history.
            stopper: asked between steps.
            on_step: told of every step of this process.
        """
        self.state = state
        self._setting = setting
        self._data = data
        self._save = save
        self._stopper = stopper
        self._on_step = on_step
        self._variable = variable_tensors(setting.recipe, setting.backbone)
        self._kept = which_to_keep(setting.recipe, len(setting.dataset.split("validation")))
        self._saved_at = time.monotonic()
        setting.depthwise.load(state.depthwise)
        if state.model:
            self._keep_before_loading()
            self.load(state.model)

    def _keep_before_loading(self) -> None:
        """Compute or open what all stages train on, while the weights are those of before training.

        Where PyTorch computes it, the frozen part of an earlier stage has weights that a later one trains, and what is
        kept is found by other runs.
        """
        data, recipe, stages = self._data, self._setting.recipe, [number for number, _ in self._setting.recipe.stages]
        needed = self.state.stage <= stages[-1] or recipe.train.bn_reestimate > 0
        if needed and isinstance(data, TrainingData) and data.serves(stages):
            data.keep()

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Put back what training may change."""
        self._setting.backbone.model.load_state_dict(weights, strict=False)

    def variable(self) -> dict[str, torch.Tensor]:
        """Return what training may change, by name."""
        everything = self._setting.backbone.model.state_dict()
        return {name: everything[name] for name in self._variable}

    def run(self) -> tuple[StageSummary, ...]:
        """Train every stage of the recipe, from where the state says; what is left out is not among them.

        Raises:
            TrainingError: the loss is not finite.
            BackboneError: a block to unfreeze does not exist.
            StoppedError: the run was asked to stop; the state is saved.
        """
        summaries = [self._run_stage(number, stage) for number, stage in self._setting.recipe.stages]
        if self._setting.recipe.train.bn_reestimate > 0 and self.state.best.weights is not None:
            self._estimate_statistics(self.state.best.weights)
        return tuple(summary for summary in summaries if summary is not None)

    def _estimate_statistics(self, weights: dict[str, torch.Tensor]) -> None:
        """Estimate the statistics of BatchNorm layers anew with the weights that were kept, and keep them instead.

        A run that is killed meanwhile does it again from the same weights: no checkpoint holds what comes of it.
        """
        setting, best = self._setting, self.state.best
        self.load(weights)
        batches = self._data.batches(best.stage)
        self._set_trainable(dict(setting.recipe.stages)[best.stage])
        layers = trained_layers(setting.backbone.model)
        setting.backbone.model.eval()
        if not layers:
            setting.reporter.line(
                f"stage {best.stage}, whose weights are kept, trains no BatchNorm layer: there are no statistics to "
                "estimate anew"
            )
            return
        order = share_of_order(_some_batches(setting, best.stage), setting.group)
        images = len(order.indices) + len(self._data.validation)
        with setting.reporter.bar("BatchNorm statistics", images, "img") as bar:
            with torch.no_grad(), estimating(layers, setting.group):
                for tensors in batches.view(0, order):
                    bar.advance(len(batches.part.infer(*tensors)))
            loss, accuracy, score = self._validate(batches, bar)
        setting.reporter.line(
            f"BatchNorm statistics estimated anew on {order.steps} batches: validation loss {loss:.4f} instead of "
            f"{best.loss:.4f}, accuracy {accuracy:.2%} instead of {best.accuracy:.2%}"
        )
        best.keep(self.variable(), accuracy, loss, score)

    def _run_stage(self, number: int, stage: StageRecipe) -> StageSummary | None:
        self.state.stage = max(self.state.stage, number)
        if self.state.stage == number:
            # Before the modes are set: dividing the network changes them.
            batches = self._data.batches(number)
            if number == 1 and self._setting.recipe.stage1.solver == "lbfgs":
                self._solve_head(batches)
            elif self._is_worth_it(number):
                self._train(self._begin(number, stage, batches))
            else:
                self.state.end_stage()
                self._checkpoint(None)
        if self._is_left_out(number):
            return None
        parts = self._set_trainable(stage)
        return StageSummary(
            stage=number,
            epochs=sum(epoch.stage == number for epoch in self.state.history),
            trained=parts.names,
            trainable_parameters=sum(parameter.numel() for parameter in [*parts.head, *parts.backbone]),
            seconds=self.state.stage_seconds.get(number, 0.0),
        )

    def _solve_head(self, batches: BatchSource) -> None:
        """Do in place of the first stage what needs no steps; it counts as one epoch."""
        setting, state, started = self._setting, self.state, time.perf_counter()
        with setting.reporter.bar("stage 1: solving the head", len(self._data.validation), "img") as bar:
            solved = solve_head(setting, batches)
            put_head(setting.backbone, solved.weights, solved.bias)
            setting.backbone.model.eval()
            validation_loss, validation_accuracy, score = self._validate(batches, bar)
        done = Epoch(
            stage=1,
            epoch=1,
            train_loss=solved.loss,
            train_accuracy=solved.right / solved.record.images,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            head_lr=0.0,
            backbone_lr=0.0,
            seconds=time.perf_counter() - started,
        )
        state.head = solved.record.model_dump()
        state.best.offer(done, self.variable(), self._kept, score, ends_stage=True)
        state.end_epoch(done)
        state.end_stage()
        self._checkpoint(None)
        setting.reporter.line(solved_line(solved.record, len(setting.dataset.labels)))
        setting.reporter.line(
            f"stage 1: train loss {done.train_loss:.4f}, accuracy {done.train_accuracy:.2%}; validation loss "
            f"{validation_loss:.4f}, accuracy {validation_accuracy:.2%}; {done.seconds:.1f} s"
        )

    def _is_left_out(self, number: int) -> bool:
        head = self.state.solved_head
        return number > 1 and head is not None and head.second_stage is not None and not head.second_stage.trained

    def _is_worth_it(self, number: int) -> bool:
        """Tell whether a stage is to be trained; all that comes behind a solved head has to prove it where it can."""
        setting, state, head = self._setting, self.state, self.state.solved_head
        if head is not None and head.second_stage is None and (state.epoch, state.step) == (1, 0):
            sources = self._sources_to_try()
            folds = folds_of(setting.dataset.split("train"), setting.recipe.seed)
            if folds is not None and min(sources, default=None) == number:
                trial = self._try_stages(head.l2, folds, sources)
                state.head = head.model_copy(update={"second_stage": trial}).model_dump()
                self._checkpoint(None)
                weighted = setting.class_weights is not None
                setting.reporter.line(trial_line(trial, tuple(sources), weighted=weighted))
        return not self._is_left_out(number)

    def _sources_to_try(self) -> dict[int, ActivationBatches]:
        """Return what the stages behind a solved head train on, by number; nothing where they cannot be tried."""
        sources = ((number, self._data.batches(number)) for number in self._data.stages_to_try())
        return {number: batches for number, batches in sources if isinstance(batches, ActivationBatches)}

    def _try_stages(
        self, l2: float, folds: npt.NDArray[np.int64], sources: Mapping[int, ActivationBatches]
    ) -> SecondStageTrial:
        """Train stages without one fold of the training images after the other; weights are put back."""
        backbone, images = self._setting.backbone, len(folds)
        before = {name: tensor.clone() for name, tensor in self.variable().items()}
        problem = problem_of(self._setting, sources[min(sources)])
        without, with_it = np.zeros(images, np.bool_), np.zeros(images, np.bool_)
        title = f"{stages_in_words(tuple(sources))} without one fold after the other"
        with self._setting.reporter.bar(title, images, "img") as bar:
            for inside in (folds == fold for fold in np.unique(folds)):
                self.load(before)
                solution = problem.solve(l2, ~inside)
                without[inside] = problem.right(solution, inside)
                put_head(backbone, *problem.head(solution))
                with_it[inside] = self._right_in_fold(sources, np.flatnonzero(~inside), np.flatnonzero(inside))
                bar.advance(int(inside.sum()))
        self.load(before)
        return judged(without, with_it, self._weights_of(self._setting.dataset.split("train").targets))

    def _right_in_fold(self, sources: Mapping[int, ActivationBatches], trained: Indices, held: Indices) -> Right:
        """Train stages on some training images; return which of others are right, bool ``[n]``."""
        setting, train = self._setting, self._setting.dataset.split("train")
        splits = {"train": chosen_of(train, trained, "fold"), "validation": chosen_of(train, held, "fold")}
        fold = replace(
            setting,
            # The images that judge must not choose the epoch.
            recipe=setting.recipe.adapted({"train.keep": "last", "train.patience": 0}),
            dataset=replace(setting.dataset, splits=splits),
            precision=Precision(setting.precision.name, setting.device),
            reporter=Silent(),
        )
        data = FoldData(
            splits["validation"], {number: batches.fold(trained, held) for number, batches in sources.items()}
        )
        trainer = Trainer(fold, data, State(stage=min(sources)), lambda: None, self._stopper)
        try:
            trainer.run()
        except StoppedError as stopped:
            raise StoppedError(f"stopped before stage {min(sources)}, and saved.") from stopped
        except (RecipeError, TrainingError):
            # What diverges on most of the images is no improvement, and no reason to end a run that has a good head.
            # Nor is BatchNorm that a fold of two images leaves one to train on.
            return np.zeros(len(held), np.bool_)
        if trainer.state.best.weights is not None:
            trainer.load(trainer.state.best.weights)
        setting.backbone.model.eval()
        with Silent().bar("", len(held), "img") as bar:
            logits = trainer.predict(data.batches(max(sources)), bar)
        # What diverged in the last step was not noticed by the loss before it.
        right: Right = np.isfinite(logits).all(axis=1) & (logits.argmax(axis=1) == splits["validation"].targets)
        return right

    def _set_trainable(self, stage: StageRecipe) -> TrainableParts:
        return set_trainable(self._setting.backbone, stage.unfreeze, train_bn=self._setting.recipe.train.train_bn)

    def _begin(self, number: int, stage: StageRecipe, batches: BatchSource) -> _Stage:
        """Make optimiser and schedule, and put back what a checkpoint kept of them."""
        setting, state = self._setting, self.state
        parts = self._set_trainable(stage)
        learner = make_learner(setting, stage, parts, setting.group.share(batches.part.train))
        steps = order_of_epoch(setting, number, 1).steps * stage.epochs
        scheduler = make_scheduler(learner.optimizer, stage.schedule, steps)
        if state.optimizer:
            learner.optimizer.load_state_dict(state.optimizer)
            scheduler.load_state_dict(state.scheduler)
            setting.precision.load(state.scaler)
        if learner.average is not None:
            learner.average.load(state.average, state.averaged)
        last, _ = setting.recipe.stages[-1]
        return _Stage(number, stage.epochs, number == last, parts, batches, learner, scheduler)

    def _train(self, stage: _Stage) -> None:
        with self._stopper.listening():
            while self.state.epoch <= stage.epochs and not self._has_waited_enough(stage):
                self._run_epoch(stage)
            self.state.end_stage()
            self._checkpoint(None)

    def _has_waited_enough(self, stage: _Stage) -> bool:
        """Tell whether patience ends the stage before its last epoch, and say so."""
        patience = self._setting.recipe.train.patience
        if not patience or self.state.waited < patience:
            return False
        better = "epochs have" if patience > 1 else "epoch has"
        self._setting.reporter.line(
            f"stage {stage.number} ends after epoch {self.state.epoch - 1} of {stage.epochs}: the last {patience} "
            f"{better} been no better on the validation images"
        )
        return True

    def _run_epoch(self, stage: _Stage) -> None:
        state, before, started = self.state, self.state.epoch_seconds, time.perf_counter()
        local = share_of_order(order_of_epoch(self._setting, stage.number, state.epoch), self._setting.group)
        stage = replace(stage, batches=self._drawn_anew(stage, local))
        title = f"stage {stage.number} epoch {state.epoch}/{stage.epochs}"
        images = len(local.indices) + len(self._data.validation)
        with self._setting.reporter.bar(title, images, "img") as bar:
            bar.advance(state.seen)
            apply_modes(self._setting.backbone, stage.parts)
            self._train_epoch(stage, local, bar, lambda: before + time.perf_counter() - started)
            self._setting.backbone.model.eval()
            # A checkpoint has those of the first process, and a run that goes on must look at what this one looks at.
            self._setting.group.follow_first(stage.learner.statistics)
            with self._averaged(stage):
                self._setting.group.follow_first(stage.learner.statistics)
                validation_loss, validation_accuracy, score = self._validate(stage.batches, bar)
                loss_sum, right, seen = self._setting.group.sum([state.loss_sum, state.right, state.seen])
                # A checkpoint of an earlier version does not have them.
                rates = state.rates or stage.rates
                done = Epoch(
                    stage=stage.number,
                    epoch=state.epoch,
                    train_loss=loss_sum / seen,
                    train_accuracy=right / seen,
                    validation_loss=validation_loss,
                    validation_accuracy=validation_accuracy,
                    head_lr=rates[0],
                    backbone_lr=rates[1] if len(rates) > 1 else 0.0,
                    seconds=before + time.perf_counter() - started,
                )
                ends = state.epoch == stage.epochs
                state.best.offer(done, self.variable(), self._kept, score, ends_stage=ends)
        state.wait_for_better(score, validation_loss)
        state.end_epoch(done)
        self._checkpoint(stage)
        self._setting.reporter.line(
            f"{title}: train loss {done.train_loss:.4f}, accuracy {done.train_accuracy:.2%}; "
            f"validation loss {validation_loss:.4f}, accuracy {validation_accuracy:.2%}; {done.seconds:.1f} s, "
            f"{seen / done.seconds:.0f} img/s"
        )
        self._stop_if_asked()

    def _drawn_anew(self, stage: _Stage, order: EpochOrder) -> BatchSource:
        """Return the batches of an epoch: of the last stage with new views, if the recipe wants them.

        Once there was no room for them the run stays with the views that are kept, also when it goes on later.
        """
        batches, state = stage.batches, self.state
        wanted = self._setting.recipe.cache.refresh > 0 and stage.is_last and not state.fixed_views
        if not wanted or not isinstance(batches, ActivationBatches) or state.step == order.steps:
            return batches
        # Nothing was done since the last checkpoint: whoever asks to stop need not wait.
        with self._stopper.acting_at_once():
            drawn = self._data.draw_anew(batches, order.seed)
        state.fixed_views = drawn is None
        return drawn or batches

    def _averaged(self, stage: _Stage) -> contextlib.AbstractContextManager[None]:
        """Return the context in which the average of the weights, if one is kept, is in their place."""
        average = stage.learner.average
        if average is None:
            return contextlib.nullcontext()
        first = first_averaged(self._setting.recipe.train, stage.epochs)
        if first is not None and stage.is_last and self.state.epoch >= first:
            average.add()
        return average.in_place()

    def _train_epoch(self, stage: _Stage, order: EpochOrder, bar: Bar, elapsed: Callable[[], float]) -> None:
        """Make the steps that are left of an epoch."""
        state, setting = self.state, self._setting
        meter = Meter(setting.precision.device)
        batches = stage.batches.training(order, state.step)
        with contextlib.closing(batches):  # type: ignore[type-var]  # sources are generators
            for tensors, targets, taught in batches:
                state.rates = stage.rates
                entropy = [setting.recipe.seed, stage.number, state.epoch, state.step, setting.group.rank]
                result = training_step(stage.learner, tensors, targets, np.random.SeedSequence(entropy), taught)
                meter.add(Step(stage.number, state.epoch, state.step + 1, len(targets), state.rates), result)
                stage.scheduler.step()
                state.step += 1
                if meter.full or state.step == order.steps:
                    self._count(meter, bar)
                if self._stopper.requested or self._checkpoint_is_due():
                    self._count(meter, bar)
                    state.epoch_seconds = elapsed()
                    self._checkpoint(stage)
                    self._stop_if_asked()

    def _count(self, meter: Meter, bar: Bar) -> None:
        """Look at what the device has computed since the last time."""
        state = self.state
        for step in meter.take():
            if self._on_step is not None:
                self._on_step(step)
            if not math.isfinite(step.loss):
                rates = ", ".join(f"{rate:g}" for rate in step.rates)
                raise TrainingError(
                    f"the loss is {step.loss} at stage {step.stage}, epoch {step.epoch}, step {step.number} (learning "
                    f"rates {rates}): training has diverged. Lower the rates, e.g. with --stage{step.stage}-head-lr"
                    + (f" or --stage{step.stage}-backbone-lr." if len(step.rates) > 1 else ".")
                )
            state.loss_sum += step.loss * step.images
            state.right += step.right
            state.seen += step.images
            bar.advance(
                step.images,
                loss=f"{state.loss_sum / state.seen:.4f}",
                accuracy=f"{state.right / state.seen:.1%}",
                rate=f"{step.rates[-1]:.2g}",
            )

    def predict(self, batches: BatchSource, bar: Bar) -> npt.NDArray[np.float32]:
        """Return the logits of this process's validation images, float32 ``[n, C]``; the network in inference mode."""
        parts = []
        with torch.inference_mode(), self._setting.precision.autocast():
            for tensors in batches.validation():
                parts.append(batches.part.infer(*tensors).float().cpu().numpy())
                bar.advance(len(parts[-1]))
        return np.concatenate(parts) if parts else np.zeros((0, len(self._setting.dataset.labels)), np.float32)

    def _validate(self, batches: BatchSource, bar: Bar) -> tuple[float, float, float]:
        """Return loss, accuracy, and what epochs are compared by, over the validation images of all processes.

        That is the accuracy, or with class weights the accuracy in which each class counts as much as in the loss.
        """
        targets, logits = self._data.validation.targets, self.predict(batches, bar)
        count = len(targets)
        loss, accuracy = loss_and_accuracy(logits, targets) if count else (0.0, 0.0)
        weights = self._weights_of(targets)
        weighted_right = float(weights[logits.argmax(axis=1) == targets].sum())
        loss_sum, right, seen, score, weight = self._setting.group.sum(
            [loss * count, accuracy * count, count, weighted_right, float(weights.sum())]
        )
        return loss_sum / seen, right / seen, score / weight

    def _weights_of(self, targets: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return how much each image counts where accuracies are compared, as much as its class does in the loss."""
        setting = self._setting
        return np.asarray(setting.class_weights or [1.0] * len(setting.dataset.labels), np.float64)[targets]

    def _checkpoint_is_due(self) -> bool:
        return time.monotonic() - self._saved_at > self._setting.recipe.train.checkpoint_minutes * 60

    def _checkpoint(self, stage: _Stage | None) -> None:
        if stage is not None:
            self.state.optimizer = stage.learner.optimizer.state_dict()
            self.state.scheduler = stage.scheduler.state_dict()
            if (average := stage.learner.average) is not None:
                self.state.average, self.state.averaged = average.weights, average.updates
        self.state.scaler = self._setting.precision.state()
        self.state.depthwise = self._setting.depthwise.state()
        self.state.model = self.variable()
        self._save()
        self._saved_at = time.monotonic()

    def _stop_if_asked(self) -> None:
        if self._stopper.requested:
            raise StoppedError(
                f"stopped at stage {self.state.stage}, epoch {self.state.epoch}, step {self.state.step}, and saved."
            )


def order_of_epoch(setting: Setting, stage: int, epoch: int) -> EpochOrder:
    """Return an epoch's order over the images of all processes.

    Raises:
        RecipeError: BatchNorm is to be trained on single images.
    """
    recipe, processes = setting.recipe, setting.group.world
    seed, size = (recipe.seed, stage, epoch), recipe.train.batch_size
    indices = epoch_order(seed, len(setting.dataset.split("train")), size, processes)
    if recipe.train.train_bn and len(indices) % size == processes % size:
        # A last batch of one image for each process has no batch statistics.
        if processes in (size, len(indices)):
            raise RecipeError(
                f"--train-bn needs at least two images per step{' of each process' if processes > 1 else ''}: raise "
                "--batch-size, or leave BatchNorm frozen."
            )
        indices = indices[:-processes]
    return EpochOrder(indices, size, seed)


def _some_batches(setting: Setting, stage: int) -> EpochOrder:
    """Return whole batches of an epoch that is never trained, as many as BatchNorm statistics are estimated on."""
    order = order_of_epoch(setting, stage, 0)
    count = min(setting.recipe.train.bn_reestimate, max(1, len(order.indices) // order.batch_size))
    return replace(order, indices=order.indices[: count * order.batch_size])


def share_of_order(order: EpochOrder, group: Group) -> EpochOrder:
    """Return this process's part of an epoch, with the images numbered as it holds them."""
    if group.world == 1:
        return order
    mine = order.indices[order.indices % group.world == group.rank] // group.world
    return EpochOrder(mine, order.batch_size // group.world, (*order.seed, group.rank))
