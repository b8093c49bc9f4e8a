"""Which epoch to keep where there are few images.

The best one on a tenth of them, the last one, or the one that repeated stratified folds choose; all of one training.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.harness.command_line import main, positive, workspace_with_cache
from benchmarks.harness.draw_options import changes_of, draws_parser, parse_draws, settings_of
from benchmarks.harness.draws import instead, part_of
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.report import Claim, Report, Table, finish
from toolkit.backbones import apply_modes, set_trainable
from toolkit.compare.metrics import loss_and_accuracy
from toolkit.data import Dataset, Split, load_dataset
from toolkit.progress import Silent
from toolkit.recipe import Recipe, load_recipe
from toolkit.training.batch_sources import ActivationBatches, EpochOrder
from toolkit.training.optim import make_scheduler
from toolkit.training.setting import Setting, prepared_setting
from toolkit.training.step import make_learner, training_step
from toolkit.training.training_data import TrainingData

NAME = "epoch_to_keep"
FOLDS = 5
REPEATS = 2
VALIDATION = 0.1

Indices = npt.NDArray[np.int64]
Epochs = list[tuple[float, float]]
"""Of each epoch: accuracy and negative loss."""

WAYS = {
    "best": "the best epoch on a tenth of the images",
    "last": "the last epoch",
    "folds": f"the epoch that {REPEATS} times {FOLDS} stratified folds choose",
    "last_of_all": "the last epoch, the tenth trained on too",
    "oracle": "the best epoch on the test images (nobody can know it)",
}


def drawn(split: Split, count: int, seed: int) -> Split:
    """Return so many images of a split, equally many of each class."""
    classes = len(np.unique(split.targets))
    rng = np.random.default_rng((seed, 77))
    chosen = np.sort(
        np.concatenate(
            [rng.permutation(np.flatnonzero(split.targets == index))[: count // classes] for index in range(classes)]
        )
    )
    return part_of(split, "train", chosen)


def folds(targets: Indices, rng: np.random.Generator) -> Iterator[Indices]:
    """Yield the images of each fold, stratified."""
    order = np.concatenate([rng.permutation(np.flatnonzero(targets == index)) for index in np.unique(targets)])
    for fold in range(FOLDS):
        yield np.sort(order[fold::FOLDS])


def best(epochs: Epochs) -> int:
    """Return the position of the epoch with the highest accuracy, then the lowest loss."""
    return max(range(len(epochs)), key=lambda position: epochs[position])


class Trial:
    """Trains on parts of a few images again and again, from the same start."""

    def __init__(self, setting: Setting, data: TrainingData) -> None:
        self._setting = setting
        model = setting.backbone.model
        self._start = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        self._sources: dict[int, ActivationBatches] = {}
        for number, _ in setting.recipe.stages:
            source = data.batches(number)
            if not isinstance(source, ActivationBatches):
                raise BenchmarkError(f"{setting.backbone.name} trains without kept activations: choose another recipe.")
            self._sources[number] = source
        self._targets = data.train.targets
        self._test = data.validation.targets

    def train(self, images: Indices, held: Indices, *, test: bool) -> tuple[Epochs, Epochs]:
        """Train on some images; return what each epoch reaches on those held back, and on the test images."""
        setting, model = self._setting, self._setting.backbone.model
        recipe, size = setting.recipe, setting.recipe.train.batch_size
        model.load_state_dict(self._start)
        on_held: Epochs = []
        on_test: Epochs = []
        for number, stage in recipe.stages:
            source = self._sources[number]
            parts = set_trainable(setting.backbone, stage.unfreeze, train_bn=recipe.train.train_bn)
            learner = make_learner(setting, stage, parts, source.part.train)
            steps = -(-len(images) // size) * stage.epochs
            scheduler = make_scheduler(learner.optimizer, stage.schedule, steps)
            for epoch in range(1, stage.epochs + 1):
                apply_modes(setting.backbone, parts)
                seed = (recipe.seed, number, epoch)
                order = EpochOrder(np.random.default_rng(seed).permutation(images), size, seed)
                for step, (tensors, targets, _) in enumerate(source.training(order, 0)):
                    training_step(learner, tensors, targets, np.random.SeedSequence([*seed, step]))
                    scheduler.step()
                model.eval()
                on_held.append(self._look(source, held) if len(held) else (0.0, 0.0))
                on_test.append(self._look(source, None) if test else (0.0, 0.0))
        return on_held, on_test

    def _look(self, source: ActivationBatches, held: Indices | None) -> tuple[float, float]:
        with torch.inference_mode():
            batches = source.validation() if held is None else source.view(0, EpochOrder(held, len(held), ()))
            logits = [source.part.infer(*tensors).float().numpy() for tensors in batches]
        loss, accuracy = loss_and_accuracy(np.concatenate(logits), self._test if held is None else self._targets[held])
        return accuracy, -loss


def compare_epochs(recipe: Recipe, count: int, seed: int, *, once: bool = False) -> dict[str, float]:
    """Return the test accuracy of each way for one draw of the images; ``once``: of those of one training alone."""
    whole = load_dataset(recipe.data, 0)
    test = replace(whole.split("test"), name="validation")
    few = Dataset(
        whole.source,
        whole.labels,
        {"train": drawn(whole.split("train"), count, seed), "validation": test, "test": whole.split("test")},
    )
    with (
        instead(few),
        prepared_setting(recipe.override({"seed": seed}), Silent()) as setting,
        TrainingData(setting) as data,
    ):
        return ways(Trial(setting, data), few.split("train").targets, seed, once=once)


def ways(trial: Trial, targets: Indices, seed: int, *, once: bool) -> dict[str, float]:
    """Return the test accuracy of each way; ``once``: of those of one training alone."""
    everything = np.arange(len(targets))
    rng = np.random.default_rng((seed, 3))
    held = np.sort(rng.permutation(everything)[: round(VALIDATION * len(targets))])
    on_held, on_test = trial.train(np.setdiff1d(everything, held), held, test=True)
    of_one = {
        "best": on_test[best(on_held)][0],
        "last": on_test[-1][0],
        "oracle": max(accuracy for accuracy, _ in on_test),
    }
    if once:
        return of_one
    _, of_all = trial.train(everything, everything[:0], test=True)
    sums = np.zeros((len(on_test), 2))
    for _ in range(REPEATS):
        for fold in folds(targets, rng):
            on_fold, _ = trial.train(np.setdiff1d(everything, fold), fold, test=False)
            sums += np.array(on_fold) * len(fold)
    chosen = best([(float(accuracy), float(loss)) for accuracy, loss in sums])
    return {**of_one, "folds": on_test[chosen][0], "last_of_all": of_all[-1][0]}


def make_report(settings: Mapping[str, object], rows: Sequence[dict[str, float]]) -> Report:
    """Put the result into words."""
    measured = [way for way in WAYS if way in rows[0]]
    mean = {way: statistics.fmean(row[way] for row in rows) for way in measured}
    error = {way: statistics.stdev([row[way] for row in rows]) / len(rows) ** 0.5 for way in measured}
    apart = ", ".join(f"{100 * (row['last'] - row['best']):+.1f}" for row in rows)
    return Report(
        name=NAME,
        title="Which epoch to keep where there are few images",
        settings=settings,
        claims=[
            Claim(
                "the last epoch is no worse than the best one on a tenth of the images",
                f"{mean['last']:.1%} against {mean['best']:.1%}",
                mean["last"] >= mean["best"],
            )
        ],
        tables=[
            Table(
                ("the weights of", "test accuracy", "standard error", "lowest"),
                [
                    (
                        WAYS[way],
                        f"{mean[way]:.1%}",
                        f"{100 * error[way]:.1f} points",
                        f"{min(row[way] for row in rows):.1%}",
                    )
                    for way in measured
                ],
            )
        ],
        notes=[
            "Means over the draws. Each draw has its own images, starting head and order.",
            f"The last epoch minus the best one on a tenth of the images, in points, draw by draw: {apart}.",
        ],
        measurements={"draws": list(rows)},
    )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises:
        BenchmarkError: there are too few draws.
    """
    parser = draws_parser(NAME, __doc__)
    parser.add_argument("--images", type=positive, default=60, help="in all")
    parser.add_argument("--once", action="store_true", help="leave out what trains more than once")
    return parse_draws(parser, arguments)


def recipe_of(options: argparse.Namespace) -> Recipe:
    """Return the recipe, whose epochs all make steps."""
    return load_recipe("folder" if options.data else "digits").override(
        {**changes_of(options), "stage1.solver": "steps"}
    )


def benchmark(arguments: Sequence[str]) -> int:
    """Measure and write the report."""
    options = parse(arguments)
    recipe = recipe_of(options)
    with workspace_with_cache(options.work):
        rows = [compare_epochs(recipe, options.images, seed, once=options.once) for seed in range(options.draws)]
    settings = {"images": options.images, **settings_of(options, recipe)}
    return finish(make_report(settings, rows), options.output, arguments)


if __name__ == "__main__":
    main(benchmark)
