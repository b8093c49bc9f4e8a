"""What a process has at hand before it trains.

Data, backbone, the divided network, and its place among the processes.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from toolkit import provenance
from toolkit.backbones import Backbone, create_backbone, select_blocks, takes_image_size
from toolkit.data import Dataset, load_dataset
from toolkit.errors import RunError
from toolkit.finetune.device import choose_device, repeatable
from toolkit.finetune.group import Group, joined
from toolkit.finetune.precision import Precision, choose_precision
from toolkit.finetune.training_data import Feeding
from toolkit.preprocess import Preprocessing
from toolkit.progress import Reporter, Silent
from toolkit.recipe import Recipe


@dataclass(frozen=True)
class Job:
    """What a process has at hand once data and backbone are loaded and the network is divided."""

    recipe: Recipe
    dataset: Dataset
    backbone: Backbone
    preprocessing: Preprocessing
    device: torch.device
    threads: int
    group: Group
    precision: Precision
    feeding: Feeding
    reporter: Reporter
    identity: dict[str, str]
    """What must not change when a run goes on: the thing to its digest."""

    def takes_size(self, image_size: int) -> bool:
        """Tell whether the backbone takes images of this side."""
        return takes_image_size(self.backbone.name, image_size)


@contextlib.contextmanager
def prepared_job(recipe: Recipe, reporter: Reporter) -> Iterator[Job]:
    """Load data and backbone and divide the network.

    Inside the block PyTorch is seeded and repeatable, and the process is in its group.
    """
    device = choose_device(recipe.train.device)
    threads = recipe.train.threads or provenance.available_cores()
    with joined(device.type) as group, repeatable(recipe.seed, threads):
        if not group.leads:
            reporter = Silent()
        if recipe.train.batch_size % group.world:
            raise RunError(
                f"a batch of {recipe.train.batch_size} images cannot be shared by {group.world} processes: give a "
                "multiple of them."
            )
        if device.type == "cuda":
            device = torch.device("cuda", group.local_rank)
        dataset = load_dataset(recipe.data, recipe.seed, reporter=reporter)
        backbone = create_backbone(
            recipe.backbone.name,
            weights=recipe.backbone.weights,
            classes=len(dataset.labels),
            image_size=recipe.backbone.image_size,
            seed=recipe.seed,
            reporter=reporter,
        )
        preprocessing = _preprocessing(recipe, backbone)
        # One choice for all processes, whose processors may differ.
        chosen = group.broadcast(choose_precision(recipe.train.precision, device, _computed_by_steps(recipe, backbone)))
        precision = Precision(chosen, device)
        identity = _identity(recipe, dataset, backbone, precision)
        _announce(reporter, recipe, dataset, backbone, precision, threads)
        feeding = Feeding(recipe, backbone, dataset, preprocessing, device, threads, precision, group, reporter)
        with contextlib.closing(feeding):
            yield Job(
                recipe, dataset, backbone, preprocessing, device, threads, group, precision, feeding, reporter, identity
            )


def _computed_by_steps(recipe: Recipe, backbone: Backbone) -> list[nn.Module]:
    """Return what the steps of any stage compute besides the head.

    What is trained, or without a cache the whole network.
    """
    if not recipe.cache.use:
        return [backbone.model]
    blocks = [
        block
        for stage in (recipe.stage1, recipe.stage2)
        if stage.epochs > 0
        for block in select_blocks(backbone, stage.unfreeze)
    ]
    return [backbone.model.get_submodule(name) for block in blocks for name in block.modules]


def _identity(recipe: Recipe, dataset: Dataset, backbone: Backbone, precision: Precision) -> dict[str, str]:
    weights = hashlib.sha256()
    for name, tensor in backbone.model.state_dict().items():
        weights.update(name.encode())
        weights.update(tensor.detach().contiguous().numpy().tobytes())
    return {
        "recipe": hashlib.sha256(recipe.to_toml().encode()).hexdigest(),
        "classes": hashlib.sha256(repr(dataset.labels).encode()).hexdigest(),
        **{f"{name} images": split.fingerprint for name, split in dataset.splits.items()},
        "starting weights": weights.hexdigest(),
        "precision": precision.name,
    }


def _preprocessing(recipe: Recipe, backbone: Backbone) -> Preprocessing:
    return Preprocessing(
        height=backbone.image_size,
        width=backbone.image_size,
        resize=recipe.data.resize,
        interpolation=recipe.data.interpolation,
        crop_fraction=backbone.crop_fraction if recipe.data.resize == "crop" else 1.0,
    )


def _announce(
    reporter: Reporter, recipe: Recipe, dataset: Dataset, backbone: Backbone, precision: Precision, threads: int
) -> None:
    counts = ", ".join(f"{len(split)} {name}" for name, split in dataset.splits.items())
    reporter.line(f"data: {dataset.source}, {len(dataset.labels)} classes, images: {counts}")
    reporter.line(f"backbone: {backbone.name} at {backbone.image_size} px, weights: {backbone.weights}")
    reporter.line(
        f"recipe: {recipe.name}, seed {recipe.seed}, on {precision.device} with {threads} threads, trained in "
        f"{precision.name}"
    )
