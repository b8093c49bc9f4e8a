"""What the chain of indices at each global pooling cost in ONNX files: nodes, bytes, speed, and readers.

Each network is exported twice with random weights: as PyTorch's exporter does by itself, and as toolkit does. Both are
the same function; the sides run in turns. A minute or two.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import numpy.typing as npt

from benchmarks.harness.command_line import main, positive, report_parser
from benchmarks.harness.figures import Spread, spread
from benchmarks.harness.report import Claim, Report, Table, finish
from benchmarks.random_artifact import write_onnx
from toolkit import provenance
from toolkit.bundle.content import Content
from toolkit.formats.onnx import OnnxSession

NAME = "global_pooling"
BACKBONES = "torchvision:resnet18,torchvision:mobilenet_v3_small,timm:tf_efficientnet_lite0"
SIDES = ("chain", "mean")
BATCHES = (1, 32)
EQUAL = 1e-5
"""Of the largest logit; how far the sides may differ."""
SLOWER = 0.95
"""The share of the speed before that every network must keep."""


@dataclass(frozen=True)
class File:
    """An exported network."""

    nodes: int
    size_bytes: int
    session: OnnxSession


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = report_parser(NAME, __doc__)
    parser.add_argument("--backbones", default=BACKBONES, metavar="A,B", help="as of toolkit")
    parser.add_argument("--image-size", type=positive, default=64, metavar="PIXELS")
    parser.add_argument("--threads", type=positive, default=provenance.available_cores(), help="of each session")
    parser.add_argument("--rounds", type=positive, default=15, help="turns of each side")
    return parser.parse_args(arguments)


@contextlib.contextmanager
def exported_as(side: str) -> Iterator[None]:
    """Let PyTorch's exporter decompose global pooling by itself inside the block, if the side is ``chain``."""
    if side == "chain":
        with mock.patch("toolkit.formats.onnx._mean_for_global_pooling", contextlib.nullcontext):
            yield
    else:
        yield


def export(backbone: str, size: int, threads: int, path: Path) -> File:
    """Write a network with random weights and open it."""
    import onnx

    write_onnx(backbone, size, path)
    return File(len(onnx.load(path).graph.node), path.stat().st_size, OnnxSession(Content.of(path), "cpu", threads))


def seconds_of(call: Callable[[], object], repeats: int) -> float:
    """Return the seconds per call."""
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - began) / repeats


def measure(files: dict[str, File], images: npt.NDArray[np.uint8], rounds: int) -> dict[str, list[float]]:
    """Let the sides take turns, each round in another order; return images per second of each round."""
    order = np.random.default_rng(0)
    repeats = max(2, 64 // len(images))
    found: dict[str, list[float]] = {side: [] for side in files}
    for session in (file.session for file in files.values()):
        session.run(images)
    for _ in range(rounds):
        for side in order.permutation(list(files)):
            session = files[side].session
            found[side].append(len(images) / seconds_of(functools.partial(session.run, images), repeats))
    return found


@dataclass(frozen=True)
class Network:
    """A network on both sides."""

    name: str
    files: dict[str, File]
    difference: float
    """Largest difference of a logit, as a share of the largest one."""
    speeds: dict[int, dict[str, list[float]]]
    """By batch size and side, images per second of each round."""

    def ratio(self, side: str, batch: int) -> float:
        """Return the speed of a side as a share of what it was."""
        return self.speed(side, batch).median / self.speed("chain", batch).median

    def speed(self, side: str, batch: int) -> Spread:
        """Return images per second over the rounds."""
        return spread(self.speeds[batch][side])


def measured(backbone: str, options: argparse.Namespace) -> Network:
    """Export a network on both sides, compare what they compute, and time them."""
    shape = (max(BATCHES), options.image_size, options.image_size, 3)
    images = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    files = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        for side in SIDES:
            with exported_as(side):
                files[side] = export(backbone, options.image_size, options.threads, Path(folder) / f"{side}.onnx")
    before, after = (files[side].session.run(images[:4])["logits"] for side in SIDES)
    difference = float(np.abs(before - after).max() / np.abs(before).max())
    speeds = {batch: measure(files, images[:batch], options.rounds) for batch in BATCHES}
    return Network(backbone, files, difference, speeds)


def claims(networks: Sequence[Network]) -> list[Claim]:
    """Judge: the same function, fewer nodes, no slower."""
    difference = max(network.difference for network in networks)
    slowest = min(network.ratio("mean", batch) for network in networks for batch in BATCHES)
    fewer = all(network.files["mean"].nodes < network.files["chain"].nodes for network in networks)
    return [
        Claim("both files compute the same", f"{difference:.1e} of the largest logit", difference < EQUAL),
        Claim("every file has fewer nodes", "yes" if fewer else "no", fewer),
        Claim(f"no network is slower than {SLOWER:.0%} of before", f"{slowest:.2f}x", slowest >= SLOWER),
    ]


def table(networks: Sequence[Network]) -> Table:
    """Write out a row per network and side."""
    rows = [
        (
            network.name,
            side,
            str(file.nodes),
            f"{file.size_bytes / 1e6:.2f}",
            *(f"{network.speed(side, batch):.0f}" for batch in BATCHES),
            *(f"{network.ratio(side, batch):.2f}" for batch in BATCHES),
        )
        for network in networks
        for side, file in network.files.items()
    ]
    figures = (f"{what} at batch {batch}" for what in ("images/s", "ratio") for batch in BATCHES)
    return Table(("network", "pooling", "nodes", "MB", *figures), rows)


def benchmark(arguments: Sequence[str]) -> int:
    """Measure every network and write the report."""
    options = parse(arguments)
    networks = [measured(backbone, options) for backbone in options.backbones.split(",")]
    return finish(
        Report(
            name=NAME,
            title="Global pooling in ONNX files: a chain of indices, or a mean",
            settings={"image size": options.image_size, "threads": options.threads, "rounds": options.rounds},
            claims=claims(networks),
            tables=[table(networks)],
            notes=[
                "`chain`: PyTorch's exporter by itself, which decomposes pooling to 1 x 1 into a mean and Shape, Range "
                "and Gather where strides are channels-last; OpenCV 4.14 reads none of these files. `mean`: toolkit.",
                "Median over the rounds, with the smallest and the largest. The sides took turns, each round in "
                "another order. onnxruntime removes what it can of the chain when it opens a file.",
            ],
            measurements={"images_per_second": {network.name: network.speeds for network in networks}},
        ),
        options.output,
        arguments,
    )


if __name__ == "__main__":
    main(benchmark)
