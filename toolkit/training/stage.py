"""The stage itself: recipe in, run folder out."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from toolkit import provenance
from toolkit.backbones import save_weights, takes_image_size
from toolkit.data.near_duplicates import require_imagehash
from toolkit.data.registry import plain_name
from toolkit.durations import duration
from toolkit.errors import RunError, TrainingError
from toolkit.files import sha256_file
from toolkit.progress import Reporter, Silent, working
from toolkit.recipe import Recipe
from toolkit.run_folder import ARTIFACTS, RunFolder, RunRecord, StageSummary, new_run
from toolkit.training.checkpoint import LATEST, State, load_checkpoint, save_checkpoint
from toolkit.training.group import leads_here
from toolkit.training.history import Epoch, EpochObserver, write_history
from toolkit.training.interruption import StoppedError, Stopper
from toolkit.training.label_check import check_labels, recall_labels
from toolkit.training.looks import Looks, look_at_data
from toolkit.training.measure import counts_of, make_plan, measure
from toolkit.training.meter import StepObserver
from toolkit.training.plan import Plan, fit, lines
from toolkit.training.review import write_review
from toolkit.training.setting import Setting, identity_of, prepared_setting
from toolkit.training.trainer import Trainer
from toolkit.training.training_data import TrainingData

BUDGET_ROUNDS = 3
"""How often a choice is measured again before it is taken."""


def finetune_run(
    recipe: Recipe,
    *,
    name: str | None = None,
    root: Path = ARTIFACTS,
    resume: bool = False,
    reporter: Reporter | None = None,
    on_step: StepObserver | None = None,
    on_epochs: EpochObserver | None = None,
) -> RunFolder:
    """Fine-tune a backbone as a recipe says and write a run folder.

    Writes ``recipe.toml`` first, ``history.csv`` and a checkpoint after every epoch, then ``model.safetensors``,
    ``evaluation.json`` and ``review.json``, and ``run.json`` last: a run that has ``run.json`` is complete. ``latest``
    then points at it.
    Draws nothing: ``toolkit.api.train`` does this and draws the pictures.

    Started by ``torchrun``, each process trains on its part of every batch; the first one (``group.leads_here``)
    writes.

    Args:
        recipe: what to do; to go on with an unfinished run, the recipe it was started with.
        name: name of the run; made of the data, the backbone and the time by default.
        root: folder of runs.
        resume: go on with the unfinished run ``name`` from its newest checkpoint, or from the start if it had reached
            none.
        reporter: where progress goes.
        on_step: told of every step that this process makes, with its loss.
        on_epochs: told in the first process of the epochs that have ended, first of all of those of earlier sessions.

    Raises:
        ToolkitError: the data, the backbone, the device or the recipe cannot be used, or training diverges.
        StoppedError: Ctrl-C; the run was saved.
    """
    started = time.perf_counter()
    if recipe.data.check_duplicates:
        require_imagehash()
    name = name or _name(recipe)
    if resume and not (new_run(name, root).checkpoints / LATEST).is_file():
        # It stands there as it was asked for, before it was known what fits the network, and not what a person gave.
        recipe = recipe.as_defaults()
    with (
        _kept_from_the_start(new_run(name, root), recipe, resume=resume),
        prepared_setting(recipe, reporter or Silent(), _began_in(new_run(name, root)) if resume else None) as setting,
        TrainingData(setting) as data,
    ):
        run = new_run(setting.group.broadcast(name), root)
        if setting.group.leads:
            run.remove_leftovers()
            if not resume:
                run.remove_checkpoints()
            if not (run.checkpoints / LATEST).is_file():
                # What stands there from the start is the recipe as it was asked for.
                setting.recipe.save(run.recipe_file)
        identity = identity_of(setting) | data.identity()
        duplicates = look_at_data(setting)
        if not resume and not isinstance(setting.reporter, Silent):
            announce_plan(setting, data)
        state = _first_state(setting, run, identity, resume=resume)
        # Before the trainer loads what was trained: labels are judged by the network as it was before it saw any.
        labels = recall_labels(setting, state.labels) if state.labels else check_labels(setting, data, duplicates)
        state.labels = labels.plain()
        seconds = _clock(state.seconds, started)
        observe = partial(on_epochs or _unobserved, run)
        if setting.group.leads:
            observe(state.history)
        save = _saver(setting, run, state, seconds, observe)
        trainer = Trainer(setting, data, state, save, Stopper(), on_step)
        stages = trainer.run()
        if setting.group.leads:
            _write_kept(setting, run, trainer)
            looks = Looks(setting, data, duplicates)
            evaluation, logits = looks.test()
            evaluation.save(run.evaluation_file)
            write_review(setting, logits, labels, run)
            # The record comes last of what a later stage needs: a run that has one is complete, and it is the latest.
            record = _record(looks, run, stages, state, seconds())
            run.make_latest()
            record.save(run.record_file)
            run.remove_checkpoints()
        return run


@contextmanager
def _kept_from_the_start(run: RunFolder, recipe: Recipe, *, resume: bool) -> Iterator[None]:
    """Write the recipe of a new run before its data and weights are loaded, which can take minutes.

    Whenever the run is killed from then on, there is something to resume. One that could not begin, because its data or
    weights cannot be used, leaves nothing behind.

    Raises:
        StoppedError: Ctrl-C, with how to go on.
        RunError: another process is at work on this run.
    """
    new = leads_here() and not resume and not run.recipe_file.exists()
    root_is_new = not run.path.parent.exists()
    if new:
        recipe.save(run.recipe_file)
    with run.only_writer() if leads_here() else nullcontext():
        try:
            yield
        except KeyboardInterrupt as stopped:
            reason = str(stopped) or "stopped by Ctrl-C."
            raise StoppedError(f"{reason} Go on with '{run.resume_command()}'.") from stopped
        except Exception:
            if new and not run.checkpoints.exists():
                run.recipe_file.unlink(missing_ok=True)
                with suppress(OSError):  # something else is in it
                    run.path.rmdir()
                    if root_is_new:
                        run.path.parent.rmdir()
            raise


def plan_run(recipe: Recipe, *, reporter: Reporter | None = None) -> Plan:
    """Measure what a run would cost and say it, without training or keeping anything.

    Raises:
        ToolkitError: see ``finetune_run``.
    """
    with prepared_setting(recipe, reporter or Silent()) as setting, TrainingData(setting) as data:
        look_at_data(setting)
        return announce_plan(setting, data)


def announce_plan(setting: Setting, data: TrainingData) -> Plan:
    """Measure a run, say what it will cost and what would make it shorter."""
    with working(setting.reporter, "measuring what the run will take"):
        rates = measure(setting, data)
    plan = make_plan(setting, data, rates)
    for line in lines(plan, rates, data.views):
        setting.reporter.line(line)
    return plan


def recipe_for_budget(recipe: Recipe, seconds: float, *, reporter: Reporter | None = None) -> Recipe:
    """Choose resolution, views and epochs so that a run takes at most so long, by what is measured here.

    Where a smaller resolution was chosen it is measured too, and taken down further if the estimate was too good.

    Raises:
        RecipeError: nothing fits.
        ToolkitError: see ``finetune_run``.
    """
    reporter = reporter or Silent()
    chosen = recipe
    for _ in range(BUDGET_ROUNDS):
        with prepared_setting(chosen, Silent()) as setting, TrainingData(setting) as data:
            takes = partial(takes_image_size, setting.backbone.name)
            fitted = fit(chosen, counts_of(setting, data), measure(setting, data), data.views, seconds, takes)
        if fitted == chosen:
            break
        chosen = fitted
    for field in ("backbone.image_size", "cache.views", "stage1.epochs", "stage2.epochs"):
        section, name = field.split(".")
        before, after = (getattr(getattr(each, section), name) for each in (recipe, chosen))
        if before != after:
            reporter.line(
                f"to fit {duration(seconds)}: {field} is {after}"
                + (f" instead of {before}" if before is not None else "")
            )
    return chosen


def _began_in(run: RunFolder) -> str | None:
    """Return the precision that a run computed in until its newest checkpoint; None where nothing is known."""
    state = load_checkpoint(run.checkpoints) if leads_here() else None
    return state.identity.get("precision") if state is not None else None


def _first_state(setting: Setting, run: RunFolder, identity: dict[str, str], *, resume: bool) -> State:
    """Return where to start: the newest checkpoint of a run that goes on, shared by all processes."""
    leads = setting.group.leads
    state = (load_checkpoint(run.checkpoints) if resume and leads else None) or State(identity=identity)
    changed = [what for what, digest in identity.items() if state.identity.get(what) != digest]
    if changed:
        raise RunError(
            f"the run {run.name!r} cannot go on: its {' and '.join(changed)} changed since it was started. Start a "
            "new run."
        )
    if resume and (run.checkpoints / LATEST).is_file():
        setting.reporter.line(
            f"going on with {run.name} at stage {state.stage}, epoch {state.epoch}, step {state.step}"
        )
    elif resume:
        setting.reporter.line(f"{run.name} had reached no checkpoint: starting from its recipe")
    shared: State = setting.group.broadcast(state)
    return shared


def _clock(before: float, started: float) -> Callable[[], float]:
    """Return what tells the seconds spent on a run: those of this process, and those of processes before it."""
    return lambda: before + time.perf_counter() - started


def _unobserved(run: RunFolder, epochs: Sequence[Epoch]) -> None:
    """Nobody wants to know."""


def _saver(
    setting: Setting,
    run: RunFolder,
    state: State,
    seconds: Callable[[], float],
    observe: Callable[[Sequence[Epoch]], None],
) -> Callable[[], None]:
    """Return what writes the state as a checkpoint, and the history, and then tells of the epochs."""

    def save() -> None:
        if setting.group.leads:
            state.seconds = seconds()
            save_checkpoint(run.checkpoints, state)
            write_history(run.history_file, state.history)
            observe(state.history)

    return save


def _write_kept(setting: Setting, run: RunFolder, trainer: Trainer) -> None:
    """Put the weights that were kept back, and write them."""
    best = trainer.state.best
    if best.weights is None:
        raise TrainingError("no epoch ended with a usable validation accuracy: lower the learning rates.")
    setting.reporter.line(
        f"kept: the weights of stage {best.stage}, epoch {best.epoch}, validation accuracy {best.accuracy:.2%}"
    )
    trainer.load(best.weights)
    save_weights(setting.backbone.model.eval(), run.model_file)


def _name(recipe: Recipe) -> str:
    """Name a run after what it uses: data, backbone and time, and the recipe where that says more."""
    source = plain_name(recipe.data.source)
    recipe_part = [] if recipe.name in (source, "folder", "custom") else [recipe.name]
    random_part = ["random"] if recipe.backbone.weights == "none" else []
    parts = [
        *recipe_part,
        source,
        recipe.backbone.name.rpartition(":")[2],
        *random_part,
        datetime.now().astimezone().strftime("%Y%m%d-%H%M%S"),
    ]
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(parts)).strip("-._")
    return plain or "run"


def _record(looks: Looks, run: RunFolder, stages: tuple[StageSummary, ...], state: State, seconds: float) -> RunRecord:
    setting = looks.setting
    return RunRecord(
        name=run.name,
        recipe=setting.recipe.name,
        labels=setting.dataset.labels,
        backbone=setting.backbone.name,
        weights=setting.backbone.weights,
        weights_license=setting.backbone.weights_license,
        parameters=sum(parameter.numel() for parameter in setting.backbone.model.parameters()),
        normalization=setting.backbone.normalization,
        preprocessing=setting.preprocessing,
        data=setting.dataset.summary(looks.duplicates.summary()),
        stages=stages,
        best_stage=state.best.stage,
        best_epoch=state.best.epoch,
        best_validation_accuracy=state.best.accuracy,
        model_sha256=sha256_file(run.model_file),
        device=str(setting.device),
        threads=setting.threads,
        seconds=seconds,
        provenance=provenance.collect(),
        precision=setting.precision.name,
        validation=looks.validation(state.best),
        class_weights=setting.class_weights,
        adapted=setting.adapted,
        instruction_set=setting.depthwise.instructions if setting.device.type == "cpu" else None,
        solved_head=state.solved_head,
        depthwise_gradients=setting.depthwise.chosen(),
        flip_test=setting.recipe.model.flip_test,
    )
