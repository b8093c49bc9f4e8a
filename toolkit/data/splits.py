"""Dividing a listing into train, validation and test.

Seeded, stratified by class, the same on every machine and for every question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toolkit.errors import DataError
from toolkit.recipe import DataRecipe

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Part:
    """The images of one split: which pool they are from, and their ascending indices in it (int64 ``[n]``)."""

    pool: str
    indices: Indices


def divide(
    pools: Mapping[str, Indices],
    labels: tuple[str, ...],
    recipe: DataRecipe,
    seed: int,
    first: Indices | None = None,
) -> dict[str, Part]:
    """Divide what a source gives into the three splits.

    Where the source has no test images, they are cut from its training images; so is validation, always after
    ``train_limit``. Each cut has a random stream of its own, so that changing one does not move another.

    Images with the same content stay in one part: the cuts are drawn among the first of each content, and its copies
    follow it. A limit counts different images and leaves copies out.

    Args:
        pools: targets (int64 ``[n]``) of what the source gives, by name: ``train``, and ``validation`` and ``test``
            where it has them.
        labels: class names.
        recipe: fractions and limits.
        seed: of the division.
        first: for each training image the index of the first one with the same content, int64 ``[n]`` (see
            ``toolkit.data.identical``); by default all are different.

    Raises:
        DataError: a class has too few images, or a limit is too small.
    """
    targets = pools["train"]
    first = np.arange(len(targets)) if first is None else first
    if "validation" in pools and "test" in pools:  # nothing is cut: the source's training images are what they are
        first = np.arange(len(targets))
    train = np.flatnonzero(first == np.arange(len(targets)))
    parts_of_train = [
        "training",
        *(["validation"] if "validation" not in pools else []),
        *(["test"] if "test" not in pools else []),
    ]
    _require(targets, train, labels, parts_of_train)
    if "test" in pools:
        test = Part("test", np.arange(len(pools["test"])))
    else:
        chosen = _draw(
            targets,
            train,
            _share(recipe.test_fraction, len(train)),
            labels,
            keep=len(parts_of_train) - 1,
            stream=(seed, 0),
        )
        test, train = Part("train", chosen), np.setdiff1d(train, chosen)
    if recipe.test_limit is not None:
        _check_limit("test_limit", recipe.test_limit, len(labels), 1)
        test = Part(test.pool, _draw(pools[test.pool], test.indices, recipe.test_limit, labels, stream=(seed, 1)))
    per_class = 1 if "validation" in pools else 2
    if recipe.train_limit is not None:
        _check_limit("train_limit", recipe.train_limit, len(labels), per_class)
        train = _draw(targets, train, recipe.train_limit, labels, least=per_class, stream=(seed, 2))
    if "validation" in pools:
        validation = Part("validation", np.arange(len(pools["validation"])))
    else:
        chosen = _draw(targets, train, _share(recipe.validation_fraction, len(train)), labels, keep=1, stream=(seed, 3))
        validation, train = Part("train", chosen), np.setdiff1d(train, chosen)
    parts = {"train": Part("train", train), "validation": validation, "test": test}
    limits = {"train": recipe.train_limit, "validation": recipe.train_limit, "test": recipe.test_limit}
    return {
        name: Part("train", np.flatnonzero(np.isin(first, part.indices)))
        if part.pool == "train" and limits[name] is None
        else part
        for name, part in parts.items()
    }


def allocate(counts: Indices, total: int, least: int, keep: int) -> Indices:
    """Share out ``total`` draws over the classes in proportion to their sizes (largest remainders).

    Args:
        counts: images per class, int64 ``[C]``; each at least ``least + keep``.
        total: draws; brought into what the other arguments allow.
        least: draws that every class gets.
        keep: images that every class keeps.

    Returns:
        int64 ``[C]``; draws per class.
    """
    most = counts - keep
    total = min(max(total, least * len(counts)), int(most.sum()))
    exact = counts * (total / counts.sum())
    shares: Indices = np.clip(np.floor(exact).astype(np.int64), least, most)
    while (missing := total - int(shares.sum())) != 0:
        step = 1 if missing > 0 else -1
        possible = shares < most if step > 0 else shares > least
        shares[np.argmax(np.where(possible, step * (exact - shares), -np.inf))] += step
    return shares


def _draw(
    targets: Indices,
    candidates: Indices,
    total: int,
    labels: tuple[str, ...],
    *,
    stream: tuple[int, int],
    least: int = 1,
    keep: int = 0,
) -> Indices:
    """Draw ``total`` of the candidates, stratified; at most all of them. Ascending."""
    rng = np.random.default_rng(stream)
    of_class = [candidates[targets[candidates] == index] for index in range(len(labels))]
    shares = allocate(np.array([len(members) for members in of_class], np.int64), total, least, keep)
    drawn: Indices = np.concatenate(
        [rng.permutation(members)[:share] for members, share in zip(of_class, shares, strict=True)]
    )
    drawn.sort()
    return drawn


def _share(fraction: float, count: int) -> int:
    return int(fraction * count + 0.5)


def _require(targets: Indices, different: Indices, labels: tuple[str, ...], parts: list[str]) -> None:
    everything = np.bincount(targets, minlength=len(labels))
    counts = np.bincount(targets[different], minlength=len(labels))
    short = [
        f"{labels[index]!r} has {counts[index]}"
        + (f" beside {everything[index] - counts[index]} copies" if everything[index] > counts[index] else "")
        for index in np.flatnonzero(counts < len(parts))
    ]
    if short:
        raise DataError(
            f"too few images to divide into {', '.join(parts)}: class {', '.join(short)}, and each class needs at "
            f"least {len(parts)}. "
            f"Add images of it, or take the class out."
        )


def _check_limit(field: str, limit: int, classes: int, per_class: int) -> None:
    if limit < classes * per_class:
        raise DataError(
            f"{field} is {limit}, too small for {classes} classes: give at least {classes * per_class} ({per_class} "
            "per class)."
        )
