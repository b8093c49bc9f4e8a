"""What is looked at beside training itself: the data before it, validation and test images once after it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toolkit.compare.balance import imbalance_line
from toolkit.compare.leak import leak_sentence, measure_leak
from toolkit.compare.metrics import evaluate, wilson_interval
from toolkit.data.duplicates import Duplicates, find_duplicates
from toolkit.results import Evaluation, Leak
from toolkit.run_folder import ValidationSummary
from toolkit.training.best_weights import Best, what_validation_tells, which_to_keep
from toolkit.training.setting import Setting
from toolkit.training.training_data import TrainingData


def look_at_data(setting: Setting) -> Duplicates:
    """Say what a person should know of the images before they are trained on; returns the duplicates among them.

    Raises:
        MissingDependencyError: near duplicates are to be looked for, and ImageHash is not installed.
        ImageError: an image has gone or changed since it was scanned.
    """
    recipe, dataset, group = setting.recipe, setting.dataset, setting.group
    duplicates = find_duplicates(
        dataset,
        near=recipe.data.check_duplicates and group.leads,
        reporter=setting.reporter,
        workers=setting.threads,
    )
    imbalance = imbalance_line(
        dataset.per_class("train"), dataset.per_class("test"), dataset.labels, setting.class_weights
    )
    for line in (
        *duplicates.lines(),
        *([imbalance] if imbalance else []),
        what_validation_tells(recipe, len(dataset.split("validation"))),
    ):
        setting.reporter.line(line)
    return duplicates


@dataclass(frozen=True)
class Looks:
    """The looks at the images that were held back, with the weights that were kept.

    Attributes:
        setting: the run.
        data: what predicts.
        duplicates: which of the images were not really held back.
    """

    setting: Setting
    data: TrainingData
    duplicates: Duplicates

    def test(self) -> tuple[Evaluation, npt.NDArray[np.float32]]:
        """Look once at the test images; also returns their logits, float32 ``[n, C]``."""
        dataset, test = self.setting.dataset, self.setting.dataset.split("test")
        logits = self._logits("test")
        leak = self._leak("test", logits)
        evaluation = evaluate(logits, test.targets, dataset.labels, "test")
        return evaluation.model_copy(update={"leak": leak}), logits

    def validation(self, best: Best) -> ValidationSummary:
        """Say what validation found out; looks again at the images only where some were trained on."""
        images = len(self.setting.dataset.split("validation"))
        return ValidationSummary(
            images=images,
            kept="best" if which_to_keep(self.setting.recipe, images) == "best" else "last",
            interval=wilson_interval(round(best.accuracy * images), images),
            leak=self._validation_leak() if self.duplicates.leaked("validation").mask.any() else None,
        )

    def _logits(self, name: str) -> npt.NDArray[np.float32]:
        split = self.setting.dataset.split(name)
        with self.setting.reporter.bar(name, len(split), "img") as bar:
            return self.data.predict(split, bar)

    def _leak(self, name: str, logits: npt.NDArray[np.float32]) -> Leak | None:
        split, leaked = self.setting.dataset.split(name), self.duplicates.leaked(name)
        return measure_leak(logits, split.targets, leaked.mask, leaked.seen_in, leaked.near)

    def _validation_leak(self) -> Leak | None:
        leak = self._leak("validation", self._logits("validation"))
        if leak is not None:
            images = len(self.setting.dataset.split("validation"))
            self.setting.reporter.line(leak_sentence(leak, images, "validation"))
        return leak
