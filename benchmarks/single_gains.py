"""What each means of training gives by itself: today's recipe with and without it, on images that no side trains on.

In each seed all sides have the same images, the same first head and the same order. Held-out images are further ones of
the training split: the test images are not looked at. The weights of the last epoch are kept, so that nothing is chosen
by the images that judge; where a means ends training early it is the best epoch, and it says so.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from benchmarks.harness.command_line import main, positive, report_parser, workspace
from benchmarks.harness.draws import part_of
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.report import Claim, Report, Table, finish
from toolkit.backbones import weights_available
from toolkit.compare.paired import paired_interval
from toolkit.data import Dataset, load_dataset
from toolkit.data.augment import default_views
from toolkit.errors import ToolkitError
from toolkit.progress import Silent
from toolkit.recipe import Recipe, load_recipe
from toolkit.results import Interval
from toolkit.training.checkpoint import State
from toolkit.training.interruption import Stopper
from toolkit.training.setting import prepared_setting
from toolkit.training.stage import finetune_run
from toolkit.training.trainer import Trainer
from toolkit.training.training_data import TrainingData

NAME = "single_gains"
BASELINE = "today's recipe"
TEACHER = "teacher"

Right = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Means:
    """One means of training.

    Attributes:
        name: as the command line and the table have it.
        text: what it is.
        changes: fields of the recipe and their values, given today's.
    """

    name: str
    text: str
    changes: Callable[[Recipe], Mapping[str, Any]]


def _always(**fields: Any) -> Callable[[Recipe], Mapping[str, Any]]:
    changes = {name.replace("__", "."): value for name, value in fields.items()}
    return lambda _: changes


def _deeper(recipe: Recipe, blocks: int) -> int:
    unfreeze = recipe.stage2.unfreeze
    if not isinstance(unfreeze, int):
        raise BenchmarkError("stage2.unfreeze names blocks: give how many with --set stage2.unfreeze=3.")
    return unfreeze + blocks


def _refreshed(recipe: Recipe) -> Mapping[str, Any]:
    return {"cache.refresh": 1.0} if recipe.augment.changes_images else {"cache.refresh": 1.0, "augment.shift": 0.1}


def _twice_the_views(recipe: Recipe) -> Mapping[str, Any]:
    return {"cache.views": 2 * (recipe.cache.views or default_views(recipe.augment))}


MEANS = (
    Means("ema", "exponential moving average of the weights, decay 0.99", _always(train__ema=0.99)),
    Means("ema-slow", "the same with decay 0.998", _always(train__ema=0.998)),
    Means("average", "mean of the weights after the last 3 epochs", _always(train__average_last=3)),
    Means("mixup", "mixup, alpha 0.2", _always(augment__mixup=0.2)),
    Means("cutmix", "cutmix on the kept maps, alpha 1", _always(augment__cutmix=1.0)),
    Means("both-mixes", "either of them in each batch", _always(augment__mixup=0.2, augment__cutmix=1.0)),
    Means("no-smoothing", "without label smoothing", _always(train__label_smoothing=0.0)),
    Means("layer-decay", "each block at 0.7 of the rate of the one behind it", _always(stage2__layer_decay=0.7)),
    Means(
        "no-probe",
        "without the linear probe: all its epochs in stage 2",
        lambda recipe: {"stage1.epochs": 0, "stage2.epochs": recipe.stage1.epochs + recipe.stage2.epochs},
    ),
    Means("crop", "random resized crops of at least 0.35 of the area", _always(augment__crop=0.35)),
    Means("randaugment", "RandAugment, 2 operations of magnitude 9", _always(augment__randaugment=2)),
    Means("erase", "random erasing with probability 0.25", _always(augment__erase=0.25)),
    Means("views", "twice the views", _twice_the_views),
    Means("drop-path", "stochastic depth, 0.1 in the last block", _always(train__drop_path=0.1)),
    Means("dropout", "dropout of 0.2 before the head", _always(train__dropout=0.2)),
    Means("sam", "sharpness-aware steps, rho 0.05", _always(train__sam_rho=0.05)),
    Means("train-bn", "BatchNorm trained", _always(train__train_bn=True)),
    Means(
        "bn-reestimate",
        "BatchNorm trained, its statistics estimated anew on 100 batches",
        _always(train__train_bn=True, train__bn_reestimate=100),
    ),
    Means("flip-test", "mirror images averaged, twice the cost of each prediction", _always(model__flip_test=True)),
    Means(
        "third-stage",
        "three blocks more in the last 2 epochs, at half the rates",
        lambda recipe: {
            **{f"stage3.{name}": value for name, value in recipe.stage2.model_dump().items()},
            "stage2.epochs": recipe.stage2.epochs - 2,
            "stage3.epochs": 2,
            "stage3.unfreeze": _deeper(recipe, 3),
            "stage3.head_lr": recipe.stage2.head_lr / 2,
            "stage3.backbone_lr": recipe.stage2.backbone_lr / 2,
        },
    ),
    Means("refresh", "a new view of each image in each epoch of stage 2 (shifts where nothing is drawn)", _refreshed),
    Means("longer", "twice the epochs of stage 2", lambda recipe: {"stage2.epochs": 2 * recipe.stage2.epochs}),
    Means("deeper", "a block more trained", lambda recipe: {"stage2.unfreeze": _deeper(recipe, 1)}),
    Means("much-deeper", "two blocks more trained", lambda recipe: {"stage2.unfreeze": _deeper(recipe, 2)}),
    Means(
        "faster",
        "twice the rates of stage 2",
        lambda recipe: {
            "stage2.head_lr": 2 * recipe.stage2.head_lr,
            "stage2.backbone_lr": 2 * recipe.stage2.backbone_lr,
        },
    ),
    Means(
        "patience",
        "patience of 2 epochs; the best epoch on the images that judge is kept, which flatters it",
        _always(train__patience=2, train__keep="best"),
    ),
    Means(
        TEACHER,
        "a teacher's logits, weight 0.5, temperature 2",
        _always(distill__weight=0.5, distill__temperature=2.0),
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What one side made of one seed.

    Attributes:
        right: which held-out images it gets right.
        cpu_seconds: processor time of its training, without the frozen part.
        epochs: that were made.
        logits: of the held-out images.
    """

    right: Right
    cpu_seconds: float
    epochs: int
    logits: npt.NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True)
class Gain:
    """A means against today's recipe over all seeds.

    Attributes:
        means: what was changed.
        differences: of the accuracy, a seed each.
        interval: 95%, of the mean difference, over the images of all seeds, paired.
        cost: its processor time over that of today's recipe, the median over the seeds.
        epochs: that were made on average.
    """

    means: Means
    differences: tuple[float, ...]
    interval: Interval
    cost: float
    epochs: float

    @property
    def verdict(self) -> str:
        """Whether it gains anything that these images can tell."""
        if self.interval.low > 0:
            return "gains"
        return "loses" if self.interval.high < 0 else "cannot be told"


def divided(whole: Dataset, per_class: int, held: int, seed: int) -> Dataset:
    """Return so many images of each class to train on, and others of the same split to judge by.

    Raises:
        BenchmarkError: a class has too few.
    """
    split = whole.split("train")
    rng = np.random.default_rng((seed, 78))
    trained, judging = [], []
    for index, label in enumerate(whole.labels):
        order = rng.permutation(np.flatnonzero(split.targets == index))
        if len(order) < per_class + held:
            raise BenchmarkError(
                f"{label} has {len(order)} training images, and {per_class} to train on and {held} to judge by are "
                "asked for: give fewer with --per-class or --held."
            )
        trained.append(order[:per_class])
        judging.append(order[per_class : per_class + held])
    judged = np.sort(np.concatenate(judging))
    return Dataset(
        whole.source,
        whole.labels,
        {
            "train": part_of(split, "train", np.sort(np.concatenate(trained))),
            "validation": part_of(split, "validation", judged),
            "test": part_of(split, "test", judged),
        },
    )


@contextmanager
def instead(dataset: Dataset) -> Iterator[None]:
    """Have training load this data, whatever its recipe says."""
    with patch("toolkit.training.setting.load_dataset", lambda *_, **__: dataset):
        yield


def train(recipe: Recipe) -> Outcome:
    """Train, and judge what is kept by the held-out images."""
    with prepared_setting(recipe, Silent()) as setting, TrainingData(setting) as data:
        data.keep()
        started = time.process_time()
        trainer = Trainer(setting, data, State(), lambda: None, Stopper())
        trainer.run()
        seconds = time.process_time() - started
        state = trainer.state
        if state.best.weights is None:
            raise BenchmarkError("no epoch ended with a usable validation accuracy.")
        trainer.load(state.best.weights)
        held = setting.dataset.split("validation")
        with Silent().bar("", len(held), "img") as bar:
            logits = data.predict(held, bar)
        return Outcome(logits.argmax(axis=1) == held.targets, seconds, len(state.history), logits)


def make_teacher(recipe: Recipe, backbone: str, work: Path, seed: int) -> Path:
    """Train a teacher on the images of a seed; return its run."""
    own = recipe.override({"backbone.name": backbone, "data.check_labels": False})
    return finetune_run(own, name=f"teacher-{seed}", root=work).path


def gain(means: Means, baseline: Sequence[Outcome], changed: Sequence[Outcome]) -> Gain:
    """Compare the two seed by seed and image by image."""
    pairs = [(after.right, before.right) for after, before in zip(changed, baseline, strict=True)]
    after, before = (np.concatenate(side) for side in zip(*pairs, strict=True))
    counts = [int(chosen.sum()) for chosen in (after & before, after & ~before, ~after & before, ~after & ~before)]
    return Gain(
        means=means,
        differences=tuple(float(ours.mean() - theirs.mean()) for ours, theirs in pairs),
        interval=paired_interval(counts[0], counts[1], counts[2], counts[3]),
        cost=statistics.median(
            ours.cpu_seconds / theirs.cpu_seconds for ours, theirs in zip(changed, baseline, strict=True)
        ),
        epochs=statistics.fmean(outcome.epochs for outcome in changed),
    )


def make_report(settings: Mapping[str, Any], measured: Measured) -> Report:
    """Put the result into words."""
    gains = measured.gains
    accuracies = [float(outcome.right.mean()) for outcome in measured.baseline]
    return Report(
        name=NAME,
        title="What each means of training gives by itself",
        settings=settings,
        claims=[
            Claim(
                "today's recipe gives the same logits bit for bit after all the others",
                "the same" if measured.repeats else "others",
                measured.repeats,
            )
        ],
        tables=[
            Table(
                ("means", "difference in points [95%]", "seed by seed", "processor time", "epochs", "verdict"),
                [
                    (
                        each.means.text,
                        f"{100 * statistics.fmean(each.differences):+.2f} "
                        f"[{100 * each.interval.low:+.2f}, {100 * each.interval.high:+.2f}]",
                        ", ".join(f"{100 * difference:+.2f}" for difference in each.differences),
                        f"{each.cost:.2f}x",
                        f"{each.epochs:g}",
                        each.verdict,
                    )
                    for each in sorted(gains, key=lambda each: -statistics.fmean(each.differences))
                ],
            )
        ],
        notes=[
            f"{BASELINE}: {', '.join(f'{accuracy:.2%}' for accuracy in accuracies)} of "
            f"{len(measured.baseline[0].right)} held-out images, a seed each.",
            "Intervals are paired over the images of all seeds (Newcombe 1998, method 10); they hold for the networks "
            "that were trained, and the spread over the seeds says how far others may lie from them.",
            f"With {len(gains)} rows one of twenty intervals misses by chance: what gains is to be measured again "
            "before it becomes a default.",
            *(f"Not measured: {name}, because {reason}" for name, reason in measured.refused.items()),
            "Processor time is that of training alone, over that of today's recipe: the passes of frozen part and "
            "teacher over what is kept are not in it, nor is the training of the teacher; those over new views are.",
        ],
        measurements={
            "baseline": accuracies,
            "gains": {each.means.name: list(each.differences) for each in gains},
        },
    )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises:
        BenchmarkError: there is no such means, or a field is given without a value.
    """
    parser = report_parser(NAME, __doc__)
    parser.add_argument("--data", metavar="FOLDER", help="images as train/<class>/ and test/<class>/ (default: digits)")
    parser.add_argument("--per-class", type=positive, default=500, help="images of each class to train on")
    parser.add_argument("--held", type=positive, default=500, help="images of each class to judge by")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--image-size", type=positive, default=128)
    parser.add_argument("--only", default="", help=f"names, separated by commas, of {', '.join(m.name for m in MEANS)}")
    parser.add_argument("--teacher-backbone", metavar="NAME", help="of the teacher (default: the recipe's own)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="of the recipe of all sides; repeatable"
    )
    parser.add_argument("--work", type=Path, default=None, metavar="FOLDER", help="where temporary files go")
    options = parser.parse_args(arguments)
    names = [name for name in options.only.split(",") if name]
    if unknown := set(names) - {means.name for means in MEANS}:
        raise BenchmarkError(
            f"{', '.join(sorted(unknown))}: no such means; --only takes {', '.join(means.name for means in MEANS)}."
        )
    teacher = options.teacher_backbone
    if (not names or TEACHER in names) and teacher and (reason := weights_available(teacher)):
        raise BenchmarkError(f"--teacher-backbone {teacher}: its weights cannot be had: {reason}")
    options.means = [means for means in MEANS if not names or means.name in names]
    if bad := [text for text in options.set if "=" not in text]:
        raise BenchmarkError(f"--set {bad[0]}: give a field and a value, e.g. --set stage2.epochs=8.")
    return options


def recipe_of(options: argparse.Namespace) -> Recipe:
    """Return today's recipe, as all sides have it."""
    return load_recipe("folder" if options.data else "digits").override(
        {
            **({"data.source": str(Path(options.data).resolve())} if options.data else {}),
            "backbone.image_size": options.image_size,
            "train.keep": "last",
            **dict(text.split("=", 1) for text in options.set),
        }
    )


@dataclass
class Measured:
    """What all sides made of all seeds.

    Attributes:
        baseline: today's recipe, a seed each.
        changed: the means by name, a seed each.
        refused: means that could not be trained, and why: the others are no worse for it.
        repeats: whether today's recipe gave the same logits bit for bit when it was trained again.
    """

    baseline: list[Outcome] = field(default_factory=list)
    changed: dict[str, list[Outcome]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    repeats: bool = True

    @property
    def gains(self) -> list[Gain]:
        """The means that were trained in all seeds."""
        return [
            gain(means, self.baseline, self.changed[means.name])
            for means in MEANS
            if means.name in self.changed and means.name not in self.refused
        ]


def changed_recipe(means: Means, own: Recipe, options: argparse.Namespace, work: Path) -> Recipe:
    """Return the recipe of a means in a seed; its teacher is trained first."""
    changes = dict(means.changes(own))
    if means.name == TEACHER:
        backbone = options.teacher_backbone or own.backbone.name
        changes["distill.teacher"] = str(make_teacher(own, backbone, work, own.seed))
    return own.override(changes)


def measure(options: argparse.Namespace, recipe: Recipe, work: Path) -> Measured:
    """Train all sides in all seeds."""
    whole = load_dataset(recipe.data, 0)
    measured = Measured(changed={means.name: [] for means in options.means})
    for seed in range(options.seeds):
        own = recipe.override({"seed": seed})
        with instead(divided(whole, options.per_class, options.held, seed)):
            measured.baseline.append(train(own))
            print(f"seed {seed}: {BASELINE}: {measured.baseline[-1].right.mean():.2%}", flush=True)
            for means in options.means:
                if means.name in measured.refused:
                    continue
                try:
                    outcome = train(changed_recipe(means, own, options, work))
                except ToolkitError as error:
                    measured.refused[means.name] = str(error).splitlines()[0]
                    print(f"seed {seed}: {means.text}: {measured.refused[means.name]}", flush=True)
                    continue
                measured.changed[means.name].append(outcome)
                print(f"seed {seed}: {means.text}: {outcome.right.mean():.2%}", flush=True)
            if seed == 0:
                measured.repeats = bool(np.array_equal(train(own).logits, measured.baseline[0].logits))
    return measured


def benchmark(arguments: Sequence[str]) -> int:
    """Measure and write the report."""
    options = parse(arguments)
    recipe = recipe_of(options)
    with workspace(options.work) as work, patch.dict(os.environ, {"TOOLKIT_CACHE": str(work / "cache")}):
        measured = measure(options, recipe, work)
    settings = {
        "recipe": recipe.name,
        "data": Path(options.data).resolve().name if options.data else recipe.data.source,
        "images of a class to train on": options.per_class,
        "images of a class to judge by": options.held,
        "seeds": options.seeds,
        "image size": options.image_size,
        "backbone": recipe.backbone.name,
        "teacher": options.teacher_backbone or recipe.backbone.name,
        "epochs": f"{recipe.stage1.epochs} + {recipe.stage2.epochs}",
    }
    return finish(make_report(settings, measured), options.output, arguments)


if __name__ == "__main__":
    main(benchmark)
