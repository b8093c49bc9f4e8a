"""How often planted wrong labels are among the first that fine-tuning names.

In each draw one image of each split, or a share of each, drawn at random, gets the label of another class, drawn at
random; then the labels are looked at as every run does before it trains.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.harness.command_line import main, positive, report_parser
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.report import Claim, Report, Table, finish
from toolkit.data import SPLITS, Dataset
from toolkit.data.duplicates import Place, find_duplicates
from toolkit.progress import Silent
from toolkit.recipe import Recipe, load_recipe
from toolkit.training.label_check import LabelCheck, check_labels
from toolkit.training.setting import Setting, prepared_setting
from toolkit.training.training_data import TrainingData

NAME = "planted_labels"
FIRST = 10
WANTED = 0.8


@dataclass(frozen=True)
class Draw:
    """What one draw came to: the planted ones' ranks, from 1 (None: not named), and how many labels look wrong."""

    ranks: tuple[int | None, ...]
    estimated_wrong: int
    looked_at: int

    @property
    def found(self) -> int:
        """How many of the planted ones are among the first."""
        return sum(rank is not None and rank <= FIRST for rank in self.ranks)


def plant(dataset: Dataset, seed: int, share: float = 0.0) -> tuple[Dataset, list[Place]]:
    """Give a share of the images of each split, at least one, a wrong label; also return where they are."""
    rng = np.random.default_rng((seed, 11))
    splits = {}
    places: list[Place] = []
    for name in SPLITS:
        split = dataset.split(name)
        drawn = rng.permutation(len(split))[: max(1, round(share * len(split)))]
        targets = split.targets.copy()
        targets[drawn] = (targets[drawn] + rng.integers(1, len(dataset.labels), len(drawn))) % len(dataset.labels)
        splits[name] = replace(split, targets=targets)
        places.extend(Place(name, int(position)) for position in drawn)
    return replace(dataset, splits=splits), places


def look(setting: Setting, data: TrainingData, seed: int, share: float = 0.0) -> Draw:
    """Plant, look, and say where the planted ones stand.

    Raises:
        BenchmarkError: the labels are not looked at.
    """
    dataset, planted = plant(setting.dataset, seed, share)
    changed = replace(setting, dataset=dataset, recipe=setting.recipe.override({"seed": seed}))
    check: LabelCheck = check_labels(changed, data, find_duplicates(dataset, near=False, reporter=Silent()))
    if check.issues is None:
        raise BenchmarkError(f"the labels are not looked at: {check.not_looked}.")
    ranks = tuple(check.places.index(place) + 1 if place in check.places else None for place in planted)
    return Draw(ranks, check.issues.estimated_wrong, check.issues.looked_at)


def make_report(recipe: Recipe, draws: Sequence[Draw], share: float = 0.0) -> Report:
    """Put the result into words."""
    planted = len(draws[0].ranks)
    possible = min(FIRST, planted)
    all_found = sum(draw.found >= possible for draw in draws)
    wrong = sorted(draw.estimated_wrong for draw in draws)
    if planted <= FIRST:
        claim = Claim(
            f"all {planted} planted labels are among the first {FIRST} in at least {WANTED:.0%} of the draws",
            f"{all_found} of {len(draws)}; of single ones {sum(draw.found for draw in draws)} of "
            f"{planted * len(draws)}",
            all_found >= WANTED * len(draws),
        )
    else:
        right = sum(draw.found for draw in draws) / (FIRST * len(draws))
        claim = Claim(
            f"of the first {FIRST} that are named, at least {WANTED:.0%} are planted", f"{right:.0%}", right >= WANTED
        )
    return Report(
        name=NAME,
        title="Planted wrong labels among the first that are named",
        settings={
            "recipe": recipe.name,
            "draws": len(draws),
            "image size": recipe.backbone.image_size,
            "planted": f"{planted} of {draws[0].looked_at}" + (f" ({share:.1%} of each split)" if share else ""),
        },
        claims=[
            claim,
            Claim(
                "no more labels are said to look wrong than twice those that were planted",
                f"median {statistics.median(wrong):g}, {wrong[0]} to {wrong[-1]}",
                statistics.median(wrong) <= 2 * planted,
            ),
        ],
        tables=[
            Table(
                ("draw", f"planted among the first {FIRST}", "ranks of the planted", "said to look wrong"),
                [
                    (str(number), f"{draw.found} of {possible}", _ranks(draw), str(draw.estimated_wrong))
                    for number, draw in enumerate(draws)
                ],
            )
        ],
        notes=["Other labels that look wrong are hard for the classifier, or wrong as published."],
        measurements={"ranks": [draw.ranks for draw in draws]},
    )


def _ranks(draw: Draw) -> str:
    if len(draw.ranks) <= FIRST:
        return ", ".join("not named" if rank is None else str(rank) for rank in draw.ranks)
    named = [rank for rank in draw.ranks if rank is not None]
    return f"{len(named)} of {len(draw.ranks)} are named" + (f", median {statistics.median(named):g}" if named else "")


def benchmark(arguments: Sequence[str]) -> int:
    """Measure and write the report."""
    parser = report_parser(NAME, __doc__)
    parser.add_argument("--data", metavar="FOLDER", help="a folder of images (default: digits)")
    parser.add_argument("--draws", type=positive, default=20)
    parser.add_argument("--share", type=float, default=0.0, help="of each split that is planted (default: one image)")
    parser.add_argument("--image-size", type=positive, help="side in pixels (default: that of the recipe)")
    options: argparse.Namespace = parser.parse_args(arguments)
    recipe = load_recipe("folder" if options.data else "digits").override(
        # One view of each image is all that is looked at.
        {
            "cache.views": 1,
            **({"data.source": options.data} if options.data else {}),
            **({"backbone.image_size": options.image_size} if options.image_size else {}),
        }
    )
    with prepared_setting(recipe, Silent()) as setting, TrainingData(setting) as data:
        draws = [look(setting, data, seed, options.share) for seed in range(options.draws)]
    return finish(make_report(recipe, draws, options.share), options.output, arguments)


if __name__ == "__main__":
    main(benchmark)
