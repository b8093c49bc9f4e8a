from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finished_runs import write_finished_run
from tiny_training import LABELS, Listening, tiny_recipe, tiny_setting, tiny_split
from torch import nn

from toolkit.backbones.restore import load_deployable
from toolkit.data import Dataset
from toolkit.data.augment import epoch_view, make_view
from toolkit.data.batches import load_views
from toolkit.errors import RecipeError, RunError, TrainingError
from toolkit.run_folder import FinishedRun, RunFolder
from toolkit.training import distillation
from toolkit.training import measure as measuring
from toolkit.training.activations import extraction
from toolkit.training.activations.new_views import chosen_images
from toolkit.training.activations.prefix import TorchPrefix
from toolkit.training.batch_sources import ActivationBatches, EpochOrder
from toolkit.training.checkpoint import State
from toolkit.training.distillation import Teacher, find_teacher, may_have_seen
from toolkit.training.interruption import Stopper
from toolkit.training.plan import rate
from toolkit.training.setting import Setting
from toolkit.training.trainer import Trainer
from toolkit.training.training_data import TrainingData

pytestmark = pytest.mark.usefixtures("in_torch", "own_cache")

AUGMENTED = {"augment__flip": True, "augment__shift": 0.3, "cache__views": 3}
KNOWN = ("zero", "bright", "two", "dark", *map(str, range(4, 10)))
"""What the teacher calls its ten classes."""


@pytest.fixture(autouse=True)
def teacher_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run teachers in PyTorch: exporting one to ONNX takes seconds."""
    monkeypatch.setattr(
        distillation, "make_prefix", lambda network, setting, _: TorchPrefix(network, setting.device, None)
    )


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A finished run that knows the classes of tiny images among others."""
    folder = write_finished_run(tmp_path / "teacher")
    folder.record().model_copy(update={"labels": KNOWN}).save(folder.record_file)
    return folder


def taught_setting(run: RunFolder, listening: Listening | None = None, **changes: Any) -> Setting:
    return tiny_setting(
        tiny_recipe(cache__use=True, distill__teacher=str(run.path), **changes), listening or Listening()
    )


def dataset_of(*labels: str) -> Dataset:
    return Dataset("made", labels, {name: tiny_split(name, 4) for name in ("train", "validation", "test")})


def test_no_teacher_is_no_teacher() -> None:
    assert find_teacher(tiny_recipe(), dataset_of(*LABELS)) is None


def test_its_answers_are_taken_in_the_order_of_our_labels(run: RunFolder) -> None:
    teacher = find_teacher(tiny_recipe(distill__teacher=str(run.path), cache__use=True), dataset_of(*LABELS))
    assert teacher is not None
    assert teacher.places == (3, 1)
    network = distillation.TaughtNetwork(teacher)
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        (ours,) = network(images)
        theirs = load_deployable(FinishedRun.of(run))(images)[0]
    assert torch.equal(ours, theirs[:, [3, 1]])


def test_one_that_averages_mirror_images_has_answers_of_its_own(run: RunFolder) -> None:
    finished = FinishedRun.of(run)
    mirrored = replace(finished, record=finished.record.model_copy(update={"flip_test": True}))
    assert Teacher(mirrored, (3, 1)).digest != Teacher(finished, (3, 1)).digest


def test_a_class_that_it_does_not_know_is_named(run: RunFolder) -> None:
    with pytest.raises(
        RecipeError,
        match=r"^the teacher 'teacher' knows 10 classes \(zero, bright, two, dark, 4, \.\.\.\), and 'purple' is "
        r"none of them: give a run that was trained on the classes of these images\.$",
    ):
        find_teacher(tiny_recipe(distill__teacher=str(run.path), cache__use=True), dataset_of("dark", "purple"))


def test_a_run_that_is_not_there_or_has_other_weights_is_refused(run: RunFolder, tmp_path: Path) -> None:
    recipe = tiny_recipe(distill__teacher=str(run.path), cache__use=True)
    run.model_file.write_bytes(b"other")
    with pytest.raises(RunError, match=r"is not the file that run\.json describes"):
        find_teacher(recipe, dataset_of(*LABELS))
    shutil.rmtree(run.path)
    with pytest.raises(RunError, match="there is no run"):
        find_teacher(recipe, dataset_of(*LABELS))


def test_whether_it_may_have_seen_what_is_held_back(run: RunFolder) -> None:
    finished = FinishedRun.of(run)
    teacher, dataset = Teacher(finished, (3, 1)), dataset_of(*LABELS)
    assert may_have_seen(teacher, dataset)
    same = finished.record.data.model_copy(update={"splits": dataset.summary().splits})
    own = replace(finished, record=finished.record.model_copy(update={"data": same}))
    assert not may_have_seen(Teacher(own, (3, 1)), dataset)


def test_each_view_has_the_answer_to_that_view(run: RunFolder) -> None:
    listening = Listening()
    setting = taught_setting(run, listening, **AUGMENTED)
    train = setting.dataset.split("train")
    with TrainingData(setting) as data:
        data.batches(2)
        assert data.answers is not None
        kept = data._activations["teacher"]
        preprocessing = FinishedRun.of(run).record.preprocessing
        network = distillation.TaughtNetwork(Teacher(FinishedRun.of(run), (3, 1)))
        images = np.array([4, 0, 7])
        for view in range(3):
            (answers,) = kept.load((0,), images, np.full(3, view), torch.device("cpu"))
            pixels = train.load(images, preprocessing)
            change = make_view(setting.recipe.augment, setting.recipe.seed, view).augment
            with torch.inference_mode():
                (wanted,) = network(torch.from_numpy(pixels if change is None else change(pixels, images)))
            torch.testing.assert_close(answers, wanted, rtol=1e-4, atol=1e-5)
        assert kept.cache.key.dtype == "float32"
    assert "teacher, train" in listening.bars
    assert any(line.startswith("teacher: teacher, torchvision:squeezenet1_1 at 32 px") for line in listening.lines)


def test_a_batch_brings_the_answers_to_the_views_it_has(run: RunFolder) -> None:
    setting = taught_setting(run, **AUGMENTED)
    order = EpochOrder(np.array([3, 0, 2, 5, 4], np.int64), 2, (0, 1, 1))
    with TrainingData(setting) as data:
        batches = list(data.batches(2).training(order, 0))
        views = np.random.default_rng([0, 1, 1, 1]).integers(0, 3, 18)
        assert views[order.indices].any()
        for batch, images in zip(batches, order.batches(0), strict=True):
            (wanted,) = data._activations["teacher"].load((0,), images, views[images], torch.device("cpu"))
            assert batch.taught is not None
            assert torch.equal(batch.taught, wanted)


def test_shifts_of_teacher_and_student_are_the_same_share_of_the_side() -> None:
    recipe = tiny_recipe(augment__shift=0.2).augment
    indices = np.arange(50)

    def moved(side: int) -> np.ndarray:
        """Return how far a bright centre was moved, as shares of the side."""
        images = np.zeros((50, side, side, 3), np.uint8)
        images[:, side // 2, side // 2] = 255
        change = make_view(recipe, 0, 1).augment
        assert change is not None
        places = [np.argwhere(image[..., 0])[0] for image in change(images, indices)]
        return (np.array(places) - side // 2) / side

    assert np.abs(moved(60) - moved(200)).max() <= 1 / 60


class Contrary(nn.Module):
    """Takes dark images for bright ones."""

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        brightness = images.float().mean((1, 2, 3)) - 100
        return (torch.stack([brightness, -brightness], 1),)


@pytest.fixture
def contrary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "TaughtNetwork", Contrary)


@pytest.mark.usefixtures("contrary")
@pytest.mark.parametrize(("weight", "right"), [(0.0, 1.0), (1.0, 0.0)])
def test_the_weight_says_whom_to_believe(run: RunFolder, weight: float, right: float) -> None:
    setting = taught_setting(run, stage1__epochs=10, stage2__epochs=10, distill__weight=weight)
    with TrainingData(setting) as data:
        trainer = Trainer(setting, data, State(), lambda: None, Stopper())
        trainer.run()
    assert trainer.state.history[-1].validation_accuracy == right


def test_the_plan_has_its_time_and_room(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "rate", lambda run: rate(run, least=0.001))
    setting = taught_setting(run, **AUGMENTED)
    with TrainingData(setting) as data:
        rates = measuring.measure(setting, data)
        assert rates.teacher is not None
        assert rates.answer_bytes == 2 * 4
        plan = measuring.make_plan(setting, data, rates)
        assert plan.teacher == pytest.approx(18 * 3 / rates.teacher)
        data.batches(1)
        assert measuring.make_plan(setting, data, rates).teacher == 0


def test_another_teacher_is_another_run(run: RunFolder) -> None:
    with TrainingData(taught_setting(run)) as data:
        assert data.identity() == {"teacher": Teacher(FinishedRun.of(run), (3, 1)).digest}
    with TrainingData(tiny_setting(tiny_recipe())) as data:
        assert data.identity() == {}


def test_where_nothing_can_be_kept_it_is_refused(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "free_bytes", lambda folder: 1000)
    listening = Listening()
    with (
        TrainingData(taught_setting(run, listening)) as data,
        pytest.raises(TrainingError, match=r"and this run keeps none \(why stands above\): leave --teacher out\.$"),
    ):
        data.batches(1)
    assert listening.lines[-1].startswith("training goes on without a cache of activations: the activations of the ")


def test_new_views_have_new_answers(run: RunFolder) -> None:
    setting = taught_setting(run, **AUGMENTED, cache__refresh=0.5)
    order = EpochOrder(np.arange(18), 18, (0, 2, 1))
    train, preprocessing = setting.dataset.split("train"), FinishedRun.of(run).record.preprocessing
    with TrainingData(setting) as data:
        batches = data.batches(2)
        assert isinstance(batches, ActivationBatches)
        (kept,) = batches.training(order, 0)
        drawn = data.draw_anew(batches, order.seed)
        assert drawn is not None
        (batch,) = drawn.training(order, 0)
        images = chosen_images(order.seed, 18, 9)
        others = np.setdiff1d(order.indices, images)
        (pixels,) = load_views(train, images, preprocessing, [epoch_view(setting.recipe.augment, order.seed)])
        network = distillation.TaughtNetwork(Teacher(FinishedRun.of(run), (3, 1)))
        with torch.inference_mode():
            (wanted,) = network(torch.from_numpy(pixels))
        assert batch.taught is not None
        assert kept.taught is not None
        torch.testing.assert_close(batch.taught[images], wanted, rtol=1e-4, atol=1e-5)
        assert torch.equal(batch.taught[others], kept.taught[others])
        assert torch.equal(batch.targets, kept.targets)
