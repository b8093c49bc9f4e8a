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
from toolkit.finetune.activations.catalogue import CacheKey, cache_root
from toolkit.finetune.activations.extraction import PASS_BATCH
from toolkit.finetune.checkpoint import Best, State, save_checkpoint
from toolkit.finetune.optim import make_loss, make_optimizer
from toolkit.finetune.plan import Counts, Plan, Rates, estimate, rate, with_suggestions
from toolkit.finetune.setting import Job
from toolkit.finetune.trainer import variable_tensors
from toolkit.provenance import peak_memory_bytes


def measure(job: Job) -> Rates:
    """Measure a job's rates; takes some seconds. Weights and statistics are put back."""
    train, recipe, feeding = job.feeding.train, job.recipe, job.feeding
    everything = job.backbone.model.state_dict()
    before = {name: everything[name].detach().clone() for name in variable_tensors(recipe, job.backbone)}
    starts = itertools.cycle(range(0, max(1, len(train) - PASS_BATCH), PASS_BATCH))

    def frozen_part() -> int:
        start = next(starts)
        indices = np.arange(start, min(start + PASS_BATCH, len(train)))
        feeding.run_prefix(train.load(indices, job.preprocessing))
        return len(indices)

    prefix = rate(frozen_part) if feeding.cached else None
    batch = np.arange(recipe.train.batch_size) % len(train)
    images = train.load(batch, job.preprocessing)
    targets = torch.from_numpy(train.targets[batch]).to(job.device)
    rates: dict[int, float] = {}
    infer = checkpoint = 0.0
    for number, stage in ((1, recipe.stage1), (2, recipe.stage2)):
        if stage.epochs == 0:
            continue
        feed, tensors = feeding.sample(number, images)
        parts = set_trainable(job.backbone, stage.unfreeze, train_bn=recipe.train.train_bn)
        optimizer, loss = make_optimizer(stage, parts.head, parts.backbone), make_loss(recipe.train)
        apply_modes(job.backbone, parts)

        def step() -> int:
            optimizer.zero_grad(set_to_none=True)  # noqa: B023  # called in this turn of the loop only
            with job.precision.autocast():
                logits = feed.trainee(*tensors)  # noqa: B023
            job.precision.backward_and_step(loss(logits.float(), targets), optimizer)  # noqa: B023
            return len(batch)

        def look() -> int:
            with torch.inference_mode(), job.precision.autocast():
                feed.infer(tensors).float().cpu()  # noqa: B023
            return len(batch)

        rates[number] = rate(step)
        job.backbone.model.eval()
        infer = rate(look)
        checkpoint = _checkpoint_seconds(before, optimizer)
    job.backbone.model.load_state_dict(before, strict=False)
    job.backbone.model.zero_grad(set_to_none=True)
    return Rates(
        image_size=job.preprocessing.height,
        prefix=prefix,
        train=rates,
        infer=infer,
        row_bytes=_row_bytes(feeding.keys()),
        memory_bytes=peak_memory_bytes(),
        checkpoint=checkpoint,
    )


def make_plan(job: Job, rates: Rates) -> Plan:
    """Estimate a job from its rates, with what would make it shorter."""
    counts, views = counts_of(job), job.feeding.views
    keys = job.feeding.keys()
    kept = bool(keys) and all((cache_root() / key.digest()).is_dir() for key in keys)
    plan = estimate(job.recipe, counts, rates, views, kept=kept)
    return with_suggestions(plan, job.recipe, counts, rates, views)


def counts_of(job: Job) -> Counts:
    """Return how many images a process of the job handles; the test is the first one's alone."""
    return Counts(len(job.feeding.train), len(job.feeding.validation), len(job.dataset.split("test")))


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
