"""Measures what a plan needs.

The frozen part and one training step of each stage, on real images, leaving everything as it was.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from toolkit.backbones import apply_modes, set_trainable
from toolkit.provenance import peak_memory_bytes
from toolkit.training.activations.catalogue import CacheKey, cache_root
from toolkit.training.activations.extraction import EXTRACTION_BATCH
from toolkit.training.batch_sources import Tensors, TrainedPart
from toolkit.training.best_weights import Best
from toolkit.training.checkpoint import State, save_checkpoint
from toolkit.training.plan import Counts, Plan, Rates, estimate, rate, with_suggestions
from toolkit.training.setting import Setting
from toolkit.training.step import Learner, make_learner, training_step
from toolkit.training.training_data import TrainingData
from toolkit.training.variable import variable_tensors


def measure(setting: Setting, data: TrainingData) -> Rates:
    """Measure the rates of a run; takes some seconds. Weights and statistics are put back."""
    recipe, model = setting.recipe, setting.backbone.model
    everything = model.state_dict()
    before = {name: everything[name].detach().clone() for name in variable_tensors(recipe, setting.backbone)}
    prefix = _prefix_rate(setting, data)
    batch = np.arange(recipe.train.batch_size) % len(data.train)
    images = data.train.load(batch, setting.preprocessing)
    targets = torch.from_numpy(data.train.targets[batch]).to(setting.device)
    rates: dict[int, float] = {}
    infer = checkpoint = 0.0
    for number, stage in recipe.stages:
        part, tensors = data.sample(number, images)
        parts = set_trainable(setting.backbone, stage.unfreeze, train_bn=recipe.train.train_bn)
        learner = make_learner(setting, stage, parts, part.train)
        apply_modes(setting.backbone, parts)
        rates[number] = _step_rate(learner, tensors, targets)
        model.eval()
        infer = _inference_rate(setting, part, tensors)
        checkpoint = _checkpoint_seconds(before, learner.optimizer)
    model.load_state_dict(before, strict=False)
    model.zero_grad(set_to_none=True)
    return Rates(
        image_size=setting.preprocessing.height,
        prefix=prefix,
        train=rates,
        infer=infer,
        row_bytes=_row_bytes(data.cache_keys()),
        memory_bytes=peak_memory_bytes(),
        checkpoint=checkpoint,
    )


def make_plan(setting: Setting, data: TrainingData, rates: Rates) -> Plan:
    """Estimate a run from its rates, with what would make it shorter."""
    counts, keys = counts_of(setting, data), data.cache_keys()
    kept = bool(keys) and all((cache_root() / key.digest()).is_dir() for key in keys)
    plan = estimate(setting.recipe, counts, rates, data.views, kept=kept)
    return with_suggestions(plan, setting.recipe, counts, rates, data.views)


def counts_of(setting: Setting, data: TrainingData) -> Counts:
    """Return how many images a process handles; the test is the first one's alone."""
    return Counts(len(data.train), len(data.validation), len(setting.dataset.split("test")))


def _prefix_rate(setting: Setting, data: TrainingData) -> float | None:
    divided, train = data.divided, data.train
    if divided is None:
        return None
    every = range(len(divided.division.tensors))
    starts = itertools.cycle(range(0, max(1, len(train) - EXTRACTION_BATCH), EXTRACTION_BATCH))

    def run() -> int:
        start = next(starts)
        indices = np.arange(start, min(start + EXTRACTION_BATCH, len(train)))
        divided.prefix.run(train.load(indices, setting.preprocessing), every)
        return len(indices)

    return rate(run)


def _step_rate(learner: Learner, tensors: Tensors, targets: torch.Tensor) -> float:
    seed = np.random.SeedSequence(0)

    def run() -> int:
        # Looking at the loss waits for the device: a step alone only queues its kernels.
        training_step(learner, tensors, targets, seed).loss.item()
        return len(targets)

    return rate(run)


def _inference_rate(setting: Setting, part: TrainedPart, tensors: Tensors) -> float:
    def run() -> int:
        with torch.inference_mode(), setting.precision.autocast():
            return len(part.infer(*tensors).float().cpu())

    return rate(run)


def _checkpoint_seconds(weights: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> float:
    """Return what one takes to write, in the system's temporary folder: where the run will be is not known here."""
    with tempfile.TemporaryDirectory(prefix="toolkit-plan-") as folder:
        started = time.perf_counter()
        save_checkpoint(
            Path(folder), State(best=Best(weights=weights), model=weights, optimizer=optimizer.state_dict())
        )
        return time.perf_counter() - started


def _row_bytes(keys: list[CacheKey]) -> int:
    return sum(keys[0].row_bytes(tensor) for tensor in range(len(keys[0].tensors))) if keys else 0
