"""Training without a run folder, and what the weights that are kept make of a split."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from benchmarks.harness.errors import BenchmarkError
from toolkit.progress import Silent
from toolkit.recipe import Recipe
from toolkit.run_folder import SolvedHead
from toolkit.training.checkpoint import State
from toolkit.training.interruption import Stopper
from toolkit.training.setting import prepared_setting
from toolkit.training.trainer import Trainer
from toolkit.training.training_data import TrainingData

Right = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Outcome:
    """What one training came to.

    Attributes:
        names: of the images of the split, as ``Split`` has them.
        right: which of them it gets right, ``[n]``.
        cpu_seconds: processor time of the training, without the frozen part.
        epochs: that were made.
        logits: of the images, float32 ``[n, C]``.
        head: how the head was solved; None where it was not.
    """

    names: tuple[str, ...] = field(repr=False)
    right: Right = field(repr=False)
    cpu_seconds: float
    epochs: int
    logits: npt.NDArray[np.float32] = field(repr=False)
    head: SolvedHead | None = None

    @property
    def accuracy(self) -> float:
        """The share of the images that it gets right."""
        return float(self.right.mean())


def train(recipe: Recipe, judging: str) -> Outcome:
    """Train, and look at a split with the weights that are kept.

    Args:
        recipe: what is trained.
        judging: name of the split.

    Raises:
        BenchmarkError: there are no weights to keep.
    """
    with prepared_setting(recipe, Silent()) as setting, TrainingData(setting) as data:
        data.keep()
        started = time.process_time()
        trainer = Trainer(setting, data, State(), lambda: None, Stopper())
        trainer.run()
        seconds = time.process_time() - started
        state = trainer.state
        if state.best.weights is None:
            raise BenchmarkError("no epoch ended with a usable validation accuracy.")
        trainer.load(state.best.weights)
        split = setting.dataset.split(judging)
        with Silent().bar("", len(split), "img") as bar:
            logits = data.predict(split, bar)
        right = logits.argmax(axis=1) == split.targets
        return Outcome(split.names, right, seconds, len(state.history), logits, state.solved_head)
