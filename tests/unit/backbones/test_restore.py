from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from finished_runs import SIZE, write_finished_run

from toolkit.backbones import build_architecture, load_weights
from toolkit.backbones.restore import load_deployable
from toolkit.errors import RunError
from toolkit.run_folder import FinishedRun


@pytest.fixture
def run(tmp_path: Path) -> FinishedRun:
    return FinishedRun.of(write_finished_run(tmp_path / "tiny"))


def test_it_computes_what_the_stored_weights_say(run: FinishedRun) -> None:
    network = build_architecture(run.record.backbone, len(run.record.labels), SIZE)
    load_weights(network, run.folder.model_file)
    tensor = torch.randn(2, 3, SIZE, SIZE)
    restored = load_deployable(run, takes_images=False)
    assert not restored.training
    with torch.inference_mode():
        torch.testing.assert_close(restored(tensor)[0], network(tensor))


def test_it_takes_images_unless_told_otherwise(run: FinishedRun) -> None:
    mean = torch.tensor(run.record.normalization.mean) * 255
    images = mean.round().to(torch.uint8).expand(1, SIZE, SIZE, 3)
    with torch.inference_mode():
        logits, _ = load_deployable(run)(images)
        expected, _ = load_deployable(run, takes_images=False)(torch.zeros(1, 3, SIZE, SIZE))
    torch.testing.assert_close(logits, expected, atol=0.05, rtol=0.05)  # a pixel is a whole number, the mean is not


def test_other_weights_than_the_runs_are_refused(run: FinishedRun) -> None:
    run.folder.model_file.write_bytes(b"others")
    with pytest.raises(RunError, match="is not the file that"):
        load_deployable(run)


def test_a_run_that_averages_mirror_images_is_restored_so(run: FinishedRun) -> None:
    record = run.record.model_copy(update={"flip_test": True})
    assert load_deployable(replace(run, record=record)).flip_test
    assert not load_deployable(run).flip_test
