"""Checkpoints.

Everything that a killed run needs to go on at the step it had reached and end as if it had never been killed.

A checkpoint is written under a name of its own; ``latest.json`` then names it with its SHA-256 and is replaced in one
step. Tensors are read without running anything the file holds (``weights_only``).
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from toolkit.errors import RunError, first_line
from toolkit.files import read_regular, write_bytes
from toolkit.results import Record
from toolkit.run_folder import SolvedHead
from toolkit.training.best_weights import Best
from toolkit.training.history import Epoch

LATEST = "latest.json"


class Pointer(Record):
    """``checkpoints/latest.json``."""

    file: str
    sha256: str
    stage: int
    epoch: int
    step: int


@dataclass
class State:
    """Where a run is.

    Attributes:
        stage: its number; that of none once training has ended.
        epoch: of the stage, 1 is the first.
        step: of the epoch, 0 is the first; the next to be made.
        loss_sum: of the epoch's steps so far, each loss times its images.
        right: images classified right in the epoch so far.
        seen: images of the epoch so far.
        rates: learning rates of the last step: of the head and, where blocks are unfrozen, of these.
        epoch_seconds: spent in the epoch so far.
        stage_seconds: spent in each stage, by number.
        seconds: spent in all sessions up to the checkpoint, this one included.
        history: finished epochs.
        best: best weights so far.
        average: average of the weights in the stage so far; empty where there is none.
        averaged: updates of that average.
        peak: what the best epoch of the stage reached, by which patience compares; empty before the first.
        waited: epochs of the stage since then.
        fixed_views: True once there was no room for new views.
        model: parameters and buffers that training may change.
        optimizer: its ``state_dict``; empty before a stage's first step.
        scheduler: its ``state_dict``.
        scaler: of float16 gradients; empty without one.
        depthwise: how depthwise convolutions have been differentiated, see ``DepthwiseGradients``.
        head: how the head was solved, see ``SolvedHead``; empty where it was not.
        labels: what the look at the labels found, see ``LabelCheck.plain``; empty before it.
        identity: what must not have changed when a run goes on: name of the thing to its digest.
    """

    stage: int = 1
    epoch: int = 1
    step: int = 0
    loss_sum: float = 0.0
    right: int = 0
    seen: int = 0
    rates: tuple[float, ...] = ()
    epoch_seconds: float = 0.0
    stage_seconds: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0
    history: list[Epoch] = field(default_factory=list)
    best: Best = field(default_factory=Best)
    average: dict[str, torch.Tensor] = field(default_factory=dict)
    averaged: int = 0
    peak: tuple[float, ...] = ()
    waited: int = 0
    fixed_views: bool = False
    model: dict[str, torch.Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, float] = field(default_factory=dict)
    depthwise: list[dict[str, Any]] = field(default_factory=list)
    head: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, Any] = field(default_factory=dict)
    identity: dict[str, str] = field(default_factory=dict)

    @property
    def solved_head(self) -> SolvedHead | None:
        """How the head was solved; None where it was not."""
        return SolvedHead.model_validate(self.head) if self.head else None

    def end_epoch(self, done: Epoch) -> None:
        """Put a finished epoch into the history and go to the start of the next."""
        self.history.append(done)
        self.stage_seconds[done.stage] = self.stage_seconds.get(done.stage, 0.0) + done.seconds
        self.epoch += 1
        self.step, self.loss_sum, self.right, self.seen, self.epoch_seconds = 0, 0.0, 0, 0, 0.0

    def wait_for_better(self, score: float, loss: float) -> None:
        """Count the epochs of the stage since its best one, which has the highest score, then the lowest loss."""
        reached = (score, -loss)
        if not self.peak or reached > self.peak:
            self.peak, self.waited = reached, 0
        else:
            self.waited += 1

    def end_stage(self) -> None:
        """Go to the start of the next stage, of which nothing is known yet."""
        self.stage, self.epoch = self.stage + 1, 1
        self.optimizer, self.scheduler = {}, {}
        self.average, self.averaged = {}, 0
        self.peak, self.waited = (), 0


def save_checkpoint(folder: Path, state: State) -> None:
    """Write a checkpoint, then remove older ones.

    Raises:
        FileWriteError: the folder cannot be written or the disk is full; the older checkpoint is still there.
    """
    content = io.BytesIO()
    torch.save(_plain(state), content)
    data = content.getvalue()
    name = f"stage{state.stage}-epoch{state.epoch}-step{state.step}.pt"
    write_bytes(folder / name, data)
    Pointer(file=name, sha256=sha256(data).hexdigest(), stage=state.stage, epoch=state.epoch, step=state.step).save(
        folder / LATEST
    )
    for other in folder.iterdir():
        if other.name not in (name, LATEST):
            with contextlib.suppress(OSError):  # a file that stays behind costs space and nothing else
                other.unlink()


def load_checkpoint(folder: Path) -> State | None:
    """Read the newest checkpoint; None where there is none.

    Raises:
        RunError: it is missing or is not the file that was written.
    """
    if not (folder / LATEST).is_file():
        return None
    pointer = Pointer.load(folder / LATEST, "toolkit finetune")
    path = folder / pointer.file
    advice = f"Remove {folder} to train again from the start."
    try:
        data = read_regular(path)
    except OSError as error:
        raise RunError(f"the checkpoint {path} cannot be read ({error.strerror}). {advice}") from error
    if sha256(data).hexdigest() != pointer.sha256:
        raise RunError(f"the checkpoint {path} is damaged: its SHA-256 is not the one in {LATEST}. {advice}")
    try:
        plain = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        return State(
            **{**plain, "history": [Epoch(**epoch) for epoch in plain["history"]], "best": Best(**plain["best"])}
        )
    except Exception as error:  # a file with the right digest that cannot be understood was written by another version
        raise RunError(
            f"the checkpoint {path} was written by another version of toolkit ({first_line(error)}). {advice}"
        ) from error


def _plain(state: State) -> dict[str, Any]:
    plain = {name: value for name, value in vars(state).items() if name not in ("history", "best")}
    return {**plain, "history": [asdict(epoch) for epoch in state.history], "best": vars(state.best)}
