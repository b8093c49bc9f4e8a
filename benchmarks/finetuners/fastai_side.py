"""fastai's ``fine_tune`` as its tutorials have it, with fastai's own defaults.

``Resize`` and ``aug_transforms()``, batches of 64, the normalisation of the weights, its head with dropout and
BatchNorm, Adam at a base rate of 0.002 under one cycle, one epoch with the body frozen and then all of it at rates that
differ by 100 between body and head. It trains on every training image, and its look at the validation images after
each epoch is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from fastai.vision.all import (
    Callback,
    CancelValidException,
    ImageDataLoaders,
    Resize,
    aug_transforms,
    noop,
    set_seed,
    vision_learner,
)

from benchmarks.finetuners.side import MODEL, Answers, Marks, Task, run_side


class Keep(Callback):  # type: ignore[misc]  # it ships no types
    """Marks the end of every epoch, which has no validation."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks

    def before_validate(self) -> None:
        """Leave the validation out."""
        raise CancelValidException

    def after_epoch(self) -> None:
        """Keep the weights."""
        self.marks.add(lambda file: torch.save(self.learn.model.state_dict(), file))


def learner(task: Task) -> Any:
    """Return the learner, its backbone pretrained and frozen."""
    set_seed(task.seed)
    torch.set_num_threads(task.threads)
    images = ImageDataLoaders.from_folder(
        task.data, valid="test", item_tfms=Resize(task.image_size), batch_tfms=aug_transforms()
    )
    return vision_learner(images, MODEL, pretrained_cfg_overlay={"file": str(task.weights)})


def train(task: Task, marks: Marks) -> dict[str, str]:
    """Fine-tune."""
    tuned = learner(task)
    if not len(tuned.dls.train):
        sys.exit(
            f"fastai leaves out a batch that is not full, of {tuned.dls.train.bs}: give it as many training images."
        )
    with tuned.no_bar():
        tuned.fine_tune(task.epochs, cbs=Keep(marks))
    return {
        "did": f"vision_learner({MODEL!r}).fine_tune({task.epochs}) at {task.image_size} px, aug_transforms(), the "
        "rest its defaults",
        "versions": f"fastai {version('fastai')}, torch {version('torch')}, timm {version('timm')}",
    }


def answer(task: Task, files: Sequence[Path], kept: Sequence[Path]) -> Answers:
    """Predict as its users do: ``test_dl`` and ``get_preds``, without the softmax."""
    tuned = learner(task)
    images = tuned.dls.test_dl(list(files))
    logits = []
    with tuned.no_bar():
        for weights in kept:
            tuned.model.load_state_dict(torch.load(weights, weights_only=True))
            predictions, _ = tuned.get_preds(dl=images, act=noop)
            logits.append(predictions.numpy())
    return Answers(tuple(map(str, tuned.dls.vocab)), tuple(logits))


if __name__ == "__main__":
    run_side(sys.argv[1:], train, answer)
