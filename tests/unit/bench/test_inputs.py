"""The temporary files of test images."""

import hashlib

import numpy as np
import pytest

from toolkit.bench import inputs as module
from toolkit.bench.inputs import prepared_inputs
from toolkit.errors import FileWriteError


def test_all_images_in_pieces(split, preprocessing, lines, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 8 * 4 * 4 * 3)
    with prepared_inputs(split, preprocessing, None, 0, lines) as inputs:
        images, targets = np.load(inputs.images, mmap_mode="r"), np.load(inputs.targets)
        assert images.dtype == np.uint8
        assert images.shape == (20, 4, 4, 3)
        assert images[:, 3, 3, 2].tolist() == list(range(20))
        assert targets.tolist() == split.targets.tolist()
        assert inputs.count == 20
        shape = b"(20, 4, 4, 3)"
        content = shape + images.tobytes() + split.targets.astype("<i8").tobytes()
        assert inputs.fingerprint == hashlib.sha256(content).hexdigest()
        del images  # a mapped file cannot be removed on Windows
    assert split.loaded == [8, 8, 4]
    assert lines.bars["test images"] == [20, 20]
    assert not inputs.folder.exists()


def test_a_limit_draws_at_random_and_keeps_images_with_their_targets(split, preprocessing, lines):
    with prepared_inputs(split, preprocessing, 7, 1, lines) as inputs:
        drawn, targets = np.load(inputs.images)[:, 0, 0, 0], np.load(inputs.targets)
    assert len(set(drawn.tolist())) == 7
    assert drawn.tolist() != list(range(7))
    assert targets.tolist() == split.targets[drawn].tolist()


def test_a_limit_above_the_number_of_images_takes_all(split, preprocessing, lines):
    with prepared_inputs(split, preprocessing, 500, 1, lines) as inputs:
        assert inputs.count == 20


def test_the_folder_goes_when_the_block_fails(split, preprocessing, lines):
    with pytest.raises(KeyboardInterrupt), prepared_inputs(split, preprocessing, None, 0, lines) as inputs:
        raise KeyboardInterrupt
    assert not inputs.folder.exists()


def test_a_full_disk_is_a_clear_error(split, preprocessing, lines, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(split, "load", full)
    with (
        pytest.raises(FileWriteError, match=r"No space left on device.*TMPDIR"),
        prepared_inputs(split, preprocessing, None, 0, lines),
    ):
        pass
