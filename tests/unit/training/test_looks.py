from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_training import LABELS, Listening, tiny_recipe, tiny_setting, tiny_split

from toolkit.data import Dataset
from toolkit.data.dataset import Split
from toolkit.training.best_weights import Best
from toolkit.training.looks import Looks, look_at_data
from toolkit.training.setting import Setting
from toolkit.training.training_data import TrainingData


def with_leak(split: Split, train: Split, count: int) -> Split:
    """Return a split whose first images are training images."""
    return replace(
        split,
        sources=[*train.sources[:count], *split.sources[count:]],
        targets=np.concatenate([train.targets[:count], split.targets[count:]]),
        digests=(*train.digests[:count], *split.digests[count:]),
    )


def leaking_setting(listening: Listening) -> Setting:
    setting = tiny_setting(tiny_recipe(), listening)
    splits = dict(setting.dataset.splits)
    splits["test"] = with_leak(splits["test"], splits["train"], 3)
    splits["validation"] = with_leak(splits["validation"], splits["train"], 1)
    return replace(setting, dataset=Dataset("made", LABELS, splits))


def test_the_data_are_looked_at_before_anything_is_trained() -> None:
    listening = Listening()
    duplicates = look_at_data(leaking_setting(listening))
    assert duplicates.leaked("test").mask.tolist() == [True, True, True, False]
    assert any(line.startswith("3 of 4 test images are also in train and validation") for line in listening.lines)
    assert any(line.startswith("1 of 6 validation images is also in train") for line in listening.lines)
    assert any(line.startswith("6 validation images: accuracy moves in steps of 17 points") for line in listening.lines)


def test_imbalance_is_said() -> None:
    listening = Listening()
    setting = tiny_setting(tiny_recipe(), listening)
    train = tiny_split("train", 18)
    few = replace(train, targets=np.array([0] * 16 + [1] * 2))
    look_at_data(replace(setting, dataset=replace(setting.dataset, splits={**setting.dataset.splits, "train": few})))
    assert any("(8 to 1), and always answering 'dark' would be right on 50.0%" in line for line in listening.lines)


def test_accuracy_is_measured_without_what_was_trained_on() -> None:
    listening = Listening()
    setting = leaking_setting(listening)
    with TrainingData(setting) as data:
        looks = Looks(setting, data, look_at_data(setting))
        evaluation, _ = looks.test()
        validation = looks.validation(Best(accuracy=0.5))
    assert evaluation.images == 4
    assert evaluation.leak is not None
    assert (evaluation.leak.images, evaluation.leak.seen_in) == (3, ("train", "validation"))
    assert evaluation.leak.top1_without in (0.0, 1.0)
    assert validation.leak is not None
    assert (validation.leak.images, validation.kept, validation.images) == (1, "last", 6)
    assert validation.interval.low == pytest.approx(0.188, abs=1e-3)
    assert any(line.startswith("1 of 6 validation images is also in train; without") for line in listening.lines)


def test_without_leaks_there_is_one_look_at_the_test_images_and_no_more() -> None:
    listening = Listening()
    setting = tiny_setting(tiny_recipe(), listening)
    with TrainingData(setting) as data:
        looks = Looks(setting, data, look_at_data(setting))
        assert looks.test()[0].leak is None
        assert looks.validation(Best(accuracy=1.0)).leak is None
    assert listening.bars == ["test"]
