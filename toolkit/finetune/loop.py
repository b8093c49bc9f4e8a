"""The training loop: epochs of one stage, validation after each, the best weights kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from toolkit.backbones import Backbone, TrainableParts, apply_modes, set_trainable
from toolkit.backbones.deployable import Deployable
from toolkit.data import Dataset
from toolkit.data.augment import make_augment
from toolkit.data.batches import iterate_batches
from toolkit.errors import RecipeError, TrainingError
from toolkit.finetune.evaluate import loss_and_accuracy, predict_logits
from toolkit.finetune.history import Epoch
from toolkit.finetune.optim import make_loss, make_optimizer, make_scheduler
from toolkit.preprocess import Preprocessing
from toolkit.progress import Bar, Reporter
from toolkit.recipe import Recipe, StageRecipe
from toolkit.runs import StageSummary


@dataclass
class Best:
    """The weights with the highest validation accuracy so far (the lower validation loss decides a tie)."""

    stage: int = 0
    epoch: int = 0
    accuracy: float = -1.0
    loss: float = math.inf
    weights: dict[str, torch.Tensor] | None = None

    def offer(self, done: Epoch, model: torch.nn.Module) -> None:
        """Keep these weights if they are better."""
        if (done.validation_accuracy, -done.validation_loss) > (self.accuracy, -self.loss):
            self.stage, self.epoch, self.accuracy, self.loss = done.stage, done.epoch, done.validation_accuracy, done.validation_loss
            self.weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


class Trainer:
    """Both stages over one backbone and one data set.

    Attributes:
        history: every epoch so far.
        best: the best weights so far.
    """

    def __init__(
        self,
        recipe: Recipe,
        backbone: Backbone,
        dataset: Dataset,
        preprocessing: Preprocessing,
        device: torch.device,
        workers: int,
        reporter: Reporter,
        after_epoch: Callable[[list[Epoch]], None],
    ) -> None:
        self._recipe = recipe
        self._backbone = backbone
        self._train = dataset.split("train")
        self._validation = dataset.split("validation")
        self._preprocessing = preprocessing
        self._device = device
        self._workers = workers
        self._reporter = reporter
        self._after_epoch = after_epoch
        self._loss = make_loss(recipe.train)
        # Depthwise convolutions and most others run faster on a CPU in this layout, and uint8 [N,H,W,3] images already have it.
        backbone.model.to(device).to(memory_format=torch.channels_last)
        self._network = Deployable(backbone.model, backbone.normalization).to(device)
        self.history: list[Epoch] = []
        self.best = Best()

    def run_stage(self, number: int, stage: StageRecipe) -> StageSummary:
        """Train one stage.

        Args:
            number: 1 or 2.
            stage: what to do.

        Raises:
            TrainingError: the loss is not finite.
            BackboneError: a block to unfreeze does not exist.
        """
        started = time.perf_counter()
        parts = set_trainable(self._backbone, stage.unfreeze, train_bn=self._recipe.train.train_bn)
        optimizer = make_optimizer(stage, parts.head, parts.backbone)
        steps = math.ceil(len(self._train) / self._recipe.train.batch_size) * stage.epochs
        scheduler = make_scheduler(optimizer, stage.schedule, steps)
        for epoch in range(1, stage.epochs + 1):
            self._run_epoch(number, epoch, stage.epochs, parts, optimizer, scheduler)
        return StageSummary(
            stage=number,
            epochs=stage.epochs,
            trained=parts.names,
            trainable_parameters=sum(parameter.numel() for parameter in [*parts.head, *parts.backbone]),
            seconds=time.perf_counter() - started,
        )

    def _run_epoch(
        self,
        number: int,
        epoch: int,
        epochs: int,
        parts: TrainableParts,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
    ) -> None:
        started = time.perf_counter()
        total = len(self._train) + len(self._validation)
        with self._reporter.bar(f"stage {number} epoch {epoch}/{epochs}", total, "img") as bar:
            apply_modes(self._backbone, parts)
            train_loss, train_accuracy, rates = self._train_epoch(number, epoch, optimizer, scheduler, bar)
            self._network.eval()
            logits = predict_logits(self._network, self._validation, self._preprocessing, self._device, self._workers, bar)
        validation_loss, validation_accuracy = loss_and_accuracy(logits, self._validation.targets)
        done = Epoch(
            stage=number,
            epoch=epoch,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            head_lr=rates[0],
            backbone_lr=rates[1] if len(rates) > 1 else 0.0,
            seconds=time.perf_counter() - started,
        )
        self.history.append(done)
        self.best.offer(done, self._backbone.model)
        self._after_epoch(self.history)
        self._reporter.line(
            f"stage {number} epoch {epoch}/{epochs}: train loss {train_loss:.4f}, accuracy {train_accuracy:.2%}; "
            f"validation loss {validation_loss:.4f}, accuracy {validation_accuracy:.2%}; {done.seconds:.1f} s, {total / done.seconds:.0f} img/s"
        )

    def _train_epoch(
        self, number: int, epoch: int, optimizer: torch.optim.Optimizer, scheduler: torch.optim.lr_scheduler.LRScheduler, bar: Bar
    ) -> tuple[float, float, list[float]]:
        seed = self._recipe.seed
        torch.manual_seed(int(np.random.SeedSequence([seed, number, epoch]).generate_state(1)[0]))
        order = np.random.default_rng([seed, number, epoch]).permutation(len(self._train))
        augment = make_augment(self._recipe.augment, seed, number * 100_000 + epoch)
        loss_sum, right, seen = 0.0, 0, 0
        rates: list[float] = []
        batches = iterate_batches(
            self._train, self._usable(order), self._recipe.train.batch_size, self._preprocessing, augment=augment, workers=self._workers
        )
        for step, (images, targets, _) in enumerate(batches, start=1):
            rates = [group["lr"] for group in optimizer.param_groups]
            loss, correct = self._step(images, targets, optimizer)
            if not math.isfinite(loss):
                named = ", ".join(f"{rate:g}" for rate in rates)
                raise TrainingError(
                    f"the loss is {loss} at stage {number}, epoch {epoch}, step {step} (learning rates {named}): "
                    "training has diverged. Lower the rates, e.g. with --stage1-head-lr or --stage2-backbone-lr."
                )
            scheduler.step()
            loss_sum += loss * len(images)
            right += correct
            seen += len(images)
            bar.advance(len(images), loss=f"{loss_sum / seen:.4f}", accuracy=f"{right / seen:.1%}", rate=f"{rates[-1]:.2g}")
        return loss_sum / seen, right / seen, rates

    def _usable(self, order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Leave out a last batch of one image where BatchNorm trains: a single image has no batch statistics."""
        size = self._recipe.train.batch_size
        if not self._recipe.train.train_bn or len(order) % size != 1:
            return order
        if size == 1 or len(order) == 1:
            raise RecipeError("--train-bn needs at least two images per step: raise --batch-size, or leave BatchNorm frozen.")
        return order[:-1]

    def _step(self, images: npt.NDArray[np.uint8], targets: npt.NDArray[np.int64], optimizer: torch.optim.Optimizer) -> tuple[float, int]:
        truth = torch.from_numpy(targets).to(self._device)
        logits, _ = self._network(torch.from_numpy(images).to(self._device))
        loss = self._loss(logits, truth)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        return loss.item(), int((logits.detach().argmax(dim=1) == truth).sum().item())
