"""Verdicts on the time to an accuracy, and which targets are refused."""

import json
from pathlib import Path

import pytest

from benchmarks import time_to_accuracy
from benchmarks.harness.child import Run
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.finetuning import Finetuned


@pytest.mark.parametrize(
    ("accuracies", "seconds", "expected"),
    [
        ([0.8, 0.9], [2.0, 2.0], [True, True]),
        ([0.79, 0.9], [2.0, 2.0], [False, True]),
        ([0.8, 0.8], [2.0, 2.1], [True, False]),
    ],
)
def test_time_to_accuracy_verdicts(accuracies, seconds, expected):
    target = time_to_accuracy.Textbook(0.8, 30.0, 100, 100, 0, "", "", 224, "")
    results = [
        Finetuned(Run(time, None, None, ""), accuracy, 100, "", "", "", 2, 5)
        for accuracy, time in zip(accuracies, seconds, strict=True)
    ]
    assert [claim.met for claim in time_to_accuracy.claims(target, results, 15.0)] == expected


def test_time_to_accuracy_warns_of_an_unequal_start():
    unequal_start = time_to_accuracy.unequal_start
    assert "Unequal start" in unequal_start("random (torchvision's initialisation)", "ImageNet-1k (pip package)")[0]
    assert unequal_start("random (...)", "random") == unequal_start("resnet18.pth, SHA-256 0", "ImageNet-1k") == []


def test_time_to_accuracy_passes_on_what_it_is_given():
    options = time_to_accuracy.parse(["--data", "x", "--backbone", "timm:b", "--weights", "w.pth"])
    assert time_to_accuracy.toolkit_arguments(Path("s"), options, ["--image-size", "64"]) == (
        ["--recipe", "cifar10", "--data", "s", "--backbone", "timm:b", "--weights", "w.pth", "--image-size", "64"]
    )
    assert (options.train, options.test, options.epochs) == (2000, 1000, 10)


def test_time_to_accuracy_refuses_options_beside_a_result():
    with pytest.raises(BenchmarkError, match=r"^--epochs, --image-size cannot be given with --textbook-result"):
        time_to_accuracy.parse(["--data", "x", "--textbook-result", "r.json", "--epochs", "10", "--image-size", "64"])


def test_time_to_accuracy_refuses_a_result_from_another_machine(tmp_path):
    settings = {
        "train images": 6,
        "test images": 4,
        "seed": 0,
        "subset": "0",
        "initial ResNet-18 of both sides": "random",
        "image size": 32,
    }
    origin = {"created": "2026-01-01", "hardware": {"processor": "Abacus", "cores": 3}}
    path = tmp_path / "finetune_vs_textbook.json"
    path.write_text(
        json.dumps(
            {
                "measurements": {"textbook": {"accuracy": 0.5, "seconds": 9.0}},
                "settings": settings,
                "provenance": origin,
            }
        ),
        encoding="utf-8",
    )
    with pytest.raises(BenchmarkError, match="was measured on 3 cores of Abacus, this machine has"):
        time_to_accuracy.read_textbook(path)


def test_time_to_accuracy_refuses_another_file(tmp_path):
    path = tmp_path / "other.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(BenchmarkError, match="is not a result of finetune_vs_textbook"):
        time_to_accuracy.read_textbook(path)
