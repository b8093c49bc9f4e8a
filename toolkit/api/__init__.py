"""What a person does with one call from Python: ``finetune``, and the ``Run`` it returns with the later stages.

The stages write records and draw nothing; reports are made from records and run nothing. Here both are put together,
for the command line and for Python alike.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from toolkit.api.arguments import names_of, path_of, text_of
from toolkit.api.fields import RecipeFields
from toolkit.api.run import Run, Runs, open_run, runs
from toolkit.api.stages import loading, require_room
from toolkit.dependencies import require_for_training
from toolkit.errors import RecipeError
from toolkit.progress import Silent, working
from toolkit.progress.shown import reporter_for
from toolkit.recipe import AUTO, changes_of
from toolkit.report import write_pictures
from toolkit.run_folder import ARTIFACTS, RunFolder, find_unfinished, new_run
from toolkit.trackers import Following, require_trackers

if TYPE_CHECKING:
    from toolkit.progress import Reporter
    from toolkit.recipe import Recipe
    from toolkit.training.meter import StepObserver


__all__ = ["Run", "Runs", "finetune", "open_run", "runs", "train"]

CALL = "the call of toolkit.finetune"
CALLED = {"run": "name", "artifacts": "root", "quiet": "progress"}
"""Flags of the command that are no fields, and what they are called here."""


def finetune(  # noqa: PLR0913 - what a person says in one call, each by its name
    data: str | os.PathLike[str] | None = None,
    *,
    recipe: str | os.PathLike[str] = AUTO,
    name: str | None = None,
    root: str | os.PathLike[str] = ARTIFACTS,
    resume: bool | str = False,
    time_budget: str | None = None,
    track: Sequence[str] = (),
    progress: bool | Reporter = True,
    **fields: Unpack[RecipeFields],
) -> Run:
    """Fine-tune a pretrained backbone in two stages, as ``toolkit finetune`` does.

    >>> run = toolkit.finetune("photos", backbone="torchvision:resnet18", stage2_epochs=4)
    >>> run.export().verify().passed

    Ctrl-C, or the notebook's button, leaves a run that ``finetune(resume=True)`` or ``run.resume()`` goes on with.

    Args:
        data: a folder of images sorted into one folder per class, a CSV file, or a data source by its name; the
            recipe's own by default, which of ``"auto"`` is a small set of handwritten digits.
        recipe: a shipped recipe, a TOML file, or ``"auto"``.
        name: name of the run; made of the data, the backbone and the time by default.
        root: folder of runs.
        resume: go on with the run that was interrupted last, or with the one of this name.
        time_budget: choose resolution, views and epochs to fit, e.g. ``"20m"``.
        track: trackers that the run is also logged to, now and by its later stages: ``tensorboard``, ``mlflow``.
        progress: False to say nothing; or a reporter of your own.
        fields: fields of the recipe, by the names of the flags of ``toolkit finetune``.

    Raises:
        RecipeError: a field is unknown or a value is not valid; all of them are named.
        ToolkitError: the data, the backbone, the device or the recipe cannot be used, or training diverges.
        StoppedError: it was interrupted (a ``KeyboardInterrupt``); the run was saved.
    """
    given: dict[str, Any] = {**fields} if data is None else {"data": data, **fields}
    root, reporter, track = path_of("root", root), reporter_for(progress), names_of("track", track, "['tensorboard']")
    recipe = text_of("recipe", recipe, "'folder', or a path")
    if resume is not False:
        if given or recipe != AUTO or name is not None or time_budget is not None:
            raise RecipeError(
                "resume goes on with a run's own recipe: give no other recipe, name or field, or start a new run."
            )
        named = None if resume is True else text_of("resume", resume, "the name of a run, or True")
        return resume_run(find_unfinished(named, root), reporter, track)
    require_trackers(track, reporter)
    changes = changes_of({field: _plain(value) for field, value in given.items()}, CALL, called=CALLED)
    from toolkit.durations import parse_duration
    from toolkit.training.auto import choose_recipe

    budget = None if time_budget is None else parse_duration(text_of("time_budget", time_budget, "'20m'"))
    if name is not None:
        name = text_of("name", name, "'mine'")
        new_run(name, root)
    chosen, reason = choose_recipe(recipe, changes)
    require_room(root, None, chosen)
    with loading(reporter):
        require_for_training("torch", "torchvision", "safetensors", "tomli_w")
    if reason is not None:
        reporter.line(reason)
    if budget is not None:
        from toolkit.training.stage import recipe_for_budget

        chosen = recipe_for_budget(chosen, budget, reporter=reporter)
    return _trained(chosen, root, name=name, reporter=reporter, trackers=track)


def resume_run(run: RunFolder, progress: bool | Reporter = True, track: Sequence[str] = ()) -> Run:
    """Go on with a run that has not finished; errors as of ``finetune``."""
    from toolkit.training.auto import check_recipe

    root = run.path.parent
    recipe = check_recipe(run.recipe())
    require_room(root, run.path, recipe)
    reporter = reporter_for(progress)
    with loading(reporter):
        require_for_training("torch", "torchvision", "safetensors", "tomli_w")
    return _trained(recipe, root, name=run.path.name, reporter=reporter, trackers=track, resume=True)


def _trained(recipe: Recipe, root: Path, **how: Any) -> Run:
    """Call ``train``; whoever interrupts it is told how to go on from Python too."""
    from toolkit.training.interruption import StoppedError

    try:
        return Run(train(recipe, root=root, **how).path)
    except StoppedError as stopped:
        where = "" if root == ARTIFACTS else f", root={str(root)!r}"
        raise StoppedError(f"{stopped} From Python: toolkit.finetune(resume=True{where}).") from None


def _plain(value: Any) -> Any:
    """Return what a recipe takes: paths as text, and numpy's whole numbers as Python's."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def train(
    recipe: Recipe,
    *,
    name: str | None = None,
    root: Path = ARTIFACTS,
    resume: bool = False,
    reporter: Reporter | None = None,
    on_step: StepObserver | None = None,
    trackers: Sequence[str] = (),
) -> RunFolder:
    """Fine-tune a backbone as a recipe says, write a run folder, and draw its pictures.

    ``learning_curves.png`` and ``confusion.png`` are drawn once the run is complete. Started by ``torchrun``, the first
    process draws.

    Args:
        recipe: what to do, e.g. a shipped one from ``toolkit.recipe.load_recipe``.
        name: name of the run; made of the data, the backbone and the time by default.
        root: folder of runs.
        resume: go on with the unfinished run ``name`` from its newest checkpoint.
        reporter: where progress goes; nowhere by default.
        on_step: told of every step that this process makes, with its loss.
        trackers: names of trackers that the run is also logged to, now and by later stages: ``tensorboard``,
            ``mlflow``, or those of other packages.

    Raises:
        ToolkitError: the data, the backbone, the device, the recipe or a tracker cannot be used, training diverges, or
            matplotlib is not installed (the run is complete then).
        StoppedError: Ctrl-C; the run was saved.
    """
    from toolkit.training.group import leads_here
    from toolkit.training.stage import finetune_run

    require_trackers(trackers, reporter)
    with Following(trackers, anew=not resume, reporter=reporter) as log, working(reporter or Silent(), "fine-tuning"):
        on_epochs = log.observe if leads_here() else None
        run = finetune_run(
            recipe, name=name, root=root, resume=resume, reporter=reporter, on_step=on_step, on_epochs=on_epochs
        )
        if leads_here():
            with run.only_writer():  # it is still being made
                write_pictures(run)
                log.finish()
    return run
