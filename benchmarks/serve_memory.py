"""Memory of ``toolkit serve`` under load: good files, broken ones, tensors and photographs at 64 connections.

10 minutes by default. What it has once the first fifth of that time is over must not grow by more than 20 MB.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.harness.command_line import main, positive, report_parser, workspace
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.pictures import write_pictures
from benchmarks.harness.report import Claim, Report, Table, finish
from benchmarks.random_artifact import write_bundle
from benchmarks.servers.client import OK, Answer, Client, Order, Protocol, write_requests
from benchmarks.servers.messages import grpc_file, ours, raw, v2_file, v2_pixels
from benchmarks.servers.process import Running, running, toolkit_server
from toolkit.runtime import load

NAME = "serve_memory"
GROWTH_BYTES = 20 * 10**6
SMALL, LARGE = (32, 32), (1600, 1200)
PICTURES = 8
UNREADABLE = 422
WARM = 0.2
"""The share of the time after which memory must not grow."""
WINDOW = 0.2
"""The share of the time over which the median is taken, at both ends of what is judged."""
ROUND_SECONDS = 10.0
"""Of one order to the clients; what was answered is dropped after each."""


@dataclass(frozen=True)
class Sample:
    """What the server has at a time.

    Attributes:
        seconds: since the load began.
        memory_bytes: anonymous memory of all its processes.
        answered: requests so far.
    """

    seconds: float
    memory_bytes: int
    answered: int


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = report_parser(NAME, __doc__)
    parser.add_argument("--backbone", default="timm:tf_efficientnet_lite0", metavar="NAME", help="as of toolkit")
    parser.add_argument("--image-size", type=positive, default=64, metavar="PIXELS", help="of the network's input")
    parser.add_argument(
        "--connections", type=positive, default=64, metavar="N", help="over HTTP; as many calls of gRPC"
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="of load")
    parser.add_argument(
        "--work", type=Path, default=None, metavar="FOLDER", help="where temporary files go (default: the system's)"
    )
    return parser.parse_args(arguments)


def write_mixture(
    work: Path, bundle: Path, large_size: tuple[int, int] = LARGE
) -> dict[Protocol, tuple[Path, list[int]]]:
    """Write requests of every kind, and return where they are and with what each is to be answered."""
    small = [path.read_bytes() for path in write_pictures(work / "small", SMALL, PICTURES)]
    large = [path.read_bytes() for path in write_pictures(work / "large", large_size, PICTURES)]
    with load(bundle, threads=1) as predictor:
        pixels = [predictor.prepare(file) for file in small]
    http: list[tuple[bytes, int]] = []
    for index in range(PICTURES):
        http += [(ours(small[index]), OK), (v2_file(small[index]), OK), (v2_pixels(pixels[index]), OK)]
        http += [(raw(large[index]), OK), (raw(large[index][: len(large[index]) // 3]), UNREADABLE)]
        http += [(raw(small[index]), OK), (raw(b"no image" * (index + 1)), UNREADABLE)]
    return {
        "http": (
            write_requests(work / "http", [request for request, _ in http]),
            [status for _, status in http],
        ),
        "grpc": (write_requests(work / "grpc", [grpc_file(file) for file in small + large]), [OK] * 2 * PICTURES),
    }


def require_expected(answers: Sequence[Answer], expected: Sequence[int]) -> None:
    """Refuse a measurement in which requests were not answered as they must be.

    Raises:
        BenchmarkError: with what came instead.
    """
    wrong = Counter(
        (expected[answer.request], answer.status) for answer in answers if expected[answer.request] != answer.status
    )
    if wrong:
        said = ", ".join(f"{status} instead of {wanted} {count} times" for (wanted, status), count in wrong.items())
        raise BenchmarkError(f"of {len(answers)} requests some were answered otherwise than they must be: {said}.")


def measure(
    server: Running, requests: dict[Protocol, tuple[Path, list[int]]], options: argparse.Namespace
) -> list[Sample]:
    """Load a server for some time, and sample its memory between the orders to the clients.

    Raises:
        BenchmarkError: a request was not answered as it must be.
    """
    samples = [Sample(0.0, server.memory_bytes, 0)]
    answered, began = 0, time.monotonic()
    with ExitStack() as held:
        clients = {protocol: held.enter_context(Client()) for protocol in requests}
        while (passed := time.monotonic() - began) < options.seconds:
            seconds = min(ROUND_SECONDS, options.seconds / 20, options.seconds - passed)
            waits = {
                protocol: clients[protocol].begin(
                    Order(protocol, server.server.port_of(protocol), folder, options.connections, seconds)
                )
                for protocol, (folder, _) in requests.items()
            }
            for protocol, wait in waits.items():
                answers = wait().answers
                require_expected(answers, requests[protocol][1])
                answered += len(answers)
            samples.append(Sample(time.monotonic() - began, server.memory_bytes, answered))
    return samples


def growth(samples: Sequence[Sample]) -> float:
    """Return by how many bytes memory has grown: the median at the end minus that after the start."""
    last = samples[-1].seconds
    early = [one.memory_bytes for one in samples if WARM * last <= one.seconds <= (WARM + WINDOW) * last]
    late = [one.memory_bytes for one in samples if one.seconds >= (1 - WINDOW) * last]
    return statistics.median(late) - statistics.median(early or late)


def claims(samples: Sequence[Sample]) -> list[Claim]:
    """Judge the growth."""
    grown = growth(samples)
    return [
        Claim(
            f"memory grows by at most {GROWTH_BYTES / 1e6:.0f} MB once {WARM:.0%} of the time is over",
            f"{grown / 1e6:+.1f} MB over {samples[-1].answered:,} requests in {samples[-1].seconds:.0f} s",
            grown <= GROWTH_BYTES,
        )
    ]


def table(samples: Sequence[Sample]) -> Table:
    """Write out a sample for each tenth of the time."""
    last = samples[-1].seconds
    shown = [min(samples, key=lambda one: abs(one.seconds - tenth * last / 10)) for tenth in range(11)]
    rows = [
        (f"{one.seconds:.0f}", f"{one.answered:,}", f"{one.memory_bytes / 1e6:.0f}") for one in dict.fromkeys(shown)
    ]
    return Table(("seconds", "requests", "anonymous memory, MB"), rows)


def benchmark(arguments: Sequence[str]) -> int:
    """Load the server and write the report."""
    options = parse(arguments)
    with workspace(options.work) as work:
        bundle = work / "bundle"
        write_bundle(options.backbone, options.image_size, bundle, decode="reduced")
        requests = write_mixture(work, bundle)
        with running(toolkit_server(bundle)) as server:
            samples = measure(server, requests, options)
    return finish(
        Report(
            name=NAME,
            title="Memory of the server under load",
            settings={
                "backbone": options.backbone,
                "image size": options.image_size,
                "connections": f"{options.connections} over HTTP, {options.connections} calls of gRPC",
                "seconds": options.seconds,
            },
            claims=claims(samples),
            tables=[table(samples)],
            notes=[
                f"Requests in turn over HTTP: `POST /predict` with files of {SMALL[0]} x {SMALL[1]} and "
                f"{LARGE[0]} x {LARGE[1]} pixels, with one that is cut off and with bytes that are no image, and "
                "inference of the Open Inference Protocol with a file and with pixels; over gRPC with files. Each was "
                "answered as it must be, or there would be no report.",
                f"Judged is the median over the last {WINDOW:.0%} of the time against that over the {WINDOW:.0%} after "
                f"the first {WARM:.0%}.",
            ],
            measurements={"samples": [asdict(sample) for sample in samples]},
        ),
        options.output,
        arguments,
    )


if __name__ == "__main__":
    main(benchmark)
