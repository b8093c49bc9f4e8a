"""A finished run made in a fraction of a second: real data, a real network with random weights, nothing trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from toolkit import provenance
from toolkit.backbones import build_architecture, save_weights
from toolkit.backbones.backbone import IMAGENET_NORMALIZATION
from toolkit.compare.metrics import evaluate
from toolkit.data import load_dataset
from toolkit.files import sha256_file
from toolkit.preprocess import Preprocessing
from toolkit.recipe import Recipe
from toolkit.run_folder import RunFolder, RunRecord

SIZE = 32
BACKBONE = "torchvision:squeezenet1_1"
CHANGES = {
    "name": "tiny",
    "data.train_limit": 30,
    "data.test_limit": 20,
    "backbone.name": BACKBONE,
    "backbone.image_size": SIZE,
    "export.formats": "torchscript",
}
"""What the recipe of the run says otherwise than the default one."""


def write_finished_run(path: Path) -> RunFolder:
    """Write ``recipe.toml``, ``model.safetensors``, ``evaluation.json`` and ``run.json`` of a run on the digits."""
    recipe, run = Recipe().override(CHANGES), RunFolder(path)
    path.mkdir(parents=True)
    recipe.save(run.recipe_file)
    dataset = load_dataset(recipe.data, recipe.seed)
    model = build_architecture(BACKBONE, len(dataset.labels), SIZE)
    save_weights(model, run.model_file)
    test = dataset.split("test")
    logits = np.random.default_rng(0).standard_normal((len(test), len(dataset.labels)))
    evaluate(logits, test.targets, dataset.labels, test.name).save(run.evaluation_file)
    RunRecord(
        name=run.name,
        recipe=recipe.name,
        labels=dataset.labels,
        backbone=BACKBONE,
        weights="random",
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        normalization=IMAGENET_NORMALIZATION,
        preprocessing=Preprocessing(height=SIZE, width=SIZE, resize="squash", interpolation="bilinear"),
        data=dataset.summary(),
        stages=(),
        best_stage=1,
        best_epoch=1,
        best_validation_accuracy=0.1,
        model_sha256=sha256_file(run.model_file),
        device="cpu",
        threads=1,
        seconds=1.0,
        provenance=provenance.collect(),
    ).save(run.record_file)
    return run
