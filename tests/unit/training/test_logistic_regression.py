from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.linear_model import LogisticRegression as Reference

from toolkit.compare.metrics import softmax
from toolkit.training.logistic_regression import BIAS, MOST_WORSE, PENALTIES, LogisticRegression

Numbers = npt.NDArray[np.float64]


def blobs(counts: tuple[int, ...], features: int = 5, apart: float = 1.0, seed: int = 0) -> tuple[Any, Any]:
    """Return images of each class around a place of its own, ``[1, n, d]``, and their classes."""
    rng = np.random.default_rng(seed)
    targets = np.repeat(np.arange(len(counts)), counts)
    places = apart * rng.standard_normal((len(counts), features))
    return torch.from_numpy((places[targets] + rng.standard_normal((len(targets), features)))[None]), targets


def gradient(problem: LogisticRegression, features: Any, targets: Any, l2: float) -> float:
    """Return the largest component of the gradient at the solution, computed here, from the head that it gives."""
    weights, bias = (each.numpy() for each in problem.head(problem.solve(l2)))
    samples = features.numpy().astype(np.float64).reshape(-1, features.shape[2])
    wanted = np.tile(targets, len(features))
    mean = samples.mean(axis=0)
    scale = np.sqrt(np.square(samples - mean).sum(axis=1).mean()) or 1.0
    scaled = (samples - mean) / scale
    off = softmax(samples @ weights.T + bias) - np.eye(len(bias))[wanted]
    of_weights = off.T @ scaled / len(scaled) + l2 * scale * weights
    of_bias = off.mean(axis=0) + BIAS * l2 * (bias + weights @ mean)
    return float(max(np.abs(of_weights).max(), np.abs(of_bias).max()))


CASES = {
    "that can be separated": blobs((20, 20, 20), apart=10.0),
    "that cannot": blobs((30, 20, 40), apart=0.3),
    "with one image of a class": blobs((20, 1, 15)),
    "of more features than images": blobs((6, 7), features=40),
    "of very large numbers": (1e20 * blobs((20, 20))[0], blobs((20, 20))[1]),
    "of very small numbers": (1e-20 * blobs((20, 20))[0], blobs((20, 20))[1]),
    "far from the origin": (1e4 + blobs((20, 20))[0], blobs((20, 20))[1]),
    "all the same": (torch.full((1, 10, 4), 3.0), np.repeat([0, 1], [7, 3])),
    "in two views": (blobs((10, 10))[0].repeat(2, 1, 1) + torch.tensor([0.0, 0.5])[:, None, None], blobs((10, 10))[1]),
}


@pytest.mark.parametrize("l2", [0.1, 1e-3, 1e-6])
@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_zero_at_the_solution(case: str, l2: float) -> None:
    features, targets = CASES[case]
    problem = LogisticRegression(features, targets, int(targets.max()) + 1)
    assert gradient(problem, features, targets, l2) < 1e-6


@pytest.mark.parametrize("l2", [0.1, 1e-3])
@pytest.mark.parametrize("features", [5, 40])
def test_it_finds_what_scikit_learn_finds(features: int, l2: float) -> None:
    """Without a bias, which scikit-learn does not penalise, the two problems are the same."""
    images, targets = blobs((12, 9, 7), features)
    samples = images[0].numpy()
    scale = np.sqrt(np.square(samples).sum(axis=1).mean())
    reference = Reference(C=1 / (l2 * len(targets)), fit_intercept=False, tol=1e-10, max_iter=10_000)
    reference.fit(samples / scale, targets)
    problem = LogisticRegression(images, targets, 3, bias=False)
    weights, bias = problem.head(problem.solve(l2))
    assert bias.tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_allclose(weights.numpy() * scale, reference.coef_, atol=1e-4)


def test_where_images_tell_nothing_the_shares_of_the_classes_are_predicted() -> None:
    features, targets = CASES["all the same"]
    problem = LogisticRegression(features, targets, 2)
    logits = problem.logits(problem.solve(1e-6)).numpy()
    np.testing.assert_allclose(softmax(logits), np.tile([0.7, 0.3], (10, 1)), atol=1e-5)
    assert problem.cross_entropy(problem.solve(1e-6)) == pytest.approx(-0.7 * np.log(0.7) - 0.3 * np.log(0.3))


def test_a_class_without_images_is_the_least_probable() -> None:
    features, targets = blobs((15, 15), apart=5.0)
    problem = LogisticRegression(features, targets, 3)
    logits = problem.logits(problem.solve(1e-3))
    assert torch.isfinite(logits).all()
    assert (logits.argmax(dim=1) < 2).all()


def test_the_head_gives_the_logits_for_features_as_they_were() -> None:
    for features, targets in CASES.values():
        problem = LogisticRegression(features, targets, int(targets.max()) + 1)
        solution = problem.solve(1e-2)
        weights, bias = problem.head(solution)
        theirs = problem.logits(solution).numpy()
        # Far from the origin rounding of the features themselves is all there is.
        ours = (features[0].double() @ weights.T + bias).numpy()
        np.testing.assert_allclose(ours, theirs, atol=1e-6 * (1 + np.abs(theirs).max()))


def test_class_weights_count_as_that_many_images() -> None:
    features, targets = blobs((8, 8), apart=0.5)
    doubled = torch.cat([features, features[:, targets == 1]], dim=1)
    weighted = LogisticRegression(features, targets, 2, class_weights=(2 / 3, 4 / 3), bias=False)
    repeated = LogisticRegression(doubled, np.concatenate([targets, targets[targets == 1]]), 2, bias=False)
    # The two scale their features by other numbers, and with them the penalty.
    ratio = float(features.square().sum(2).mean() / doubled.square().sum(2).mean())
    ours, theirs = weighted.head(weighted.solve(1e-2))[0], repeated.head(repeated.solve(1e-2 * ratio))[0]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_some_of_the_images_are_a_problem_of_their_own() -> None:
    features, targets = blobs((20, 20))
    problem = LogisticRegression(features, targets, 2)
    chosen = np.arange(40) % 2 == 0
    solution = problem.solve(1e-2, chosen)
    assert not torch.equal(problem.solve(1e-2), solution)
    assert problem.right(solution, chosen).shape == (20,)
    # The labels of the others have no say in it.
    mislabelled = LogisticRegression(features, np.where(chosen, targets, 1 - targets), 2)
    assert torch.equal(mislabelled.solve(1e-2, chosen), solution)
    assert problem.right(solution, chosen).tolist() == mislabelled.right(solution, chosen).tolist()
    assert (problem.right(solution, ~chosen) ^ mislabelled.right(solution, ~chosen)).all()


def test_a_start_changes_nothing_but_the_way() -> None:
    features, targets = CASES["that cannot"]
    problem = LogisticRegression(features, targets, 3)
    torch.testing.assert_close(problem.solve(1e-3), problem.solve(1e-3, start=problem.solve(0.1)), atol=1e-4, rtol=0)


def noise() -> LogisticRegression:
    """Return a problem of 60 images that tell nothing of their labels."""
    rng = np.random.default_rng(0)
    return LogisticRegression(
        torch.from_numpy(rng.standard_normal((1, 60, 100))), rng.permutation(np.repeat([0, 1], 30)), 2
    )


def test_labels_that_images_do_not_tell_get_the_strongest_penalty() -> None:
    problem = noise()
    folds = np.arange(60) % 5
    choice = problem.choose(folds)
    assert choice is not None
    assert choice.l2 == PENALTIES[0]
    # Images that were trained on are all right; those that were left out are not, whose share of labels is too small.
    assert problem.right(problem.solve(PENALTIES[4])).all()
    assert choice.right.mean() < 0.7


def test_labels_that_images_tell_get_a_weaker_one_and_are_right_out_of_fold() -> None:
    features, targets = blobs((20, 20, 20), apart=4.0)
    choice = LogisticRegression(features, targets, 3).choose(np.arange(60) % 5)
    assert choice is not None
    assert choice.l2 < PENALTIES[0]
    assert choice.right.mean() > 0.95


def test_a_class_that_is_in_one_fold_alone_says_nothing_of_the_penalty() -> None:
    alone, alone_targets = blobs((10, 10), apart=4.0)
    rare = 4.0 * np.random.default_rng(1).standard_normal((1, 8, 5))
    features = torch.cat([alone, torch.from_numpy(rare)], dim=1)
    targets = np.concatenate([alone_targets, np.arange(2, 10)])
    choice = LogisticRegression(features, targets, 10).choose(np.arange(28) % 5)
    assert choice is not None
    assert choice.l2 < PENALTIES[2]
    assert choice.right.shape == (20,)
    assert choice.right.mean() > 0.9
    # Copies of an image are in one fold: nothing can be told of either.
    copies = LogisticRegression(alone[:, 9:11].repeat(1, 2, 1), np.array([0, 1, 0, 1]), 2)
    assert copies.choose(np.arange(4) % 2) is None


@pytest.mark.parametrize("weight", [0.1, 1.0, 10.0])
def test_penalties_that_predict_worse_and_worse_end_the_search(monkeypatch: pytest.MonkeyPatch, weight: float) -> None:
    tried: list[float] = []
    solve = LogisticRegression.solve

    def noted(self: LogisticRegression, l2: float, *rest: Any) -> torch.Tensor:
        tried.append(l2)
        return solve(self, l2, *rest)

    monkeypatch.setattr(LogisticRegression, "solve", noted)
    features, targets = blobs((20, 20, 20))
    choice = LogisticRegression(features, targets, 3, class_weights=[weight] * 3).choose(np.arange(60) % 5)
    assert choice is not None
    assert sorted(set(tried), reverse=True) == list(PENALTIES[: PENALTIES.index(choice.l2) + 1 + MOST_WORSE])
    assert min(tried) > PENALTIES[-1]
    # Where none predicts better than the frequencies of the classes, a weaker one still may.
    tried.clear()
    noise().choose(np.arange(60) % 5)
    assert set(tried) == set(PENALTIES)


def test_two_images_of_each_of_many_classes_do_not_get_the_strongest_penalty() -> None:
    """What is left out is the rarer class of its folds: stronger penalties learn that first."""
    features, targets = blobs((2,) * 300, features=20)
    folds = np.arange(len(targets)) % 5
    problem = LogisticRegression(features, targets, 300)
    choice = problem.choose(folds)
    assert choice is not None
    losses = [out_of_fold_loss(problem, features, targets, folds, l2) for l2 in PENALTIES]
    assert choice.l2 == PENALTIES[int(np.argmin(losses))]
    assert losses[0] < min(losses[1 : 1 + MOST_WORSE])
    assert choice.right.mean() > 0.1


def out_of_fold_loss(problem: LogisticRegression, features: Any, targets: Any, folds: Any, l2: float) -> float:
    """Return the mean cross-entropy of images whose fold is left out, from the heads, computed here."""
    total = 0.0
    for fold in np.unique(folds):
        weights, bias = (each.numpy() for each in problem.head(problem.solve(l2, folds != fold)))
        out = folds == fold
        shares = softmax(features[0].numpy()[out] @ weights.T + bias)
        total -= float(np.log(shares[np.arange(out.sum()), targets[out]]).sum())
    return total / len(targets)


def test_it_repeats_bit_for_bit() -> None:
    features, targets = CASES["that cannot"]
    first, second = (LogisticRegression(features.clone(), targets.copy(), 3) for _ in range(2))
    folds = np.arange(len(targets)) % 5
    choices = first.choose(folds), second.choose(folds)
    assert choices[0] is not None
    assert choices[1] is not None
    assert choices[0].l2 == choices[1].l2
    assert torch.equal(first.solve(1e-3), second.solve(1e-3))
