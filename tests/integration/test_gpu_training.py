"""Fine-tuning on a CUDA device: in each precision, and stopped and gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from toolkit.progress import Silent
from toolkit.recipe import Recipe, load_recipe
from toolkit.training.stage import finetune_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


def short_recipe(**fields: object) -> Recipe:
    return load_recipe("digits").override({"train.device": "cuda", "stage2.epochs": 3, **fields})


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_fine_tuning_learns_in_every_precision(tmp_path: Path, precision: str) -> None:
    run = finetune_run(short_recipe(**{"train.precision": precision}), name="run", root=tmp_path)
    assert run.record().precision == precision
    assert run.record().device.startswith("cuda")
    assert run.evaluation().top1 > 0.9


class StopsInTheSecondStage(Silent):
    """Interrupts the run once the first epoch of the second stage is saved."""

    def line(self, text: str) -> None:
        if text.startswith("stage 2 epoch 1"):
            raise KeyboardInterrupt


def test_a_run_that_was_stopped_goes_on_there(tmp_path: Path) -> None:
    recipe = short_recipe()
    with pytest.raises(KeyboardInterrupt):
        finetune_run(recipe, name="run", root=tmp_path, reporter=StopsInTheSecondStage())
    run = finetune_run(recipe, name="run", root=tmp_path, resume=True)
    epochs = [line.split(",")[:2] for line in run.history_file.read_text("utf-8").splitlines()[1:]]
    assert epochs == [["1", "1"], ["1", "2"], ["1", "3"], ["2", "1"], ["2", "2"], ["2", "3"]]
    assert run.evaluation().top1 > 0.9
