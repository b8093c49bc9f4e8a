from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_training import tiny_recipe, tiny_setting

from benchmarks import single_gains
from benchmarks.harness.errors import BenchmarkError
from benchmarks.means.catalogue import MEANS
from benchmarks.means.judgement import Measured
from benchmarks.single_gains import benchmark, divided, make_report
from benchmarks.training_outcome import Outcome
from toolkit.errors import BackboneError
from toolkit.recipe import Recipe


def outcome(right: int, of: int = 100, seconds: float = 10.0, epochs: int = 9) -> Outcome:
    """Return one that gets the first images right."""
    names = tuple(map(str, range(of)))
    return Outcome(names, np.arange(of) < right, seconds, epochs, np.zeros((of, 2), np.float32))


def test_images_are_trained_on_or_judge() -> None:
    dataset = tiny_setting(tiny_recipe()).dataset
    drawn, other = (divided(dataset, 5, 3, seed) for seed in (0, 1))
    train, held = drawn.split("train"), drawn.split("validation")
    assert np.bincount(train.targets).tolist() == [5, 5]
    assert np.bincount(held.targets).tolist() == [3, 3]
    assert not set(train.names) & set(held.names)
    assert set(train.names) <= set(dataset.split("train").names)
    assert drawn.split("test").names == held.names
    assert train.names != other.split("train").names
    assert train.fingerprint != other.split("train").fingerprint
    assert divided(dataset, 5, 3, 0).split("train").names == train.names


def test_too_few_images_are_said() -> None:
    with pytest.raises(BenchmarkError, match=r"dark has 9 training images, and 8 to train on and 3 to judge by"):
        divided(tiny_setting(tiny_recipe()).dataset, 8, 3, 0)


def test_the_claim_is_that_the_recipe_repeats() -> None:
    changed = {MEANS[0].name: [outcome(70)]}
    report = make_report({}, Measured([outcome(80)], changed))
    assert report.claims[0].met
    assert report.notes[1].startswith("Differences are means over the 100 images that some seed held out")
    assert not make_report({}, Measured([outcome(80)], changed, repeats=False)).claims[0].met


def test_what_cannot_be_trained_costs_the_others_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Recipe] = []

    def train(recipe: Recipe, judging: str) -> Outcome:
        assert judging == "validation"
        trained.append(recipe)
        if recipe.train.drop_path:
            raise BackboneError("it has no branches.\nand more")
        return outcome(80)

    monkeypatch.setattr(single_gains, "train", train)
    options = single_gains.parse(["--only", "ema,drop-path,dropout", "--per-class", "3", "--held", "3", "--seeds", "2"])
    measured = single_gains.measure(options, single_gains.recipe_of(options), tmp_path)
    assert [each.means.name for each in measured.gains] == ["ema", "dropout"]
    assert len(trained) == 2 * 3 + 1 + 1  # today's, two means, in the first seed the refused one and today's again
    notes = make_report({}, measured).notes
    assert [note for note in notes if "Not measured" in note] == [
        "Not measured: drop-path, because it has no branches."
    ]


def test_bad_arguments_are_said() -> None:
    with pytest.raises(BenchmarkError, match=r"^asam: no such means; --only takes ema, "):
        single_gains.parse(["--only", "ema,asam"])
    with pytest.raises(BenchmarkError, match=r"--set stage2: give a field and a value"):
        single_gains.parse(["--set", "stage2"])


def test_a_teacher_without_weights_is_said_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_gains, "weights_available", lambda name: f"nobody has {name}")
    asked = ["--teacher-backbone", "timm:large"]
    with pytest.raises(BenchmarkError, match=r"--teacher-backbone timm:large: .* cannot be had: nobody has timm:large"):
        single_gains.parse(asked)
    assert single_gains.parse([*asked, "--only", "ema"]).teacher_backbone == "timm:large"


def test_it_runs_on_a_few_digits(tmp_path: Path) -> None:
    arguments = [
        "--per-class",
        "4",
        "--held",
        "4",
        "--seeds",
        "1",
        "--image-size",
        "32",
        "--only",
        "ema,cutmix,teacher",
    ]
    fields = {
        "backbone.name": "timm:test_efficientnet",
        "backbone.weights": "none",
        "stage1.epochs": 1,
        "stage2.epochs": 1,
        "train.threads": 1,
    }
    for name, value in fields.items():
        arguments += ["--set", f"{name}={value}"]
    assert benchmark([*arguments, "--output", str(tmp_path), "--work", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "single_gains.json").read_text())
    assert set(result["measurements"]["gains"]) == {"ema", "cutmix", "teacher"}
    assert "bit for bit" in (tmp_path / "single_gains.md").read_text()
