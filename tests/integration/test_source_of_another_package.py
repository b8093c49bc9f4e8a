"""A package from outside adds a data source: it is trained on, and every later stage reads its test images again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from example_packages import environment_with, install
from PIL import Image
from sklearn.datasets import load_digits

from toolkit.bundle import read_manifest
from toolkit.results import ParityReport
from toolkit.run_folder import FinishedRun, find_run

pytestmark = pytest.mark.slow

PER_CLASS = 20
SMALL = (
    *("--backbone", "torchvision:squeezenet1_1", "--weights", "none", "--image-size", "32", "--batch-size", "16"),
    *("--stage1-epochs", "1", "--stage2-epochs", "1", "--no-cache", "--formats", "torchscript", "--threads", "1"),
)
SEVERAL_COMMANDS = """
import json, os, sys
from toolkit.cli.main import main

codes = []
for folder, arguments in json.load(sys.stdin):
    os.chdir(folder)
    try:
        main(arguments)
    except SystemExit as left:
        codes.append(left.code)
print(json.dumps(codes))
"""
"""One process for all commands: starting Python and PyTorch is most of their time."""


def write_images(folder: Path) -> None:
    """Write some of scikit-learn's digits as PNG files of any name, and ``list.jsonl`` beside them."""
    bunch = load_digits()
    folder.mkdir()
    with (folder / "list.jsonl").open("w", encoding="utf-8") as file:
        for digit in range(3):
            for number in np.flatnonzero(bunch.target == digit)[:PER_CLASS]:
                Image.fromarray((bunch.images[number] * 15).astype(np.uint8)).save(folder / f"{number}.png")
                label = ("zero", "one", "two")[digit]
                file.write(json.dumps({"path": f"{number}.png", "label": label}) + "\n")


def test_it_is_trained_on_and_read_again_by_later_stages(tmp_path: Path) -> None:
    installed = install("example_source", tmp_path)
    write_images(tmp_path / "images")
    (tmp_path / "elsewhere").mkdir()
    there = ("--artifacts", "../artifacts", "--quiet")
    commands = (
        (tmp_path, ("finetune", "--data", "images/list.jsonl", *SMALL, "--run", "small", "--quiet")),
        (tmp_path / "elsewhere", ("export", *there)),
        (tmp_path / "elsewhere", ("verify", "--images", "6", "--threads", "1", *there)),
        (tmp_path / "elsewhere", ("finetune", "--data", "nowhere.jsonl", *SMALL, *there)),
    )
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL_COMMANDS],
        input=json.dumps([(str(folder), arguments) for folder, arguments in commands]),
        env=environment_with(installed),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [0, 0, 0, 2], done.stdout + done.stderr
    assert "using the 'folder' recipe for images/list.jsonl" in done.stderr
    assert (
        "nowhere.jsonl': give 'cifar10', 'digits', the path of a .csv or .tsv file of paths and classes, the path of a "
        ".jsonl file of objects with path and label, or the path of a folder of images" in done.stderr
    )
    run = FinishedRun.of(find_run("small", tmp_path / "artifacts"))
    assert run.recipe.data.source == run.record.data.source == str(tmp_path / "images" / "list.jsonl")
    assert run.record.labels == ("one", "two", "zero")
    assert sum(split.images for split in run.record.data.splits.values()) == 3 * PER_CLASS
    manifest = read_manifest(run.folder.bundle)
    assert manifest.labels == run.record.labels
    assert manifest.evaluation is not None
    assert manifest.evaluation.images == run.record.data.splits["test"].images
    report = ParityReport.load(run.folder.parity_file, "toolkit verify")
    assert report.passed
    assert [artifact.test_images for artifact in report.artifacts] == [6]
