"""Verdicts of the comparison, and that both sides get the same."""

import json

import pytest

from benchmarks import finetune_vs_textbook, time_to_accuracy
from benchmarks.harness.child import Run
from benchmarks.harness.finetuning import Finetuned, Finetuning
from benchmarks.harness.report import Claim
from benchmarks.harness.textbook import Side


@pytest.mark.parametrize(
    ("seconds", "accuracy", "expected"),
    [(2.0, 0.90, [True, True]), (2.1, 0.89, [False, True]), (1.0, 0.86, [True, False]), (1.0, 1.0, [True, True])],
)
def test_comparison_verdicts(seconds, accuracy, expected):
    # the baseline took 10 s at 90%
    textbook = Side([Run(10.0, None, None, "")], [0.9])
    ours = Side([Run(seconds, None, None, "")], [accuracy])
    assert [claim.met for claim in finetune_vs_textbook.claims(textbook, ours, 1000, 5.0)] == expected


def test_speed_is_the_median_over_pairs():
    runs = [[Run(seconds, None, None, "") for seconds in side] for side in ((10.0, 12.0, 20.0), (2.0, 2.0, 2.0))]
    baseline, ours = (Side(side, [0.9] * 3) for side in runs)
    assert finetune_vs_textbook.ratios(baseline, ours) == [5.0, 6.0, 10.0]
    assert finetune_vs_textbook.claims(baseline, ours, 1000, 6.0)[0] == Claim(
        "at least 6x less wall time", "6.00x (pairs: 5.00x to 10.00x)", True
    )


def test_both_sides_get_the_same_images_and_weights(images, tmp_path, monkeypatch):
    seen = []

    def run_in_turns(commands, _turns):
        for command in commands:
            words = list(command.words)
            seen.append(
                (
                    words[words.index("--data") + 1],
                    words[words.index("--weights") + 1],
                    words[words.index("--seed") + 1],
                )
            )
        return [Run(10.0, 2 * 10**9, None, json.dumps({"accuracy": 0.5})), Run(1.0, 10**9, None, "")]

    def read(_prepared, run):
        return Finetuned(run, 0.5, 4, "resnet18", "file", "textbook", 2, 5)

    monkeypatch.setattr(finetune_vs_textbook, "run_in_turns", run_in_turns)
    monkeypatch.setattr(Finetuning, "read", read)
    weights = tmp_path / "resnet18.pth"
    weights.write_bytes(b"weights")
    options = ["--train", "6", "--test", "4", "--repeat", "2", "--weights", str(weights)]
    code = finetune_vs_textbook.benchmark(["--data", str(images), *options, "--output", str(tmp_path / "out")])
    assert code == 0
    assert len({(data, file) for data, file, _ in seen}) == 1
    assert [seed for *_, seed in seen] == ["0", "0", "1", "1"]
    text = (tmp_path / "out" / "finetune_vs_textbook.md").read_text(encoding="utf-8")
    assert "10.00x" in text
    assert "validation" in text
    assert str(tmp_path) not in text
    result = tmp_path / "out" / "finetune_vs_textbook.json"
    target = time_to_accuracy.read_textbook(result)
    assert (target.accuracy, target.seconds, target.train, target.test) == (0.5, 10.0, 6, 4)
