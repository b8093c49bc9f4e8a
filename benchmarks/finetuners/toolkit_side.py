"""``toolkit finetune``, as it is typed, with a note after every epoch of what it would keep if its stage ended."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.finetuners.side import Answers, Marks, Task, run_side
from toolkit.cli.start import main
from toolkit.progress import Silent
from toolkit.run_folder import FinishedRun, RunFolder
from toolkit.training import stage
from toolkit.training.best_weights import Best
from toolkit.training.checkpoint import State, save_checkpoint
from toolkit.training.setting import prepared_setting
from toolkit.training.training_data import TrainingData

RUN = "run"


def run_of(task: Task) -> RunFolder:
    """Return where its run is."""
    return RunFolder(task.output / "artifacts" / RUN)


def command(task: Task) -> list[str]:
    """Return the arguments of ``toolkit``: its default recipe for a folder. Those that are passed on prevail."""
    words = ["finetune", "--data", str(task.data), "--image-size", str(task.image_size)]
    words += ["--seed", str(task.seed), "--threads", str(task.threads)]
    return [*words, *task.extra, "--run", RUN, "--artifacts", str(run_of(task).path.parent)]


class StageEnded:
    """What would be kept if the stage had ended with the epoch that was offered last.

    Where epochs are compared at the end of a stage alone, what is kept before it is that of the stage before.
    """

    def __init__(self) -> None:
        self.best = Best()

    def watching(self, offer: Callable[..., None]) -> Callable[..., None]:
        """Return ``Best.offer``, which is noted here too."""

        def noted(best: Best, *offered: Any, **named: Any) -> None:
            self.best = replace(best)
            offer(self.best, *offered, **{**named, "ends_stage": True})
            offer(best, *offered, **named)

        return noted


def train(task: Task, marks: Marks) -> dict[str, str]:
    """Run the command; every checkpoint after a further epoch is a mark."""
    noted, ended = 0, StageEnded()

    def save(folder: Path, state: State) -> None:
        nonlocal noted
        save_checkpoint(folder, state)
        if len(state.history) > noted:
            noted = len(state.history)
            marks.add(lambda file: torch.save(ended.best.weights, file))

    with patch.object(stage, "save_checkpoint", save), patch.object(Best, "offer", ended.watching(Best.offer)):
        _call(command(task))
    record = FinishedRun.of(run_of(task)).record
    epochs = " + ".join(str(each.epochs) for each in record.stages)
    return {
        "did": f"recipe {record.recipe}, {epochs} epochs, {record.backbone} at {record.preprocessing.width} px in "
        f"{record.precision} on {record.device}",
        "versions": f"toolkit {record.provenance.toolkit}",
        "accuracy": str(run_of(task).evaluation().top1),
    }


def _call(arguments: list[str]) -> None:
    """Run ``toolkit``; a failure ends this process as it ends that one."""
    try:
        main(arguments)
    except SystemExit as end:
        if end.code:
            raise


def answer(task: Task, files: Sequence[Path], kept: Sequence[Path]) -> Answers:
    """Look at the test images as ``toolkit finetune`` does at its end, with the weights of each epoch."""
    logits: list[Any] = []
    with prepared_setting(run_of(task).recipe(), Silent()) as setting, TrainingData(setting) as data:
        split = setting.dataset.split("test")
        place = {name: index for index, name in enumerate(split.names)}
        order = [place[file.relative_to(task.data).as_posix()] for file in files]
        for weights in kept:
            # What training changes; the rest is as it was at the start.
            setting.backbone.model.load_state_dict(torch.load(weights, weights_only=True), strict=False)
            with Silent().bar("", len(split), "img") as bar:
                logits.append(data.predict(split, bar)[order])
    return Answers(setting.dataset.labels, tuple(logits))


if __name__ == "__main__":
    run_side(sys.argv[1:], train, answer)
