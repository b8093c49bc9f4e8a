"""One small run of the baseline, which toolkit's recipe follows."""

import json
import sys
import time

import torch
from torchvision.models import resnet18

from benchmarks import textbook_script
from benchmarks.harness.child import run_child
from benchmarks.harness.textbook import SCRIPT
from toolkit.recipe import load_recipe


def run_script(images, *arguments):
    command = [
        sys.executable,
        str(SCRIPT),
        "--data",
        str(images),
        "--image-size",
        "32",
        "--threads",
        "1",
    ]
    run = run_child([*command, "--epochs1", "1", "--epochs2", "1", *arguments])
    return run, json.loads(run.stdout.splitlines()[-1])


def test_textbook_script_runs(images):
    began = time.perf_counter()
    run, result = run_script(images)
    assert set(result) == {
        "accuracy",
        "train_images",
        "test_images",
        "seconds_stage1",
        "seconds_stage2",
        "seconds_testing",
        "seconds",
    }
    assert (result["train_images"], result["test_images"]) == (12, 8)
    assert result["accuracy"] * 8 in range(9)
    assert (
        0
        < result["seconds_stage1"] + result["seconds_stage2"]
        < result["seconds"]
        < run.seconds
        <= time.perf_counter() - began
    )


def test_textbook_script_reads_weights_and_logs_times(images, tmp_path):
    weights = tmp_path / "resnet18.pth"
    model = resnet18(weights=None)
    torch.save(model.state_dict(), weights)
    log = tmp_path / "log.jsonl"
    _, result = run_script(images, "--weights", str(weights), "--evaluate", "each", "--time-log", str(log))
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [(line["stage"], line["epoch"]) for line in lines] == [(1, 1), (2, 1)]
    assert 0 < lines[0]["seconds"] < lines[1]["seconds"] <= result["seconds"] - result["seconds_testing"]
    assert lines[1]["test_accuracy"] == result["accuracy"]


def test_textbook_script_and_recipe_train_alike():
    recipe = load_recipe("textbook")
    assert recipe.train.batch_size == textbook_script.BATCH_SIZE
    assert (recipe.stage1.head_lr, recipe.stage1.momentum, recipe.stage1.optimizer) == (
        textbook_script.HEAD_RATE,
        textbook_script.MOMENTUM,
        "sgd",
    )
    assert (recipe.stage2.head_lr, recipe.stage2.backbone_lr, recipe.stage2.momentum) == (
        textbook_script.HEAD_RATE,
        textbook_script.BACKBONE_RATE,
        textbook_script.MOMENTUM,
    )
    assert recipe.stage2.unfreeze == ("layer4",)
    assert {recipe.stage1.schedule, recipe.stage2.schedule} == {"constant"}
