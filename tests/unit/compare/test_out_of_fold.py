from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from toolkit.compare import out_of_fold as module
from toolkit.compare.label_issues import surprise, suspects
from toolkit.compare.metrics import softmax
from toolkit.compare.out_of_fold import MOST_FEATURES, divide_into_folds, out_of_fold, projection


def blobs(count: int = 60, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = np.arange(count, dtype=np.int64) % classes
    centres = 4 * rng.standard_normal((classes, 6))
    return (centres[targets] + rng.standard_normal((count, 6))).astype(np.float32), targets


class TestFolds:
    def test_every_fold_has_its_share_of_every_class(self) -> None:
        targets = np.repeat([0, 1, 2], [50, 23, 7]).astype(np.int64)
        folds = divide_into_folds(targets, np.arange(80), 5, seed=[3])
        table = np.array([np.bincount(targets[folds == fold], minlength=3) for fold in range(5)])
        assert (table.max(axis=0) - table.min(axis=0)).tolist() == [0, 1, 1]

    def test_copies_stay_together(self) -> None:
        targets = np.arange(40, dtype=np.int64) % 2
        groups = np.arange(40)
        groups[[5, 17, 38]] = 5
        for seed in range(5):
            folds = divide_into_folds(targets, groups, 5, [seed])
            assert len(set(folds[[5, 17, 38]].tolist())) == 1

    def test_the_seed_decides(self) -> None:
        targets, groups = np.arange(40, dtype=np.int64) % 2, np.arange(40)
        first, again, other = (divide_into_folds(targets, groups, 5, [seed]).tolist() for seed in (1, 1, 2))
        assert first == again
        assert first != other


def test_each_image_is_judged_by_a_discriminant_of_the_other_folds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHRINKAGES", (0.3,))
    features, targets = blobs()
    folds = divide_into_folds(targets, np.arange(60), 5, seed=[0])
    judged = out_of_fold(features.copy(), targets, [folds], 3)
    standardised = (features - features.mean(axis=0)) / features.std(axis=0)
    for fold in range(5):
        inside = folds == fold
        peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(standardised[~inside], targets[~inside])
        expected = softmax(peer.decision_function(standardised[inside]) / judged.temperature)
        assert judged.probabilities[inside] == pytest.approx(expected, abs=2e-3)


def test_a_planted_label_does_not_sway_what_is_said_of_it() -> None:
    features, targets = blobs(count=120)
    planted = targets.copy()
    planted[7] = (planted[7] + 1) % 3
    judged = out_of_fold(features, planted, [divide_into_folds(planted, np.arange(120), 5, seed=[0])], 3)
    assert judged.probabilities[7, targets[7]] > 0.9
    assert judged.accuracy == pytest.approx(119 / 120)
    assert judged.probabilities.sum(axis=1) == pytest.approx(1.0)


def test_three_wrong_labels_of_digits_are_among_the_first_ten() -> None:
    digits = load_digits()
    features, truth = digits.data.astype(np.float32), digits.target.astype(np.int64)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        planted = rng.choice(len(truth), 3, replace=False)
        labels = truth.copy()
        labels[planted] = (truth[planted] + rng.integers(1, 10, 3)) % 10
        folds = divide_into_folds(labels, np.arange(len(labels)), 5, [seed])
        judged = out_of_fold(features.copy(), labels, [folds], 10)
        assert set(planted.tolist()) <= set(suspects(judged.probabilities, labels, 10).tolist())
        assert 3 <= surprise(judged.probabilities, labels).wrong < 30


def test_of_several_divisions_the_mean_of_the_logits_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHRINKAGES", (0.3,))
    monkeypatch.setattr(module, "TEMPERATURES", (1.0,))
    features, targets = blobs()
    divisions = [divide_into_folds(targets, np.arange(60), 5, [seed]) for seed in range(2)]
    first, second = (out_of_fold(features.copy(), targets, [each], 3).probabilities for each in divisions)
    mean = np.sqrt(first * second)
    both = out_of_fold(features.copy(), targets, divisions, 3).probabilities
    assert both == pytest.approx(mean / mean.sum(axis=1, keepdims=True), abs=1e-4)


def test_constant_features_and_a_class_that_a_fold_lacks_do_no_harm() -> None:
    features, targets = blobs(count=30)
    features[:, 2] = 5
    targets[0] = 3
    judged = out_of_fold(features, targets, [divide_into_folds(targets, np.arange(30), 5, seed=[0])], 4)
    assert np.isfinite(judged.probabilities).all()
    assert judged.probabilities[0, 3] == 0


def test_many_features_are_projected() -> None:
    assert projection(MOST_FEATURES, 0) is None
    found = projection(MOST_FEATURES + 1, 4)
    assert found is not None
    assert (found.shape, found.dtype) == ((MOST_FEATURES + 1, MOST_FEATURES), np.float32)
    assert np.array_equal(found, projection(MOST_FEATURES + 1, 4))
