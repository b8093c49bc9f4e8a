"""The setting of a run: what is trained on what, where and how, once data and backbone are loaded."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from toolkit import provenance
from toolkit.backbones import Backbone, select_blocks
from toolkit.data import Dataset, load_dataset
from toolkit.data.augment import default_views
from toolkit.errors import RunError
from toolkit.pixel_depth import HIGH_BYTE, rule_for
from toolkit.preprocess import DECODE_RULES, Preprocessing, rules_for_deep_pixels
from toolkit.progress import Reporter, Silent, working
from toolkit.recipe import Recipe
from toolkit.training.defaults import create_fitting
from toolkit.training.depthwise import DepthwiseGradients, instruction_set
from toolkit.training.device import choose_device, repeatable
from toolkit.training.few_images import with_solver
from toolkit.training.group import Group, joined
from toolkit.training.optim import class_weights
from toolkit.training.precision import Precision, choose_precision

UNSAID = (
    'decode = "full"\n',
    "cutmix = 0.0\n",
    "crop = 0.0\n",
    "randaugment = 0\n",
    "magnitude = 9\n",
    "erase = 0.0\n",
    "erase_area = 0.33\n",
    "refresh = 0.0\n",
    "ema = 0.0\n",
    "average_last = 0\n",
    "patience = 0\n",
    "sam_rho = 0.0\n",
    "bn_reestimate = 0\n",
    "layer_decay = 1.0\n",
    'solver = "steps"\n',
    '[stage3]\nepochs = 0\noptimizer = "sgd"\nhead_lr = 0.001\nbackbone_lr = 0.0001\nmomentum = 0.9\n'
    'weight_decay = 0.0\nschedule = "constant"\nunfreeze = 0\n\n',
    "[distill]\nweight = 0.5\ntemperature = 2.0\n\n",
    "[model]\nflip_test = false\n\n",
)
"""What runs did of which their recipes said nothing, before there was a choice."""


@dataclass(frozen=True)
class Setting:
    """What every part of fine-tuning works with; the same from the first image to the last step.

    Attributes:
        recipe: what to do, with the defaults that do not fit the backbone adapted to it and the solver chosen.
        backbone: the network; its weights change, nothing else does.
        dataset: the images of all processes.
        preprocessing: how a file becomes pixels.
        device: where training runs.
        threads: CPU threads, also those that decode.
        precision: arithmetic of the passes.
        group: the processes that train together.
        reporter: where progress goes; silent in all processes but the first.
        adapted: what was adapted, a sentence for each field.
        depthwise: how depthwise convolutions are differentiated.
    """

    recipe: Recipe
    backbone: Backbone
    dataset: Dataset
    preprocessing: Preprocessing
    device: torch.device
    threads: int
    precision: Precision
    group: Group
    reporter: Reporter
    adapted: tuple[str, ...] = ()
    depthwise: DepthwiseGradients = field(default_factory=DepthwiseGradients)

    @property
    def views(self) -> int:
        """How many views of each training image are kept."""
        return self.recipe.cache.views or default_views(self.recipe.augment)

    @property
    def class_weights(self) -> tuple[float, ...] | None:
        """What the loss of each class is multiplied by, of the training images of all processes; None for nothing."""
        return class_weights(self.recipe.train, self.dataset.split("train").targets, len(self.dataset.labels))


@contextlib.contextmanager
def prepared_setting(recipe: Recipe, reporter: Reporter, precision: str | None = None) -> Iterator[Setting]:
    """Load data and backbone.

    Inside the block PyTorch is seeded and repeatable, and the process is in its group.

    Args:
        recipe: what to do.
        reporter: where progress goes.
        precision: what a run that goes on began in, which ``auto`` might choose otherwise here; None for the recipe's.

    Raises:
        ToolkitError: the data, the backbone, the device or the recipe cannot be used.
    """
    device = choose_device(recipe.train.device)
    threads = recipe.train.threads or provenance.default_threads()
    # What names no GPU of its own, as a seed does, means that one.
    current = torch.cuda.device(device) if device.index is not None else contextlib.nullcontext()
    with current, joined(device.type) as group, repeatable(recipe.seed, threads):
        if not group.leads:
            reporter = Silent()
        if recipe.train.batch_size % group.world:
            raise RunError(
                f"a batch of {recipe.train.batch_size} images cannot be shared by {group.world} processes: give a "
                "multiple of them."
            )
        if device.type == "cuda" and (device.index is None or group.world > 1):
            device = torch.device("cuda", group.local_rank)
        with working(reporter, "looking at the images"):
            dataset = load_dataset(recipe.data, recipe.seed, reporter=reporter)
        with working(reporter, "loading the backbone"):
            recipe, backbone, adapted = create_fitting(recipe, len(dataset.labels), reporter)
            recipe = with_solver(recipe, backbone, dataset)
        # One choice for all processes, whose processors may differ.
        wanted = precision or recipe.train.precision
        chosen = group.broadcast(choose_precision(wanted, device, _computed_by_steps(recipe, backbone)))
        instructions = group.broadcast(instruction_set())
        setting = Setting(
            recipe=recipe,
            backbone=backbone,
            dataset=dataset,
            preprocessing=_preprocessing(recipe, backbone, dataset),
            device=device,
            threads=threads,
            precision=Precision(chosen, device),
            group=group,
            reporter=reporter,
            adapted=adapted,
            depthwise=DepthwiseGradients(instructions),
        )
        _announce(setting)
        yield setting


def identity_of(setting: Setting) -> dict[str, str]:
    """Return what must not change when a run goes on, each thing with its digest.

    To be asked before anything is trained: the starting weights are part of it.
    """
    weights = hashlib.sha256()
    for name, tensor in setting.backbone.model.state_dict().items():
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    # A run that was started before there was a choice goes on: its recipe does not say what it did.
    recipe = setting.recipe.to_toml()
    for line in UNSAID:
        recipe = recipe.replace(line, "")
    return {
        "recipe": hashlib.sha256(recipe.encode()).hexdigest(),
        "classes": hashlib.sha256(repr(setting.dataset.labels).encode()).hexdigest(),
        **{f"{name} images": split.fingerprint for name, split in setting.dataset.splits.items()},
        "starting weights": weights.hexdigest(),
        "precision": setting.precision.name,
    }


def _computed_by_steps(recipe: Recipe, backbone: Backbone) -> list[nn.Module]:
    """Return what the steps of any stage compute besides the head.

    What is trained, or without a cache the whole network.
    """
    if not recipe.cache.use:
        return [backbone.model]
    blocks = [block for _, stage in recipe.stages for block in select_blocks(backbone, stage.unfreeze)]
    return [backbone.model.get_submodule(name) for block in blocks for name in block.modules]


def _preprocessing(recipe: Recipe, backbone: Backbone, dataset: Dataset) -> Preprocessing:
    return Preprocessing.model_validate(
        {
            "height": backbone.image_size,
            "width": backbone.image_size,
            "resize": recipe.data.resize,
            "interpolation": recipe.data.interpolation,
            "decode": DECODE_RULES[recipe.data.decode],
            "crop_fraction": backbone.crop_fraction if recipe.data.resize == "crop" else 1.0,
            **rules_for_deep_pixels(rule_for(recipe.data.sixteen_bit, dataset.split("train").value_ranges)),
        }
    )


def _announce(setting: Setting) -> None:
    recipe, dataset, backbone, precision = setting.recipe, setting.dataset, setting.backbone, setting.precision
    counts = ", ".join(f"{len(split)} {name}" for name, split in dataset.splits.items())
    setting.reporter.line(f"data: {dataset.source}, {len(dataset.labels)} classes, images: {counts}")
    setting.reporter.line(f"backbone: {backbone.name} at {backbone.image_size} px, weights: {backbone.weights}")
    if setting.preprocessing.sixteen_bit != HIGH_BYTE:
        setting.reporter.line(f"pixels of more than 8 bits: {setting.preprocessing.sixteen_bit}")
    setting.reporter.line(
        f"recipe: {recipe.name}, seed {recipe.seed}, on {precision.device} with {setting.threads} threads, trained in "
        f"{precision.name}"
    )
