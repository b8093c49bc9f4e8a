"""Looks for labels that are probably wrong, before anything is trained.

Every image, of all splits, is judged by a classifier that was not trained on it: five folds over what the pretrained
network makes of the images, which never saw a label of theirs. Most of that is kept for training anyway
(``toolkit.training.activations``), so that looking costs a pass over the test images and some sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from toolkit.compare.label_issues import confident_joint, off_diagonal, surprise, suspects
from toolkit.compare.out_of_fold import MOST_FEATURES, OutOfFold, divide_into_folds, out_of_fold, projection
from toolkit.data import SPLITS, Dataset
from toolkit.data.duplicates import Duplicates, Place
from toolkit.results import LabelIssues, ReviewedImage
from toolkit.training.setting import Setting
from toolkit.training.training_data import TrainingData

FOLDS = 5
DIVISIONS = 3
"""Times that all images are divided into folds; the mean depends less on what happens to be in one."""
FEWEST = 5
"""Different pictures that a class must have to be looked at: as many as folds, so that none is without it."""
MOST_SUSPECTS = 100
FEWEST_SUSPECTS = 10
"""Listed even where fewer of them are wrong than not: a person sees that at a glance."""
MOST_NUMBERS = 100_000_000
"""Numbers that are held in memory at a time: 400 MB. Of more images a sample is looked at."""
TOO_WEAK = 0.5
"""A classifier that is right less often has no business to doubt labels."""
FEW_IMAGES = 50
NAMED = 3
"""Suspects that a line names."""


@dataclass(frozen=True)
class LabelCheck:
    """What the look at the labels found.

    Attributes:
        issues: None where nobody looked; their images have no thumbnails yet.
        places: where the images of the suspects are, in their order.
        not_looked: why nobody looked, as a phrase.
    """

    issues: LabelIssues | None = None
    places: tuple[Place, ...] = ()
    not_looked: str | None = None

    def plain(self) -> dict[str, Any]:
        """Return it as a checkpoint keeps it."""
        issues = None if self.issues is None else self.issues.model_dump()
        return {"issues": issues, "places": [tuple(place) for place in self.places], "not_looked": self.not_looked}


@dataclass(frozen=True, eq=False)
class _Chosen:
    """The images that are looked at.

    Attributes:
        places: where they are, in the order of the splits.
        targets: their labels, numbered among ``classes``, int64 ``[n]``.
        groups: numbers that copies of one picture share, int64 ``[n]``.
        classes: indices of the labels that are looked at, int64 ``[C]``.
        left_out: labels with too few images.
        of: how many images there are of ``classes``.
    """

    places: tuple[Place, ...]
    targets: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int64]
    left_out: tuple[str, ...]
    of: int


def check_labels(setting: Setting, data: TrainingData, duplicates: Duplicates) -> LabelCheck:
    """Look for labels that are probably wrong, and say it.

    To be called before anything is trained and before a checkpoint is loaded; weights, modes and generators of random
    numbers are left as they are. The same images and seed give the same suspects, also in a run that was resumed.

    Raises:
        FileWriteError: the activations cannot be kept.
        ImageError: an image has gone or changed since it was scanned.
    """
    chosen = _choose(setting, data, duplicates)
    if isinstance(chosen, str):
        return LabelCheck(not_looked=chosen)
    if not data.keep():
        return LabelCheck(not_looked="the activations of the network's frozen part could not be kept on the disk")
    features = _features(setting, data, chosen)
    if not np.isfinite(features).all():
        return LabelCheck(not_looked="the pretrained network computes numbers that are not finite")
    divisions = [
        divide_into_folds(chosen.targets, chosen.groups, FOLDS, [setting.recipe.seed, each])
        for each in range(DIVISIONS)
    ]
    judged = out_of_fold(features, chosen.targets, divisions, len(chosen.classes))
    if judged.accuracy < TOO_WEAK:
        return LabelCheck(
            not_looked=f"a classifier over what the pretrained network makes of the images is right on "
            f"{judged.accuracy:.0%} of them only, too few to doubt a label"
        )
    check = _found(setting, data, chosen, judged, duplicates)
    if check.issues is not None:
        setting.reporter.line(_line(check.issues))
    return check


def recall_labels(setting: Setting, plain: Mapping[str, Any]) -> LabelCheck:
    """Return what was found before a run was interrupted, from ``LabelCheck.plain``, and say it again."""
    issues = None if plain["issues"] is None else LabelIssues.model_validate(plain["issues"])
    if issues is not None:
        setting.reporter.line(_line(issues))
    return LabelCheck(issues, tuple(Place(*place) for place in plain["places"]), plain["not_looked"])


def _choose(setting: Setting, data: TrainingData, duplicates: Duplicates) -> _Chosen | str:
    """Return the images to look at, or why there are none."""
    dataset = setting.dataset
    if not setting.recipe.data.check_labels:
        return "it was not asked for (--no-check-labels)"
    if setting.group.world > 1:
        return "several processes trained together, and each holds a part of the images"
    if data.divided is None:
        return (
            "the network cannot be cut at its frozen part"
            if setting.recipe.cache.use
            else "no activations of the frozen part were kept (--no-cache)"
        )
    places = [Place(name, index) for name in SPLITS for index in range(len(dataset.split(name)))]
    targets = np.concatenate([dataset.split(name).targets for name in SPLITS])
    groups = _groups(dataset, duplicates)
    of_pictures = targets[np.unique(np.stack([targets, groups]), axis=1, return_index=True)[1]]
    enough = np.bincount(of_pictures, minlength=len(dataset.labels)) >= FEWEST
    classes = np.flatnonzero(enough)
    if len(classes) < 2:
        return f"fewer than two classes have {FEWEST} different images"
    candidates = np.flatnonzero(enough[targets])
    numbers = min(_feature_count(data), MOST_FEATURES) + 4 * len(classes)
    most = max(MOST_NUMBERS // numbers, FOLDS * len(classes))
    kept = candidates
    if len(candidates) > most:
        kept = _drawn(candidates, targets, most, [setting.recipe.seed, len(candidates)])
    return _Chosen(
        tuple(places[index] for index in kept),
        np.searchsorted(classes, targets[kept]),
        groups[kept],
        classes,
        tuple(dataset.labels[index] for index in np.flatnonzero(~enough)),
        len(candidates),
    )


def _drawn(
    candidates: npt.NDArray[np.int64], targets: npt.NDArray[np.int64], most: int, seed: Sequence[int]
) -> npt.NDArray[np.int64]:
    """Draw some of the candidates, at random but for the first ones of each class, as many as folds."""
    order = np.random.default_rng(seed).permutation(candidates)
    first = np.zeros(len(order), np.bool_)
    for each in np.unique(targets[order]):
        first[np.flatnonzero(targets[order] == each)[:FOLDS]] = True
    return np.sort(order[np.argsort(~first, kind="stable")[:most]])


def _groups(dataset: Dataset, duplicates: Duplicates) -> npt.NDArray[np.int64]:
    """Number all images such that the copies of a picture share a number."""
    starts = dict(zip(SPLITS, np.cumsum([0, *(len(dataset.split(name)) for name in SPLITS)]).tolist(), strict=False))
    numbers = np.arange(sum(len(dataset.split(name)) for name in SPLITS))
    for group in duplicates.groups:
        members = [starts[place.split] + place.position for place in group]
        # A group of near copies holds all places of each of its contents: no other group reaches out of it.
        numbers[members] = numbers[members].min()
    return numbers


def _feature_count(data: TrainingData) -> int:
    """Return how many numbers stand for an image: of a feature map one per channel, of tokens one per column."""
    tensors = () if data.divided is None else data.divided.division.tensors
    return sum(tensor.shape[0] if len(tensor.shape) == 3 else tensor.shape[-1] for tensor in tensors)


def _features(setting: Setting, data: TrainingData, chosen: _Chosen) -> npt.NDArray[np.float32]:
    count = _feature_count(data)
    project = projection(count, setting.recipe.seed)
    features = np.empty((len(chosen.places), min(count, MOST_FEATURES)), np.float32)
    filled = 0
    with setting.reporter.bar("checking labels", len(features), "img") as bar:
        for tensors in _batches(data, chosen.places):
            batch = torch.cat([_averaged(tensor) for tensor in tensors], dim=1).numpy()
            features[filled : filled + len(batch)] = batch if project is None else batch @ project
            filled += len(batch)
            bar.advance(len(batch))
    return features


def _batches(data: TrainingData, places: Sequence[Place]) -> Iterator[list[torch.Tensor]]:
    for name in SPLITS:
        yield from data.unaugmented(name, np.array([each.position for each in places if each.split == name], np.int64))


def _averaged(tensor: torch.Tensor) -> torch.Tensor:
    """Return ``[b, features]`` of a vector, a feature map ``[b, C, H, W]`` or tokens ``[b, T, C]``: over positions."""
    if tensor.dim() == 4:
        return tensor.mean((2, 3))
    return tensor.flatten(1, -2).mean(1) if tensor.dim() > 2 else tensor


def _found(
    setting: Setting, data: TrainingData, chosen: _Chosen, judged: OutOfFold, duplicates: Duplicates
) -> LabelCheck:
    found = confident_joint(judged.probabilities, chosen.targets)
    surprising = surprise(judged.probabilities, chosen.targets)
    count = min(max(surprising.listed, FEWEST_SUSPECTS), MOST_SUSPECTS)
    listed = suspects(judged.probabilities, chosen.targets, count).tolist()
    places = tuple(chosen.places[index] for index in listed)
    issues = LabelIssues(
        looked_at=len(chosen.places),
        estimated_wrong=surprising.wrong,
        folds=FOLDS,
        features=_in_words(setting, data),
        accuracy=judged.accuracy,
        suspects=tuple(_suspect(setting.dataset, chosen, judged, index) for index in listed),
        limits=_limits(setting, chosen, judged, duplicates, off_diagonal(found, len(chosen.targets))),
    )
    return LabelCheck(issues, places)


def _suspect(dataset: Dataset, chosen: _Chosen, judged: OutOfFold, index: int) -> ReviewedImage:
    place, target, row = chosen.places[index], int(chosen.targets[index]), judged.probabilities[index]
    predicted = int(row.argmax())
    return ReviewedImage(
        split=place.split,
        name=dataset.split(place.split).names[place.position],
        label=dataset.labels[chosen.classes[target]],
        predicted=dataset.labels[chosen.classes[predicted]],
        probability=float(row[predicted]),
        label_probability=float(row[target]),
        thumbnail=None,
    )


def _in_words(setting: Setting, data: TrainingData) -> str:
    names = ", ".join(tensor.name for tensor in data.divided.division.tensors) if data.divided else ""
    return (
        f"what {setting.backbone.name} with its starting weights makes of the images ({names}, averaged over "
        f"positions: {_feature_count(data)} numbers)"
    )


def _limits(
    setting: Setting, chosen: _Chosen, judged: OutOfFold, duplicates: Duplicates, confident: int
) -> tuple[str, ...]:
    smallest = int(np.bincount(chosen.targets).argmin())
    fewest = int((chosen.targets == smallest).sum())
    shown = ", ".join(chosen.left_out[:NAMED])
    more = f" and {len(chosen.left_out) - NAMED} more" if len(chosen.left_out) > NAMED else ""
    sentences = (
        f"The classifier that judges is right on {judged.accuracy:.1%} of the images. The count is what is left of the "
        "labels that it finds improbable after those that it should meet if it knows how unsure it is: wrong labels "
        f"that it finds likely enough are not in it. The joint of confident learning would count {confident}, its own "
        "confident mistakes among them.",
        "An image that shows two things or could be either is listed as if its label were wrong: look at it first.",
        "A mistake made throughout, such as all images of one kind in the wrong class, cannot be seen: the classifier "
        "learns it.",
        None
        if duplicates.near is not None
        else "Copies that are the same byte for byte are judged together; re-encoded, resized or cropped ones confirm "
        "each other's label (--check-duplicates finds them).",
        f"The class {setting.dataset.labels[chosen.classes[smallest]]} has {fewest} images only: on few images the "
        "estimate varies."
        if fewest < FEW_IMAGES
        else None,
        f"Classes with fewer than {FEWEST} different images were not looked at: {shown}{more}."
        if chosen.left_out
        else None,
        f"Of {chosen.of} images {len(chosen.places)}, drawn at random, were looked at."
        if len(chosen.places) < chosen.of
        else None,
    )
    return tuple(sentence for sentence in sentences if sentence is not None)


def _line(issues: LabelIssues) -> str:
    named = ", ".join(f"{each.name} ({each.label}, not {each.predicted}?)" for each in issues.suspects[:NAMED])
    verb = "looks" if issues.estimated_wrong == 1 else "look"
    count = (
        f"at least {issues.estimated_wrong} of {issues.looked_at} {verb} wrong"
        if issues.estimated_wrong
        else "none stands out as wrong"
    )
    return f"labels: {count} to a classifier that did not see them and is right on {issues.accuracy:.1%}" + (
        f"; the most suspect: {named}" if named else ""
    )
