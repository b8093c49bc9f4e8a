"""``toolkit finetune``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.cli.next_steps import after, closing_line
from toolkit.cli.options import ArtifactsOption, NewRunOption, QuietOption, RecipeOption, TimeBudgetOption, TrackOption
from toolkit.cli.recipe_flags import with_recipe_flags
from toolkit.dependencies import require_for_training
from toolkit.errors import RecipeError
from toolkit.recipe import AUTO

if TYPE_CHECKING:
    from toolkit.run_folder import RunFolder


@with_recipe_flags
def command(
    recipe: RecipeOption = AUTO,
    run: NewRunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with a run that was stopped or killed (--run names it, default: the last)."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure and say what the run would cost, and stop there.")
    ] = False,
    time_budget: TimeBudgetOption = None,
    track: TrackOption = None,
    quiet: QuietOption = False,
    *,
    overrides: dict[str, Any],
) -> None:
    """Fine-tune a pretrained backbone in two stages.

    Stage 1 trains a new head on the frozen backbone; stage 2 unfreezes the last blocks at a smaller rate; stage 3,
    which is off unless asked for, more of them in the last epochs. Of a folder of few images the head is solved, and
    the stages behind it are made only if they help (see --stage1-solver). The best weights on the validation images, or
    the last ones where these are few, are kept and looked at once on the test images. Every field of the recipe has a
    flag; the defaults shown hold where the recipe says nothing else ('toolkit recipes NAME' prints what it says).
    """
    # What is wrong is said before anything else is imported: PyTorch alone takes seconds.
    from toolkit.api.stages import loading, require_room
    from toolkit.cli.console import reporter
    from toolkit.durations import parse_duration
    from toolkit.run_folder import find_unfinished, new_run
    from toolkit.trackers import require_trackers
    from toolkit.training.auto import check_recipe, choose_recipe

    if track and dry_run:
        raise RecipeError("--dry-run trains nothing that --track could log: leave one of them out.")
    progress = reporter(quiet)
    require_trackers(track or (), progress)
    budget = None if time_budget is None else parse_duration(time_budget)
    reason = None
    if resume:
        if overrides or recipe != AUTO or dry_run or time_budget:
            raise RecipeError(
                "--resume goes on with a run's own recipe: give no other recipe and no flag that changes it, or "
                "start a new run."
            )
        unfinished = find_unfinished(run, artifacts)
        run, chosen = unfinished.name, check_recipe(unfinished.recipe())
    else:
        if run is not None:
            new_run(run, artifacts)
        chosen, reason = choose_recipe(recipe, overrides)
    if not dry_run:
        require_room(artifacts, artifacts / unfinished.name if resume else None, chosen)
    with loading(progress):
        require_for_training("torch", "torchvision", "safetensors", "tomli_w")
        from toolkit.api import train
        from toolkit.training.group import leads_here
        from toolkit.training.stage import plan_run, recipe_for_budget

    if reason and leads_here():
        typer.echo(f"toolkit: {reason}", err=True)
    if budget is not None:
        chosen = recipe_for_budget(chosen, budget, reporter=progress)
    if dry_run:
        plan_run(chosen, reporter=reporter(quiet=False))
        return
    folder = train(chosen, name=run, root=artifacts, resume=resume, reporter=progress, trackers=track or ())
    if leads_here():
        print_result(folder)
        closing_line(folder.path, then=after("finetune", folder))


def print_result(run: RunFolder) -> None:
    """Print how good a fine-tuned run is, and what a person should look at."""
    from toolkit.cli.console import output
    from toolkit.report import print_evaluation, print_review

    print_evaluation(run.evaluation(), output())
    if (review := run.review()) is not None:
        print_review(review, run.review_file, output())
