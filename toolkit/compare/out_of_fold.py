"""What a classifier says to images that it was not trained on: k folds over features that never saw a label.

Linear discriminant analysis (Fisher 1936), with a covariance that is shrunk towards a multiple of the identity, because
it has a closed form: the classifier of each fold comes from sums over all images less those over the fold, so that
looking at every image costs about as much as one product of the features with themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toolkit.compare.metrics import softmax

Features = npt.NDArray[np.float32]
Targets = npt.NDArray[np.int64]

SHRINKAGES = (0.1, 0.3, 0.6, 0.9)
"""Shares of the identity in the covariance; the one that predicts the labels of the first fold best is taken."""
TEMPERATURES = tuple(float(each) for each in np.geomspace(0.2, 20, 40))
"""What logits are divided by (Guo et al. 2017); the one that predicts the labels best is taken."""
FINER = tuple(float(each) for each in np.geomspace(1 / 1.12, 1.12, 11))
"""Around the best one of those: how improbable the most improbable labels are hangs on it."""
LABEL_NOISE = 0.02
"""Share of labels taken for drawn at random when these are chosen: wrong ones are what is looked for, and the plain
likelihood would have the classifier be unsure of every image for the sake of a few of them."""
MOST_FEATURES = 1536
"""More are projected on so many directions drawn at random, which keeps distances (Johnson and Lindenstrauss 1984)."""


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Probabilities of images from classifiers that were not trained on them.

    Attributes:
        probabilities: float64 ``[n, C]``, rows sum to 1.
        accuracy: share of images whose most probable class is their label.
        shrinkage: which of ``SHRINKAGES`` was taken.
        temperature: what the logits were divided by.
    """

    probabilities: npt.NDArray[np.float64]
    accuracy: float
    shrinkage: float
    temperature: float


def divide_into_folds(targets: Targets, groups: Targets, count: int, seed: Sequence[int]) -> Targets:
    """Divide images into folds, each with its share of every class; images of one group stay together.

    Args:
        targets: class of each image, ``[n]``.
        groups: number of each image's group, ``[n]``; copies of one picture are a group.
        count: how many folds.
        seed: of the order.

    Returns:
        int64 ``[n]``, 0 to count - 1.
    """
    random = np.random.default_rng([*seed, len(targets), count])
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    order = random.permutation(len(first))
    # One class after the other, dealt out in turn.
    order = order[np.argsort(targets[first][order], kind="stable")]
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(order)) % count
    return np.asarray(fold[group.reshape(-1)], np.int64)


def projection(features: int, seed: int) -> Features | None:
    """Return what takes ``features`` numbers to ``MOST_FEATURES``, float32; None where they are no more than that."""
    if features <= MOST_FEATURES:
        return None
    return np.random.default_rng([seed, features]).standard_normal((features, MOST_FEATURES), np.float32)


def out_of_fold(features: Features, targets: Targets, divisions: Sequence[Targets], classes: int) -> OutOfFold:
    """Classify each image by all folds but its own, in several divisions, and take the mean of the logits.

    The shrinkage and the temperature, two numbers in all, are chosen by what they make of labels out of fold.

    Args:
        features: float32 ``[n, d]``; standardised in place.
        targets: labels, ``[n]``, 0 to C - 1.
        divisions: fold of each image, from ``divide_into_folds``, for each division.
        classes: C.
    """
    # Without a copy of the features, which may be as large as the memory allows.
    features -= features.mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation = np.sqrt(np.einsum("nd,nd->d", features, features, dtype=np.float64) / len(features))
    features /= np.where(deviation > 0, deviation, 1).astype(np.float32)
    everything = _Sums.of(features, targets, classes)
    logits = np.zeros((len(features), classes), np.float32)
    shrinkage: float | None = None
    for inside in (folds == fold for folds in divisions for fold in np.unique(folds)):
        held_out = features[inside]
        rest = everything.less(_Sums.of(held_out, targets[inside], classes))
        if shrinkage is None:
            tried = {each: _best_temperature(rest.logits(held_out, each), targets[inside])[0] for each in SHRINKAGES}
            shrinkage = min(tried, key=lambda each: tried[each])
        logits[inside] += rest.logits(held_out, shrinkage) / len(divisions)
    _, temperature = _best_temperature(logits, targets)
    probabilities = softmax(logits / temperature)
    accuracy = float((probabilities.argmax(axis=1) == targets).mean())
    return OutOfFold(probabilities, accuracy, shrinkage or 0.0, temperature)


@dataclass(frozen=True, eq=False)
class _Sums:
    """What a discriminant needs to know of images; they can be taken away again.

    Attributes:
        images: of each class, ``[C]``.
        first: sum of the features of each class, float64 ``[C, d]``.
        second: sum of the features' products with each other, float64 ``[d, d]``.
    """

    images: npt.NDArray[np.int64]
    first: npt.NDArray[np.float64]
    second: npt.NDArray[np.float64]

    @classmethod
    def of(cls, features: Features, targets: Targets, classes: int) -> _Sums:
        first = np.zeros((classes, features.shape[1]))
        for index in np.unique(targets):
            first[index] = features[targets == index].sum(axis=0, dtype=np.float64)
        return cls(np.bincount(targets, minlength=classes), first, (features.T @ features).astype(np.float64))

    def less(self, other: _Sums) -> _Sums:
        return _Sums(self.images - other.images, self.first - other.first, self.second - other.second)

    def logits(self, features: Features, shrinkage: float) -> Features:
        """Return float32 ``[n, C]``; those of a class without images are as low as can be."""
        images, size = max(int(self.images.sum()), 1), len(self.second)
        means = self.first / np.maximum(self.images, 1)[:, None]
        within = (self.second - (means.T * self.images) @ means) / images
        identity = max(float(within.trace()) / size, 1e-6) * np.eye(size)
        weights = np.linalg.solve((1 - shrinkage) * within + shrinkage * identity, means.T)
        prior = np.log(np.maximum(self.images, 1) / images)
        bias = np.where(self.images > 0, prior - (means * weights.T).sum(axis=1) / 2, -1e6)
        return np.asarray(features @ weights.astype(np.float32) + bias, np.float32)


def _best_temperature(logits: Features, targets: Targets) -> tuple[float, float]:
    """Return how badly the labels are predicted at the best temperature, and that."""

    def best(temperatures: Sequence[float]) -> tuple[float, float]:
        return min((_surprise(logits / temperature, targets), temperature) for temperature in temperatures)

    _, roughly = best(TEMPERATURES)
    return best([roughly * each for each in FINER])


def _surprise(logits: Features, targets: Targets) -> float:
    """Return the mean negative log likelihood of the labels, some of which are taken for random."""
    of_label = softmax(logits)[np.arange(len(targets)), targets]
    return float(-np.log((1 - LABEL_NOISE) * of_label + LABEL_NOISE / logits.shape[1]).mean())
