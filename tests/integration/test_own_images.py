"""Folders of a person's own images, by real commands."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import run
from PIL import Image

from toolkit.run_folder import find_run

pytestmark = pytest.mark.slow


def make_photos(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for label, colour in (("katze 猫", (200, 40, 40)), ("hund", (40, 200, 40))):
        (folder / label).mkdir(parents=True)
        for index in range(12):
            photo(generator, colour).save(folder / label / f"{index}.jpg")


def photo(generator: np.random.Generator, colour: tuple[int, int, int]) -> Image.Image:
    return Image.fromarray(np.clip(generator.normal(colour, 30, (40, 50, 3)), 0, 255).astype(np.uint8))


def test_a_folder_of_ones_own_images(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos")
    # A red one among the green ones.
    photo(np.random.default_rng(1), (200, 40, 40)).save(tmp_path / "photos" / "hund" / "planted.jpg")
    flags = (
        "--data",
        "photos",
        "--image-size",
        "32",
        "--stage1-epochs",
        "15",
        "--stage2-epochs",
        "1",
        "--threads",
        "1",
        "--batch-size",
        "8",
    )
    done = run(tmp_path, "finetune", *flags, "--stage1-head-lr", "0.02")
    assert done.returncode == 0, done.stderr
    assert "using the 'folder' recipe for photos" in done.stderr
    folder = find_run(None, tmp_path / "artifacts")
    assert folder.name.startswith("photos-tf_efficientnet_lite0-")
    assert folder.record().labels == ("hund", "katze 猫")
    review = folder.review()
    assert review is not None
    assert review.label_issues is not None
    suspects = review.label_issues.suspects
    assert [(one.name, one.label, one.predicted) for one in suspects] == [("hund/planted.jpg", "hund", "katze 猫")]
    with Image.open(folder.path / (suspects[0].thumbnail or "")) as opened:
        assert opened.size == (50, 40)
    assert (
        "labels that look wrong to a classifier that is right on 96.0%: at least 1 of 25, first hund/planted.jpg"
        in done.stdout
    )
    assert run(tmp_path, "export", "--formats", "onnx").returncode == 0
    assert run(tmp_path, "verify", "--threads", "1").returncode == 0
    done = run(tmp_path, "predict", "artifacts/latest", "photos/katze 猫")
    assert [line.split("  ")[1] for line in done.stdout.splitlines()] == ["katze 猫"] * 12


def test_an_unreadable_image_stops_the_run_before_training_unless_it_is_skipped(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos")
    (tmp_path / "photos" / "hund" / "broken.jpg").write_bytes(b"\xff\xd8 cut")
    flags = ("--data", "photos", "--image-size", "32", "--stage1-epochs", "1", "--stage2-epochs", "0", "--threads", "1")
    done = run(tmp_path, "finetune", *flags)
    assert done.returncode == 2
    assert "broken.jpg" in done.stderr
    assert "--skip-unreadable" in done.stderr
    assert not (tmp_path / "artifacts").exists()
    done = run(tmp_path, "finetune", *flags, "--skip-unreadable")
    assert done.returncode == 0, done.stderr
    assert [skipped.file for skipped in find_run(None, tmp_path / "artifacts").record().data.skipped] == [
        "hund/broken.jpg"
    ]


def test_pictures_in_two_splits_are_said_in_the_log_the_record_and_the_card(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos" / "train")
    generator = np.random.default_rng(1)
    for label, colour in (("katze 猫", (200, 40, 40)), ("hund", (40, 200, 40))):
        test = tmp_path / "photos" / "test" / label
        test.mkdir(parents=True)
        for index in range(3):
            pixels = np.clip(generator.normal(colour, 30, (40, 50, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(test / f"new {index}.jpg")
    train, test = tmp_path / "photos" / "train" / "hund", tmp_path / "photos" / "test"
    shutil.copy(train / "0.jpg", test / "hund" / "copy.jpg")
    (test / "hund" / "link.jpg").symlink_to(train / "1.jpg")
    shutil.copy(train / "2.jpg", test / "katze 猫" / "wrong.jpg")
    flags = ("--image-size", "32", "--stage1-epochs", "1", "--stage2-epochs", "0", "--threads", "1")
    done = run(
        tmp_path, "finetune", "--data", "photos", "--backbone", "timm:test_efficientnet", "--weights", "none", *flags
    )
    assert done.returncode == 0, done.stderr
    assert "3 of 9 test images are also in train" in done.stderr
    assert "train/hund/0.jpg (hund) = test/hund/copy.jpg (hund)" in done.stderr
    assert (
        "1 picture is in two classes, so that one label is wrong: train/hund/2.jpg (hund) = test/katze 猫/wrong.jpg "
        "(katze 猫)"
    ) in done.stderr
    assert "2 validation images: accuracy moves in steps of 50 points" in done.stderr
    folder = find_run(None, tmp_path / "artifacts")
    duplicates, leak = folder.record().data.duplicates, folder.evaluation().leak
    assert duplicates is not None
    assert duplicates.leaked["test"] == 3
    assert leak is not None
    assert leak.top1_without is not None
    said = f"3 of 9 test images are also in train; without them {leak.top1_without:.1%}"
    assert said in done.stdout
    assert run(tmp_path, "export", "--formats", "torchscript").returncode == 0
    assert said in (folder.bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
