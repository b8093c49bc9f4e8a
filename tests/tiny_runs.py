"""A trainer over tiny images, and what runs of it are compared by."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from tiny_training import Listening, tiny_recipe, tiny_setting

from toolkit.run_folder import StageSummary
from toolkit.training.checkpoint import State
from toolkit.training.interruption import Stopper
from toolkit.training.meter import Step
from toolkit.training.setting import Setting
from toolkit.training.trainer import Trainer
from toolkit.training.training_data import TrainingData


class Run:
    """A trainer over tiny images, with everything that it told."""

    def __init__(
        self, state: State | None = None, on_step: Callable[[Step], None] | None = None, **changes: Any
    ) -> None:
        self.listening = Listening()
        self.setting: Setting = tiny_setting(tiny_recipe(**changes), self.listening)
        self.state = state or State()
        self.steps: list[Step] = []
        self.saved: list[State] = []
        self.stopper = Stopper()
        self._on_step = on_step
        self.data = TrainingData(self.setting)
        self.trainer = Trainer(self.setting, self.data, self.state, self._save, self.stopper, self._note)

    def finish(self) -> tuple[StageSummary, ...]:
        """Train on kept activations, and close them."""
        with self.data:
            return self.trainer.run()

    def _save(self) -> None:
        self.saved.append(copy.deepcopy(self.state))

    def _note(self, step: Step) -> None:
        self.steps.append(step)
        if self._on_step is not None:
            self._on_step(step)

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in self.setting.backbone.model.state_dict().items()}


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def without_seconds(state: State) -> list[Any]:
    return [replace(epoch, seconds=0.0) for epoch in state.history]


def require_same_end(rest: Run, whole: Run) -> None:
    assert same(rest.weights(), whole.weights())
    assert without_seconds(rest.state) == without_seconds(whole.state)
    assert rest.state.best.weights is not None
    assert whole.state.best.weights is not None
    assert same(rest.state.best.weights, whole.state.best.weights)


def kept_of(run: Run) -> dict[str, torch.Tensor]:
    assert run.state.best.weights is not None
    return run.state.best.weights


STILL = {"stage1__head_lr": 1e-30, "stage2__head_lr": 1e-30, "stage2__backbone_lr": 1e-30}
"""Rates at which nothing changes, so that no epoch is better than the first."""
