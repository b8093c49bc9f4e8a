"""What ``toolkit serve`` answers in a second, and how much of the machine that takes: against others, and the floor.

Files of CIFAR's size and photographs of 12 megapixels, at 1 to 256 connections, with random weights. The floor is the
same work without a server: Pillow and a bare session of onnxruntime in one process, all cores, the best of several
batch sizes. The sides take turns, those that wait stand still, and every answer is held against ``Predictor``. The
client has a process of its own on the same machine, so what the server can get of the cores is less than the floor
has: shares of the floor are given of images per second and of processor time both. Some 40 minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness.command_line import main, positive, report_parser, workspace
from benchmarks.harness.pictures import PHOTOGRAPHS, SMALL
from benchmarks.harness.report import Report, finish
from benchmarks.random_artifact import write_bundle
from benchmarks.servers.arena import Arena, Measured, measure, read_files
from benchmarks.servers.floor import Floor
from benchmarks.servers.judgement import claims, table
from benchmarks.servers.sides import servers_of, sides_of
from toolkit import provenance
from toolkit.runtime import load

NAME = "serve"
IMAGE_SIZE = 64
"""Of the network's input, unless another one is asked for."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = report_parser(NAME, __doc__)
    parser.add_argument("--backbone", default="timm:tf_efficientnet_lite0", metavar="NAME", help="as of toolkit")
    parser.add_argument(
        "--image-size", type=positive, default=IMAGE_SIZE, metavar="PIXELS", help="of the network's input"
    )
    parser.add_argument("--small", type=positive, default=500, metavar="N", help="small files")
    parser.add_argument("--photographs", type=positive, default=8, metavar="N", help="photographs; each has 5 MB")
    parser.add_argument(
        "--connections", type=positive, nargs="+", default=[1, 8, 64, 256], metavar="N", help="at which small files go"
    )
    parser.add_argument(
        "--photograph-connections",
        type=positive,
        nargs="*",
        default=[1, 8, 64],
        metavar="N",
        help="at which photographs go; at 256 they would be more than a gigabyte",
    )
    parser.add_argument("--rounds", type=positive, default=5, help="turns of each side")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn, at least")
    parser.add_argument(
        "--kserve",
        type=Path,
        nargs="?",
        const=Path(),
        default=None,
        metavar="FOLDER",
        help="measure KServe's Python server too, in an environment that is made there once (some 550 MB from PyPI; "
        "without a folder, in the cache folder of toolkit)",
    )
    parser.add_argument(
        "--work", type=Path, default=None, metavar="FOLDER", help="where temporary files go (default: the system's)"
    )
    return parser.parse_args(arguments)


def benchmark(arguments: Sequence[str]) -> int:
    """Measure both kinds of files and write the report."""
    options = parse(arguments)
    found: Measured = {}
    with workspace(options.work) as work, ExitStack() as held:
        bundle = work / "bundle"
        model = write_bundle(options.backbone, options.image_size, bundle, decode="reduced")
        predictor = held.enter_context(load(bundle))
        servers, missing = servers_of(bundle, options.kserve)
        sides = {name: side for name, side in sides_of(predictor).items() if side.server in servers}
        arena = Arena(held, servers, Floor(model, options.image_size, provenance.available_cores()), work)
        for name, count, connections in (
            (SMALL, options.small, options.connections),
            (PHOTOGRAPHS, options.photographs, options.photograph_connections),
        ):
            if not connections:
                continue
            files = read_files(work / name.replace(" ", ""), name, count, predictor)
            found |= measure(arena, sides, files, connections, options)
            print(f"{name}: {count} files measured", flush=True)
    return finish(
        Report(
            name=NAME if options.image_size == IMAGE_SIZE else f"{NAME}_{options.image_size}px",
            script=NAME,
            title=f"What the server holds: a network of {options.image_size} px",
            settings={
                "backbone": options.backbone,
                "image size": options.image_size,
                "files": f"{options.small} of {SMALL}, {options.photographs} of {PHOTOGRAPHS} pixels",
                "rounds": options.rounds,
                "seconds per turn": options.seconds,
            },
            claims=claims(found),
            tables=[table(found)],
            notes=_notes(missing),
            measurements={
                files: {
                    str(number): {side: [asdict(turn) for turn in turns] for side, turns in sides.items()}
                    for (kind, number), sides in found.items()
                    if kind == files
                }
                for files in dict.fromkeys(kind for kind, _ in found)
            },
        ),
        options.output,
        arguments,
    )


def _notes(missing: Mapping[str, str]) -> list[str]:
    return [
        "Median over the rounds, with the smallest and the largest; ratios are those of one round. The sides took "
        "turns, each round in another order, and stood still (SIGSTOP) in the turns of others. Every answer was held "
        "against `Predictor`.",
        "`floor`: the same files without a server, in one process with all cores: decoded with Pillow as the bundle "
        "says, and computed by onnxruntime, nothing checked; the fastest of one session with threads that decode ahead "
        "and a session for each core, with up to 32 images a call. It has the machine to itself. Beside a server the "
        "client takes what its column says, so the share in images per second cannot reach 100%; that in processor "
        "time is the server's own.",
        "A request is sent when the last one of its connection was answered. The first answers of a turn, one for each "
        "connection, and those that came after the last request was sent are not counted.",
        "`toolkit`: started as `toolkit serve` starts it. `FastAPI`: fifteen lines on `Predictor`, the file as the "
        "body, called in FastAPI's threads; `in the event loop`: an uploaded file and `async def`, as tutorials have "
        "it. `LitServe`: batches of up to 32 that wait 5 ms, queues over ZeroMQ. `KServe`: its Python server with "
        "`Predictor` in a thread, over gRPC.",
        *(f"`{name}` was not measured: {reason}." for name, reason in missing.items()),
    ]


if __name__ == "__main__":
    main(benchmark)
