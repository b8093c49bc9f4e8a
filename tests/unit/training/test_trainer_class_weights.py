"""Classes that are rare count for more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import LABELS, SIZE, tiny_recipe, tiny_setting

from toolkit.data import Dataset, Split
from toolkit.data.dataset import split_of_arrays
from toolkit.progress import Silent
from toolkit.training.checkpoint import State
from toolkit.training.interruption import Stopper
from toolkit.training.trainer import Trainer
from toolkit.training.training_data import TrainingData


def overlapping(name: str, counts: tuple[int, int], seed: int) -> Split:
    """Return darker and brighter pictures of one grey each, some of each class like the other."""
    targets = np.repeat(np.arange(2), counts)
    greys = np.random.default_rng(seed).normal(100 + 40 * targets, 30).clip(0, 255)
    images = np.broadcast_to(greys[:, None, None, None], (len(targets), SIZE, SIZE, 3)).astype(np.uint8)
    return split_of_arrays(name, images, targets, tuple(f"{name}/{index}" for index in range(len(targets))), LABELS)


def trained_on_imbalance(**changes: Any) -> Trainer:
    recipe = tiny_recipe(**{"stage1__epochs": 8, "stage2__epochs": 4, "train__batch_size": 10, **changes})
    splits = {"train": overlapping("train", (90, 10), 0), "validation": overlapping("validation", (60, 60), 1)}
    setting = replace(tiny_setting(recipe), dataset=Dataset("made", LABELS, splits))
    trainer = Trainer(setting, TrainingData(setting), State(), lambda: None, Stopper())
    trainer.run()
    return trainer


def recalls(trainer: Trainer) -> tuple[float, float]:
    split = trainer._setting.dataset.split("validation")
    with torch.inference_mode():
        said = trainer._data.image_batches(2).part.infer(torch.from_numpy(np.stack(split.sources))).argmax(1).numpy()
    first, second = (float((said[split.targets == target] == target).mean()) for target in (0, 1))
    return first, second


def test_balanced_weights_find_more_of_the_rare_class() -> None:
    plain, balanced = (recalls(trained_on_imbalance(train__class_weights=name)) for name in ("none", "balanced"))
    assert balanced[1] >= plain[1] + 0.3
    assert sum(balanced) > sum(plain)


def test_with_class_weights_epochs_are_compared_by_the_recall_of_all_classes() -> None:
    trainer = trained_on_imbalance(train__class_weights="balanced", train__keep="best")
    weights = np.array(trainer._setting.class_weights)
    assert weights.tolist() == [100 / 180, 5.0]
    splits = {**trainer._setting.dataset.splits, "validation": overlapping("validation", (90, 10), 1)}
    setting = replace(trainer._setting, dataset=Dataset("made", LABELS, splits))
    other = Trainer(setting, TrainingData(setting), State(), lambda: None, Stopper())
    setting.backbone.model.eval()
    with Silent().bar("", 1, "") as bar:
        _, accuracy, score = other._validate(other._data.image_batches(2), bar)
    first, second = recalls(other)
    assert accuracy == pytest.approx((90 * first + 10 * second) / 100)
    assert score == pytest.approx((first + second) / 2)
