"""How the time of fine-tuning divides.

The frozen part, and reading, forward, backward and optimiser of an epoch, against the processor's peak.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness.command_line import images_parser, main, positive
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.figures import spread
from benchmarks.harness.redaction import shown
from benchmarks.harness.report import Claim, Report, Table, finish
from toolkit.backbones import apply_modes, set_trainable
from toolkit.progress import Silent
from toolkit.recipe import Recipe, load_recipe
from toolkit.training.activations.divided_network import DividedNetwork
from toolkit.training.batch_sources import BatchSource, EpochOrder
from toolkit.training.optim import make_loss, make_optimizer
from toolkit.training.setting import Setting, prepared_setting
from toolkit.training.training_data import TrainingData

NAME = "epoch_division"
READING = 0.05
PARTS = ("reading", "forward", "backward", "optimiser")
SIDE = 2048
"""Of the square matrices whose product is the peak."""
PASS_BATCH = 32
AGAINST = ("million multiply-adds per image", "GFLOP/s", "share of the peak")


@dataclass(frozen=True)
class Measured:
    """What was found out."""

    what: str
    trained: str
    images: int
    threads: int
    peak: float
    """Floating-point operations per second."""
    floor: Floor
    decoding: float
    """Seconds per image."""
    frozen: float
    """Seconds per image."""
    spent: list[dict[str, float]]
    """Seconds of each part, per epoch."""
    seconds: list[float]
    """Of each epoch."""


@dataclass(frozen=True)
class Floor:
    """What must be computed for one image, in floating-point operations: two per multiply-add."""

    frozen: float
    forward: float
    backward: float


def peak(seconds: float = 3.0) -> float:
    """Return the fastest float32 matrix product seen here, in floating-point operations per second."""
    first, second = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
    fastest, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        torch.mm(first, second)
        fastest = min(fastest, time.perf_counter() - start)
    return 2.0 * SIDE**3 / fastest


def operations(run: Callable[[], object]) -> float:
    """Count the floating-point operations of convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def frozen_part(setting: Setting, data: TrainingData, rounds: int) -> tuple[float, float]:
    """Return the median seconds per image of decoding, and of the frozen part, one after the other in batches."""
    divided = network_in_two(setting, data)
    every = range(len(divided.division.tensors))
    decoding, computing = [], []
    for number in range(rounds):
        indices = np.arange(number * PASS_BATCH, (number + 1) * PASS_BATCH) % len(data.train)
        began = time.perf_counter()
        images = data.train.load(indices, setting.preprocessing)
        decoded = time.perf_counter()
        divided.prefix.run(images, every)
        decoding.append((decoded - began) / PASS_BATCH)
        computing.append((time.perf_counter() - decoded) / PASS_BATCH)
    return statistics.median(decoding[1:]), statistics.median(computing[1:])


def epoch(
    recipe: Recipe, source: BatchSource, images: int, optimizer: torch.optim.Optimizer, number: int
) -> tuple[dict[str, float], float]:
    """Train one epoch and return the seconds of each part, and of the whole."""
    loss_of = make_loss(recipe.train)
    order = np.random.default_rng(number).permutation(images).astype(np.int64)
    spent = dict.fromkeys(PARTS, 0.0)
    began = mark = time.perf_counter()

    def note(part: str) -> None:
        nonlocal mark
        now = time.perf_counter()
        spent[part] += now - mark
        mark = now

    for tensors, targets, _ in source.training(EpochOrder(order, recipe.train.batch_size, (0, number)), 0):
        note("reading")
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(source.part.train(*tensors), targets)
        note("forward")
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        note("backward")
        optimizer.step()
        loss.item()
        note("optimiser")
    return spent, time.perf_counter() - began


def network_in_two(setting: Setting, data: TrainingData) -> DividedNetwork:
    """Return the network cut at its frozen part."""
    if data.divided is None:
        raise BenchmarkError(
            f"{setting.backbone.name} cannot be cut at its frozen part, so there is nothing to divide: choose another "
            "backbone."
        )
    return data.divided


def floor(setting: Setting, data: TrainingData, source: BatchSource) -> Floor:
    """Count what one image needs in each part of the work."""
    size, batch = setting.backbone.image_size, 4
    prefix = network_in_two(setting, data).division.prefix
    setting.backbone.model.eval()
    with torch.no_grad():
        frozen = operations(lambda: prefix(torch.zeros(batch, 3, size, size)))
    tensors, _, _ = next(iter(source.training(EpochOrder(np.arange(batch, dtype=np.int64), batch, (0, 0)), 0)))
    with torch.no_grad():
        forward = operations(lambda: source.part.train(*tensors))
    # Each product of the forward pass has two in the backward pass, for its input and for its weights. PyTorch's
    # counter is not asked: it takes the backward pass of a depthwise convolution for that of a full one.
    return Floor(frozen / batch, forward / batch, 2 * forward / batch)


def make_recipe(options: argparse.Namespace) -> Recipe:
    """Return what is trained."""
    changes = {
        "data.source": str(options.data.resolve()),
        "data.train_limit": options.train,
        "backbone.name": options.backbone,
        "backbone.weights": options.weights,
        "backbone.image_size": options.image_size,
        "stage2.unfreeze": options.unfreeze,
        "train.threads": options.threads,
        "cache.views": 1,
        "augment.flip": False,
        "augment.shift": 0.0,
    }
    return load_recipe(options.recipe).override({name: value for name, value in changes.items() if value is not None})


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = images_parser(NAME, __doc__)
    parser.add_argument("--recipe", default="folder")
    parser.add_argument("--backbone", help="(default: the recipe's)")
    parser.add_argument("--weights", help="default, none or a file (default: the recipe's)")
    parser.add_argument("--image-size", type=positive, default=128)
    parser.add_argument("--unfreeze", help="blocks that are trained in the second stage (default: the recipe's)")
    parser.add_argument("--train", type=positive, default=4000, metavar="N", help="training images")
    parser.add_argument("--epochs", type=positive, default=3, help="epochs that are measured, after one that is not")
    parser.add_argument("--threads", type=positive, help="CPU threads (default: all cores)")
    return parser.parse_args(arguments)


def rows(measured: Measured) -> list[tuple[str, ...]]:
    """Write out the parts of an epoch."""
    counted = {"forward": measured.floor.forward, "backward": measured.floor.backward}
    written: list[tuple[str, ...]] = []
    for part in PARTS:
        milliseconds = spread([1000 * spent[part] / measured.images for spent in measured.spent])
        written.append(
            (
                part,
                f"{milliseconds:.3f}",
                f"{share(measured, part):.1%}",
                *against(counted.get(part), milliseconds.median, measured.peak),
            )
        )
    return written


def share(measured: Measured, part: str) -> float:
    """Return the share of an epoch that a part takes, the median over the epochs."""
    return statistics.median(spent[part] / whole for spent, whole in zip(measured.spent, measured.seconds, strict=True))


def against(flop: float | None, milliseconds: float, fastest: float) -> tuple[str, str, str]:
    """Write out how close a part comes to the peak."""
    if flop is None:
        return "", "", ""
    rate = flop / (milliseconds / 1000)
    return f"{flop / 2e6:.1f}", f"{rate / 1e9:.0f}", f"{rate / fastest:.0%}"


def measure(recipe: Recipe, epochs: int) -> Measured:
    """Measure the frozen part, and epochs of the second stage after one that is not counted."""
    with prepared_setting(recipe, Silent()) as setting, TrainingData(setting) as data:
        backbone, before, images = setting.backbone, peak(), len(data.train)
        decoding, frozen = frozen_part(setting, data, 20)
        source = data.batches(2)
        needed = floor(setting, data, source)
        parts = set_trainable(backbone, recipe.stage2.unfreeze, train_bn=recipe.train.train_bn)
        optimizer = make_optimizer(recipe.stage2, parts.head, parts.backbone)
        apply_modes(backbone, parts)
        measured = [epoch(recipe, source, images, optimizer, number) for number in range(epochs + 1)][1:]
        return Measured(
            what=f"{backbone.name} at {backbone.image_size} px, weights: {shown(backbone.weights)}",
            trained=", ".join(parts.names),
            images=images,
            threads=setting.threads,
            peak=max(before, peak()),
            floor=needed,
            decoding=decoding,
            frozen=frozen,
            spent=[spent for spent, _ in measured],
            seconds=[seconds for _, seconds in measured],
        )


def make_report(measured: Measured, batch_size: int) -> Report:
    """Put the result into words."""
    reading = share(measured, "reading")
    ideal = 1000 * (measured.floor.forward + measured.floor.backward) / measured.peak
    actual = 1000 * statistics.median(measured.seconds) / measured.images
    frozen = (
        "frozen part",
        f"{1000 * measured.frozen:.3f}",
        *against(measured.floor.frozen, 1000 * measured.frozen, measured.peak),
    )
    return Report(
        name=NAME,
        title="How the time of fine-tuning divides",
        settings={
            "backbone": measured.what,
            "trained": measured.trained,
            "training images": measured.images,
            "batch size": batch_size,
            "threads": measured.threads,
            "epochs": len(measured.seconds),
            "matrix-product peak": f"{measured.peak / 1e9:.0f} GFLOP/s (float32, {SIDE} x {SIDE}, the fastest "
            "product seen)",
        },
        claims=[
            Claim(
                f"waiting for batches from the cache takes at most {READING:.0%} of an epoch",
                f"{reading:.1%}",
                reading <= READING,
            )
        ],
        tables=[
            Table(("part of an epoch", "ms per image", "share of the epoch", *AGAINST), rows(measured)),
            Table(
                ("part of the one pass", "ms per image", *AGAINST),
                [("decoding and resizing, one thread", f"{1000 * measured.decoding:.3f}", "", "", ""), frozen],
            ),
        ],
        notes=[
            f"The floor of an epoch is {ideal:.2f} ms per image: the multiply-adds of forward and backward at the "
            "peak. Measured: "
            f"{actual:.2f} ms, so that an epoch runs at {ideal / actual:.0%} of what the processor could do.",
            "Multiply-adds are those of convolutions and matrix products, as PyTorch counts them, twice as many in "
            "the backward pass; the rest "
            "(BatchNorm, activations) is moving memory.",
            "Reading is the time that training waits for the next batch, which a thread reads ahead. Median over the "
            "epochs, with the range.",
        ],
        measurements=asdict(measured),
    )


def benchmark(arguments: Sequence[str]) -> int:
    """Measure and write the report."""
    options = parse(arguments)
    recipe = make_recipe(options)
    return finish(make_report(measure(recipe, options.epochs), recipe.train.batch_size), options.output, arguments)


if __name__ == "__main__":
    main(benchmark)
