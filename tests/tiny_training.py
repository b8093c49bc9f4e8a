"""A network, images and a setting that a unit test trains in milliseconds; and a recipe for whole runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from toolkit.backbones import Backbone, Block
from toolkit.bundle.manifest import Normalization
from toolkit.data import Dataset
from toolkit.data.dataset import Split, split_of_arrays
from toolkit.preprocess import Preprocessing
from toolkit.progress import Bar, Silent
from toolkit.recipe import Recipe, load_recipe
from toolkit.training.defaults import regularised
from toolkit.training.group import Group
from toolkit.training.precision import Precision
from toolkit.training.setting import Setting

SIZE = 8
LABELS = ("dark", "bright")


class TinyNetwork(nn.Module):
    """Two convolutions and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.fc = nn.Linear(6, len(LABELS))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.body(self.stem(images)).mean((2, 3)))
        return logits


class TinyResidual(TinyNetwork):
    """The same with shortcuts around the second convolution and around a third."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.last = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, len(LABELS))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.stem(images)
        maps = maps + self.body(maps)
        maps = maps + self.last(maps)
        logits: torch.Tensor = self.fc(maps.mean((2, 3)))
        return logits


def tiny_backbone(residual: bool = False) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = (TinyResidual() if residual else TinyNetwork()).eval()
    return Backbone(
        name="test:tiny",
        model=model,
        head=("fc",),
        blocks=(Block("stem", ("stem",)), Block("body", ("body", "last") if residual else ("body",))),
        weights="random",
        weights_license=None,
        normalization=Normalization(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        image_size=SIZE,
        interpolation="bilinear",
        crop_fraction=1.0,
    )


def tiny_split(name: str, count: int, seed: int = 0) -> Split:
    """Return dark and bright noise in turn."""
    targets = np.arange(count, dtype=np.int64) % 2
    noise = np.random.default_rng([seed, count]).integers(0, 80, (count, SIZE, SIZE, 3))
    images = (noise + 120 * targets[:, None, None, None]).astype(np.uint8)
    return split_of_arrays(name, images, targets, tuple(f"{name}/{index}" for index in range(count)), LABELS)


def tiny_recipe(**changes: Any) -> Recipe:
    """Return the recipe of a setting; ``train__batch_size=4`` changes ``train.batch_size``."""
    fields = {
        "train.batch_size": 4,
        "train.precision": "float32",
        "stage1.epochs": 1,
        "stage2.epochs": 2,
        "stage1.head_lr": 0.1,
        "stage2.head_lr": 0.1,
        "stage2.backbone_lr": 0.01,
        "cache.use": False,
        "cache.dtype": "float32",
    }
    return Recipe().override({**fields, **{key.replace("__", "."): value for key, value in changes.items()}})


def tiny_setting(recipe: Recipe, reporter: Silent | None = None) -> Setting:
    """Return a setting on the CPU: 18 training, 6 validation and 4 test images.

    The network has shortcuts where the recipe asks for stochastic depth.
    """
    splits = {name: tiny_split(name, count) for name, count in (("train", 18), ("validation", 6), ("test", 4))}
    device = torch.device("cpu")
    backbone = tiny_backbone(residual=bool(recipe.train.drop_path))
    recipe, _ = regularised(recipe, backbone)
    return Setting(
        recipe=recipe,
        backbone=backbone,
        dataset=Dataset("made", LABELS, splits),
        preprocessing=Preprocessing(height=SIZE, width=SIZE, resize="squash", interpolation="bilinear"),
        device=device,
        threads=1,
        precision=Precision("float32", device),
        group=Group(),
        reporter=reporter or Silent(),
    )


def small_run_recipe(**changes: Any) -> Recipe:
    """Return a recipe that a whole run of ``finetune_run`` needs about a second for, without a cache."""
    fields = {
        "backbone.name": "timm:test_efficientnet",
        "backbone.weights": "none",
        "backbone.image_size": 32,
        "data.train_limit": 60,
        "data.test_limit": 20,
        "train.batch_size": 16,
        "train.threads": 1,
        "train.precision": "float32",
        "stage1.epochs": 1,
        "stage2.epochs": 1,
        "cache.use": False,
    }
    return load_recipe("digits").override(
        {**fields, **{key.replace("__", "."): value for key, value in changes.items()}}
    )


class Listening(Silent):
    """Keeps what is said, and does something when a bar of a given description opens."""

    def __init__(self, at: str = "", act: Any = None) -> None:
        self.lines: list[str] = []
        self.bars: list[str] = []
        self._at = at
        self._act = act

    def line(self, text: str) -> None:
        self.lines.append(text)

    @contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Bar]:
        self.bars.append(description)
        if self._act is not None and description == self._at:
            self._act()
        with Silent().bar(description, total, unit) as silent:
            yield silent
