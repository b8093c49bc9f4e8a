"""Ways to compute the weight gradient of a depthwise convolution, in turns, on the shapes of well-known networks.

What ``toolkit.training.depthwise`` chooses between is chosen from this. On a processor with AVX-512 the figures for
AVX2 are those of ``ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2``. The way ``numba``
is measured where numba is installed; toolkit does not use it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

import torch

from benchmarks.depthwise.judgement import claims, table
from benchmarks.depthwise.measuring import TYPES, measured, shapes_of
from benchmarks.depthwise.ways import WAYS
from benchmarks.harness.command_line import main, positive, report_parser
from benchmarks.harness.report import Report, finish
from toolkit import provenance
from toolkit.training.depthwise import instruction_set

NAME = "depthwise_ways"
BACKBONES = "timm:tf_efficientnet_lite0,torchvision:mobilenet_v3_large,torchvision:convnext_tiny"
SIDES = (64, 128, 224)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = report_parser(NAME, __doc__)
    parser.add_argument("--backbones", default=BACKBONES, metavar="A,B", help="as of toolkit")
    parser.add_argument("--ways", default=",".join(WAYS), metavar="A,B", help="pytorch among them")
    parser.add_argument("--batch-size", type=positive, default=64)
    parser.add_argument("--largest", type=positive, default=16, metavar="PIXELS", help="side of the largest maps")
    parser.add_argument("--threads", type=positive, default=provenance.available_cores())
    parser.add_argument("--rounds", type=positive, default=7, help="turns of each way on each shape")
    return parser.parse_args(arguments)


def benchmark(arguments: Sequence[str]) -> int:
    """Measure every shape and write the report."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    shapes = dict.fromkeys(
        shape
        for backbone in options.backbones.split(",")
        for side in SIDES
        for shape in shapes_of(backbone, side)
        if max(shape.size) <= options.largest
    )
    instructions = instruction_set()
    found = []
    for shape in sorted(shapes, key=lambda each: (math.prod(each.size), each.kernel, each.stride, each.channels)):
        for kind in TYPES:
            found.append(measured(shape, kind, options.batch_size, options.rounds, options.ways.split(",")))
            best = ", ".join(f"{way} {found[-1].spent(way).median:.2f}" for way in found[-1].seconds)
            print(f"{shape.channels} channels, {shape.size}, kernel {shape.kernel}, {kind}: {best} ms", flush=True)
    return finish(
        Report(
            name=f"{NAME}_{instructions.lower()}",
            script=NAME,
            title="The weight gradient of depthwise convolutions on small maps",
            settings={
                "batch size": options.batch_size,
                "threads": options.threads,
                "rounds": options.rounds,
                "instruction set": instructions,
            },
            claims=claims(found, instructions),
            tables=[table(found, instructions)],
            notes=[
                "Milliseconds per call, the median over the rounds of the fastest call of a turn. The ways took turns, "
                "each round in another order. Tensors are channels-last, as training has them.",
                *(f"`{name}`: {(way.__doc__ or '').splitlines()[0]}" for name, way in WAYS.items()),
            ],
            measurements={
                "shapes": [
                    {
                        "shape": each.shape.model_dump(),
                        "type": each.kind,
                        "errors": each.errors,
                        "seconds": each.seconds,
                    }
                    for each in found
                ]
            },
        ),
        options.output,
        arguments,
    )


if __name__ == "__main__":
    main(benchmark)
