from __future__ import annotations

from toolkit.recipe import Recipe
from toolkit.results import BenchReport, Evaluation, ParityReport
from toolkit.trackers import figures
from toolkit.training.history import Epoch


def test_hyperparameters_are_flat_and_name_no_folder() -> None:
    recipe = Recipe().override({"data.source": "/home/me/photos", "stage2.unfreeze": "layer3, layer4"})
    values = figures.hyperparameters(recipe)
    assert values["data.source"] == "photos"
    assert values["stage2.unfreeze"] == "layer3, layer4"
    assert values["stage1.unfreeze"] == 0
    assert values["cache.use"] is True
    assert values["name"] == "custom"
    assert not any(name.endswith(".") for name in values)


def test_an_epoch() -> None:
    assert figures.of_epoch(Epoch(2, 1, 0.25, 0.5, 0.75, 0.875, 0.1, 0.01, 12.5)) == {
        "train/loss": 0.25,
        "train/accuracy": 0.5,
        "validation/loss": 0.75,
        "validation/accuracy": 0.875,
        "learning_rate/head": 0.1,
        "learning_rate/backbone": 0.01,
        "epoch/stage": 2.0,
        "epoch/seconds": 12.5,
    }


def test_an_evaluation_without_a_top5(evaluation: Evaluation) -> None:
    values = figures.of_evaluation(evaluation)
    assert values["test/accuracy"] == 0.75
    assert values["test/accuracy_low"] < 0.75 < values["test/accuracy_high"]
    assert values["test/loss"] == evaluation.loss
    assert "test/top5_accuracy" not in values


def test_parity_in_figures_and_words(parity: ParityReport) -> None:
    assert figures.of_parity(parity) == {
        "parity/passed": 0.0,
        **{
            f"parity/{name}/{figure}": value
            for name, passed in (("onnx", 1.0), ("torchscript", 0.0))
            for figure, value in {
                "passed": passed,
                "logits_max_absolute": 0.25,
                "logits_max_relative": 0.125,
                "top1_agreement": 0.75,
            }.items()
        },
    }
    text = figures.parity_text(parity)
    assert text.startswith("Compared with PyTorch: **FAILED**")
    assert "- `model.onnx`: passed, on 16 test images (engine 1.0)\n" in text
    assert "- `model.torchscript`: FAILED, on 16 test images (engine 1.0)\n    - the logits differ by 0.25\n" in text
    assert "- `model.xml`: not judged: openvino is not installed\n" in text


def test_bench_has_speed_size_and_accuracy_of_what_was_measured(bench: BenchReport) -> None:
    assert figures.of_bench(bench) == {
        "bench/rows_measured": 1.0,
        "bench/onnx/cpu/test_accuracy": 0.75,
        "bench/onnx/cpu/size_bytes": 1024.0,
        "bench/onnx/cpu/load_seconds": 0.5,
        "bench/onnx/cpu/peak_memory_bytes": 1048576.0,
        "bench/onnx/cpu/batch_32/images_per_second": 512.0,
        "bench/onnx/cpu/batch_32/latency_p50_seconds": 0.0625,
        "bench/onnx/cpu/batch_32/latency_p95_seconds": 0.125,
        "bench/onnx/cpu/batch_32/latency_p99_seconds": 0.25,
    }
