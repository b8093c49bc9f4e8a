from __future__ import annotations

import csv
from pathlib import Path

import pytest

from toolkit.errors import RunError
from toolkit.training.history import Epoch, read_history, write_history

EPOCHS = [
    Epoch(1, 1, 0.5, 0.8, 0.4, 0.9, 0.001, 0.0, 12.5),
    Epoch(2, 1, 0.25, 0.9, 0.2, 0.95, 0.001, 0.0001, 14.0),
]


def test_the_table_has_a_line_per_epoch_and_reads_back(tmp_path: Path) -> None:
    write_history(tmp_path / "history.csv", EPOCHS)
    assert read_history(tmp_path / "history.csv") == EPOCHS
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["stage"] for row in rows] == ["1", "2"]
    assert float(rows[1]["backbone_lr"]) == 0.0001
    assert float(rows[0]["validation_accuracy"]) == 0.9
    assert list(rows[0]) == [
        "stage",
        "epoch",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
        "head_lr",
        "backbone_lr",
        "seconds",
    ]


@pytest.mark.parametrize("text", ["stage,epoch\n1,1\n", "stage,epoch,train_loss\n1,one,2\n"])
def test_what_is_no_history_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(RunError, match="is not what 'toolkit finetune' writes"):
        read_history(tmp_path / "history.csv")
    with pytest.raises(RunError, match="cannot be read"):
        read_history(tmp_path / "nowhere.csv")
