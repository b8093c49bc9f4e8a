"""The stage itself: recipe in, run folder out."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path

import torch

from toolkit import provenance
from toolkit.backbones import Backbone, create_backbone, save_weights
from toolkit.backbones.deployable import Deployable
from toolkit.compare.metrics import evaluate
from toolkit.data import Dataset, load_dataset
from toolkit.errors import TrainingError
from toolkit.files import sha256_file
from toolkit.finetune.device import choose_device, repeatable
from toolkit.finetune.evaluate import predict_logits
from toolkit.finetune.history import write_history
from toolkit.finetune.loop import Trainer
from toolkit.preprocess import Preprocessing
from toolkit.progress import Reporter, Silent
from toolkit.recipe import Recipe
from toolkit.results import Evaluation
from toolkit.runs import ARTIFACTS, RunFolder, RunRecord, StageSummary, new_run


def finetune_run(recipe: Recipe, *, name: str | None = None, root: Path = ARTIFACTS, reporter: Reporter | None = None) -> RunFolder:
    """Fine-tune a backbone as a recipe says and write a run folder.

    Writes ``recipe.toml`` first, ``history.csv`` after every epoch, then ``model.safetensors`` and ``evaluation.json``, and ``run.json`` last:
    a run that has ``run.json`` is complete. ``latest`` then points at it.

    Args:
        recipe: what to do.
        name: name of the run; made of the data, the backbone and the time by default.
        root: folder of runs.
        reporter: where progress goes.

    Raises:
        ToolkitError: the data, the backbone, the device or the recipe cannot be used, or training diverges.
    """
    reporter = reporter or Silent()
    if name is not None:
        new_run(name, root)
    started = time.perf_counter()
    device = choose_device(recipe.train.device)
    threads = recipe.train.threads or provenance.available_cores()
    dataset = load_dataset(recipe.data, recipe.seed, reporter=reporter)
    with repeatable(recipe.seed, threads):
        backbone = create_backbone(
            recipe.backbone.name,
            weights=recipe.backbone.weights,
            classes=len(dataset.labels),
            image_size=recipe.backbone.image_size,
            seed=recipe.seed,
            reporter=reporter,
        )
        preprocessing = _preprocessing(recipe, backbone)
        _announce(reporter, recipe, dataset, backbone, device, threads)
        run = new_run(name or _name(recipe, backbone), root)
        recipe.save(run.recipe_file)
        trainer = Trainer(
            recipe,
            backbone,
            dataset,
            preprocessing,
            device,
            threads,
            reporter,
            after_epoch=lambda history: write_history(run.history_file, history),
        )
        stages = tuple(trainer.run_stage(number, stage) for number, stage in ((1, recipe.stage1), (2, recipe.stage2)) if stage.epochs > 0)
        _keep_best(trainer, backbone)
        save_weights(backbone.model, run.model_file)
        _evaluate(backbone, dataset, preprocessing, device, threads, reporter).save(run.evaluation_file)
    record = _record(run, recipe, dataset, backbone, preprocessing, stages, trainer, device, threads, time.perf_counter() - started)
    record.save(run.record_file)
    run.make_latest()
    return run


def _preprocessing(recipe: Recipe, backbone: Backbone) -> Preprocessing:
    return Preprocessing(
        height=backbone.image_size,
        width=backbone.image_size,
        resize=recipe.data.resize,
        interpolation=recipe.data.interpolation,
        crop_fraction=backbone.crop_fraction if recipe.data.resize == "crop" else 1.0,
    )


def _name(recipe: Recipe, backbone: Backbone) -> str:
    """Name a run after what it really uses: data, backbone and time, and the recipe where that says more."""
    source = recipe.data.source if recipe.data.source in ("cifar10", "digits") else Path(recipe.data.source).name
    recipe_part = [] if recipe.name in (source, "folder", "custom") else [recipe.name]
    random_part = ["random"] if recipe.backbone.weights == "none" else []
    parts = [*recipe_part, source, backbone.name.partition(":")[2], *random_part, datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")]
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(parts)).strip("-._")
    return plain or "run"


def _announce(reporter: Reporter, recipe: Recipe, dataset: Dataset, backbone: Backbone, device: torch.device, threads: int) -> None:
    counts = ", ".join(f"{len(split)} {name}" for name, split in dataset.splits.items())
    reporter.line(f"data: {dataset.source}, {len(dataset.labels)} classes, images: {counts}")
    reporter.line(f"backbone: {backbone.name} at {backbone.image_size} px, weights: {backbone.weights}")
    reporter.line(f"recipe: {recipe.name}, seed {recipe.seed}, on {device} with {threads} threads")


def _keep_best(trainer: Trainer, backbone: Backbone) -> None:
    if trainer.best.weights is None:
        raise TrainingError("no epoch ended with a usable validation accuracy: lower the learning rates.")
    backbone.model.load_state_dict(trainer.best.weights)
    backbone.model.eval()


def _evaluate(
    backbone: Backbone, dataset: Dataset, preprocessing: Preprocessing, device: torch.device, threads: int, reporter: Reporter
) -> Evaluation:
    test = dataset.split("test")
    network = Deployable(backbone.model, backbone.normalization).to(device)
    with reporter.bar("test", len(test), "img") as bar:
        logits = predict_logits(network, test, preprocessing, device, threads, bar)
    return evaluate(logits, test.targets, dataset.labels, "test")


def _record(
    run: RunFolder,
    recipe: Recipe,
    dataset: Dataset,
    backbone: Backbone,
    preprocessing: Preprocessing,
    stages: tuple[StageSummary, ...],
    trainer: Trainer,
    device: torch.device,
    threads: int,
    seconds: float,
) -> RunRecord:
    return RunRecord(
        name=run.name,
        recipe=recipe.name,
        labels=dataset.labels,
        backbone=backbone.name,
        weights=backbone.weights,
        parameters=sum(parameter.numel() for parameter in backbone.model.parameters()),
        normalization=backbone.normalization,
        preprocessing=preprocessing,
        data=dataset.summary(),
        stages=stages,
        best_stage=trainer.best.stage,
        best_epoch=trainer.best.epoch,
        best_validation_accuracy=trainer.best.accuracy,
        model_sha256=sha256_file(run.model_file),
        device=str(device),
        threads=threads,
        seconds=seconds,
        provenance=provenance.collect(),
    )
