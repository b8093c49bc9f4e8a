"""What the default recipe makes of few images: now, and as it was before the head was solved.

Both sides of a draw have the same images, the same first head and the same order, and are judged by the same test
images.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from benchmarks.harness.command_line import main, positive, workspace_with_cache
from benchmarks.harness.draw_options import changes_of, draws_parser, parse_draws, settings_of
from benchmarks.harness.report import Claim, Report, Table, finish
from benchmarks.training_outcome import Outcome, train
from toolkit.data import load_dataset
from toolkit.recipe import Recipe, load_recipe

NAME = "few_images"
MARGIN = 0.01
"""Of accuracy: by less it may be worse without being called so."""
LEVEL = 0.95


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


def measure(recipe: Recipe, sizes: Sequence[int], draws: int) -> list[Sides]:
    """Train both sides of every draw."""
    classes = len(load_dataset(recipe.data, 0).labels)
    measured = []
    for per_class in sizes:
        outcomes: dict[str, list[Outcome]] = {"steps": [], "auto": []}
        for seed in range(draws):
            drawn = recipe.override({"seed": seed, "data.train_limit": per_class * classes})
            for solver, side in outcomes.items():
                side.append(train(drawn.override({"stage1.solver": solver}), "test"))
            print(
                f"{per_class} images a class, draw {seed}: {outcomes['steps'][-1].accuracy:.2%} as it was, "
                f"{outcomes['auto'][-1].accuracy:.2%} now",
                flush=True,
            )
        measured.append(Sides(per_class, outcomes["steps"], outcomes["auto"]))
    return measured


def make_report(settings: Mapping[str, object], measured: Sequence[Sides]) -> Report:
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


def sizes(text: str) -> list[int]:
    """Read numbers of images, separated by commas."""
    return [positive(part.strip()) for part in text.split(",")]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises:
        BenchmarkError: there are too few draws.
    """
    parser = draws_parser(NAME, __doc__)
    parser.add_argument(
        "--per-class", type=sizes, default=[5, 20, 200], metavar="N,N", help="images of a class, validation included"
    )
    return parse_draws(parser, arguments)


def recipe_of(options: argparse.Namespace) -> Recipe:
    """Return the default recipe of folders, the one that solves the head, as both sides have it."""
    return load_recipe("folder").override(changes_of(options))


def benchmark(arguments: Sequence[str]) -> int:
    """Measure and write the report."""
    options = parse(arguments)
    recipe = recipe_of(options)
    with workspace_with_cache(options.work):
        measured = measure(recipe, options.per_class, options.draws)
    return finish(make_report(settings_of(options, recipe), measured), options.output, arguments)


if __name__ == "__main__":
    main(benchmark)
