"""``toolkit finetune`` beside fastai's ``fine_tune`` and a plain Lightning loop: how soon it is where they end.

The same backbone and weights, images and threads, each side with its own defaults, in a process of its own and in
turns. Arguments after ``--`` are passed on to ``toolkit finetune``.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.finetuners.arena import MODULES, PEERS, TURNS, Outcome, Round, initial_weights, measure, tasks_of
from benchmarks.finetuners.judgement import claims, difference, tables
from benchmarks.finetuners.side import MODEL
from benchmarks.harness.command_line import images_parser, main, positive, split_arguments, workspace
from benchmarks.harness.environments import Environment
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.finetuning import passed_on
from benchmarks.harness.report import Report, finish
from benchmarks.harness.subset import Subset, make_subset
from toolkit import provenance

NAME = "peers"
SPEEDUP = 5.0
FASTAI_VERSION, LIGHTNING_VERSION = "2.8.12", "2.6.6"
ENVIRONMENT = Environment(
    "fastai and Lightning",
    f"peers-fastai-{FASTAI_VERSION}-lightning-{LIGHTNING_VERSION}",
    (f"fastai=={FASTAI_VERSION}", f"lightning=={LIGHTNING_VERSION}"),
    beside_ours=True,
)


def make_report(options: argparse.Namespace, settings: Mapping[str, Any], rounds: Sequence[Round]) -> Report:
    """Put the result into words."""
    about = {side: rounds[0][side].about for side in MODULES}
    return Report(
        name=NAME,
        title="toolkit finetune beside fastai and Lightning",
        settings={
            **settings,
            **{f"{side}: did": about[side].get("did", "") for side in MODULES},
            **{f"{side}: versions": about[side].get("versions", "") for side in MODULES},
        },
        claims=claims(rounds, options.speedup),
        tables=tables(rounds),
        notes=[
            f"All sides start from the same ImageNet weights of {MODEL}, run with the same number of threads, and took "
            f"turns of {', '.join(f'{TURNS[side]:g}' for side in MODULES)} seconds ({', '.join(MODULES)}), each "
            "standing still (SIGSTOP) in the turns of the others. Seconds are of a side's own turns, from the start of "
            "its process, imports included.",
            "After every epoch a side writes its weights and the time; they look at the test images afterwards, in "
            "another process, so that this costs no side any of its time. fastai's own look at its validation images "
            "after each epoch is left out, too. toolkit's, a tenth of the training images, is counted: it chooses the "
            "weights that are kept. Both peers train on all training images.",
            "The weights of toolkit at a time are those that it would keep if its stage ended there. Its times are "
            "those of its epochs; what it does after the last one (the test images, which mistakes to review, "
            "pictures) is in the column of the whole process alone.",
            "Every side predicts with its own preprocessing; which class has the largest logit is held against the "
            "folder that the image lies in. All seeds have the same test images and other training images.",
            "Intervals of the times are those of the signed-rank test on the seeds' logarithms; those of the "
            "differences are paired by image (Newcombe 1998, method 10) and take the test images once. They hold for "
            "the networks that were trained; the seeds say how far others may lie from them.",
            "A curve that looks at the test images after every epoch finds its first point above a line a little "
            "early, by chance; that the peer's line is where it happens to end is chance, too.",
        ],
        measurements={
            "seeds": [
                {
                    side: {
                        "curve": [[point.seconds, point.accuracy] for point in each[side].curve],
                        "seconds": each[side].run.seconds,
                        "peak_bytes": each[side].run.peak_bytes,
                        "tree_bytes": each[side].run.tree_bytes,
                    }
                    for side in MODULES
                }
                for each in rounds
            ],
            "differences": {peer: list(difference(rounds, peer).each) for peer in PEERS},
        },
    )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises:
        BenchmarkError: the interpreter of the peers does not exist.
    """
    parser = images_parser(NAME, __doc__)
    parser.add_argument("--train", type=positive, default=5000, metavar="N", help="training images, drawn by each seed")
    parser.add_argument("--test", type=positive, default=10_000, metavar="M", help="test images, the same for all")
    parser.add_argument("--image-size", type=positive, default=128, metavar="PIXELS")
    parser.add_argument("--epochs", type=positive, default=5, help="of both peers, after one with the backbone frozen")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--threads", type=positive, default=provenance.default_threads(), help="of each side")
    parser.add_argument("--speedup", type=float, default=SPEEDUP, help="what is claimed")
    parser.add_argument(
        "--python",
        type=Path,
        metavar="FILE",
        help="an interpreter that has fastai, Lightning, timm and numpy (default: that of an environment that is made "
        "once, in the cache folder of toolkit; some 100 MB from PyPI)",
    )
    options = parser.parse_args(arguments)
    if options.python is not None and not options.python.is_file():
        raise BenchmarkError(f"{options.python} is not a file: give the interpreter that has fastai and Lightning.")
    return options


def settings_of(
    options: argparse.Namespace, extra: Sequence[str], weights: str, drawn: Sequence[Subset]
) -> dict[str, Any]:
    """Return what a report says of how it was measured."""
    return {
        "data": options.data.resolve().name,
        "train images": options.train,
        "test images": options.test,
        "classes": drawn[0].classes,
        "subsets": ", ".join(subset.fingerprint[:16] for subset in drawn),
        "image size": options.image_size,
        "threads": options.threads,
        "backbone of all sides": MODEL,
        "initial weights of all sides": weights,
        "passed on": passed_on(extra),
    }


def benchmark(arguments: Sequence[str]) -> int:
    """Run all sides with every seed and write the report."""
    own, extra = split_arguments(arguments)
    options = parse(own)
    python = options.python.absolute() if options.python else ENVIRONMENT.python()
    rounds: list[dict[str, Outcome]] = []
    drawn: list[Subset] = []
    with workspace(options.work) as work:
        weights, described = initial_weights(work)
        for seed in range(options.seeds):
            folder = work / f"seed-{seed}"
            drawn.append(make_subset(options.data, folder / "data", options.train, options.test, seed, test_seed=0))
            print(f"seed {seed + 1} of {options.seeds}: {', '.join(MODULES)} in turns ...", flush=True)
            rounds.append(measure(tasks_of(options, extra, weights, folder, seed), python))
            shutil.rmtree(folder)
    settings = settings_of(options, extra, described, drawn)
    return finish(make_report(options, settings, rounds), options.output, arguments)


if __name__ == "__main__":
    main(benchmark)
