from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_training import small_run_recipe

import toolkit
from toolkit.api import Run, finetune, train
from toolkit.errors import RecipeError, RunError, ToolkitError, TrackerError
from toolkit.recipe import Recipe
from toolkit.run_folder import RunFolder
from toolkit.training.history import read_history
from toolkit.training.interruption import StoppedError


def test_a_run_that_is_started_from_python_has_pictures(tmp_path: Path) -> None:
    losses: list[float] = []
    run = train(small_run_recipe(), name="run", root=tmp_path, on_step=lambda step: losses.append(step.loss))
    assert run.record().name == "run"
    assert losses
    for picture in ("learning_curves.png", "confusion.png"):
        with Image.open(run.path / picture) as opened:
            assert min(opened.size) > 300


def test_under_torchrun_only_the_first_process_draws_and_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    run = train(small_run_recipe(stage2__epochs=0), name="run", root=tmp_path, trackers=["tensorboard"])
    assert list(run.path.glob("*.png")) == []
    assert not (run.path / "tensorboard").exists()


def test_a_run_is_logged_to_a_tracker_that_was_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(small_run_recipe(), name="run", root=tmp_path, trackers=["tensorboard"])
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    epochs = read_history(run.history_file)
    for name in ("train/loss", "validation/accuracy"):
        values = [getattr(epoch, name.replace("/", "_")) for epoch in epochs]
        assert [event.step for event in events.Scalars(name)] == [1, 2]
        assert [event.value for event in events.Scalars(name)] == pytest.approx(values, rel=1e-5)
    assert events.Scalars("test/accuracy")[0].value == pytest.approx(run.evaluation().top1)
    assert sorted(events.Tags()["images"]) == ["confusion", "learning_curves"]


def test_a_tracker_that_there_is_not_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TrackerError, match="there is no tracker 'wandb'"):
        train(small_run_recipe(), name="run", root=tmp_path, trackers=["wandb"])
    assert list(tmp_path.iterdir()) == []


def photos(folder: Path) -> None:
    """Two classes of one image."""
    for label in "ab":
        (folder / "photos" / label).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "photos" / label / "1.png")


class TestFinetune:
    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
        """What ``train`` was asked for; nothing is trained."""
        asked: list[dict[str, Any]] = []

        def fake(recipe: Recipe, **how: Any) -> RunFolder:
            asked.append({"recipe": recipe, **how})
            return RunFolder(how["root"] / (how["name"] or "made"))

        monkeypatch.setattr("toolkit.api.train", fake)
        monkeypatch.chdir(tmp_path)
        return asked

    def test_the_package_has_it(self) -> None:
        assert toolkit.finetune is finetune

    def test_fields_are_those_of_the_recipe(self, asked: list[dict[str, Any]], tmp_path: Path) -> None:
        photos(tmp_path)
        run = finetune(
            Path("photos"),
            name="mine",
            root="runs",
            backbone="torchvision:resnet18",
            stage2_epochs=np.int64(4),  # type: ignore[typeddict-item]
            stage2_unfreeze=["layer4"],
            augment_flip=True,
            cache=False,
            formats=["onnx"],
            seed=7,
            progress=False,
        )
        assert run == Run("runs/mine")
        (how,) = asked
        recipe = how["recipe"]
        assert (recipe.name, recipe.seed) == ("folder", 7)
        assert recipe.data.source == str(tmp_path / "photos")
        assert recipe.backbone.name == "torchvision:resnet18"
        assert (recipe.stage2.epochs, recipe.stage2.unfreeze) == (4, ("layer4",))
        assert (recipe.augment.flip, recipe.cache.use, recipe.export.formats) == (True, False, ("onnx",))
        assert recipe.is_given("stage2.epochs")
        assert not recipe.is_given("stage1.epochs")
        assert (how["name"], how["root"], how["trackers"]) == ("mine", Path("runs"), ())

    def test_all_that_is_wrong_is_said_at_once(self, asked: list[dict[str, Any]]) -> None:
        with pytest.raises(RecipeError) as refused:
            finetune("digits", bakbone="resnet18", epochs=3, run="mine", stage1_epochs="many", image_size=3)  # type: ignore[call-arg, typeddict-item]
        first, *lines, last = str(refused.value).splitlines()
        assert first == "5 fields of the recipe from the call of toolkit.finetune cannot be used:"
        assert lines[:3] == [
            "  bakbone: no such field (did you mean backbone?)",
            "  epochs: no such field (did you mean stage1_epochs or stage2_epochs or stage3_epochs?)",
            "  run: no such field (did you mean name?)",
        ]
        assert "  image_size: Input should be greater than or equal to 16 (given: 3)" in lines
        assert [line for line in lines if line.startswith("  stage1_epochs: ")]
        assert last.startswith("Fields are augment_crop, ")
        assert asked == []

    def test_a_value_alone_that_is_wrong_needs_no_list_of_fields(self, asked: list[dict[str, Any]]) -> None:
        with pytest.raises(RecipeError) as refused:
            finetune("digits", image_size=3)
        assert "Fields are" not in str(refused.value)
        assert asked == []

    @pytest.mark.parametrize(
        "given",
        [
            {"name": 5},
            {"name": ""},
            {"root": None},
            {"root": 5},
            {"recipe": None},
            {"recipe": {"name": "folder"}},
            {"progress": None},
            {"progress": "no"},
            {"track": 5},
            {"track": [1]},
            {"time_budget": 20},
            {"resume": ""},
            {"resume": 1},
            {"resume": None},
        ],
    )
    def test_an_argument_of_the_wrong_type_is_a_sentence(
        self, asked: list[dict[str, Any]], tmp_path: Path, given: dict[str, Any]
    ) -> None:
        """An empty ``resume`` too, which must not begin a run of its own."""
        with pytest.raises(ToolkitError, match="give"):
            finetune(
                **{"data": "digits", "progress": False, **({} if "resume" not in given else {"data": None}), **given}
            )
        assert (asked, list(tmp_path.iterdir())) == ([], [])

    def test_a_name_that_is_taken_is_refused_before_anything_else(
        self, asked: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        (tmp_path / "artifacts" / "mine").mkdir(parents=True)
        (tmp_path / "artifacts" / "mine" / "run.json").touch()
        with pytest.raises(RunError, match="there is a finished run 'mine'"):
            finetune("digits", name="mine")
        assert asked == []

    def test_a_run_that_was_interrupted_goes_on(self, asked: list[dict[str, Any]], tmp_path: Path) -> None:
        folder = RunFolder(tmp_path / "artifacts" / "mine")
        recipe = Recipe().override({"seed": 3})
        recipe.save(folder.recipe_file)
        for resume in (
            lambda: finetune(resume=True, progress=False),
            lambda: finetune(resume="mine", progress=False),
            lambda: Run("artifacts/mine").resume(progress=False),
        ):
            assert resume() == Run("artifacts/mine")
            how = asked.pop()
            assert (how["recipe"], how["name"], how["root"], how["resume"]) == (recipe, "mine", Path("artifacts"), True)

    def test_what_goes_on_has_its_own_recipe(self, asked: list[dict[str, Any]]) -> None:
        for given in ({"seed": 1}, {"name": "other"}, {"recipe": "digits"}, {"data": "digits"}, {"time_budget": "1m"}):
            with pytest.raises(RecipeError, match="resume goes on with a run's own recipe"):
                finetune(resume=True, **given)  # type: ignore[arg-type]  # each of them is refused
        with pytest.raises(RunError, match="there is no unfinished run in artifacts"):
            finetune(resume=True)
        assert asked == []

    def test_who_interrupts_is_told_how_to_go_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def stopped(*_: object, **__: object) -> RunFolder:
            raise StoppedError("stopped, and saved.")

        monkeypatch.setattr("toolkit.api.train", stopped)
        monkeypatch.chdir(tmp_path)
        with pytest.raises(KeyboardInterrupt) as told:
            finetune("digits", progress=False)
        assert str(told.value) == "stopped, and saved. From Python: toolkit.finetune(resume=True)."
        with pytest.raises(KeyboardInterrupt, match=r"toolkit\.finetune\(resume=True, root='runs'\)"):
            finetune("digits", root="runs", progress=False)

    def test_what_auto_chose_is_said(
        self, asked: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        photos(tmp_path)
        finetune("photos")
        assert capsys.readouterr().err == "loading PyTorch ...\nusing the 'folder' recipe for photos\n"
        finetune("photos", progress=False)
        assert capsys.readouterr().err == ""
