"""What a run says before it starts, and what it does when the world changes under it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from toolkit.cli.main import main
from toolkit.errors import FileWriteError, ImageError, RunError
from toolkit.progress import Bar, Silent
from toolkit.recipe import Recipe, load_recipe
from toolkit.run_folder import find_unfinished
from toolkit.training.activations.catalogue import cache_root, entries
from toolkit.training.measure import measure
from toolkit.training.setting import prepared_setting
from toolkit.training.stage import finetune_run, recipe_for_budget
from toolkit.training.training_data import TrainingData

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(40):
            Image.fromarray(generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(
                tmp_path / "photos" / label / f"{index:02d}.png"
            )
    return tmp_path / "photos"


def small(folder: Path, **changes: object) -> Recipe:
    wanted = {
        "data.source": str(folder),
        "backbone.image_size": 32,
        "train.threads": 1,
        "stage1.epochs": 1,
        "stage2.epochs": 1,
    }
    return load_recipe("folder").override({**wanted, "cache.views": 2, **changes})


def test_a_dry_run_says_what_it_would_cost_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("finetune", "--recipe", "digits", "--dry-run") == 0
    said = capsys.readouterr().err
    assert re.search(r"plan: about .* in all; 0\.\d\d GB of disk, \d+\.\d GB of memory", said)
    assert re.search(
        r"the frozen part at \d+ img/s .*; stage 1 at \d+ img/s .*; stage 2 at \d+ img/s .*; the test takes", said
    )
    assert not (tmp_path / "artifacts").exists()
    assert entries(cache_root()) == []


def test_a_time_budget_changes_the_recipe_and_says_how() -> None:
    asked = load_recipe("digits").override({"data.train_limit": 200, "data.test_limit": 50, "stage2.epochs": 1_000_000})
    said: list[str] = []

    class Listening(Silent):
        """Keeps what is said."""

        def line(self, text: str) -> None:
            said.append(text)

    chosen = recipe_for_budget(asked, 600.0, reporter=Listening())
    assert 3 <= chosen.stage2.epochs < 1_000_000
    assert chosen.backbone.image_size == asked.backbone.image_size
    assert said == [
        "to fit 10 min: cache.views is 1",
        f"to fit 10 min: stage2.epochs is {chosen.stage2.epochs} instead of 1000000",
    ]


def test_a_budget_that_is_no_time_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("finetune", "--recipe", "digits", "--time-budget", "soon") == 2
    assert "'soon' is no length of time" in capsys.readouterr().err


def test_measuring_leaves_every_weight_and_statistic_as_it_was(photos: Path) -> None:
    recipe = small(photos, **{"train.train_bn": True})
    with prepared_setting(recipe, Silent()) as setting, TrainingData(setting) as data:
        model = setting.backbone.model
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        rates = measure(setting, data)
        assert rates.prefix is not None
        assert rates.prefix > 0
        assert set(rates.train) == {1, 2}
        assert rates.row_bytes > 0
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Meddling(Silent):
    """Does something when a part of the work begins: by default the pass over the training images."""

    def __init__(self, act: object, at: str = "frozen part, train") -> None:
        self.act = act
        self.at = at

    @contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Bar]:
        if description == self.at:
            assert callable(self.act)
            self.act()
        with Silent().bar(description, total, unit) as silent:
            yield silent


def test_an_image_that_disappears_is_named_and_nothing_half_written_stays(photos: Path, tmp_path: Path) -> None:
    def remove() -> None:
        for index in range(40):
            (photos / "dog" / f"{index:02d}.png").unlink()

    with pytest.raises(ImageError, match=r"dog/\d\d\.png cannot be read as an image: there is no such file"):
        finetune_run(small(photos), name="gone", root=tmp_path / "artifacts", reporter=Meddling(remove))
    assert entries(cache_root()) == []
    assert [path for path in cache_root().iterdir() if path.name.endswith(".part")] == []


def test_a_disk_that_fills_up_is_said_and_nothing_half_written_stays(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    def fill() -> None:
        monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(FileWriteError, match="No space left on device"):
        finetune_run(small(photos), name="full", root=tmp_path / "artifacts", reporter=Meddling(fill))
    monkeypatch.undo()
    assert list((tmp_path / "cache" / "features").iterdir()) == []


def test_a_run_does_not_go_on_with_other_images(photos: Path, tmp_path: Path) -> None:
    recipe = small(photos)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune_run(recipe, name="stopped", root=tmp_path / "artifacts", reporter=Meddling(stop))
    assert find_unfinished(None, tmp_path / "artifacts").name == "stopped"
    finished = finetune_run(recipe, name="stopped", root=tmp_path / "artifacts", resume=True)
    assert finished.record_file.exists()
    with pytest.raises(RunError, match="is finished: there is nothing to go on with"):
        find_unfinished("stopped", tmp_path / "artifacts")


def test_a_checkpoint_is_refused_after_the_images_changed(photos: Path, tmp_path: Path) -> None:
    recipe = small(photos)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune_run(recipe, name="changed", root=tmp_path / "artifacts", reporter=Meddling(stop, at="test"))
    for path in sorted((photos / "cat").iterdir())[:20]:
        Image.new("RGB", (20, 20), "red").save(path)
    with pytest.raises(
        RunError, match=r"the run 'changed' cannot go on: its .*train images.* changed since it was started"
    ):
        finetune_run(recipe, name="changed", root=tmp_path / "artifacts", resume=True)
