"""The stage itself: recipe in, run folder out."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path

from toolkit import provenance
from toolkit.backbones import Backbone, save_weights
from toolkit.compare.metrics import evaluate
from toolkit.data.registry import plain_name
from toolkit.errors import RunError, TrainingError
from toolkit.files import sha256_file
from toolkit.finetune.checkpoint import State, load_checkpoint, save_checkpoint
from toolkit.finetune.history import write_history
from toolkit.finetune.job import Job, prepared_job
from toolkit.finetune.loop import StoppedError, Stopper, Trainer
from toolkit.finetune.measure import counts_of, make_plan, measure
from toolkit.finetune.plan import Plan, duration, fit, lines
from toolkit.progress import Reporter, Silent
from toolkit.recipe import Recipe
from toolkit.runs import ARTIFACTS, RunFolder, RunRecord, StageSummary, new_run

BUDGET_ROUNDS = 3
"""How often a choice is measured again before it is taken."""


def finetune_run(
    recipe: Recipe,
    *,
    name: str | None = None,
    root: Path = ARTIFACTS,
    resume: bool = False,
    reporter: Reporter | None = None,
) -> RunFolder:
    """Fine-tune a backbone as a recipe says and write a run folder.

    Writes ``recipe.toml`` first, ``history.csv`` and a checkpoint after every epoch, then ``model.safetensors`` and
    ``evaluation.json``, and ``run.json`` last: a run that has ``run.json`` is complete. ``latest`` then points at it.

    Started by ``torchrun``, each process trains on its part of every batch; the first one (``group.leads_here``)
    writes.

    Args:
        recipe: what to do; to go on with an unfinished run, the recipe it was started with.
        name: name of the run; made of the data, the backbone and the time by default.
        root: folder of runs.
        resume: go on with the unfinished run ``name`` from its newest checkpoint, or from the start if it had reached
            none.
        reporter: where progress goes.

    Raises:
        ToolkitError: the data, the backbone, the device or the recipe cannot be used, or training diverges.
        StoppedError: Ctrl-C; the run was saved.
    """
    started = time.perf_counter()
    if name is not None:
        new_run(name, root)
    with prepared_job(recipe, reporter or Silent()) as job:
        run = new_run(job.group.broadcast(name or _name(recipe, job.backbone)), root)
        if job.group.leads:
            run.remove_leftovers()
            if not resume:
                run.remove_checkpoints()
                recipe.save(run.recipe_file)
        if not resume and not isinstance(job.reporter, Silent):
            announce_plan(job)
        state = _first_state(job, run, resume)
        try:
            trainer, stages = _train(job, run, state, started)
        except StoppedError as stopped:
            raise StoppedError(f"{stopped} Go on with 'toolkit finetune --resume --run {run.name}'.") from stopped
        if job.group.leads:
            _finish(job, run, trainer, stages, started)
        return run


def plan_run(recipe: Recipe, *, reporter: Reporter | None = None) -> Plan:
    """Measure what a run would cost and say it, without training or keeping anything.

    Raises:
        ToolkitError: see ``finetune_run``.
    """
    with prepared_job(recipe, reporter or Silent()) as job:
        return announce_plan(job)


def announce_plan(job: Job) -> Plan:
    """Measure a job, say what it will cost and what would make it shorter."""
    rates = measure(job)
    plan = make_plan(job, rates)
    for line in lines(plan, rates, job.feeding.views):
        job.reporter.line(line)
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
        with prepared_job(chosen, Silent()) as job:
            fitted = fit(chosen, counts_of(job), measure(job), job.feeding.views, seconds, job.takes_size)
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


def _first_state(job: Job, run: RunFolder, resume: bool) -> State:
    """Return where to start: the newest checkpoint of a run that goes on, shared by all processes."""
    state = (load_checkpoint(run.checkpoints) if resume and job.group.leads else None) or State(identity=job.identity)
    changed = [what for what, digest in job.identity.items() if state.identity.get(what) != digest]
    if changed:
        raise RunError(
            f"the run {run.name!r} cannot go on: its {' and '.join(changed)} changed since it was started. Start a "
            "new run."
        )
    if resume:
        job.reporter.line(f"going on with {run.name} at stage {state.stage}, epoch {state.epoch}, step {state.step}")
    shared: State = job.group.broadcast(state)
    return shared


def _train(job: Job, run: RunFolder, state: State, started: float) -> tuple[Trainer, tuple[StageSummary, ...]]:
    before = state.seconds

    def save() -> None:
        if job.group.leads:
            state.seconds = before + time.perf_counter() - started
            save_checkpoint(run.checkpoints, state)
            write_history(run.history_file, state.history)

    trainer = Trainer(
        recipe=job.recipe,
        backbone=job.backbone,
        images=len(job.dataset.split("train")),
        validation=job.feeding.validation.targets,
        precision=job.precision,
        group=job.group,
        reporter=job.reporter,
        state=state,
        save=save,
        stopper=Stopper(),
    )
    state.seconds = before
    stages = []
    for number, stage in ((1, job.recipe.stage1), (2, job.recipe.stage2)):
        if stage.epochs > 0:
            stages.append(trainer.run_stage(number, stage, job.feeding.feed))
        state.stage = max(state.stage, number + 1)
    return trainer, tuple(stages)


def _finish(job: Job, run: RunFolder, trainer: Trainer, stages: tuple[StageSummary, ...], started: float) -> None:
    """Put the best weights back, write them, look once at the test images, and write the record."""
    state = trainer.state
    if state.best.weights is None:
        raise TrainingError("no epoch ended with a usable validation accuracy: lower the learning rates.")
    trainer.load(state.best.weights)
    job.backbone.model.eval()
    save_weights(job.backbone.model, run.model_file)
    test = job.dataset.split("test")
    with job.reporter.bar("test", len(test), "img") as bar:
        logits = job.feeding.predict(test, bar)
    evaluate(logits, test.targets, job.dataset.labels, "test").save(run.evaluation_file)
    _record(job, run, stages, state, state.seconds + time.perf_counter() - started).save(run.record_file)
    run.make_latest()
    run.remove_checkpoints()


def _name(recipe: Recipe, backbone: Backbone) -> str:
    """Name a run after what it really uses: data, backbone and time, and the recipe where that says more."""
    source = plain_name(recipe.data.source)
    recipe_part = [] if recipe.name in (source, "folder", "custom") else [recipe.name]
    random_part = ["random"] if recipe.backbone.weights == "none" else []
    parts = [
        *recipe_part,
        source,
        backbone.name.partition(":")[2],
        *random_part,
        datetime.now().astimezone().strftime("%Y%m%d-%H%M%S"),
    ]
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(parts)).strip("-._")
    return plain or "run"


def _record(job: Job, run: RunFolder, stages: tuple[StageSummary, ...], state: State, seconds: float) -> RunRecord:
    return RunRecord(
        name=run.name,
        recipe=job.recipe.name,
        labels=job.dataset.labels,
        backbone=job.backbone.name,
        weights=job.backbone.weights,
        parameters=sum(parameter.numel() for parameter in job.backbone.model.parameters()),
        normalization=job.backbone.normalization,
        preprocessing=job.preprocessing,
        data=job.dataset.summary(),
        stages=stages,
        best_stage=state.best.stage,
        best_epoch=state.best.epoch,
        best_validation_accuracy=state.best.accuracy,
        model_sha256=sha256_file(run.model_file),
        device=str(job.device),
        threads=job.threads,
        seconds=seconds,
        provenance=provenance.collect(),
        precision=job.precision.name,
    )
