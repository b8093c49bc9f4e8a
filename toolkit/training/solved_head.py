"""The head, solved as logistic regression over what the frozen network makes of the images, in place of stage 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from toolkit.backbones import Backbone, head_layer, watching_head
from toolkit.errors import TrainingError
from toolkit.run_folder import SolvedHead
from toolkit.training.batch_sources import BatchSource
from toolkit.training.few_images import folds_of, views_to_use
from toolkit.training.logistic_regression import WITHOUT_FOLDS, LogisticRegression
from toolkit.training.setting import Setting


@dataclass(frozen=True)
class Solution:
    """A head that was solved.

    Attributes:
        weights: ``[C, d]``, float64.
        bias: ``[C]``, float64.
        record: how.
        loss: mean cross-entropy over all views of the training images.
        right: how many training images are right, as they are.
    """

    weights: torch.Tensor
    bias: torch.Tensor
    record: SolvedHead
    loss: float
    right: int


def problem_of(setting: Setting, batches: BatchSource) -> LogisticRegression:
    """Return the problem of the head: that of the training images of all processes, the same in each.

    Args:
        setting: the run; its blocks must be as they were before training.
        batches: of a stage.

    Raises:
        TrainingError: what the network makes of the images is not finite.
    """
    train, classes, group = setting.dataset.split("train"), len(setting.dataset.labels), setting.group
    views = views_to_use(len(train), classes, batches.views)
    setting.backbone.model.eval()
    with torch.no_grad():
        own = np.stack([_head_inputs(setting.backbone, batches, view) for view in range(views)])
    features = np.empty((views, len(train), own.shape[2]), np.float32)
    for rank, part in enumerate(group.gather(own)):
        features[:, rank :: group.world] = part
    off = int((~np.isfinite(features)).any(axis=(0, 2)).sum())
    if off:
        raise TrainingError(
            f"what {setting.backbone.name} makes of {off} of the {len(train)} training images is not finite, and no "
            "head can be solved on that: give other --weights or another --backbone."
        )
    bias = head_layer(setting.backbone).bias
    return LogisticRegression(
        torch.from_numpy(features),
        train.targets,
        classes,
        class_weights=setting.class_weights,
        bias=bias is not None,
    )


def _head_inputs(backbone: Backbone, batches: BatchSource, view: int) -> npt.NDArray[np.float32]:
    """Return what goes into the head of a view of this process's training images, ``[n, d]``."""
    with watching_head(backbone) as calls:
        for tensors in batches.view(view):
            batches.part.infer(*tensors)
    return np.concatenate([taken.flatten(1).float().cpu().numpy() for taken, _ in calls])


def solve_head(setting: Setting, batches: BatchSource) -> Solution:
    """Solve the head; the first process does, and all have its solution.

    Args:
        setting: the run; nothing of it is changed.
        batches: of the first stage.

    Raises:
        TrainingError: see ``problem_of``.
    """
    problem = problem_of(setting, batches)
    found = _solution(setting, problem) if setting.group.leads else None
    return cast(Solution, setting.group.broadcast(found))


def _solution(setting: Setting, problem: LogisticRegression) -> Solution:
    train = setting.dataset.split("train")
    folds = folds_of(train, setting.recipe.seed)
    choice = None if folds is None else problem.choose(folds)
    l2 = WITHOUT_FOLDS if choice is None else choice.l2
    solution = problem.solve(l2)
    weights, bias = problem.head(solution)
    record = SolvedHead(
        images=len(train),
        views=problem.views,
        l2=l2,
        folds=0 if folds is None or choice is None else len(np.unique(folds)),
        accuracy=None if choice is None else float(choice.right.mean()),
    )
    right = int(problem.right(solution).sum())
    return Solution(weights, bias, record, problem.cross_entropy(solution), right)


def put_head(backbone: Backbone, weights: torch.Tensor, bias: torch.Tensor) -> None:
    """Put a solution of ``LogisticRegression.head`` into the network."""
    head = head_layer(backbone)
    with torch.no_grad():
        head.weight.copy_(weights.reshape(head.weight.shape))
        if head.bias is not None:
            head.bias.copy_(bias)
