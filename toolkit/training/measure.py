"""Measures what a plan needs.

The frozen part and one training step of each stage, on real images, leaving everything as it was.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from toolkit.backbones import apply_modes, set_trainable
from toolkit.data import Split
from toolkit.data.augment import epoch_view, make_view
from toolkit.data.batches import View, load_views
from toolkit.provenance import peak_memory_bytes
from toolkit.training.activations.catalogue import CacheKey, cache_root
from toolkit.training.activations.extraction import EXTRACTION_BATCH, Extraction, Function
from toolkit.training.batch_sources import Batch, Tensors, TrainedPart
from toolkit.training.best_weights import Best
from toolkit.training.checkpoint import State, save_checkpoint
from toolkit.training.plan import Counts, Plan, Rates, estimate, rate, with_suggestions
from toolkit.training.setting import Setting
from toolkit.training.step import Learner, make_learner, training_step
from toolkit.training.training_data import TrainingData
from toolkit.training.variable import variable_tensors


def measure(setting: Setting, data: TrainingData) -> Rates:
    """Measure the rates of a run; takes some seconds. Weights, statistics and the scale of gradients are put back."""
    recipe, model = setting.recipe, setting.backbone.model
    everything = model.state_dict()
    before = {name: everything[name].detach().clone() for name in variable_tensors(recipe, setting.backbone)}
    scale = setting.precision.state()
    prefix, new_views = _prefix_rate(setting, data), _new_views_rate(setting, data)
    teacher = _teacher_rate(data)
    batch = np.arange(recipe.train.batch_size) % len(data.train)
    images = data.train.load(batch, setting.preprocessing)
    targets = torch.from_numpy(data.train.targets[batch]).to(setting.device)
    taught = None if teacher is None else torch.zeros(len(batch), len(setting.dataset.labels), device=setting.device)
    rates: dict[int, float] = {}
    infer = checkpoint = 0.0
    for number, stage in recipe.stages:
        part, tensors = data.sample(number, images)
        parts = set_trainable(setting.backbone, stage.unfreeze, train_bn=recipe.train.train_bn)
        learner = make_learner(setting, stage, parts, part.train)
        apply_modes(setting.backbone, parts)
        rates[number] = _step_rate(learner, Batch(tensors, targets, taught))
        model.eval()
        infer = _inference_rate(setting, part, tensors)
        if learner.average is not None:
            # Where it is the mean of epochs no step has made it yet; its memory is part of the plan.
            learner.average.add()
        checkpoint = _checkpoint_seconds(before, learner)
    model.load_state_dict(before, strict=False)
    model.zero_grad(set_to_none=True)
    setting.precision.load(scale)
    return Rates(
        image_size=setting.preprocessing.height,
        prefix=prefix,
        train=rates,
        infer=infer,
        row_bytes=_row_bytes(data.cache_keys()),
        memory_bytes=peak_memory_bytes(),
        checkpoint=checkpoint,
        teacher=teacher,
        answer_bytes=_row_bytes([key] if (key := data.teacher_key()) else []),
        new_views=new_views,
        new_row_bytes=_row_bytes(data.cache_keys(), data.last_places()) if new_views else 0,
    )


def make_plan(setting: Setting, data: TrainingData, rates: Rates) -> Plan:
    """Estimate a run from its rates, with what would make it shorter."""
    counts, keys = counts_of(setting, data), data.cache_keys()
    kept = bool(keys) and all((cache_root() / key.digest()).is_dir() for key in keys)
    answers = data.teacher_key()
    answered = answers is not None and (cache_root() / answers.digest()).is_dir()
    plan = estimate(setting.recipe, counts, rates, data.views, kept=kept, answered=answered)
    return with_suggestions(plan, setting.recipe, counts, rates, data.views)


def counts_of(setting: Setting, data: TrainingData) -> Counts:
    """Return how many images a process handles; the test is the first one's alone."""
    numbers = len(setting.dataset.split("train")) * len(setting.dataset.labels)
    return Counts(
        train=len(data.train),
        validation=len(data.validation),
        test=len(setting.dataset.split("test")),
        numbers_to_solve=numbers if setting.recipe.stage1.solver == "lbfgs" else 0,
        cross_validated=bool(data.stages_to_try()),
    )


def _prefix_rate(setting: Setting, data: TrainingData) -> float | None:
    divided = data.divided
    if divided is None:
        return None
    return _extraction_rate(Extraction(setting, divided), data.train, range(len(divided.tensors)))


def _new_views_rate(setting: Setting, data: TrainingData) -> float | None:
    divided = data.divided
    if divided is None or setting.recipe.cache.refresh == 0:
        return None
    view = epoch_view(setting.recipe.augment, (setting.recipe.seed,))
    return _extraction_rate(Extraction(setting, divided), data.train, data.last_places(), view)


def _teacher_rate(data: TrainingData) -> float | None:
    return None if data.answers is None else _extraction_rate(data.answers, data.train, (0,))


def _extraction_rate(
    extraction: Extraction[Function], train: Split, tensors: Sequence[int], view: View | None = None
) -> float:
    setting = extraction.setting
    # By default the last of the views that are kept: the first one is the image as it is, which costs less.
    view = view or make_view(setting.recipe.augment, setting.recipe.seed, setting.views - 1)
    starts = itertools.cycle(range(0, max(1, len(train) - EXTRACTION_BATCH), EXTRACTION_BATCH))

    def run() -> int:
        start = next(starts)
        indices = np.arange(start, min(start + EXTRACTION_BATCH, len(train)))
        (images,) = load_views(train, indices, setting.preprocessing, [view])
        extraction.divided.prefix.run(images, tensors)
        return len(indices)

    return rate(run)


def _step_rate(learner: Learner, batch: Batch) -> float:
    seed = np.random.SeedSequence(0)

    def run() -> int:
        # Looking at the loss waits for the device: a step alone only queues its kernels.
        training_step(learner, batch.tensors, batch.targets, seed, batch.taught).loss.item()
        return len(batch.targets)

    return rate(run)


def _inference_rate(setting: Setting, part: TrainedPart, tensors: Tensors) -> float:
    def run() -> int:
        with torch.inference_mode(), setting.precision.autocast():
            return len(part.infer(*tensors).float().cpu())

    return rate(run)


def _checkpoint_seconds(weights: dict[str, torch.Tensor], learner: Learner) -> float:
    """Return what one takes to write, in the system's temporary folder: where the run will be is not known here."""
    with tempfile.TemporaryDirectory(prefix="toolkit-plan-") as folder:
        started = time.perf_counter()
        average = {} if learner.average is None else learner.average.weights
        state = State(
            best=Best(weights=weights), model=weights, optimizer=learner.optimizer.state_dict(), average=average
        )
        save_checkpoint(Path(folder), state)
        return time.perf_counter() - started


def _row_bytes(keys: list[CacheKey], tensors: Sequence[int] | None = None) -> int:
    """Return what is kept of a view: some tensors, or all of them."""
    if not keys:
        return 0
    chosen = range(len(keys[0].tensors)) if tensors is None else tensors
    return sum(keys[0].row_bytes(tensor) for tensor in chosen)
