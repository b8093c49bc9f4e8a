from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from toolkit.data import calibration, of_run
from toolkit.data.calibration import calibration_of_arrays, calibration_of_run
from toolkit.data.dataset import Dataset, split_of_arrays
from toolkit.errors import RunError
from toolkit.preprocess import Preprocessing
from toolkit.progress import Silent

LABELS = ("a", "b")


def encode(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32)


def test_streams_start_anew_and_keep_images_with_their_targets() -> None:
    images = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    streams = calibration_of_arrays(images[:5], images, np.arange(10) % 2, encode, 0.5)
    assert (streams.training_images, streams.validation_images) == (5, 10)
    for _ in range(2):
        batches = list(streams.training(2))
        assert [batch.shape[0] for batch in batches] == [2, 2, 1]
        assert batches[0].dtype == np.float32
        for inputs, targets in streams.validation(4):
            assert (inputs[:, 0, 0, 0] % 2 == targets).all()


def test_a_stream_does_not_hand_out_the_images_themselves() -> None:
    images = np.zeros((4, 2, 2, 3), np.uint8)
    streams = calibration_of_arrays(images, images, np.zeros(4, np.int64), lambda pixels: pixels, 0.5)
    next(streams.training(4))[:] = 9
    assert images.sum() == 0


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Replace the data set by one whose images say which split they are from; return which splits are asked for."""
    seen: list[tuple[str, ...]] = []

    def load(recipe: object, seed: int, *, splits: tuple[str, ...], reporter: object) -> Dataset:
        seen.append(tuple(splits))
        splits_of_one_colour = {
            name: split_of_arrays(
                name,
                np.full((30, 8, 8), value, np.uint8),
                np.arange(30) % 2,
                tuple(f"{name}/{i}" for i in range(30)),
                LABELS,
            )
            for name, value in (("train", 10), ("validation", 20), ("test", 30))
            if name in splits
        }
        return Dataset("made", LABELS, splits_of_one_colour)

    monkeypatch.setattr(of_run, "load_dataset", load)
    return seen


def run_of(fingerprints: dict[str, str]) -> Any:
    recipe = SimpleNamespace(data=SimpleNamespace(source="digits"), seed=0)
    splits = {name: SimpleNamespace(fingerprint=value) for name, value in fingerprints.items()}
    record = SimpleNamespace(
        data=SimpleNamespace(source="made", splits=splits),
        preprocessing=Preprocessing(height=8, width=8, resize="squash", interpolation="bilinear"),
    )
    return SimpleNamespace(recipe=recipe, record=record)


def fingerprints() -> dict[str, str]:
    loaded = of_run.load_dataset(None, 0, splits=("train", "validation"), reporter=None)
    return {name: split.fingerprint for name, split in loaded.splits.items()}


def test_only_training_and_validation_images_are_loaded(
    asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = fingerprints()
    asked.clear()
    monkeypatch.setattr(calibration, "TRAINING_IMAGES", 12)
    run = run_of(known)
    with calibration_of_run(run, encode, 0.25, Silent()) as streams:
        assert asked == [("train", "validation")]
        assert (streams.training_images, streams.validation_images, streams.max_drop) == (12, 30, 0.25)
        assert {float(value) for batch in streams.training(5) for value in np.unique(batch)} == {10.0}
        assert {float(value) for batch, _ in streams.validation(7) for value in np.unique(batch)} == {20.0}
        assert sorted(np.concatenate([targets for _, targets in streams.validation(7)])) == [0] * 15 + [1] * 15


def test_other_images_than_the_runs_are_refused(asked: list[tuple[str, ...]]) -> None:
    run = run_of({**fingerprints(), "validation": "0" * 64})
    with (
        pytest.raises(RunError, match="the validation images of made are not those of this run"),
        calibration_of_run(run, encode, 0.5, Silent()),
    ):
        pass


def test_nothing_is_left_on_disk(asked: list[tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run = run_of(fingerprints())
    with calibration_of_run(run, encode, 0.5, Silent()):
        assert len(list(tmp_path.rglob("*.npy"))) == 2
    assert list(tmp_path.iterdir()) == []
