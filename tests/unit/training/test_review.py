from __future__ import annotations

import io
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_training import LABELS, tiny_recipe, tiny_setting, tiny_split

from toolkit.data import Dataset
from toolkit.data.duplicates import Place
from toolkit.errors import FileWriteError
from toolkit.results import LabelIssues, Review, ReviewedImage
from toolkit.run_folder import RunFolder
from toolkit.training import review as module
from toolkit.training.label_check import LabelCheck
from toolkit.training.review import small_jpeg, write_review
from toolkit.training.setting import Setting

LOGITS = np.log(np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]], np.float32))
"""Of the four test images, dark and bright in turn: the second and the third are wrong."""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


@pytest.fixture
def setting() -> Setting:
    return tiny_setting(tiny_recipe())


def suspect() -> LabelCheck:
    image = ReviewedImage(
        split="train",
        name="train/3",
        label="bright",
        predicted="dark",
        probability=0.99,
        label_probability=0.01,
        thumbnail=None,
    )
    issues = LabelIssues(looked_at=28, estimated_wrong=1, folds=5, features="made", suspects=(image,), limits=())
    return LabelCheck(issues, (Place("train", 3),))


def test_mistakes_come_with_the_most_confident_first(setting: Setting, run: RunFolder) -> None:
    review = write_review(setting, LOGITS, LabelCheck(not_looked="a reason"), run)
    assert run.review() == review
    assert [(one.name, one.label, one.predicted, one.thumbnail) for one in review.mistakes] == [
        ("test/2", "dark", "bright", "review/test-00002.jpg"),
        ("test/1", "bright", "dark", "review/test-00001.jpg"),
    ]
    assert [one.probability for one in review.mistakes] == pytest.approx([0.8, 0.6])
    assert [one.label_probability for one in review.mistakes] == pytest.approx([0.2, 0.4])
    assert review.mistakes_in_all == 2
    assert {(pair.label, pair.predicted, pair.count) for pair in review.pairs} == {
        ("dark", "bright", 1),
        ("bright", "dark", 1),
    }
    assert sum(one.images for one in review.calibration) == 4
    assert (review.label_issues, review.not_looked) == (None, "a reason")
    assert review.class_images == {"train": (9, 9), "validation": (3, 3), "test": (2, 2)}


def test_suspects_get_their_pictures(setting: Setting, run: RunFolder) -> None:
    review = write_review(setting, LOGITS, suspect(), run)
    assert review.label_issues is not None
    assert review.label_issues.suspects[0].thumbnail == "review/train-00003.jpg"
    shown = np.asarray(Image.open(run.path / "review" / "train-00003.jpg"), np.float64)
    assert shown.shape == (8, 8, 3)
    assert shown.mean() == pytest.approx(setting.dataset.split("train").sources[3].mean(), abs=5)  # type: ignore[union-attr]  # an array
    assert sorted(path.name for path in run.thumbnails.iterdir()) == [
        "test-00001.jpg",
        "test-00002.jpg",
        "train-00003.jpg",
    ]


def test_without_mistakes_there_is_a_review_all_the_same(setting: Setting, run: RunFolder) -> None:
    review = write_review(setting, np.array([[1, 0], [0, 1]] * 2, np.float32), LabelCheck(not_looked="no"), run)
    assert (review.mistakes, review.mistakes_in_all, review.pairs) == ((), 0, ())
    assert Review.from_json(run.review_file.read_text("utf-8")) == review


def test_pictures_stop_where_the_room_ends_and_suspects_come_first(
    setting: Setting, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [len(small_jpeg(setting.dataset.split("train").sources[3]))]  # type: ignore[arg-type]  # an array
    monkeypatch.setattr(module, "THUMBNAIL_BYTES", sizes[0])
    review = write_review(setting, LOGITS, suspect(), run)
    assert review.label_issues is not None
    assert review.label_issues.suspects[0].thumbnail == "review/train-00003.jpg"
    assert [one.thumbnail for one in review.mistakes] == [None, None]
    assert len(list(run.thumbnails.iterdir())) == 1


def test_an_image_that_has_gone_has_no_picture(setting: Setting, run: RunFolder, tmp_path: Path) -> None:
    test = setting.dataset.split("test")
    gone = replace(test, sources=[*test.sources[:2], tmp_path / "gone.jpg", *test.sources[3:]])
    dataset = replace(setting.dataset, splits={**setting.dataset.splits, "test": gone})
    review = write_review(replace(setting, dataset=dataset), LOGITS, LabelCheck(not_looked="no"), run)
    assert [one.thumbnail for one in review.mistakes] == [None, "review/test-00001.jpg"]


def test_what_a_killed_run_left_is_replaced(setting: Setting, run: RunFolder) -> None:
    run.thumbnails.mkdir()
    (run.thumbnails / "test-00000.jpg").write_bytes(b"old")
    write_review(setting, LOGITS, LabelCheck(not_looked="no"), run)
    assert sorted(path.name for path in run.thumbnails.iterdir()) == ["test-00001.jpg", "test-00002.jpg"]
    assert sorted(path.name for path in run.path.iterdir()) == ["review", "review.json"]


def test_a_disk_that_fills_up_is_one_sentence_and_leaves_nothing(
    setting: Setting, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "sync_files", full)
    with pytest.raises(FileWriteError, match=r"review: No space left on device.*--resume"):
        write_review(setting, LOGITS, LabelCheck(not_looked="no"), run)
    assert list(run.path.iterdir()) == []


def test_at_most_so_many_are_kept_with_one_of_each_pair(
    setting: Setting, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_MISTAKES", 5)
    labels = ("a", "b", "c")
    # Eight taken from a to b with confidence; one, unsure, from c to a.
    test = replace(
        tiny_split("test", 9), targets=np.array([0] * 8 + [2]), names=tuple(f"test/{index}" for index in range(9))
    )
    dataset = Dataset("made", labels, {**setting.dataset.splits, "test": test})
    sure = np.linspace(3, 5, 8)
    logits = np.array([[0, value, 0] for value in sure] + [[0.5, 0, 0]], np.float32)
    review = write_review(replace(setting, dataset=dataset), logits, LabelCheck(not_looked="no"), run)
    assert review.mistakes_in_all == 9
    assert [one.name for one in review.mistakes] == ["test/7", "test/6", "test/5", "test/4", "test/8"]
    assert [(pair.label, pair.predicted, pair.count) for pair in review.pairs] == [("a", "b", 8), ("c", "a", 1)]


@pytest.mark.parametrize("shape", [(300, 200), (50, 960), (1, 4000), (32, 32)])
def test_pictures_are_small_and_keep_their_shape(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    content = small_jpeg(pixels)
    with Image.open(io.BytesIO(content)) as opened:
        factor = min(1.0, 96 / max(shape))
        assert opened.format == "JPEG"
        assert opened.size == tuple(max(1, round(side * factor)) for side in reversed(shape))
    assert len(content) < 12_000


def test_the_most_that_a_review_holds_leaves_room_in_a_report_of_3_mb(setting: Setting, run: RunFolder) -> None:
    # Base64 makes 4 bytes of 3; the record itself stands in the page too.
    names = tuple("ab")
    count = 400
    test = replace(
        tiny_split("test", count), names=tuple(f"a folder/with a long name {index}.jpeg" for index in range(count))
    )
    dataset = Dataset("made", names, {**setting.dataset.splits, "test": test})
    logits = np.array(list(itertools.islice(itertools.cycle([[0, 1], [1, 0]]), count)), np.float32)
    write_review(replace(setting, dataset=dataset), logits, LabelCheck(not_looked="no"), run)
    assert run.review_file.stat().st_size + module.THUMBNAIL_BYTES * 4 / 3 < 2_000_000
    assert LABELS == ("dark", "bright")
