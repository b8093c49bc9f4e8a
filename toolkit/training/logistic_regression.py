"""Multinomial logistic regression to its optimum: L-BFGS, with an L2 penalty that cross-validation chooses.

Features are centred and divided by one number, so that their mean squared length is 1 and a penalty means the same for
every network. The bias is penalised too, little enough not to matter where a class has images, so that there is one
optimum whatever the images: also where the classes can be separated, or a fold is without one of them. Where there are
fewer samples than features, the problem is solved in the space that the samples span, in which the optimum lies: it is
the same problem, and smaller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

PENALTIES = tuple(10 ** (-half / 2) for half in range(2, 13))
"""From 0.1 down to 1e-6, the strongest first: each solution is a good start for the next."""
WITHOUT_FOLDS = 1e-2
"""Penalty where there are too few images to choose one."""
MOST_WORSE = 2
"""Penalties in a row that predict worse, after which no weaker one is tried: once one has predicted better than the
frequencies of the classes do. With two images a class the strongest ones learn of an image left out no more than that
its class is the rarer one, and predict worse the weaker they are, until the features count."""
BIAS = 0.01
"""Share of the penalty that is on the bias."""
ITERATIONS = 2000
GRADIENT = 1e-7
"""Largest component of the gradient at which it has converged; features and loss are of the order of 1."""


@dataclass(frozen=True)
class Choice:
    """Which penalty cross-validation chose.

    Attributes:
        l2: the one whose predictions of the images left out have the lowest cross-entropy.
        right: bool ``[m]``, which of the images that can be judged are right with it when their fold is left out.
    """

    l2: float
    right: npt.NDArray[np.bool_]


class LogisticRegression:
    """The problem of a data set; its solutions are float64 ``[C, r + 1]``, the bias in the last column."""

    def __init__(
        self,
        features: torch.Tensor,
        targets: npt.NDArray[np.int64],
        classes: int,
        *,
        class_weights: Sequence[float] | None = None,
        bias: bool = True,
    ) -> None:
        """Prepare.

        Args:
            features: ``[views, n, d]``: of every view of every image. Each view counts for its share of an image.
            targets: class of each image, ``[n]``, 0 to C - 1.
            classes: C.
            class_weights: what the loss of each class is multiplied by; None where all count alike.
            bias: whether the solution may have one.
        """
        self._targets = torch.from_numpy(targets)
        self._classes, self._bias = classes, bias
        counts = torch.tensor(class_weights or [1.0] * classes, dtype=torch.float64)
        self._weights = counts[self._targets]
        views, images, width = features.shape
        samples = features.reshape(-1, width).double()
        self._mean = samples.mean(dim=0) if bias else torch.zeros(width, dtype=torch.float64)
        samples = samples - self._mean
        length = float(samples.square().sum(dim=1).mean().sqrt())
        # Where all features are the same for every image there is nothing but the bias to find.
        self._scale = length if length > 0 else 1.0
        samples = samples / self._scale
        self._basis: torch.Tensor | None = None
        if len(samples) < width:
            self._basis, samples = _in_their_span(samples)
        self._samples = samples.reshape(views, images, -1)
        self.views = views

    def solve(
        self, l2: float, images: npt.NDArray[np.bool_] | None = None, start: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the optimum, float64 ``[C, r + 1]``.

        Args:
            l2: half of it times the squared length of the weights is added to the mean cross-entropy.
            images: which of them count, ``[n]``; all by default.
            start: where to begin, a solution of a neighbouring problem; the optimum is the same.
        """
        shape = (self._classes, self._samples.shape[-1] + 1)
        solution = torch.zeros(shape, dtype=torch.float64) if start is None else start.clone()
        solution.requires_grad_()
        optimizer = torch.optim.LBFGS(
            [solution],
            max_iter=ITERATIONS,
            tolerance_grad=GRADIENT,
            tolerance_change=1e-15,
            history_size=20,
            line_search_fn="strong_wolfe",
        )
        chosen = self._chosen(images)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            weights, bias = solution[:, :-1], solution[:, -1]
            penalty = l2 / 2 * (weights.square().sum() + BIAS * bias.square().sum())
            objective = self._cross_entropy(solution, chosen) + penalty
            objective.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            return objective

        optimizer.step(closure)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return solution.detach()

    def choose(self, folds: npt.NDArray[np.int64]) -> Choice | None:
        """Choose the penalty by cross-validation, see ``Choice``; None where no image can be judged.

        An image whose class is in no other fold cannot: it is wrong with any penalty, the less so the stronger that is.

        Args:
            folds: of each image, ``[n]``, two different ones or more; the views of an image stay together.
        """
        classes_and_folds = torch.unique(torch.stack([self._targets, torch.from_numpy(folds)]), dim=1)
        folds_of_class = torch.bincount(classes_and_folds[0], minlength=self._classes)
        can_be_judged = folds_of_class[self._targets] > 1
        if not can_be_judged.any():
            return None
        targets, weights = self._targets[can_be_judged], self._weights[can_be_judged]
        starts: dict[int, torch.Tensor] = {}
        best, lowest, worse = Choice(PENALTIES[0], np.zeros(len(targets), np.bool_)), math.inf, 0
        for l2 in PENALTIES:
            logits = torch.empty(len(folds), self._classes, dtype=torch.float64)
            for fold in np.unique(folds).tolist():
                starts[fold] = self.solve(l2, folds != fold, starts.get(fold))
                logits[torch.from_numpy(folds == fold)] = self.logits(starts[fold], folds == fold)
            judged = logits[can_be_judged]
            losses = functional.cross_entropy(judged, targets, reduction="none")
            loss = float((losses * weights).mean())
            if loss < lowest:
                right = (judged.argmax(dim=1) == targets).numpy()
                best, lowest, worse = Choice(l2, right), loss, 0
            elif (worse := worse + 1) >= MOST_WORSE and lowest < self._loss_of_frequencies(can_be_judged):
                break
        return best

    def _loss_of_frequencies(self, images: torch.Tensor) -> float:
        """Return the mean cross-entropy of images, bool ``[n]``, of whose classes only the frequencies are known."""
        masses = torch.zeros(self._classes, dtype=torch.float64).index_add(0, self._targets, self._weights)
        losses = -(masses / masses.sum()).log()[self._targets] * self._weights
        return float(losses[images].mean())

    def cross_entropy(self, solution: torch.Tensor) -> float:
        """Return the mean cross-entropy over all views of all images, without the penalty."""
        return float(self._cross_entropy(solution, self._chosen(None)))

    def right(self, solution: torch.Tensor, images: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.bool_]:
        """Return which of the images, bool ``[n]``, are right, bool ``[m]``; of all by default."""
        return (self.logits(solution, images).argmax(dim=1) == self._targets[self._chosen(images)]).numpy()

    def logits(self, solution: torch.Tensor, images: npt.NDArray[np.bool_] | None = None) -> torch.Tensor:
        """Return float64 ``[m, C]`` of the first view of the images, bool ``[n]``; of all by default."""
        return self._logits(solution, self._samples[0, self._chosen(images)])

    def head(self, solution: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return weights ``[C, d]`` and bias ``[C]`` for features as they were given, float64."""
        weights, bias = solution[:, :-1], solution[:, -1]
        if self._basis is not None:
            weights = weights @ self._basis.T
        weights = weights / self._scale
        return weights, bias - weights @ self._mean

    def _chosen(self, images: npt.NDArray[np.bool_] | None) -> torch.Tensor:
        return torch.arange(len(self._targets)) if images is None else torch.from_numpy(np.flatnonzero(images))

    def _cross_entropy(self, solution: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        views, _, width = self._samples.shape
        logits = self._logits(solution, self._samples[:, images].reshape(-1, width))
        losses = functional.cross_entropy(logits, self._targets[images].repeat(views), reduction="none")
        return (losses * self._weights[images].repeat(views)).mean()

    def _logits(self, solution: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        logits = samples @ solution[:, :-1].T
        return logits + solution[:, -1] if self._bias else logits


def _in_their_span(samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an orthonormal basis ``[d, m]`` of a space that holds samples ``[m, d]``, and them in it ``[m, m]``."""
    basis, rest = torch.linalg.qr(samples.T)
    return basis, rest.T
