from __future__ import annotations

import csv
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from signals import hear
from tiny_training import Listening, small_run_recipe

from toolkit.data import near_duplicates
from toolkit.errors import BackboneError, DataError, MissingDependencyError, RunError
from toolkit.files import sha256_file
from toolkit.recipe import Recipe, load_recipe
from toolkit.run_folder import RunFolder, new_run, unfinished_in
from toolkit.training import precision, stage
from toolkit.training.checkpoint import load_checkpoint
from toolkit.training.depthwise import choose_way, instruction_set
from toolkit.training.history import Epoch, read_history
from toolkit.training.interruption import StoppedError
from toolkit.training.meter import Step
from toolkit.training.stage import finetune_run, plan_run, recipe_for_budget


def stop() -> None:
    raise KeyboardInterrupt


def history(run: RunFolder) -> list[dict[str, str]]:
    with run.history_file.open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def test_a_finished_run_has_its_record_and_the_weights_that_it_names(tmp_path: Path) -> None:
    run = finetune_run(small_run_recipe(), name="run", root=tmp_path)
    record = run.record()
    assert record.model_sha256 == sha256_file(run.model_file)
    assert [(stage.stage, stage.epochs) for stage in record.stages] == [(1, 1), (2, 1)]
    assert record.stages[0].trained == ("classifier",)
    assert (record.best_stage, record.best_epoch) in [(1, 1), (2, 1)]
    assert run.evaluation().images == 20
    assert not run.checkpoints.exists()
    assert run.recipe() == small_run_recipe()
    with pytest.raises(RunError, match="there is a finished run 'run'"):
        finetune_run(small_run_recipe(), name="run", root=tmp_path)


def test_seconds_are_counted_once(tmp_path: Path) -> None:
    began = time.perf_counter()
    record = finetune_run(small_run_recipe(), name="run", root=tmp_path).record()
    assert sum(stage.seconds for stage in record.stages) < record.seconds <= time.perf_counter() - began


def test_seconds_of_an_earlier_session_are_counted_too(tmp_path: Path) -> None:
    began = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        finetune_run(small_run_recipe(), name="run", root=tmp_path, reporter=Listening("test", stop))
    before = load_checkpoint(tmp_path / "run" / "checkpoints")
    assert before is not None
    record = finetune_run(small_run_recipe(), name="run", root=tmp_path, resume=True).record()
    assert before.seconds > sum(before.stage_seconds.values()) > 0
    assert before.seconds < record.seconds <= time.perf_counter() - began


def test_a_run_that_stopped_between_two_stages_ends_as_if_it_had_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = finetune_run(small_run_recipe(augment__mixup=0.2), name="whole", root=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        finetune_run(
            small_run_recipe(augment__mixup=0.2),
            name="run",
            root=tmp_path,
            reporter=Listening("stage 2 epoch 1/1", stop),
        )
    # What the look at the labels found is in the checkpoint.
    monkeypatch.setattr(stage, "check_labels", stop)
    listening = Listening()
    run = finetune_run(small_run_recipe(augment__mixup=0.2), name="run", root=tmp_path, resume=True, reporter=listening)
    assert "going on with run at stage 2, epoch 1, step 0" in listening.lines
    assert "stage 1 epoch 1/1" not in listening.bars
    assert sha256_file(run.model_file) == sha256_file(whole.model_file)
    assert history(run) == history(whole)


def test_the_first_stage_can_be_left_out(tmp_path: Path) -> None:
    steps: list[Step] = []
    run = finetune_run(small_run_recipe(stage1__epochs=0), name="run", root=tmp_path, on_step=steps.append)
    assert [stage.stage for stage in run.record().stages] == [2]
    assert {step.stage for step in steps} == {2}


def test_a_run_that_is_asked_to_stop_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(StoppedError, match=r"and saved\. Go on with 'toolkit finetune --resume --run run --artif"):
        finetune_run(
            small_run_recipe(),
            name="run",
            root=tmp_path,
            on_step=lambda step: hear(signal.SIGINT) if step.stage == 2 else None,
        )
    assert (tmp_path / "run" / "checkpoints" / "latest.json").exists()
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_run_that_goes_on_keeps_the_precision_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_run_recipe(train__precision="auto")
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: True)
    with pytest.raises(KeyboardInterrupt):
        finetune_run(recipe, name="run", root=tmp_path, reporter=Listening("test", stop))
    # On another processor.
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: False)
    assert finetune_run(recipe, name="run", root=tmp_path, resume=True).record().precision == "bfloat16"
    assert finetune_run(recipe, name="other", root=tmp_path).record().precision == "float32"


def test_a_run_does_not_go_on_with_another_recipe(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        finetune_run(small_run_recipe(), name="run", root=tmp_path, reporter=Listening("test", stop))
    with pytest.raises(RunError, match="the run 'run' cannot go on: its recipe changed since it was started"):
        finetune_run(small_run_recipe(stage2__epochs=2), name="run", root=tmp_path, resume=True)


def test_a_plan_is_measured_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listening = Listening()
    plan = plan_run(small_run_recipe(), reporter=listening)
    assert set(plan.stages) == {1, 2}
    assert any(line.startswith("plan: about") for line in listening.lines)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_that_fits_a_budget_stays_as_it_is() -> None:
    recipe = small_run_recipe(cache__views=1)
    assert recipe_for_budget(recipe, 3600.0) == recipe


def test_the_record_says_what_validation_told_and_how_classes_counted(tmp_path: Path) -> None:
    listening = Listening()
    recipe = small_run_recipe(train__class_weights="balanced")
    run = finetune_run(recipe, name="run", root=tmp_path, reporter=listening)
    record = run.record()
    assert record.validation is not None
    assert (record.validation.kept, record.validation.leak) == ("last", None)
    assert (record.best_stage, record.best_epoch) == (2, 1)
    assert record.validation.interval.low <= record.best_validation_accuracy <= record.validation.interval.high
    counts = record.data.splits["train"].per_class
    assert record.class_weights == pytest.approx([sum(counts) / (10 * count) for count in counts])
    assert record.data.duplicates is not None
    assert record.data.duplicates.leaked == {"train": 0, "validation": 0, "test": 0}
    assert any("validation images: accuracy moves in steps of" in line for line in listening.lines)
    assert any(line.startswith("kept: the weights of stage 2, epoch 1") for line in listening.lines)


def test_the_record_says_how_depthwise_convolutions_were_differentiated_in_all_sessions(tmp_path: Path) -> None:
    whole = finetune_run(small_run_recipe(), name="whole", root=tmp_path).record()
    with pytest.raises(KeyboardInterrupt):
        finetune_run(small_run_recipe(), name="run", root=tmp_path, reporter=Listening("test", stop))
    # No step is left to make.
    run = finetune_run(small_run_recipe(), name="run", root=tmp_path, resume=True).record()
    assert whole.instruction_set == run.instruction_set == instruction_set()
    assert whole.depthwise_gradients
    assert set(whole.depthwise_gradients) == set(run.depthwise_gradients)
    for found in whole.depthwise_gradients:
        assert found.way == choose_way(found.shape, instruction_set())


def test_a_run_with_class_weights_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    recipe = small_run_recipe(train__class_weights="balanced")
    whole = finetune_run(recipe, name="whole", root=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        finetune_run(recipe, name="run", root=tmp_path, reporter=Listening("stage 2 epoch 1/1", stop))
    run = finetune_run(run_recipe(tmp_path), name="run", root=tmp_path, resume=True)
    assert sha256_file(run.model_file) == sha256_file(whole.model_file)
    assert run.record().class_weights == whole.record().class_weights


def run_recipe(root: Path) -> Recipe:
    return RunFolder(root / "run").recipe()


def test_near_duplicates_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_duplicates, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="needs ImageHash"):
        finetune_run(small_run_recipe(data__check_duplicates=True), name="run", root=tmp_path)
    assert list(tmp_path.iterdir()) == []


class TestBeforeTheFirstStep:
    """While data and weights are loading, which can take minutes."""

    def interrupt(self, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
        def load(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr("toolkit.training.setting.load_dataset", load)

    def test_ctrl_c_leaves_a_run_that_resume_finds_and_starts_from_its_recipe(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            self.interrupt(patch, KeyboardInterrupt())
            with pytest.raises(StoppedError, match=r"^stopped by Ctrl-C\. Go on with 'toolkit finetune --resume"):
                finetune_run(small_run_recipe(), root=tmp_path)
        (half,) = unfinished_in(tmp_path)
        assert half.recipe() == small_run_recipe()
        assert half.name.startswith("digits-")
        listening = Listening()
        run = finetune_run(half.recipe(), name=half.name, root=tmp_path, resume=True, reporter=listening)
        assert f"{half.name} had reached no checkpoint: starting from its recipe" in listening.lines
        assert run.record().name == half.name

    def test_what_cannot_begin_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.interrupt(monkeypatch, DataError("no images"))
        with pytest.raises(DataError):
            finetune_run(small_run_recipe(), name="run", root=tmp_path / "artifacts")
        assert list(tmp_path.iterdir()) == []

    def test_an_interrupted_run_of_that_name_is_kept_until_the_new_one_begins(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(KeyboardInterrupt):
            finetune_run(small_run_recipe(), name="run", root=tmp_path, reporter=Listening("test", stop))
        run = RunFolder(tmp_path / "run")
        before = run.recipe_file.read_bytes(), sorted(path.name for path in run.checkpoints.iterdir())
        self.interrupt(monkeypatch, DataError("no images"))
        with pytest.raises(DataError):
            finetune_run(small_run_recipe(stage1__epochs=2), name="run", root=tmp_path)
        assert before == (run.recipe_file.read_bytes(), sorted(path.name for path in run.checkpoints.iterdir()))


@pytest.mark.skipif(sys.platform == "win32", reason="folders are not locked there")
@pytest.mark.parametrize("resume", [False, True])
def test_two_processes_do_not_train_into_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: bool) -> None:
    def other(*_: object, **__: object) -> None:  # a second one, while the first one loads its data
        monkeypatch.undo()
        with pytest.raises(RunError, match="another process is writing the run 'run': wait for it"):
            finetune_run(small_run_recipe(seed=1), name="run", root=tmp_path, resume=resume)
        raise DataError("enough")

    monkeypatch.setattr("toolkit.training.setting.load_dataset", other)
    with pytest.raises(DataError, match="enough"):
        finetune_run(small_run_recipe(), name="run", root=tmp_path)
    assert not (tmp_path / "run").exists()
    assert finetune_run(small_run_recipe(), name="run", root=tmp_path).record().name == "run"


def test_a_default_that_was_adapted_stands_in_the_record_and_in_the_recipe(tmp_path: Path) -> None:
    run = finetune_run(small_run_recipe().adapted({"stage2.unfreeze": 99}), name="run", root=tmp_path)
    record, blocks = run.record(), run.recipe().stage2.unfreeze
    assert isinstance(blocks, int)
    assert len(record.stages[1].trained) == blocks + 1
    assert [sentence.partition(" instead")[0].partition(" (")[0] for sentence in record.adapted] == [
        f"stage2.unfreeze is {blocks}"
    ]


def test_whoever_follows_is_told_of_the_run_first_and_of_every_epoch_once_it_is_saved(tmp_path: Path) -> None:
    told: list[int] = []

    def observe(run: RunFolder, epochs: Sequence[Epoch]) -> None:
        assert run.recipe_file.exists()
        assert len(read_history(run.history_file)) == len(epochs) if epochs else not run.history_file.exists()
        told.append(len(epochs))

    with pytest.raises(KeyboardInterrupt):
        finetune_run(
            small_run_recipe(),
            name="run",
            root=tmp_path,
            reporter=Listening("stage 2 epoch 1/1", stop),
            on_epochs=observe,
        )
    assert sorted(set(told)) == [0, 1]
    told.clear()
    finetune_run(small_run_recipe(), name="run", root=tmp_path, resume=True, on_epochs=observe)
    assert told[0] == 1
    assert sorted(set(told)) == [1, 2]


def few_photos(folder: Path, per_class: int = 9) -> Path:
    """Write pictures of noise around three colours, a folder each."""
    rng = np.random.default_rng(0)
    for place, name in enumerate(("blue", "green", "red")):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = rng.integers(0, 150, (32, 32, 3), dtype=np.uint8)
            pixels[..., place] += 100
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def recipe_for_photos(folder: Path) -> Recipe:
    return load_recipe("folder").override(
        {
            "data.source": str(folder),
            "backbone.name": "timm:test_efficientnet",
            "backbone.weights": "none",
            "backbone.image_size": 32,
            "stage2.epochs": 1,
            "cache.views": 2,
            "train.threads": 1,
        }
    )


@pytest.mark.usefixtures("in_torch", "own_cache")
def test_a_folder_of_few_images_has_its_head_solved_and_is_told_so(tmp_path: Path) -> None:
    listening = Listening()
    recipe = recipe_for_photos(few_photos(tmp_path / "photos"))
    run = finetune_run(recipe, name="run", root=tmp_path, reporter=listening)
    head = run.record().solved_head
    assert head is not None
    assert (head.images, head.views, head.folds) == (run.record().data.splits["train"].images, 2, 5)
    assert head.second_stage is not None
    assert run.recipe().stage1.solver == "lbfgs"
    told = [line for line in listening.lines if "the head is solved" in line or "the solved head" in line]
    assert told[0].startswith(f"{head.images / 3:.3g} training images a class: the head is solved as logistic regre")
    assert told[1].startswith("the solved head is ")
    assert [stage.stage for stage in run.record().stages] == ([1, 2] if head.second_stage.trained else [1])
    again = finetune_run(recipe, name="again", root=tmp_path)
    assert sha256_file(again.model_file) == sha256_file(run.model_file)
    assert again.record().solved_head == head


@pytest.mark.parametrize("at", ["stage 1: solving the head", "stage 2 without one fold after the other", "test"])
@pytest.mark.usefixtures("in_torch", "own_cache")
def test_a_run_of_few_images_that_was_stopped_ends_as_if_it_had_not(tmp_path: Path, at: str) -> None:
    recipe = recipe_for_photos(few_photos(tmp_path / "photos"))
    whole = finetune_run(recipe, name="whole", root=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        finetune_run(recipe, name="run", root=tmp_path, reporter=Listening(at, stop))
    own = RunFolder(tmp_path / "run").recipe()
    assert own.stage1.solver == "lbfgs"
    run = finetune_run(own, name="run", root=tmp_path, resume=True)
    assert sha256_file(run.model_file) == sha256_file(whole.model_file)
    assert history(run) == history(whole)
    assert run.record().solved_head == whole.record().solved_head


@pytest.mark.usefixtures("in_torch", "own_cache")
def test_a_run_that_was_killed_before_the_solver_was_chosen_says_in_its_recipe_what_was(tmp_path: Path) -> None:
    half = new_run("run", tmp_path)
    recipe_for_photos(few_photos(tmp_path / "photos")).override({"stage2.epochs": 0}).save(half.recipe_file)
    assert half.recipe().stage1.solver == "auto"
    run = finetune_run(half.recipe(), name="run", root=tmp_path, resume=True)
    assert run.record().solved_head is not None
    assert run.recipe().stage1.solver == "lbfgs"


def test_a_run_that_was_killed_before_its_defaults_were_adapted_goes_on(tmp_path: Path) -> None:
    half = new_run("run", tmp_path)
    recipe = small_run_recipe(stage1__epochs=0).adapted({"stage2.unfreeze": 40})
    recipe.save(half.recipe_file)
    run = finetune_run(half.recipe(), name="run", root=tmp_path, resume=True)
    assert run.recipe().stage2.unfreeze == 6
    assert run.record().adapted[0].startswith("stage2.unfreeze is 6 (stem, ")
    # What a person gives a new run is refused as ever.
    with pytest.raises(BackboneError, match="cannot unfreeze 40 blocks"):
        finetune_run(recipe.override({"stage2.unfreeze": 40}), name="new", root=tmp_path)
