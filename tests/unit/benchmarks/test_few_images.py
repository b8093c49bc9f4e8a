from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.few_images import Sides, benchmark, make_report, parse, recipe_of, sizes, student
from benchmarks.training_outcome import Outcome
from toolkit.run_folder import SecondStageTrial, SolvedHead
from toolkit.training.activations.prefix import TorchPrefix


def outcomes(accuracies: Sequence[float], head: SolvedHead | None = None, seconds: float = 10.0) -> list[Outcome]:
    """Return one for each accuracy, on 1,000 images."""
    images = np.arange(1000)
    names, logits = tuple(map(str, images)), np.zeros((1000, 2), np.float32)
    return [Outcome(names, images < round(1000 * accuracy), seconds, 9, logits, head) for accuracy in accuracies]


def head(*, trained: bool) -> SolvedHead:
    trial = SecondStageTrial(without=0.9, with_it=0.9, standard_error=0.01, trained=trained)
    return SolvedHead(images=18, views=4, l2=0.01, folds=5, accuracy=0.9, second_stage=trial)


def test_the_interval_is_students_over_the_draws() -> None:
    before, now = [0.50, 0.52, 0.48, 0.51, 0.49], [0.61, 0.60, 0.60, 0.60, 0.59]
    sides = Sides(20, outcomes(before), outcomes(now))
    assert sides.differences == pytest.approx([0.11, 0.08, 0.12, 0.09, 0.10])
    half = 2.776 * np.std([0.11, 0.08, 0.12, 0.09, 0.10], ddof=1) / np.sqrt(5)
    assert sides.interval == pytest.approx((0.10 - half, 0.10 + half), abs=3e-4)


@pytest.mark.parametrize(("freedom", "quantile"), [(4, 2.776), (7, 2.365), (9, 2.262), (29, 2.045)])
def test_students_quantile(freedom: int, quantile: float) -> None:
    assert student(freedom) == pytest.approx(quantile, rel=0.01)


@pytest.mark.parametrize(
    ("now", "met"),
    [
        ([0.60, 0.61, 0.60, 0.61, 0.60], True),
        ([0.50, 0.50, 0.50, 0.50, 0.50], True),  # the same is no worse
        ([0.495, 0.495, 0.495, 0.495, 0.495], True),
        ([0.48, 0.48, 0.48, 0.48, 0.48], False),
        ([0.30, 0.70, 0.50, 0.60, 0.45], False),  # nobody can tell
    ],
)
def test_no_worse_is_what_the_interval_says(now: list[float], met: bool) -> None:
    (claim,) = make_report({}, [Sides(5, outcomes([0.5] * 5), outcomes(now))]).claims
    assert claim.met is met
    assert claim.text == "with 5 images a class it is not worse than it was, by 1 point"


def test_the_table_says_what_was_done_now() -> None:
    solved = [*outcomes([0.6] * 3, head(trained=True), 25.0), *outcomes([0.6] * 2, head(trained=False), 25.0)]
    measured = [Sides(20, outcomes([0.5] * 5), solved), Sides(200, outcomes([0.7] * 5), outcomes([0.7] * 5))]
    report = make_report({}, measured)
    assert report.tables[0].rows[0][1:4] == ("50.0%", "60.0%", "+10.0 points [+10.0, +10.0]")
    assert report.tables[0].rows[0][5:] == ("2.50x", "head solved in 5 of 5, stage 2 left out in 2")
    assert report.tables[0].rows[1][6] == "steps, as before"
    assert report.measurements["20"]["heads"][0]["second_stage"]["trained"] is True
    json.dumps(report.measurements)


def test_bad_arguments_are_said() -> None:
    assert sizes("5, 20") == [5, 20]
    with pytest.raises(SystemExit):
        parse(["--per-class", "five"])


def test_the_recipe_is_the_default_one_for_folders() -> None:
    recipe = recipe_of(parse(["--data", "photos", "--test", "30"]))
    assert (recipe.name, recipe.stage1.solver, recipe.augment.flip) == ("folder", "auto", True)
    digits = recipe_of(parse([]))
    assert (digits.name, digits.stage1.solver, digits.data.source) == ("folder", "auto", "digits")


def test_it_runs_on_a_few_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Exporting the frozen part to ONNX takes seconds in each draw.
    monkeypatch.setattr(
        "toolkit.training.activations.divided_network.make_prefix",
        lambda network, setting, kept: TorchPrefix(network, setting.device, None),
    )
    arguments = ["--per-class", "3", "--draws", "5", "--image-size", "32", "--test", "10"]
    arguments += ["--backbone", "timm:test_efficientnet", "--output", str(tmp_path), "--work", str(tmp_path)]
    assert benchmark([*arguments, "--weights", "none"]) in (0, 1)
    result = json.loads((tmp_path / "few_images.json").read_text())["measurements"]["3"]
    assert len(result["before"]) == len(result["now"]) == 5
    assert all(each["images"] == 20 for each in result["heads"])
    assert "head solved in 5 of 5" in (tmp_path / "few_images.md").read_text()
