"""The training loop: epochs of one stage, validation after each, the best weights kept, a checkpoint often enough."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from toolkit.backbones import Backbone, TrainableParts, apply_modes, set_trainable
from toolkit.compare.metrics import loss_and_accuracy
from toolkit.errors import RecipeError, TrainingError
from toolkit.finetune.batch_sources import Draw, Feed, Tensors
from toolkit.finetune.checkpoint import State
from toolkit.finetune.group import Group, epoch_order
from toolkit.finetune.history import Epoch
from toolkit.finetune.optim import Loss, make_loss, make_optimizer, make_scheduler
from toolkit.finetune.precision import Precision
from toolkit.progress import Bar, Reporter
from toolkit.recipe import Recipe, StageRecipe
from toolkit.runs import StageSummary

FLUSH_STEPS = 50
"""How many steps CUDA may run ahead before their losses are looked at: each look waits for the device."""


class StoppedError(KeyboardInterrupt):
    """The run was asked to stop and has been saved; the message says how to go on."""


class Stopper:
    """Turns Ctrl-C and a polite kill into a request that the loop answers between two steps.

    A second one acts at once.
    """

    def __init__(self) -> None:
        self.requested = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen for the length of the block; does nothing outside the main thread, where Python hears no signals."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@dataclass
class _Meter:
    """Losses and hits of an epoch, kept on the device until they are looked at."""

    steps: list[tuple[int, int, list[float]]] = field(default_factory=list)
    losses: list[torch.Tensor] = field(default_factory=list)
    hits: list[torch.Tensor] = field(default_factory=list)


@dataclass
class _Stage:
    """What one stage trains with."""

    number: int
    epochs: int
    parts: TrainableParts
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    feed: Feed
    trainee: nn.Module


class Trainer:
    """Both stages over one backbone.

    Attributes:
        state: where the run is.
    """

    def __init__(
        self,
        recipe: Recipe,
        backbone: Backbone,
        images: int,
        validation: npt.NDArray[np.int64],
        precision: Precision,
        group: Group,
        reporter: Reporter,
        state: State,
        save: Callable[[], None],
        stopper: Stopper,
    ) -> None:
        """Prepare.

        Args:
            recipe: what to do.
            backbone: the network, on its device; the state's weights are loaded into it if there are any.
            images: training images over all processes.
            validation: targets of this process's validation images, int64 ``[n]``.
            precision: arithmetic of the passes.
            group: the processes that train together.
            reporter: where progress goes.
            state: where to start.
            save: writes ``state`` as a checkpoint and the history.
            stopper: asked between steps.
        """
        self.state = state
        self._recipe = recipe
        self._backbone = backbone
        self._images = images
        self._validation = validation
        self._precision = precision
        self._group = group
        self._reporter = reporter
        self._save = save
        self._stopper = stopper
        self._loss = make_loss(recipe.train)
        self._variable = variable_tensors(recipe, backbone)
        self._saved_at = time.monotonic()
        if state.model:
            self.load(state.model)

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Put back what training may change."""
        self._backbone.model.load_state_dict(weights, strict=False)

    def run_stage(self, number: int, stage: StageRecipe, feed: Callable[[int], Feed]) -> StageSummary:
        """Train one stage, from where the state says.

        Args:
            number: 1 or 2.
            stage: what to do.
            feed: returns batches and what is trained on them, given the stage's number; asked only if there is
                something left to do.

        Raises:
            TrainingError: the loss is not finite.
            BackboneError: a block to unfreeze does not exist.
            StoppedError: the run was asked to stop; the state is saved.
        """
        if self.state.stage == number:
            fed = feed(number)  # before the modes are set: dividing the network changes them
            self._train(
                number, stage, fed, set_trainable(self._backbone, stage.unfreeze, train_bn=self._recipe.train.train_bn)
            )
        parts = set_trainable(self._backbone, stage.unfreeze, train_bn=self._recipe.train.train_bn)
        return StageSummary(
            stage=number,
            epochs=stage.epochs,
            trained=parts.names,
            trainable_parameters=sum(parameter.numel() for parameter in [*parts.head, *parts.backbone]),
            seconds=self.state.stage_seconds.get(number, 0.0),
        )

    def _train(self, number: int, stage: StageRecipe, feed: Feed, parts: TrainableParts) -> None:
        optimizer = make_optimizer(stage, parts.head, parts.backbone)
        steps = self._draw(number, 1).steps * stage.epochs
        scheduler = make_scheduler(optimizer, stage.schedule, steps)
        if self.state.optimizer:
            optimizer.load_state_dict(self.state.optimizer)
            scheduler.load_state_dict(self.state.scheduler)
            self._precision.load(self.state.scaler)
        running = _Stage(number, stage.epochs, parts, optimizer, scheduler, feed, self._group.share(feed.trainee))
        with self._stopper.listening():
            while self.state.epoch <= stage.epochs:
                self._run_epoch(running)
            self.state.stage, self.state.epoch = number + 1, 1
            self.state.optimizer, self.state.scheduler = {}, {}
            self._checkpoint(None)

    def _run_epoch(self, running: _Stage) -> None:
        state, started = self.state, time.perf_counter()
        before = state.epoch_seconds
        draw = self._draw(running.number, state.epoch)
        local = _share_of(draw, self._group)
        title = f"stage {running.number} epoch {state.epoch}/{running.epochs}"
        with self._reporter.bar(title, len(local.order) + len(self._validation), "img") as bar:
            bar.advance(state.seen)
            apply_modes(self._backbone, running.parts)
            rates = self._train_epoch(running, local, bar, started, before)
            self._backbone.model.eval()
            validation_loss, validation_accuracy = self._validate(running.feed, bar)
        loss_sum, right, seen = self._group.sum([state.loss_sum, state.right, state.seen])
        seconds = before + time.perf_counter() - started
        done = Epoch(
            stage=running.number,
            epoch=state.epoch,
            train_loss=loss_sum / seen,
            train_accuracy=right / seen,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            head_lr=rates[0],
            backbone_lr=rates[1] if len(rates) > 1 else 0.0,
            seconds=seconds,
        )
        state.history.append(done)
        state.best.offer(done, self.variable())
        state.stage_seconds[running.number] = state.stage_seconds.get(running.number, 0.0) + seconds
        state.epoch, state.step, state.loss_sum, state.right, state.seen, state.epoch_seconds = (
            state.epoch + 1,
            0,
            0.0,
            0,
            0,
            0.0,
        )
        self._checkpoint(running)
        self._reporter.line(
            f"{title}: train loss {done.train_loss:.4f}, accuracy {done.train_accuracy:.2%}; "
            f"validation loss {validation_loss:.4f}, accuracy {validation_accuracy:.2%}; {seconds:.1f} s, "
            f"{seen / seconds:.0f} img/s"
        )
        self._stop_if_asked()

    def _train_epoch(self, running: _Stage, draw: Draw, bar: Bar, started: float, before: float) -> list[float]:
        state, meter = self.state, _Meter()
        rates = [group["lr"] for group in running.optimizer.param_groups]
        flush = FLUSH_STEPS if self._precision.device == "cuda" else 1
        batches = running.feed.training(draw, state.step)
        with contextlib.closing(batches):  # type: ignore[type-var]  # feeds are generators
            for tensors, targets in batches:
                rates = [group["lr"] for group in running.optimizer.param_groups]
                self._step(running, state.step, tensors, targets, meter, rates)
                running.scheduler.step()
                state.step += 1
                if len(meter.losses) >= flush or state.step == draw.steps:
                    self._flush(running, meter, bar, rates)
                if self._stopper.requested or self._checkpoint_is_due():
                    self._flush(running, meter, bar, rates)
                    state.epoch_seconds = before + time.perf_counter() - started
                    self._checkpoint(running)
                    self._stop_if_asked()
        return rates

    def _step(
        self, running: _Stage, step: int, tensors: Tensors, targets: torch.Tensor, meter: _Meter, rates: list[float]
    ) -> None:
        seed = np.random.SeedSequence([self._recipe.seed, running.number, self.state.epoch, step, self._group.rank])
        # Seeded anew at every step, dropout needs no history: a run that goes on from a checkpoint draws what it would
        # have drawn.
        self._reseed(int(seed.generate_state(1)[0]))
        tensors, loss_of = mixup(tensors, targets, self._recipe.augment.mixup, seed, self._loss)
        running.optimizer.zero_grad(set_to_none=True)
        with self._precision.autocast():
            logits = running.trainee(*tensors)
        loss = loss_of(logits.float())
        self._precision.backward_and_step(loss, running.optimizer)
        meter.steps.append((step + 1, len(targets), rates))
        meter.losses.append(loss.detach())
        meter.hits.append((logits.detach().argmax(dim=1) == targets).sum())

    def _reseed(self, seed: int) -> None:
        # torch.manual_seed would also note the call, with its stack, for every kind of device that is not in use.
        torch.default_generator.manual_seed(seed)
        if self._precision.device == "cuda":
            torch.cuda.manual_seed(seed)

    def _flush(self, running: _Stage, meter: _Meter, bar: Bar, rates: list[float]) -> None:
        """Look at what the device has computed since the last time."""
        if not meter.losses:
            return
        state = self.state
        losses, hits = torch.stack(meter.losses).tolist(), torch.stack(meter.hits).tolist()
        for (step, images, used), loss, right in zip(meter.steps, losses, hits, strict=True):
            if not math.isfinite(loss):
                named = ", ".join(f"{rate:g}" for rate in used)
                raise TrainingError(
                    f"the loss is {loss} at stage {running.number}, epoch {state.epoch}, step {step} (learning rates "
                    f"{named}): "
                    "training has diverged. Lower the rates, e.g. with --stage1-head-lr or --stage2-backbone-lr."
                )
            state.loss_sum += loss * images
            state.right += right
            state.seen += images
            bar.advance(
                images,
                loss=f"{state.loss_sum / state.seen:.4f}",
                accuracy=f"{state.right / state.seen:.1%}",
                rate=f"{rates[-1]:.2g}",
            )
        meter.steps.clear()
        meter.losses.clear()
        meter.hits.clear()

    def _validate(self, feed: Feed, bar: Bar) -> tuple[float, float]:
        parts = []
        with torch.inference_mode(), self._precision.autocast():
            for tensors in feed.validation():
                parts.append(feed.infer(tensors).float().cpu().numpy())
                bar.advance(len(parts[-1]))
        count = len(self._validation)
        loss, accuracy = loss_and_accuracy(np.concatenate(parts), self._validation) if parts else (0.0, 0.0)
        loss_sum, right, seen = self._group.sum([loss * count, accuracy * count, count])
        return loss_sum / seen, right / seen

    def _draw(self, number: int, epoch: int) -> Draw:
        """Return an epoch's order over the images of all processes."""
        seed, size = (self._recipe.seed, number, epoch), self._recipe.train.batch_size
        order = epoch_order(seed, self._images, size, self._group.world)
        if self._recipe.train.train_bn and len(order) % size == 1:
            # A last batch of one image has no batch statistics.
            if size == 1 or len(order) == 1:
                raise RecipeError(
                    "--train-bn needs at least two images per step: raise --batch-size, or leave BatchNorm frozen."
                )
            order = order[:-1]
        return Draw(order, size, seed)

    def variable(self) -> dict[str, torch.Tensor]:
        """Return what training may change, by name."""
        everything = self._backbone.model.state_dict()
        return {name: everything[name] for name in self._variable}

    def _checkpoint_is_due(self) -> bool:
        return time.monotonic() - self._saved_at > self._recipe.train.checkpoint_minutes * 60

    def _checkpoint(self, running: _Stage | None) -> None:
        if running is not None:
            self.state.optimizer, self.state.scheduler = running.optimizer.state_dict(), running.scheduler.state_dict()
        self.state.scaler = self._precision.state()
        self.state.model = self.variable()
        self._save()
        self._saved_at = time.monotonic()

    def _stop_if_asked(self) -> None:
        if self._stopper.requested:
            raise StoppedError(
                f"stopped at stage {self.state.stage}, epoch {self.state.epoch}, step {self.state.step}, and saved."
            )


def variable_tensors(recipe: Recipe, backbone: Backbone) -> list[str]:
    """Return the names of the parameters and buffers that any stage may change."""
    changing: set[int] = set()
    for stage in (recipe.stage1, recipe.stage2):
        if stage.epochs > 0:
            parts = set_trainable(backbone, stage.unfreeze, train_bn=recipe.train.train_bn)
            changing |= {id(parameter) for parameter in (*parts.head, *parts.backbone)}
            for module in backbone.model.modules():
                if module.training and recipe.train.train_bn:
                    changing |= {id(buffer) for buffer in module.buffers(recurse=False)}
    tensors = (
        *backbone.model.named_parameters(remove_duplicate=False),
        *backbone.model.named_buffers(remove_duplicate=False),
    )
    kept = backbone.model.state_dict().keys()
    return [name for name, tensor in tensors if id(tensor) in changing and name in kept]


def mixup(
    tensors: Tensors, targets: torch.Tensor, alpha: float, seed: np.random.SeedSequence, loss: Loss
) -> tuple[Tensors, Callable[[torch.Tensor], torch.Tensor]]:
    """Blend each input with another of its batch (Zhang et al. 2018), on images or on activations.

    Args:
        tensors: of the batch.
        targets: int64 ``[b]``.
        alpha: of the Beta distribution that the share is drawn from, one share per batch; 0 changes nothing.
        seed: of the draw.
        loss: of logits and targets.

    Returns:
        The blended tensors, and the loss as a function of logits: the same blend of the losses to both targets.
    """
    if alpha == 0:
        return tensors, lambda logits: loss(logits, targets)
    draw = np.random.default_rng(seed)
    share = float(draw.beta(alpha, alpha))
    other = torch.from_numpy(draw.permutation(len(targets))).to(targets.device)
    blended = [tensor.float() * share + tensor[other].float() * (1 - share) for tensor in tensors]
    return blended, lambda logits: share * loss(logits, targets) + (1 - share) * loss(logits, targets[other])


def _share_of(draw: Draw, group: Group) -> Draw:
    """Return this process's part of an epoch, with the images numbered as it holds them."""
    if group.world == 1:
        return draw
    mine = draw.order[draw.order % group.world == group.rank] // group.world
    return Draw(mine, draw.batch_size // group.world, (*draw.seed, group.rank))
