from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from tiny_training import LABELS, Listening, tiny_backbone, tiny_recipe, tiny_setting, tiny_split
from torch import nn

from toolkit.backbones import Backbone, Block
from toolkit.data import Dataset
from toolkit.data.dataset import split_of_arrays
from toolkit.data.duplicates import Place, find_duplicates
from toolkit.progress import Silent
from toolkit.training import label_check
from toolkit.training.activations import extraction
from toolkit.training.checkpoint import State, load_checkpoint, save_checkpoint
from toolkit.training.group import Group
from toolkit.training.label_check import FEWEST, LabelCheck, check_labels, recall_labels
from toolkit.training.setting import Setting
from toolkit.training.training_data import TrainingData

pytestmark = pytest.mark.usefixtures("in_torch", "own_cache")


def setting_of(listening: Listening | None = None, **changes: Any) -> Setting:
    """60 training, 20 validation and 24 test images, dark and bright, and one test image with the other's label."""
    setting = tiny_setting(tiny_recipe(**{"cache__use": True, **changes}), listening)
    counts = (("train", 60), ("validation", 20), ("test", 24))
    splits = {name: tiny_split(name, count) for name, count in counts}
    planted = splits["test"].targets.copy()
    planted[6] = 1
    splits["test"] = replace(splits["test"], targets=planted)
    return replace(setting, dataset=Dataset("made", LABELS, splits))


def check(setting: Setting) -> LabelCheck:
    with TrainingData(setting) as data:
        return check_labels(setting, data, find_duplicates(setting.dataset, near=False, reporter=Silent()))


def test_a_planted_label_is_named_first_and_said() -> None:
    listening = Listening()
    found = check(setting_of(listening))
    assert found.not_looked is None
    assert found.issues is not None
    assert (found.issues.looked_at, found.issues.estimated_wrong, found.issues.folds) == (104, 1, 5)
    (suspect,) = found.issues.suspects
    assert (suspect.split, suspect.name, suspect.label, suspect.predicted) == ("test", "test/6", "bright", "dark")
    assert suspect.probability > 0.9
    assert suspect.label_probability == pytest.approx(1 - suspect.probability)
    assert suspect.thumbnail is None
    assert found.places == (Place("test", 6),)
    assert listening.lines[-1].startswith("labels: at least 1 of 104 looks wrong to a classifier that did not see them")
    assert listening.lines[-1].endswith("the most suspect: test/6 (bright, not dark?)")
    assert found.issues.features.startswith("what test:tiny with its starting weights makes of the images (")
    assert found.issues.limits[0].startswith("The classifier that judges is right on 99.0% of the images")
    assert not [limit for limit in found.issues.limits if "Of " in limit[:3] or "on few images" in limit]


@pytest.mark.parametrize("asked", [True, False])
def test_what_was_found_comes_back_from_a_checkpoint(asked: bool, tmp_path: Path) -> None:
    listening = Listening()
    setting = setting_of(listening, data__check_labels=asked)
    found, said = check(setting), [line for line in listening.lines if line.startswith("labels: ")]
    save_checkpoint(tmp_path, State(labels=found.plain()))
    state = load_checkpoint(tmp_path)
    assert state is not None
    listening.lines.clear()
    assert recall_labels(setting, state.labels) == found
    assert listening.lines == said
    assert len(said) == asked


def test_the_look_leaves_weights_and_random_numbers_as_they_are_and_repeats_itself() -> None:
    setting = setting_of()
    before = {name: tensor.clone() for name, tensor in setting.backbone.model.state_dict().items()}
    torch.manual_seed(1)
    drawn = torch.random.get_rng_state()
    first = check(setting)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in setting.backbone.model.state_dict().items())
    assert check(setting_of()) == first


class PixelNetwork(nn.Module):
    """Directions drawn at random through a small picture, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 8), nn.Flatten())
        self.fc = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.stem(images))
        return logits


def pixel_backbone() -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = PixelNetwork().eval()
    return replace(tiny_backbone(), model=model, blocks=(Block("stem", ("stem",)),))


@pytest.mark.parametrize("seed", [0, 1])
def test_three_wrong_labels_of_digits_one_in_each_split_are_among_the_first_ten(seed: int) -> None:
    digits = load_digits()
    images = np.repeat(np.rint(digits.images * 15).astype(np.uint8)[..., None], 3, axis=3)
    rng = np.random.default_rng(seed)
    splits, planted = {}, set()
    for name, part in zip(("train", "validation", "test"), np.split(np.arange(1797), [1300, 1450]), strict=True):
        targets = digits.target[part].astype(np.int64)
        place = Place(name, int(rng.integers(len(part))))
        targets[place.position] = (targets[place.position] + rng.integers(1, 10)) % 10
        names = tuple(f"digits/{index}" for index in part)
        splits[name] = split_of_arrays(name, images[part], targets, names, tuple("0123456789"))
        planted.add(place)
    setting = replace(
        tiny_setting(tiny_recipe(cache__use=True, stage2__epochs=0)),
        backbone=pixel_backbone(),
        dataset=Dataset("digits", tuple("0123456789"), splits),
    )
    assert planted <= set(check(setting).places[:10])


def leave_out(setting: Setting, keep: int) -> Setting:
    """Return the setting with so many bright images in all, and all dark ones."""
    splits = {}
    for name, split in setting.dataset.splits.items():
        bright = np.flatnonzero(split.targets == 1)
        few = bright[: {"train": keep - 2, "validation": 1, "test": 1}[name]]
        kept = np.sort(np.concatenate([np.flatnonzero(split.targets == 0), few]))
        splits[name] = replace(
            split,
            sources=[split.sources[index] for index in kept],
            targets=split.targets[kept],
            names=tuple(split.names[index] for index in kept),
            digests=tuple(split.digests[index] for index in kept),
        )
    return replace(setting, dataset=replace(setting.dataset, splits=splits))


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        (lambda: setting_of(data__check_labels=False), "it was not asked for (--no-check-labels)"),
        (lambda: setting_of(cache__use=False), "no activations of the frozen part were kept (--no-cache)"),
        (lambda: setting_of(stage2__unfreeze=2, stage1__epochs=0), "the network cannot be cut at its frozen part"),
        (lambda: leave_out(setting_of(), FEWEST - 1), "fewer than two classes have 5 different images"),
    ],
)
def test_where_nobody_looks_it_is_said_why(setting: Any, why: str) -> None:
    found = check(setting())
    assert (found.issues, found.places, found.not_looked) == (None, (), why)


def test_several_processes_do_not_look() -> None:
    setting = replace(setting_of(), group=Group(0, 2, 0))
    with TrainingData(setting) as data:
        found = check_labels(setting, data, find_duplicates(setting.dataset, near=False, reporter=Silent()))
    assert found.not_looked == "several processes trained together, and each holds a part of the images"


def test_a_full_disk_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "free_bytes", lambda folder: 1000)
    assert check(setting_of()).not_looked == (
        "the activations of the network's frozen part could not be kept on the disk"
    )


def test_a_classifier_that_mostly_guesses_doubts_nobody() -> None:
    setting = setting_of()
    splits = {}
    for name, split in setting.dataset.splits.items():
        rng = np.random.default_rng(len(split))
        splits[name] = replace(split, targets=rng.integers(0, 4, len(split)))
    labels = ("a", "b", "c", "d")
    found = check(replace(setting, dataset=replace(setting.dataset, labels=labels, splits=splits)))
    assert found.issues is None
    assert found.not_looked is not None
    assert found.not_looked.endswith("% of them only, too few to doubt a label")


def test_few_images_small_classes_and_samples_are_limits_that_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = leave_out(setting_of(), 8)
    targets = setting.dataset.split("train").targets.copy()
    targets[:2] = 2
    train = replace(setting.dataset.split("train"), targets=targets)
    dataset = replace(setting.dataset, labels=(*LABELS, "rare"), splits={**setting.dataset.splits, "train": train})
    monkeypatch.setattr(label_check, "MOST_NUMBERS", 700)
    found = check(replace(setting, dataset=dataset))
    assert found.issues is not None
    said = " ".join(found.issues.limits)
    assert "Classes with fewer than 5 different images were not looked at: rare." in said
    assert "The class bright has" in said
    assert f"Of 57 images {found.issues.looked_at}, drawn at random, were looked at." in said
    assert found.issues.looked_at < 57


def test_of_a_sample_no_fold_is_without_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_check, "MOST_NUMBERS", 1)
    setting = leave_out(setting_of(), keep=6)
    with TrainingData(setting) as data:
        duplicates = find_duplicates(setting.dataset, near=False, reporter=Silent())
        chosen = label_check._choose(setting, data, duplicates)
    assert isinstance(chosen, label_check._Chosen)
    assert chosen.of == 57
    assert np.bincount(chosen.targets).tolist() == [5, 5]


def test_copies_are_judged_together() -> None:
    setting = setting_of()
    splits = dict(setting.dataset.splits)
    train, test = splits["train"], splits["test"]
    # The picture with the planted label is among the training images too, with the same wrong label.
    splits["train"] = replace(
        train,
        sources=[test.sources[6], *train.sources[1:]],
        targets=np.array([1, *train.targets[1:]]),
        digests=(test.digests[6], *train.digests[1:]),
        fingerprint="with a copy",
    )
    setting = replace(setting, dataset=replace(setting.dataset, splits=splits))
    with TrainingData(setting) as data:
        duplicates = find_duplicates(setting.dataset, near=False, reporter=Silent())
        chosen = label_check._choose(setting, data, duplicates)
        found = check_labels(setting, data, duplicates)
    assert isinstance(chosen, label_check._Chosen)
    copies = [chosen.places.index(place) for place in (Place("train", 0), Place("test", 6))]
    assert len({int(chosen.groups[index]) for index in copies}) == 1
    assert len(np.unique(chosen.groups)) == 103
    assert set(found.places) == {Place("train", 0), Place("test", 6)}
