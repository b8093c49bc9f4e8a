"""How often planted wrong labels are among the first that fine-tuning names.

In each draw one image of each split, drawn at random, gets the label of another class, drawn at random; then the labels
are looked at as every run does before it trains.
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
    """What one draw came to: the planted ones' ranks, from 1 (None: not named), and how many labels are doubted."""

    ranks: tuple[int | None, ...]
    estimated_wrong: int
    looked_at: int

    @property
    def found(self) -> int:
        """How many of the planted ones are among the first."""
        return sum(rank is not None and rank <= FIRST for rank in self.ranks)


def plant(dataset: Dataset, seed: int) -> tuple[Dataset, list[Place]]:
    """Give one image of each split a wrong label; also return where they are."""
    rng = np.random.default_rng((seed, 11))
    splits, places = {}, []
    for name in SPLITS:
        split = dataset.split(name)
        place = Place(name, int(rng.integers(len(split))))
        targets = split.targets.copy()
        targets[place.position] = (targets[place.position] + rng.integers(1, len(dataset.labels))) % len(dataset.labels)
        splits[name] = replace(split, targets=targets)
        places.append(place)
    return replace(dataset, splits=splits), places


def look(setting: Setting, data: TrainingData, seed: int) -> Draw:
    """Plant, look, and say where the planted ones stand.

    Raises:
        BenchmarkError: the labels are not looked at.
    """
    dataset, planted = plant(setting.dataset, seed)
    changed = replace(setting, dataset=dataset, recipe=setting.recipe.override({"seed": seed}))
    check: LabelCheck = check_labels(changed, data, find_duplicates(dataset, near=False, reporter=Silent()))
    if check.issues is None:
        raise BenchmarkError(f"the labels are not looked at: {check.not_looked}.")
    ranks = tuple(check.places.index(place) + 1 if place in check.places else None for place in planted)
    return Draw(ranks, check.issues.estimated_wrong, check.issues.looked_at)


def make_report(recipe: Recipe, draws: Sequence[Draw]) -> Report:
    """Put the result into words."""
    planted = sum(len(draw.ranks) for draw in draws)
    all_found = sum(draw.found == len(draw.ranks) for draw in draws)
    return Report(
        name=NAME,
        title="Planted wrong labels among the first that are named",
        settings={"recipe": recipe.name, "draws": len(draws), "image size": recipe.backbone.image_size},
        claims=[
            Claim(
                f"all three planted labels are among the first {FIRST} in at least {WANTED:.0%} of the draws",
                f"{all_found} of {len(draws)}; of single ones {sum(draw.found for draw in draws)} of {planted}",
                all_found >= WANTED * len(draws),
            )
        ],
        tables=[
            Table(
                ("draw", "rank in train, validation, test", "labels doubted", "images"),
                [
                    (
                        str(number),
                        ", ".join("not named" if rank is None else str(rank) for rank in draw.ranks),
                        str(draw.estimated_wrong),
                        str(draw.looked_at),
                    )
                    for number, draw in enumerate(draws)
                ],
            )
        ],
        notes=[
            f"In the median {statistics.median(draw.estimated_wrong for draw in draws):g} labels are doubted, where "
            "three are known to be wrong: the others are hard for the classifier, or wrong as published."
        ],
        measurements={"ranks": [draw.ranks for draw in draws]},
    )


def benchmark(arguments: Sequence[str]) -> int:
    """Measure and write the report."""
    parser = report_parser(NAME, __doc__)
    parser.add_argument("--data", metavar="FOLDER", help="a folder of images (default: digits)")
    parser.add_argument("--draws", type=positive, default=20)
    options: argparse.Namespace = parser.parse_args(arguments)
    recipe = load_recipe("folder" if options.data else "digits").override(
        # One view of each image is all that is looked at.
        {"cache.views": 1, **({"data.source": options.data} if options.data else {})}
    )
    with prepared_setting(recipe, Silent()) as setting, TrainingData(setting) as data:
        draws = [look(setting, data, seed) for seed in range(options.draws)]
    return finish(make_report(recipe, draws), options.output, arguments)


if __name__ == "__main__":
    main(benchmark)
