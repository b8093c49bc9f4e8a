"""Distillation: the answers of a finished run, kept for every view of the training images beside the activations.

Each view is the same for teacher and student, which is what makes a patient teacher a good one (Beyer et al. 2022): the
flip is the same, and the shift by the same share of the side, rounded to a pixel of each. The teacher's images are
prepared as its own run prepared them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import nn

from toolkit.backbones.frontier import Tensor
from toolkit.backbones.restore import load_deployable
from toolkit.data import Dataset
from toolkit.errors import RecipeError
from toolkit.progress import working
from toolkit.recipe import Recipe
from toolkit.run_folder import FinishedRun, find_run
from toolkit.training.activations.extraction import Extraction
from toolkit.training.activations.prefix import Prefix, look_up, make_prefix
from toolkit.training.setting import Setting


@dataclass(frozen=True)
class Teacher:
    """A finished run that answers in the labels of another one.

    Attributes:
        run: it.
        places: where our labels stand among its own, in our order.
    """

    run: FinishedRun
    places: tuple[int, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of its weights and of what of its answers is taken."""
        mirrored = " and its mirror image" if self.run.record.flip_test else ""
        return hashlib.sha256(f"{self.run.record.model_sha256} {self.places}{mirrored}".encode()).hexdigest()


def find_teacher(recipe: Recipe, dataset: Dataset) -> Teacher | None:
    """Return the teacher of a recipe; None where it has none. Its weights are not read yet.

    Classes that only the teacher knows are left out of its answers.

    Raises:
        RunError: there is no such run, it is not finished, or its weights are not its own.
        RecipeError: it does not know all the classes.
    """
    if recipe.distill.teacher is None:
        return None
    run = FinishedRun.of(find_run(recipe.distill.teacher))
    run.require_own_weights()
    known = run.record.labels
    if unknown := [label for label in dataset.labels if label not in known]:
        raise RecipeError(
            f"the teacher {run.folder.name!r} knows {len(known)} classes ({', '.join(known[:5])}"
            f"{', ...' if len(known) > 5 else ''}), and {unknown[0]!r} is none of them: give a run that was trained on "
            "the classes of these images."
        )
    return Teacher(run, tuple(known.index(label) for label in dataset.labels))


def may_have_seen(teacher: Teacher, dataset: Dataset) -> bool:
    """Tell whether images that are held back here may be among those that the teacher was trained on.

    They are not where its own splits are these.
    """
    own = teacher.run.record.data.splits
    return any(
        name not in own or own[name].fingerprint != dataset.split(name).fingerprint for name in ("validation", "test")
    )


class TaughtNetwork(nn.Module):
    """A teacher's network, from uint8 ``[N, H, W, 3]`` of its own size to the logits of our labels."""

    places: torch.Tensor

    def __init__(self, teacher: Teacher) -> None:
        """Read its weights.

        Raises:
            RunError: they are missing, or not its own.
        """
        super().__init__()
        self.network = load_deployable(teacher.run)
        self.register_buffer("places", torch.tensor(teacher.places, dtype=torch.int64))
        self.eval()

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        """Return float32 ``[N, C]``."""
        logits: torch.Tensor = self.network(images)[0]
        return (logits.index_select(1, self.places),)


@dataclass(frozen=True)
class Answers:
    """What a teacher says of every image, as something that can be kept (see ``Extractable``)."""

    digest: str
    prefix: Prefix
    tensors: tuple[Tensor, ...]
    title: str = "teacher"
    made: str = "logits of the teacher"


def answers_of(setting: Setting, teacher: Teacher) -> Extraction[Answers]:
    """Open the engine of a teacher; returns what has it answer, and keeps its answers in float32."""
    record = teacher.run.record
    own = replace(
        setting,
        recipe=setting.recipe.override({"cache.dtype": "float32"}),
        backbone=replace(setting.backbone, normalization=record.normalization),
        preprocessing=record.preprocessing,
    )
    with working(setting.reporter, "teacher: preparing its engine"):
        network = TaughtNetwork(teacher)
        prefix = make_prefix(network, own, look_up(own, network, teacher.digest))
    return Extraction(own, Answers(teacher.digest, prefix, (Tensor("logits", (len(teacher.places),)),)))
