from __future__ import annotations

import csv
from pathlib import Path

from toolkit.training.history import Epoch, write_history


def test_the_table_has_a_line_per_epoch_and_reads_back(tmp_path: Path) -> None:
    epochs = [
        Epoch(1, 1, 0.5, 0.8, 0.4, 0.9, 0.001, 0.0, 12.5),
        Epoch(2, 1, 0.25, 0.9, 0.2, 0.95, 0.001, 0.0001, 14.0),
    ]
    write_history(tmp_path / "history.csv", epochs)
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
