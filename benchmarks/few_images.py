"""What the default recipe makes of few images: now, and as it was before the head was solved.

Both sides of a draw have the same images, the same first head and the same order, and are judged by the same test
images. With --epochs another question is asked: which epoch to keep, the best one on a tenth of the images, the last
one, or the one that repeated stratified folds choose.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.harness.command_line import main, positive, report_parser, workspace
from benchmarks.harness.draws import part_of
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.report import Claim, Report, Table, finish
from toolkit.backbones import apply_modes, set_trainable
from toolkit.compare.metrics import loss_and_accuracy
from toolkit.data import Dataset, Split, load_dataset
from toolkit.progress import Silent
from toolkit.recipe import Recipe, load_recipe
from toolkit.run_folder import SolvedHead
from toolkit.training.batch_sources import ActivationBatches, EpochOrder
from toolkit.training.checkpoint import State
from toolkit.training.interruption import Stopper
from toolkit.training.optim import make_scheduler
from toolkit.training.setting import Setting, prepared_setting
from toolkit.training.step import make_learner, training_step
from toolkit.training.trainer import Trainer
from toolkit.training.training_data import TrainingData

NAME = "few_images"
FEWEST_DRAWS = 5
"""Of fewer the interval of a mean says next to nothing."""
MARGIN = 0.01
"""Of accuracy: by less it may be worse without being called so."""
LEVEL = 0.95
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


@dataclass(frozen=True)
class Outcome:
    """What one side made of one draw.

    Attributes:
        accuracy: on the test images.
        cpu_seconds: processor time of its training, without the frozen part.
        head: how the head was solved; None where it was not.
    """

    accuracy: float
    cpu_seconds: float
    head: SolvedHead | None


@dataclass(frozen=True)
class Sides:
    """Both sides with so many images of a class, a draw each.

    Attributes:
        per_class: images of a class, validation images included.
        before: as it was.
        now: as it is.
    """

    per_class: int
    before: Sequence[Outcome]
    now: Sequence[Outcome]

    @property
    def differences(self) -> list[float]:
        """Of the accuracy, now minus before, a draw each."""
        return [ours.accuracy - theirs.accuracy for ours, theirs in zip(self.now, self.before, strict=True)]

    @property
    def interval(self) -> tuple[float, float]:
        """Of the mean difference over draws: Student's, 95%."""
        mean, count = statistics.fmean(self.differences), len(self.differences)
        half = student(count - 1) * statistics.stdev(self.differences) / math.sqrt(count)
        return mean - half, mean + half

    @property
    def what_it_did(self) -> str:
        """How the head was found now, and what became of the second stage, counted over the draws."""
        heads = [outcome.head for outcome in self.now if outcome.head is not None]
        if not heads:
            return "steps, as before"
        trials = [head.second_stage for head in heads if head.second_stage is not None]
        left_out = sum(not trial.trained for trial in trials)
        return f"head solved in {len(heads)} of {len(self.now)}, stage 2 left out in {left_out}"


def student(freedom: int) -> float:
    """Return the quantile of Student's distribution, to 1% from 4 degrees on (Abramowitz and Stegun 26.7.5)."""
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + (z**3 + z) / (4 * freedom) + second / freedom**2 + third / freedom**3


def train(recipe: Recipe) -> Outcome:
    """Train, and look at the test images with the weights that are kept."""
    with prepared_setting(recipe, Silent()) as setting, TrainingData(setting) as data:
        data.keep()
        started = time.process_time()
        trainer = Trainer(setting, data, State(), lambda: None, Stopper())
        trainer.run()
        seconds = time.process_time() - started
        if trainer.state.best.weights is None:
            raise BenchmarkError("no epoch ended with a usable validation accuracy.")
        trainer.load(trainer.state.best.weights)
        test = setting.dataset.split("test")
        with Silent().bar("", len(test), "img") as bar:
            right = data.predict(test, bar).argmax(axis=1) == test.targets
        return Outcome(float(right.mean()), seconds, trainer.state.solved_head)


def measure(recipe: Recipe, sizes: Sequence[int], draws: int) -> list[Sides]:
    """Train both sides of every draw."""
    classes = len(load_dataset(recipe.data, 0).labels)
    measured = []
    for per_class in sizes:
        outcomes: dict[str, list[Outcome]] = {"steps": [], "auto": []}
        for seed in range(draws):
            drawn = recipe.override({"seed": seed, "data.train_limit": per_class * classes})
            for solver, side in outcomes.items():
                side.append(train(drawn.override({"stage1.solver": solver})))
            print(
                f"{per_class} images a class, draw {seed}: {outcomes['steps'][-1].accuracy:.2%} as it was, "
                f"{outcomes['auto'][-1].accuracy:.2%} now",
                flush=True,
            )
        measured.append(Sides(per_class, outcomes["steps"], outcomes["auto"]))
    return measured


def report_of_sides(settings: Mapping[str, object], measured: Sequence[Sides]) -> Report:
    """Put the result into words."""
    rows, claims = [], []
    for sides in measured:
        mean, (low, high) = statistics.fmean(sides.differences), sides.interval
        difference = f"{100 * mean:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
        before, now = (statistics.fmean(each.accuracy for each in side) for side in (sides.before, sides.now))
        cost = statistics.median(
            ours.cpu_seconds / theirs.cpu_seconds for ours, theirs in zip(sides.now, sides.before, strict=True)
        )
        claims.append(
            Claim(
                f"with {sides.per_class} images a class it is not worse than it was, by {100 * MARGIN:g} point",
                f"{now:.1%} against {before:.1%}, {difference}",
                low > -MARGIN,
            )
        )
        rows.append(
            (
                str(sides.per_class),
                f"{before:.1%}",
                f"{now:.1%}",
                difference,
                ", ".join(f"{100 * each:+.1f}" for each in sides.differences),
                f"{cost:.2f}x",
                sides.what_it_did,
            )
        )
    return Report(
        name=NAME,
        title="What the default recipe makes of few images",
        settings=settings,
        claims=claims,
        tables=[
            Table(
                ("images a class", "as it was", "now", "difference [95%]", "draw by draw", "processor time", "now"),
                rows,
            )
        ],
        notes=[
            "Means over the draws, of the accuracy on the test images. Each draw has its own images, a tenth of them "
            "for validation, its own starting head and order; both sides of a draw have the same.",
            "Intervals are Student's over the differences of the draws: what varies is mostly which images were drawn.",
            "Processor time is that of training, now over before, the frozen part left out.",
        ],
        measurements={
            str(sides.per_class): {
                "before": [outcome.accuracy for outcome in sides.before],
                "now": [outcome.accuracy for outcome in sides.now],
                "heads": [outcome.head and outcome.head.model_dump(mode="json") for outcome in sides.now],
            }
            for sides in measured
        },
    )


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


def compare_epochs(recipe: Recipe, count: int, seed: int) -> dict[str, float]:
    """Return the test accuracy of each way for one draw of the images."""
    whole = load_dataset(recipe.data, 0)
    test = replace(whole.split("test"), name="validation")
    few = Dataset(
        whole.source,
        whole.labels,
        {"train": drawn(whole.split("train"), count, seed), "validation": test, "test": whole.split("test")},
    )
    # This draw instead of all the recipe's images.
    with (
        patch("toolkit.training.setting.load_dataset", lambda *_, **__: few),
        prepared_setting(recipe.override({"seed": seed}), Silent()) as setting,
        TrainingData(setting) as data,
    ):
        return ways(Trial(setting, data), few.split("train").targets, seed)


def ways(trial: Trial, targets: Indices, seed: int) -> dict[str, float]:
    """Return the test accuracy of each way."""
    everything = np.arange(len(targets))
    rng = np.random.default_rng((seed, 3))
    held = np.sort(rng.permutation(everything)[: round(VALIDATION * len(targets))])
    on_held, on_test = trial.train(np.setdiff1d(everything, held), held, test=True)
    _, of_all = trial.train(everything, everything[:0], test=True)
    sums = np.zeros((len(on_test), 2))
    for _ in range(REPEATS):
        for fold in folds(targets, rng):
            on_fold, _ = trial.train(np.setdiff1d(everything, fold), fold, test=False)
            sums += np.array(on_fold) * len(fold)
    chosen = best([(float(accuracy), float(loss)) for accuracy, loss in sums])
    return {
        "best": on_test[best(on_held)][0],
        "last": on_test[-1][0],
        "folds": on_test[chosen][0],
        "last_of_all": of_all[-1][0],
        "oracle": max(accuracy for accuracy, _ in on_test),
    }


def report_of_epochs(recipe: Recipe, count: int, rows: Sequence[dict[str, float]]) -> Report:
    """Put the result into words."""
    mean = {way: statistics.fmean(row[way] for row in rows) for way in WAYS}
    error = {way: statistics.stdev([row[way] for row in rows]) / len(rows) ** 0.5 for way in WAYS}
    return Report(
        name=f"{NAME}_epochs",
        script=NAME,
        title="Which epoch to keep where there are few images",
        settings={"recipe": recipe.name, "images": count, "draws": len(rows), "image size": recipe.backbone.image_size},
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
                    (text, f"{mean[way]:.1%}", f"{100 * error[way]:.1f} points", f"{min(row[way] for row in rows):.1%}")
                    for way, text in WAYS.items()
                ],
            )
        ],
        notes=["Means over the draws. Each draw has its own images, starting head and order."],
        measurements={"draws": list(rows)},
    )


def sizes(text: str) -> list[int]:
    """Read numbers of images, separated by commas."""
    return [positive(part.strip()) for part in text.split(",")]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises:
        BenchmarkError: there are too few draws.
    """
    parser = report_parser(NAME, __doc__)
    parser.add_argument("--data", metavar="FOLDER", help="images as train/<class>/ and test/<class>/ (default: digits)")
    parser.add_argument(
        "--per-class", type=sizes, default=[5, 20, 200], metavar="N,N", help="images of a class, validation included"
    )
    parser.add_argument("--draws", type=positive, default=8, help=f"how often, {FEWEST_DRAWS} or more")
    parser.add_argument("--image-size", type=positive, default=64)
    parser.add_argument("--test", type=positive, default=None, metavar="N", help="test images (default: all)")
    parser.add_argument("--backbone", default=None, metavar="NAME", help="another one than the recipe's")
    parser.add_argument("--weights", default=None, metavar="FILE", help="other ones than the pretrained, or none")
    parser.add_argument("--epochs", action="store_true", help="ask which epoch to keep instead")
    parser.add_argument("--images", type=positive, default=60, help="with --epochs: images in all")
    parser.add_argument("--work", type=Path, default=None, metavar="FOLDER", help="where temporary files go")
    options = parser.parse_args(arguments)
    if options.draws < FEWEST_DRAWS:
        raise BenchmarkError(f"{options.draws} draws have no interval worth its name: give {FEWEST_DRAWS} or more.")
    return options


def recipe_of(options: argparse.Namespace) -> Recipe:
    """Return the recipe of both sides; of the other question, whose epochs all make steps."""
    changes: dict[str, object] = {"backbone.image_size": options.image_size, "train.precision": "float32"}
    if options.data:
        changes["data.source"] = str(Path(options.data).resolve())
    else:
        # They have no left and right.
        changes |= {"data.source": "digits", "augment.flip": False}
    if options.test:
        changes["data.test_limit"] = options.test
    if options.backbone:
        changes["backbone.name"] = options.backbone
    if options.weights:
        changes["backbone.weights"] = options.weights
    if options.epochs:
        changes["stage1.solver"] = "steps"
    return load_recipe("folder" if options.data or not options.epochs else "digits").override(changes)


def benchmark(arguments: Sequence[str]) -> int:
    """Measure and write the report."""
    options = parse(arguments)
    recipe = recipe_of(options)
    with workspace(options.work) as work, patch.dict(os.environ, {"TOOLKIT_CACHE": str(work / "cache")}):
        if options.epochs:
            rows = [compare_epochs(recipe, options.images, seed) for seed in range(options.draws)]
            return finish(report_of_epochs(recipe, options.images, rows), options.output, arguments)
        measured = measure(recipe, options.per_class, options.draws)
    settings = {
        "recipe": recipe.name,
        "data": Path(options.data).resolve().name if options.data else "digits",
        "draws": options.draws,
        "image size": options.image_size,
        "backbone": recipe.backbone.name,
        "test images": options.test or "all",
    }
    return finish(report_of_sides(settings, measured), options.output, arguments)


if __name__ == "__main__":
    main(benchmark)
