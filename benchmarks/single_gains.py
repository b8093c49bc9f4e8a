"""What each means of training gives by itself: today's recipe with and without it, on images that no side trains on.

In each seed all sides have the same images, the same first head and the same order. Held-out images are further ones of
the training split: the test images are not looked at. The weights of the last epoch are kept, so that nothing is chosen
by the images that judge; where a means ends training early it is the best epoch, and it says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.command_line import main, positive, report_parser, workspace_with_cache
from benchmarks.harness.draws import instead, part_of
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.report import Claim, Report, finish
from benchmarks.means.catalogue import MEANS, TEACHER, Means
from benchmarks.means.judgement import Measured, table
from benchmarks.training_outcome import train
from toolkit.backbones import weights_available
from toolkit.data import Dataset, load_dataset
from toolkit.errors import ToolkitError
from toolkit.recipe import Recipe, load_recipe
from toolkit.training.stage import finetune_run

NAME = "single_gains"
BASELINE = "today's recipe"


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


def make_teacher(recipe: Recipe, backbone: str, work: Path, seed: int) -> Path:
    """Train a teacher on the images of a seed; return its run."""
    own = recipe.override({"backbone.name": backbone, "data.check_labels": False})
    return finetune_run(own, name=f"teacher-{seed}", root=work).path


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
            measured.baseline.append(train(own, "validation"))
            print(f"seed {seed}: {BASELINE}: {measured.baseline[-1].accuracy:.2%}", flush=True)
            for means in options.means:
                if means.name in measured.refused:
                    continue
                try:
                    outcome = train(changed_recipe(means, own, options, work), "validation")
                except ToolkitError as error:
                    measured.refused[means.name] = str(error).splitlines()[0]
                    print(f"seed {seed}: {means.text}: {measured.refused[means.name]}", flush=True)
                    continue
                measured.changed[means.name].append(outcome)
                print(f"seed {seed}: {means.text}: {outcome.accuracy:.2%}", flush=True)
            if seed == 0:
                measured.repeats = bool(np.array_equal(train(own, "validation").logits, measured.baseline[0].logits))
    return measured


def make_report(settings: Mapping[str, Any], measured: Measured) -> Report:
    """Put the result into words."""
    gains = measured.gains
    accuracies = [outcome.accuracy for outcome in measured.baseline]
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
        tables=[table(gains)],
        notes=[
            f"{BASELINE}: {', '.join(f'{accuracy:.2%}' for accuracy in accuracies)} of "
            f"{len(measured.baseline[0].right)} held-out images, a seed each.",
            f"Differences are means over the {measured.images} images that some seed held out. Each counts once, with "
            "its mean over those seeds: seeds that judge by the same images and agree make no interval narrower.",
            "Intervals are adjusted Wald intervals of paired proportions (Bonett and Price 2012). They hold for the "
            "networks that were trained; the spread over the seeds says how far others may lie from them.",
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


def benchmark(arguments: Sequence[str]) -> int:
    """Measure and write the report."""
    options = parse(arguments)
    recipe = recipe_of(options)
    with workspace_with_cache(options.work) as work:
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
