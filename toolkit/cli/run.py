"""``toolkit run``."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.cli.bench import BATCH_SIZES, ROUNDS, batch_sizes_of
from toolkit.cli.finetune import print_result
from toolkit.cli.next_steps import after, closing_line, predict_command
from toolkit.cli.options import ArtifactsOption, NewRunOption, QuietOption, RecipeOption, TimeBudgetOption, TrackOption
from toolkit.cli.recipe_flags import recipe_flags, with_recipe_flags
from toolkit.cli.verify import IMAGES
from toolkit.dependencies import require_for_training
from toolkit.errors import RecipeError, ToolkitError
from toolkit.recipe import AUTO, field_of, load_recipe

if TYPE_CHECKING:
    from toolkit.progress import Reporter
    from toolkit.recipe import Recipe
    from toolkit.run_folder import RunFolder
    from toolkit.whole_job import Done, Stage

FREE_TO_CHANGE = "export."
"""Fields of the recipe that may change when a run goes on, because they are no part of the training."""
FAILED = {
    "export": "no good artifact could be made of a format (see 'not exported' above)",
    "verify": "an artifact does not compute what PyTorch computes",
    "bench": "nothing could be measured",
}
"""Stage to what its failed gate means."""


@with_recipe_flags
def command(
    recipe: RecipeOption = AUTO,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on where it stopped (--run names the run, default: the last); what is there is not made again.",
        ),
    ] = False,
    time_budget: TimeBudgetOption = None,
    images: Annotated[
        int,
        typer.Option("--images", metavar="N", min=1, help="Test images that are compared with PyTorch at most."),
    ] = IMAGES,
    batch_sizes: Annotated[
        str, typer.Option("--batch-sizes", metavar="A,B", help="Batch sizes to measure, separated by commas.")
    ] = BATCH_SIZES,
    rounds: Annotated[
        int, typer.Option("--rounds", metavar="N", min=2, help="Interleaved rounds of the benchmark.")
    ] = ROUNDS,
    track: TrackOption = None,
    quiet: QuietOption = False,
    run: NewRunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    *,
    overrides: dict[str, Any],
) -> None:
    """Do the whole job: finetune, export, verify, bench and report.

    The same as these five commands one after the other, up to the first gate that fails (exit code 1). Whatever stops
    it, 'toolkit run --resume' goes on: a finished fine-tuning, a bundle of its weights in these formats, verdicts that
    passed and figures are not made again. Every field of the recipe has a flag; with --resume those of export can
    change. --device is where everything runs; without it training and the benchmark take CUDA where there is one.
    """
    sizes = batch_sizes_of(batch_sizes)
    from toolkit.cli.console import reporter, telling_of_lost_signature
    from toolkit.durations import parse_duration
    from toolkit.run_folder import new_run
    from toolkit.trackers import require_trackers
    from toolkit.training.auto import check_recipe, choose_recipe
    from toolkit.whole_job import Job, run_job, run_to_resume

    progress = reporter(quiet)
    require_trackers(track or (), progress)
    budget = None if time_budget is None else parse_duration(time_budget)
    going_on, reason = None, None
    changed: dict[str, object] = {}
    if resume:
        going_on = run_to_resume(run, artifacts)
        chosen, changed = _goes_on_as(going_on.recipe(), recipe, overrides, time_budget)
        chosen = check_recipe(chosen)
    else:
        if run is not None:
            new_run(run, artifacts)
        chosen, reason = choose_recipe(recipe, overrides)
    from toolkit.api.stages import loading, require_room

    require_room(artifacts, None if going_on is None else going_on.path, chosen)
    with loading(progress):
        require_for_training("torch", "torchvision", "safetensors", "tomli_w")
        _require_formats(chosen)  # asks the engines, PyTorch too
        from toolkit.bench import BenchOptions
        from toolkit.training.group import leads_here
        from toolkit.training.stage import recipe_for_budget

    if reason and leads_here():
        typer.echo(f"toolkit: {reason}", err=True)
    if budget is not None:
        chosen = recipe_for_budget(chosen, budget, reporter=progress)
    device, threads = chosen.train.device, chosen.train.threads
    job = Job(
        chosen,
        name=run,
        root=artifacts,
        resume=going_on,
        device="cpu" if device == "auto" else device,
        threads=threads,
        images=images,
        bench=BenchOptions(device, threads, sizes, rounds),
        trackers=tuple(track or ()),
    )
    asked = {"--images": (images, IMAGES), "--batch-sizes": (batch_sizes, BATCH_SIZES), "--rounds": (rounds, ROUNDS)}
    changed |= {flag: given for flag, (given, usual) in asked.items() if given != usual}
    watched = _Watched(progress, artifacts, going_on, changed)
    try:
        with nullcontext() if going_on is None else telling_of_lost_signature(going_on.bundle):
            outcome = run_job(job, reporter=progress, begins=watched.begins, ended=watched.ended)
    except KeyboardInterrupt as stopped:
        raise KeyboardInterrupt(f"stopped by Ctrl-C in {watched.where()}") from stopped
    except ToolkitError as error:
        if watched.done:  # else it is as if 'toolkit finetune' had refused: there is nothing to go on with
            error.args = (f"{error}\ntoolkit: this was in {watched.where()}",)
        raise
    if outcome.failed is not None:
        typer.echo(f"stopped at the gate of {outcome.failed}: {FAILED[outcome.failed]}; {watched.how_to_go_on()}")
        raise typer.Exit(1)
    if leads_here():
        watched.close()


class _Watched:
    """Prints what stages say, and remembers where the job is."""

    def __init__(self, progress: Reporter, root: Path, run: RunFolder | None, flags: dict[str, Any]) -> None:
        """Prepare.

        Args:
            progress: where the stages are announced.
            root: folder of runs.
            run: the one that the job goes on with.
            flags: to give again when it goes on once more, since no recipe holds them.
        """
        self.done: list[Done] = []
        self._progress = progress
        self._root = root
        self._run = run
        self._stage: Stage = "finetune"
        self._flags = "".join(f" {flag} {shlex.quote(str(value))}" for flag, value in flags.items())

    def begins(self, stage: Stage) -> None:
        """Announce the stage."""
        from toolkit.whole_job import STAGES

        self._stage = stage
        self._progress.line(f"{STAGES.index(stage) + 1} of {len(STAGES)}: {stage}")

    def ended(self, done: Done) -> None:
        """Print what the command of the stage prints at its end; one line of what was there already."""
        from toolkit.cli.console import output
        from toolkit.cli.export import print_artifacts
        from toolkit.report import print_bench, print_parity

        self._run = done.run
        self.done.append(done)
        if done.kept:
            typer.echo(f"{done.stage}: there already")
        elif done.stage == "finetune":
            print_result(done.run)
            self._progress.line(f"the run is {done.run.path}")
        elif done.stage == "export":
            print_artifacts(done.record)
        elif done.stage == "verify":
            print_parity(done.record, output())
            if done.passed:
                self._progress.line(f"from now on this works too: {predict_command(str(done.run.path))}")
        elif done.stage == "report":
            print_bench(self.done[-2].record, output())

    def where(self) -> str:
        """Return the stage, what was done before it, and how to go on, as the end of a sentence."""
        there = ", ".join(done.stage for done in self.done if done.passed)
        return f"{self._stage}" + (f"; done so far: {there}" if there else "") + f"; {self.how_to_go_on()}"

    def how_to_go_on(self) -> str:
        """Return how to go on, as the end of a sentence."""
        from toolkit.run_folder import unfinished_in

        run = self._run
        if run is None:  # what another process is training is not what has stopped
            run = next((each for each in reversed(unfinished_in(self._root)) if not each.is_running()), None)
        again = "start it again" if run is None else f"go on with '{run.command('run')} --resume{self._flags}'"
        return f"{again}."

    def close(self) -> None:
        """Print the last line."""
        from toolkit.report import why_no_page

        report = self.done[-1]
        if (reason := why_no_page()) is not None:
            typer.echo(f"toolkit: {reason}", err=True)
        page = report.record[-1]  # what a person opens: the page, or without it the Markdown
        closing_line(report.run.path, page, then=after("report", report.run))


def _goes_on_as(
    own: Recipe, named: str, overrides: dict[str, Any], time_budget: str | None
) -> tuple[Recipe, dict[str, object]]:
    """Return the recipe with which a run goes on, and the flags that make it another than its own.

    What was given when it began may be given again; what is made of the training, its export, may be another.

    Args:
        own: the run's recipe.
        named: what ``--recipe`` says.
        overrides: dotted fields and their values.
        time_budget: what ``--time-budget`` says.

    Raises:
        RecipeError: something else of it would be another, or a value is not valid.
    """
    if time_budget is not None:
        raise RecipeError(
            "--resume goes on with a run's own recipe: what --time-budget once chose is in it, so leave it out."
        )
    given = dict(overrides)
    if named != AUTO:
        again = load_recipe(named)
        if again.name != own.name:
            raise RecipeError(
                f"--resume goes on with a run's own recipe, {own.name!r}: leave --recipe {named} out, or start a new "
                "run."
            )
        of_file = {dotted: field_of(again, dotted) for dotted, _, _ in recipe_flags() if again.is_given(dotted)}
        given = of_file | given
    # What it chose when the run began stands in the run.
    given = {dotted: value for dotted, value in given.items() if (dotted, value) != ("stage1.solver", AUTO)}
    from toolkit.training.auto import localised

    asked = localised(own.override(given))
    differing = {dotted: flag for dotted, flag, _ in recipe_flags() if field_of(asked, dotted) != field_of(own, dotted)}
    refused = {dotted: flag for dotted, flag in differing.items() if not dotted.startswith(FREE_TO_CHANGE)}
    if refused:
        was = "; ".join(f"{flag} was {_shown(field_of(own, dotted))}" for dotted, flag in refused.items())
        raise RecipeError(
            f"--resume goes on with a run's own recipe, and {was}: leave {', '.join(refused.values())} out, or start a "
            "new run. What is made of the training may change: --formats and what else is of the export."
        )
    return asked, {flag: _shown(field_of(asked, dotted)) for dotted, flag in differing.items()}


def _shown(value: Any) -> str:
    """Return a field's value as a flag takes it."""
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _require_formats(recipe: Recipe) -> None:
    """Refuse a format that cannot be used here before the training that it would be made of."""
    from toolkit.errors import ExportError
    from toolkit.formats.registry import get_format

    for name in recipe.export.formats:
        if reason := get_format(name).unavailable():
            raise ExportError(f"the format {name!r} cannot be used here: {reason}.")
