from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_training import tiny_split

from benchmarks import epoch_to_keep
from benchmarks.epoch_to_keep import (
    WAYS,
    benchmark,
    best,
    compare_epochs,
    drawn,
    folds,
    make_report,
    parse,
    recipe_of,
)
from toolkit.recipe import Recipe
from toolkit.training.activations.prefix import TorchPrefix


def test_the_recipe_makes_steps() -> None:
    digits, photos = (recipe_of(parse(arguments)) for arguments in ([], ["--data", "photos"]))
    assert (digits.name, digits.stage1.solver, digits.augment.flip) == ("digits", "steps", False)
    assert (photos.name, photos.stage1.solver, photos.augment.flip) == ("folder", "steps", True)


def test_folds_are_stratified_and_the_best_epoch_is_the_highest() -> None:
    targets = np.array([0] * 10 + [1] * 5)
    parts = list(folds(targets, np.random.default_rng(0)))
    assert sorted(np.concatenate(parts).tolist()) == list(range(15))
    assert [np.bincount(targets[part]).tolist() for part in parts] == [[2, 1]] * 5
    assert best([(0.5, -1.0), (0.7, -0.9), (0.7, -0.8), (0.6, -0.1)]) == 2


def test_a_draw_has_equally_many_images_of_each_class() -> None:
    split = tiny_split("train", 12)
    first, again, other = (drawn(split, 6, seed) for seed in (0, 0, 1))
    assert np.bincount(first.targets).tolist() == [3, 3]
    assert first.names == again.names != other.names


@pytest.mark.parametrize(("last", "met"), [((0.5, 0.7), True), ((0.5, 0.6), True), ((0.5, 0.58), False)])
def test_the_last_epoch_is_held_against_the_one_that_few_images_choose(last: tuple[float, float], met: bool) -> None:
    rows = [{**dict.fromkeys(WAYS, other), "last": own} for other, own in zip((0.5, 0.6), last, strict=True)]
    report = make_report({}, rows)
    assert report.name == "epoch_to_keep"
    assert report.claims[0].met is met
    assert report.claims[0].measured == f"{np.mean(last):.1%} against 55.0%"
    assert report.tables[0].rows[0] == (WAYS["best"], "55.0%", "5.0 points", "50.0%")
    assert [row[0] for row in make_report({}, [{"best": 0.5, "last": 0.6}] * 2).tables[0].rows] == [
        WAYS["best"],
        WAYS["last"],
    ]


def test_a_draw_of_a_few_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path))
    # Exporting the frozen part to ONNX takes seconds.
    monkeypatch.setattr(
        "toolkit.training.activations.divided_network.make_prefix",
        lambda network, setting, kept: TorchPrefix(network, setting.device, None),
    )
    asked = ["--image-size", "32", "--test", "10", "--backbone", "timm:test_efficientnet", "--weights", "none"]
    row = compare_epochs(recipe_of(parse(asked)), 20, seed=0)
    assert set(row) == set(WAYS)
    once = compare_epochs(recipe_of(parse(asked)), 20, seed=0, once=True)
    assert once == {way: row[way] for way in ("best", "last", "oracle")}
    assert max(row["best"], row["last"], row["folds"]) <= row["oracle"] <= 1
    assert all(float(10 * accuracy).is_integer() for accuracy in row.values())


def test_each_draw_has_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(recipe: Recipe, count: int, seed: int, *, once: bool) -> dict[str, float]:
        assert not once
        return dict.fromkeys(WAYS, (count + seed) / 100)

    monkeypatch.setattr(epoch_to_keep, "compare_epochs", compare)
    assert benchmark(["--images", "20", "--draws", "5", "--output", str(tmp_path), "--work", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "epoch_to_keep.json").read_text())
    assert [row["last"] for row in result["measurements"]["draws"]] == [0.2, 0.21, 0.22, 0.23, 0.24]
    assert (result["settings"]["images"], result["settings"]["data"]) == (20, "digits")
    assert result["command"].startswith("python -m benchmarks.epoch_to_keep --images 20")
