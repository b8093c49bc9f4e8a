from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from finished_runs import write_finished_run

from toolkit.data import load_dataset
from toolkit.data.of_run import load_splits, load_test_split
from toolkit.errors import RunError
from toolkit.progress import Silent
from toolkit.run_folder import FinishedRun


@pytest.fixture
def run(tmp_path: Path) -> FinishedRun:
    return FinishedRun.of(write_finished_run(tmp_path / "tiny"))


def test_the_images_are_those_that_fine_tuning_divided(run: FinishedRun) -> None:
    dataset = load_dataset(run.recipe.data, run.recipe.seed)
    assert load_test_split(run, Silent()).names == dataset.split("test").names
    again = load_splits(run, ("validation", "train"), Silent())
    assert [split.names for split in again] == [dataset.split(name).names for name in ("validation", "train")]


def test_other_images_than_those_of_the_run_are_refused(run: FinishedRun) -> None:
    changed = replace(run, recipe=run.recipe.override({"seed": 1}))
    with pytest.raises(RunError, match=r"the test images of digits are not those of this run \(their fingerprint"):
        load_test_split(changed, Silent())
