"""What ``toolkit finetune`` does around training, which is replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from toolkit.recipe import Recipe

Run = Callable[..., tuple[int, str, str]]


class Training:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.recipe = Recipe.model_validate({})
        self.calls: list[tuple[str, Any]] = []
        self.folder = SimpleNamespace(name="unfinished", path=Path("artifacts/done"), recipe=lambda: self.recipe)
        self.folder.evaluation = lambda: "the evaluation"
        self.folder.review_file, self.folder.review = Path("artifacts/done/review.json"), lambda: "the review"
        self.folder.command = lambda stage: f"toolkit {stage} --run done"

    def train(self, recipe: Recipe, **asked: Any) -> Any:
        asked.pop("reporter")
        self.calls.append(("finetune", {"recipe": recipe, **asked}))
        return self.folder

    def plan_run(self, recipe: Recipe, *, reporter: Any) -> None:
        self.calls.append(("plan", recipe))

    def recipe_for_budget(self, recipe: Recipe, seconds: float, *, reporter: Any) -> Recipe:
        self.calls.append(("budget", seconds))
        return recipe.model_copy(update={"name": "cheaper"})


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Training:
    fake = Training()
    monkeypatch.setattr(
        "toolkit.training.auto.choose_recipe", lambda name, overrides: (fake.recipe.override(overrides), None)
    )
    monkeypatch.setattr("toolkit.api.train", fake.train)
    for name in ("plan_run", "recipe_for_budget"):
        monkeypatch.setattr(f"toolkit.training.stage.{name}", getattr(fake, name))
    monkeypatch.setattr("toolkit.run_folder.find_unfinished", lambda run, root: fake.folder)
    monkeypatch.setattr("toolkit.report.print_evaluation", lambda evaluation, console: console.print(evaluation))
    monkeypatch.setattr("toolkit.report.print_review", lambda review, file, console: console.print(f"{review} {file}"))
    return fake


def test_a_run_is_made_and_named(run: Run, training: Training) -> None:
    code, out, _ = run("finetune", "--run", "mine", "--stage1-epochs", 1, "--quiet")
    path = training.folder.path
    said = "the evaluation\nthe review artifacts/done/review.json\n"
    assert (code, out) == (0, f"{said}wrote {path}; next: toolkit export --run done\n")
    ((kind, asked),) = training.calls
    assert (kind, asked["name"], asked["root"]) == ("finetune", "mine", Path("artifacts"))
    assert asked["recipe"].stage1.epochs == 1


def test_a_reason_for_another_recipe_is_told(run: Run, training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.training.auto.choose_recipe", lambda *_: (training.recipe, "no network: digits"))
    assert run("finetune", "--quiet")[2] == "toolkit: no network: digits\n"


def test_a_dry_run_trains_nothing(run: Run, training: Training) -> None:
    assert run("finetune", "--dry-run")[:2] == (0, "")
    assert training.calls == [("plan", training.recipe)]


def test_a_budget_changes_the_recipe_that_is_trained(run: Run, training: Training) -> None:
    assert run("finetune", "--time-budget", "20m", "--quiet")[0] == 0
    (budget, (_, asked)) = training.calls
    assert budget == ("budget", 1200.0)
    assert asked["recipe"].name == "cheaper"


def test_resuming_goes_on_with_the_runs_own_recipe(run: Run, training: Training) -> None:
    assert run("finetune", "--resume", "--quiet")[0] == 0
    ((_, asked),) = training.calls
    assert (asked["resume"], asked["name"]) == (True, "unfinished")
    assert asked["recipe"] is training.recipe


@pytest.mark.parametrize(
    "flags", [("--stage1-epochs", "1"), ("--recipe", "digits"), ("--dry-run",), ("--time-budget", "20m")]
)
def test_resuming_with_another_recipe_is_refused(run: Run, training: Training, flags: tuple[str, ...]) -> None:
    code, out, err = run("finetune", "--resume", *flags)
    assert (code, out, training.calls) == (2, "", [])
    assert "--resume goes on with a run's own recipe" in err


def test_only_the_leader_of_a_group_draws_and_prints(
    run: Run, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.training.group.leads_here", lambda: False)
    assert run("finetune", "--quiet") == (0, "", "")
    assert len(training.calls) == 1


def test_trackers_are_handed_on(run: Run, training: Training) -> None:
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    assert run("finetune", "--track", "tensorboard", "--quiet")[0] == 0
    assert run("finetune", "--quiet")[0] == 0
    assert [asked["trackers"] for _, asked in training.calls] == [["tensorboard"], ()]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--track", "wandb"), "there is no tracker 'wandb'; trackers here are tensorboard, mlflow"),
        (("--track", "tensorboard", "--dry-run"), "--dry-run trains nothing that --track could log: leave one of them"),
    ],
)
def test_a_tracker_that_cannot_log_is_refused_before_training(
    run: Run, training: Training, arguments: tuple[str, ...], sentence: str
) -> None:
    code, out, err = run("finetune", *arguments)
    assert (code, out, training.calls) == (2, "", [])
    assert sentence in err
    assert len(err.splitlines()) == 1
