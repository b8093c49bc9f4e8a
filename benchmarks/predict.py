"""How fast 'Predictor.predict' turns image files into labels, and what stands in its way.

Small files, of the size of those of CIFAR, against the floor: threads that do nothing but decode with Pillow beside one
session of onnxruntime with all cores. Photographs of 12 megapixels against what one writes first: a loop in one thread
with Pillow and onnxruntime. The sides take turns, with random weights, and must give the same answers. Some 7 minutes.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.harness.answers import SAME_SHARE, Answers, require_same
from benchmarks.harness.bare import open_bare
from benchmarks.harness.command_line import main, positive, report_parser, workspace
from benchmarks.harness.figures import spread
from benchmarks.harness.pictures import PHOTOGRAPHS, SIZES, SMALL, write_pictures
from benchmarks.harness.report import Claim, Report, Table, finish
from benchmarks.random_artifact import write_bundle
from toolkit import provenance
from toolkit.runtime import Predictor, load
from toolkit.runtime.predictor import BATCH_SIZE

NAME = "predict"
OURS, FLOOR, LOOP = "predict", "floor", "loop"
FLOOR_SHARE = 0.95
"""What is to be reached of the floor, on small files."""
LOOP_FACTOR = 5.0
"""How much faster than the loop it is to be on photographs."""
LOOP_SHARE = 0.1
"""How far the loop's answers may be off, which decodes photographs at their full size, as a share of how far those of
different images are."""
PAUSE_SECONDS = 0.05
"""Between two sides, so that the threads of one have stopped spinning when the other starts."""
Side: TypeAlias = Callable[[Sequence[Path]], Answers]


@dataclass(frozen=True)
class Turn:
    """What one side took for all files."""

    images_per_second: float
    processor_seconds: float
    """Of all cores, for one image."""


Measured: TypeAlias = dict[str, list[Turn]]
"""Side to its turns, one a round."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = report_parser(NAME, __doc__)
    parser.add_argument("--backbone", default="timm:tf_efficientnet_lite0", metavar="NAME", help="as of toolkit")
    parser.add_argument("--image-size", type=positive, default=64, metavar="PIXELS", help="of the network's input")
    parser.add_argument("--threads", type=positive, default=provenance.available_cores(), help="of every side")
    parser.add_argument("--small", type=positive, default=2000, metavar="N", help="small files")
    parser.add_argument("--photographs", type=positive, default=24, metavar="N", help="photographs")
    parser.add_argument("--rounds", type=positive, default=11, help="turns of each side")
    parser.add_argument(
        "--batch-sizes", type=positive, nargs="+", default=[1, 8, 128], metavar="N", help="of predict, beside its own"
    )
    parser.add_argument(
        "--work", type=Path, default=None, metavar="FOLDER", help="where temporary files go (default: the system's)"
    )
    return parser.parse_args(arguments)


def decoded(path: Path, size: int) -> npt.NDArray[np.uint8]:
    """Decode a picture as one writes it first, with Pillow alone, and bring it to the size of the network."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))


def decoded_reduced(path: Path, size: int) -> npt.NDArray[np.uint8]:
    """Decode a picture at the smallest scale that leaves twice the size, as the bundle says."""
    with Image.open(path) as image:
        drafted = image.draft(None, (2 * size, 2 * size))
        box = None if drafted is None else drafted[1]
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, box))


def predict(predictor: Predictor, batch_size: int | None, paths: Sequence[Path]) -> Answers:
    """Let toolkit do it."""
    return np.stack([prediction.logits for prediction in predictor.predict(paths, batch_size)])


def loop(session: Any, size: int, paths: Sequence[Path]) -> Answers:  # onnxruntime ships no type information
    """Decode and compute one picture after the other, as one writes it first."""
    return np.concatenate([session.run(["logits"], {"images": decoded(path, size)[None]})[0] for path in paths])


def floor(session: Any, pool: ThreadPoolExecutor, size: int, paths: Sequence[Path]) -> Answers:
    """Decode in threads, two batches ahead of the one that is computed: nothing is checked, nothing else is done."""
    remaining = iter(paths)
    ahead: deque[list[Future[npt.NDArray[np.uint8]]]] = deque()

    def read() -> None:
        if batch := list(islice(remaining, BATCH_SIZE)):
            ahead.append([pool.submit(decoded_reduced, path, size) for path in batch])

    answers = []
    for _ in range(3):
        read()
    while ahead:
        images = np.stack([future.result() for future in ahead.popleft()])
        read()
        answers.append(session.run(["logits"], {"images": images})[0])
    return np.concatenate(answers)


def measure(sides: Mapping[str, Side], paths: Sequence[Path], rounds: int) -> Measured:
    """Let the sides take turns, each round in another order, and hold their answers against each other.

    Raises:
        BenchmarkError: two sides give other answers.
    """
    order = np.random.default_rng(0)
    expected = sides[FLOOR](paths)
    found: Measured = {side: [] for side in sides}

    def check(name: str, answers: Answers) -> None:
        require_same(name, expected, answers, share=LOOP_SHARE if name == LOOP else SAME_SHARE)

    for name, side in sides.items():  # which is not measured
        check(name, side(paths))
    for _ in range(rounds):
        for name in order.permutation(list(sides)):
            sleep(PAUSE_SECONDS)
            began, used = perf_counter(), process_time()
            answers = sides[name](paths)
            seconds, processor = perf_counter() - began, process_time() - used
            check(name, answers)
            found[name].append(Turn(len(paths) / seconds, processor / len(paths)))
    return found


def ratios(found: Measured, side: str, other: str) -> list[float]:
    """Return how many times as fast one side is as the other, round by round."""
    return [one.images_per_second / two.images_per_second for one, two in zip(found[side], found[other], strict=True)]


def claims(found: Mapping[str, Measured]) -> list[Claim]:
    """Judge what was measured of both kinds of files."""
    share = spread(ratios(found[SMALL], OURS, FLOOR))
    factor = spread(ratios(found[PHOTOGRAPHS], OURS, LOOP))
    return [
        Claim(
            f"files of {SMALL} pixels: at least {FLOOR_SHARE:.0%} of what decoding and onnxruntime alone can do",
            f"{share:.1%}",
            share.median >= FLOOR_SHARE,
        ),
        Claim(
            f"photographs of {PHOTOGRAPHS} pixels: at least {LOOP_FACTOR:.0f}x a plain loop in one thread",
            f"{factor:.2f} times",
            factor.median >= LOOP_FACTOR,
        ),
    ]


def table(found: Mapping[str, Measured]) -> Table:
    """Write out a row per kind of file and side."""
    rows = []
    for files, sides in found.items():
        for side, turns in sides.items():
            speed = spread([turn.images_per_second for turn in turns])
            processor = spread([1000 * turn.processor_seconds for turn in turns])
            against_loop = spread(ratios(sides, side, LOOP))
            rows.append((files, side, f"{speed:.1f}", f"{against_loop:.2f}", f"{processor.median:.2f}"))
    return Table(("files", "side", "images/s", "times the loop", "processor ms per image"), rows)


def benchmark(arguments: Sequence[str]) -> int:
    """Measure both kinds of files and write the report."""
    options = parse(arguments)
    found: dict[str, Measured] = {}
    with workspace(options.work) as work, ExitStack() as held:
        model = write_bundle(options.backbone, options.image_size, work / "bundle", decode="reduced")
        sides = dict(_sides(model, options, held))
        for files, count in ((SMALL, options.small), (PHOTOGRAPHS, options.photographs)):
            paths = write_pictures(work / files.replace(" ", ""), SIZES[files], count)
            found[files] = measure(sides, paths, options.rounds)
            print(f"{files}: {count} files measured", flush=True)
    return finish(
        Report(
            name=NAME,
            title="From image files to predictions",
            settings={
                "backbone": options.backbone,
                "image size": options.image_size,
                "threads": options.threads,
                "batch size": BATCH_SIZE,
                "files": f"{options.small} of {SMALL}, {options.photographs} of {PHOTOGRAPHS} pixels",
                "rounds": options.rounds,
            },
            claims=claims(found),
            tables=[table(found)],
            notes=[
                "Median over the rounds, with the smallest and the largest; ratios are those of one round. The sides "
                "took turns, each round in another order, and their logits were compared in every round.",
                f"`{OURS}`: `Predictor.predict` on paths as a service calls it, every file checked; with another batch "
                "size where one is named.",
                f"`{FLOOR}`: threads that decode with Pillow, large pictures at a reduced size as the bundle says, two "
                "batches ahead, beside one session of onnxruntime, both with all threads. Nothing is checked.",
                f"`{LOOP}`: one picture after the other with Pillow, at its full size, and a session of onnxruntime as "
                "it comes, whose idle threads spin.",
                "The pictures are soft shapes with grain; all are in the memory of the system when they are read.",
            ],
            measurements={
                files: {side: [vars(turn) for turn in turns] for side, turns in sides.items()}
                for files, sides in found.items()
            },
        ),
        options.output,
        arguments,
    )


def _sides(model: Path, options: argparse.Namespace, held: ExitStack) -> Iterator[tuple[str, Side]]:
    size, threads = options.image_size, options.threads
    yield LOOP, partial(loop, open_bare(model), size)
    pool = held.enter_context(ThreadPoolExecutor(threads))
    yield FLOOR, partial(floor, open_bare(model, threads), pool, size)
    predictor = held.enter_context(load(model.parent, threads=threads))
    yield OURS, partial(predict, predictor, None)
    for batch_size in options.batch_sizes:
        yield f"{OURS}, batches of {batch_size}", partial(predict, predictor, batch_size)


if __name__ == "__main__":
    main(benchmark)
