"""What ``toolkit serve`` answers in a second, and how much of the machine that takes: against others, and the floor.

Files of CIFAR's size and photographs of 12 megapixels, at 1 to 256 connections, with random weights. The floor is the
same work without a server: Pillow and a bare session of onnxruntime in one process, all cores, the best of several
batch sizes. The sides take turns, those that wait stand still, and every answer is held against ``Predictor``. The
client has a process of its own on the same machine, so what the server can get of the cores is less than the floor
has: shares of the floor are given of images per second and of processor time both. Some 40 minutes.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from benchmarks.harness.answers import Answers, apart, require_same
from benchmarks.harness.command_line import main, positive, report_parser, workspace
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.figures import Spread, spread
from benchmarks.harness.pictures import PHOTOGRAPHS, SIZES, SMALL, write_pictures
from benchmarks.harness.report import Claim, Report, Table, finish
from benchmarks.random_artifact import LABELS, write_bundle
from benchmarks.servers.client import HOST, OK, Client, Loaded, Order, Protocol, write_requests
from benchmarks.servers.floor import Done, Floor, shapes
from benchmarks.servers.kserve_environment import python_with_kserve
from benchmarks.servers.messages import (
    MODEL,
    Read,
    form,
    grpc_file,
    ours,
    raw,
    read_grpc,
    read_labelled,
    read_predictions,
    read_v2,
    v2_file,
    v2_pixels,
)
from benchmarks.servers.process import Running, Server, free_port, running, toolkit_server
from toolkit import provenance
from toolkit.runtime import Predictor, load

NAME = "serve"
IMAGE_SIZE = 64
"""Of the network's input, unless another one is asked for."""
OURS, V2_FILE, V2_PIXELS, V2_GRPC = "toolkit, /predict", "toolkit, V2 file", "toolkit, V2 pixels", "toolkit, gRPC file"
FASTAPI, FASTAPI_TUTORIAL = "FastAPI", "FastAPI, in the event loop"
LITSERVE, KSERVE = "LitServe", "KServe, gRPC file"
FLOOR = "floor"
CONNECTIONS = 64
"""Where the server is held against the floor."""
FLOOR_SHARE = 0.9
PHOTOGRAPH_FACTOR = 1.5
"""Of FastAPI's images per second, on photographs."""
NEVER_BELOW = 1.0
"""The same, on any files at any number of connections."""
SLOWEST = 1.0
"""Of FastAPI's 99th percentile, at most."""
PAUSE_SECONDS = 0.1
"""Between two sides, so that what one left to do is done when the other starts."""
TURNS_EACH = 3
"""Answers for each connection that a turn has at least: the first ones are not counted."""


@dataclass(frozen=True)
class Side:
    """One way to be asked.

    Attributes:
        server: the key of the server.
        protocol: how it is asked.
        ask: from an image file to a request.
        read: from the body of an answer to probabilities.
        photographs: whether photographs are sent to it too.
    """

    server: str
    protocol: Protocol
    ask: Callable[[bytes], bytes]
    read: Read
    photographs: bool = True


@dataclass(frozen=True)
class Turn:
    """What one side did in one turn."""

    images_per_second: float
    processor_seconds: float
    """Of the server and all that it started, for one image."""
    client_seconds: float
    """Of the client's processor, for one image."""
    p50_seconds: float
    p99_seconds: float
    errors: int


@dataclass(frozen=True)
class Files:
    """Some image files, and what is expected of them."""

    name: str
    contents: Sequence[bytes]
    expected: Answers


Sides: TypeAlias = dict[str, list[Turn]]
"""Side, or shape of the floor, to its turns, one a round."""
Measured: TypeAlias = dict[tuple[str, int], Sides]
"""By kind of files and number of connections."""


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


def sides_of(predictor: Predictor) -> dict[str, Side]:
    """Return every way to be asked that there is."""
    labelled = read_labelled(LABELS)
    return {
        OURS: Side("toolkit", "http", ours, read_predictions(LABELS)),
        V2_FILE: Side("toolkit", "http", v2_file, read_v2),
        V2_PIXELS: Side("toolkit", "http", lambda file: v2_pixels(predictor.prepare(file)), read_v2, photographs=False),
        V2_GRPC: Side("toolkit", "grpc", grpc_file, read_grpc),
        FASTAPI: Side("fastapi", "http", raw, labelled),
        FASTAPI_TUTORIAL: Side("fastapi_tutorial", "http", form, labelled),
        LITSERVE: Side("litserve", "http", raw, labelled),
        KSERVE: Side("kserve", "grpc", grpc_file, read_grpc),
    }


def servers_of(bundle: Path, kserve: Path | None) -> tuple[dict[str, Server], dict[str, str]]:
    """Return how each server is started, and why those are not measured that are missing."""
    environment = {"BUNDLE": str(bundle)}
    servers: dict[str, Server] = {}
    missing: dict[str, str] = {}
    servers["toolkit"] = toolkit_server(bundle)
    for name in ("fastapi", "fastapi_tutorial"):
        port = free_port()
        module = {"fastapi": "fastapi_handler"}.get(name, name)
        words = [sys.executable, "-m", "uvicorn", f"benchmarks.servers.{module}:app", "--host", HOST]
        words += ["--port", str(port), "--no-access-log", "--log-level", "warning"]
        servers[name] = Server(words, port, "/openapi.json", environment=environment)
    port = free_port()
    servers["litserve"] = Server(
        [sys.executable, "-m", "benchmarks.servers.litserve_api", str(port)], port, "/health", environment=environment
    )
    for name, package in {"fastapi": "fastapi", "fastapi_tutorial": "fastapi", "litserve": "litserve"}.items():
        if importlib.util.find_spec(package) is None:
            servers.pop(name)
            missing[name] = f"the package {package} is not installed"
    if kserve is None:
        missing["kserve"] = "it was not asked for with --kserve"
    else:
        python = python_with_kserve(None if kserve == Path() else kserve)
        port, grpc_port = free_port(), free_port()
        words = [str(python), "-m", "benchmarks.servers.kserve_model", str(port), str(grpc_port), MODEL]
        servers["kserve"] = Server(words, port, "/v2/health/ready", grpc_port, environment)
    return servers, missing


def turn_of(loaded: Loaded, connections: int, processor_seconds: float) -> Turn:
    """Return the figures of a turn, without those answers that came while it began and after the last was sent.

    Raises:
        BenchmarkError: nothing is left of it.
    """
    last = max((answer.began for answer in loaded.answers), default=0.0)
    counted = [answer for answer in loaded.answers[connections:] if answer.ended <= last]
    if len(counted) < 2:
        raise BenchmarkError(f"{len(loaded.answers)} answers came of {connections} connections: give more --seconds.")
    seconds = counted[-1].ended - loaded.answers[connections - 1].ended
    latencies = [answer.ended - answer.began for answer in counted]
    answered = len(loaded.answers)
    return Turn(
        images_per_second=len(counted) / seconds,
        processor_seconds=processor_seconds / answered,
        client_seconds=loaded.processor_seconds / answered,
        p50_seconds=float(np.percentile(latencies, 50)),
        p99_seconds=float(np.percentile(latencies, 99)),
        errors=sum(answer.status != OK for answer in loaded.answers),
    )


class Arena:
    """The servers that were started, the client, and the floor."""

    def __init__(self, held: ExitStack, servers: Mapping[str, Server], floor: Floor, work: Path) -> None:
        self._running: dict[str, Running] = {}
        for name, server in servers.items():
            self._running[name] = held.enter_context(running(server))
            self._running[name].pause()
        self._client = held.enter_context(Client())
        self._floor = floor
        self._work = work

    def ask(self, name: str, side: Side, files: Files, connections: int, seconds: float) -> Turn:
        """Let one side have its turn.

        Raises:
            BenchmarkError: it gives other answers than ``Predictor``.
        """
        folder = self._work / f"requests-{name}-{files.name}".replace(" ", "").replace("/", "")
        if not folder.exists():
            write_requests(folder, [side.ask(content) for content in files.contents])
        server = self._running[side.server]
        server.resume()
        try:
            time.sleep(PAUSE_SECONDS)
            used = server.processor_seconds
            order = Order(
                side.protocol,
                server.server.port_of(side.protocol),
                folder,
                connections,
                seconds,
                least=TURNS_EACH * connections,
            )
            loaded = self._client.load(order)
            used = server.processor_seconds - used
        finally:
            server.pause()
        good = [answer for answer in loaded.answers if answer.status == OK]
        if good:
            rows = np.stack([side.read(answer.body) for answer in good])
            _require_expected(name, files, [answer.request for answer in good], rows)
        return turn_of(loaded, connections, used)

    def floors(self, files: Files, connections: int, seconds: float) -> Iterator[tuple[str, Turn]]:
        """Let each shape of the floor have a part of a turn."""
        for shape in shapes(connections, provenance.available_cores()):
            time.sleep(PAUSE_SECONDS)
            done = self._floor.run(files.contents, shape, seconds)
            name = f"{FLOOR}, {shape}"
            _require_expected(name, files, [row for row, _ in done.rows], np.stack([row for _, row in done.rows]))
            yield name, _floor_turn(done)


def _floor_turn(done: Done) -> Turn:
    images = len(done.rows)
    return Turn(images / done.seconds, done.processor_seconds / images, 0.0, 0.0, 0.0, 0)


def _require_expected(name: str, files: Files, indices: Sequence[int], rows: Answers) -> None:
    require_same(name, files.expected[list(indices)], rows, apart(files.expected))


def measure(
    arena: Arena, sides: Mapping[str, Side], files: Files, connections: Sequence[int], options: argparse.Namespace
) -> Measured:
    """Let the sides take turns at each number of connections, each round in another order."""
    order = np.random.default_rng(0)
    asked = {name: side for name, side in sides.items() if side.photographs or files.name != PHOTOGRAPHS}
    for name, side in asked.items():  # which is not measured
        arena.ask(name, side, files, max(connections), options.seconds / 3)
    found: Measured = {(files.name, number): {} for number in connections}
    for _ in range(options.rounds):
        for number in order.permutation(list(connections)):
            at = found[files.name, int(number)]
            for name in order.permutation([*asked, FLOOR]):
                if name == FLOOR:
                    for shape, turn in arena.floors(files, int(number), options.seconds / 2):
                        at.setdefault(shape, []).append(turn)
                else:
                    turn = arena.ask(str(name), asked[name], files, int(number), options.seconds)
                    at.setdefault(str(name), []).append(turn)
    return found


def best_floor(sides: Sides) -> str:
    """Return which shape of the floor makes the most images a second."""
    floors = [name for name in sides if name.startswith(FLOOR)]
    return max(floors, key=lambda name: spread([turn.images_per_second for turn in sides[name]]).median)


def ratio(sides: Sides, side: str, other: str, figure: Callable[[Turn], float]) -> Spread:
    """Return a figure of one side as a multiple of that of another, round by round."""
    return spread([figure(one) / figure(two) for one, two in zip(sides[side], sides[other], strict=True)])


def speed(turn: Turn) -> float:
    """Images per second."""
    return turn.images_per_second


def frugality(turn: Turn) -> float:
    """Images per second of processor time."""
    return 1 / max(turn.processor_seconds, 1e-9)


def slowness(turn: Turn) -> float:
    """The 99th percentile."""
    return turn.p99_seconds


def claims(found: Measured) -> list[Claim]:
    """Judge the server against the floor and against the plain handler."""
    made = []
    for files in dict.fromkeys(name for name, _ in found):
        number = min((number for name, number in found if name == files), key=lambda number: abs(number - CONNECTIONS))
        made += _floor_claims(files, number, found[files, number])
    if all(FASTAPI in sides for sides in found.values()):
        made += _fastapi_claims(found)
    else:
        made.append(Claim("no slower than a plain FastAPI handler", "not measured: FastAPI is not installed", False))
    wrong = sum(turn.errors for sides in found.values() for turn in sides[OURS])
    made.append(Claim("every request is answered", f"{wrong} errors", wrong == 0))
    return made


def _floor_claims(files: str, number: int, sides: Sides) -> list[Claim]:
    floor = best_floor(sides)
    made = []
    for what, figure in (("images per second", speed), ("processor time, images for each second of it", frugality)):
        share = ratio(sides, OURS, floor, figure)
        made.append(
            Claim(
                f"files of {files} pixels at {number} connections: {what}: at least {FLOOR_SHARE:.0%} of the floor",
                f"{share:.1%}",
                share.median >= FLOOR_SHARE,
            )
        )
    return made


def _fastapi_claims(found: Measured) -> list[Claim]:
    made = []
    photographs = [number for files, number in found if files == PHOTOGRAPHS]
    if photographs:
        number = min(photographs, key=lambda number: abs(number - CONNECTIONS))
        sides = found[PHOTOGRAPHS, number]
        factor = ratio(sides, OURS, FASTAPI, speed)
        possible = ratio(sides, best_floor(sides), FASTAPI, speed)
        made.append(
            Claim(
                f"photographs at {number} connections: at least {PHOTOGRAPH_FACTOR}x the FastAPI handler",
                f"{factor:.2f} times; the floor itself is {possible:.2f} times as fast as the handler",
                factor.median >= PHOTOGRAPH_FACTOR,
            )
        )
    speeds = {at: ratio(sides, OURS, FASTAPI, speed) for at, sides in found.items()}
    worst = min(speeds, key=lambda at: speeds[at].median)
    made.append(
        Claim(
            f"nowhere below {NEVER_BELOW:.1f}x the FastAPI handler",
            f"at worst {speeds[worst]:.2f} times, {_at(worst)}",
            speeds[worst].median >= NEVER_BELOW,
        )
    )
    slow = {at: ratio(sides, OURS, FASTAPI, slowness) for at, sides in found.items()}
    worst = max(slow, key=lambda at: slow[at].median)
    made.append(
        Claim(
            "a 99th percentile no worse than that of the FastAPI handler",
            f"at worst {slow[worst]:.2f} times, {_at(worst)}",
            slow[worst].median <= SLOWEST,
        )
    )
    return made


def _at(place: tuple[str, int]) -> str:
    files, number = place
    return f"files of {files} at {number} connection{'s' if number > 1 else ''}"


def table(found: Measured) -> Table:
    """Write out a row per kind of files, number of connections and side; of the floor the fastest shape only."""
    rows = []
    for (files, number), sides in found.items():
        floor = best_floor(sides)
        for side, turns in sides.items():
            if side.startswith(FLOOR) and side != floor:
                continue
            rows.append((files, str(number), side, *_figures(sides, side, floor), str(sum(t.errors for t in turns))))
    header = ("files", "connections", "side", "images/s", "of the floor", "processor ms per image", "of the floor")
    return Table((*header, "p50, ms", "p99, ms", "client's processor ms", "errors"), rows)


def _figures(sides: Sides, side: str, floor: str) -> list[str]:
    turns = sides[side]
    is_floor, compares = side == floor, side != V2_PIXELS
    processor = spread([1000 * turn.processor_seconds for turn in turns])
    return [
        f"{spread([turn.images_per_second for turn in turns]):.1f}",
        f"{ratio(sides, side, floor, speed).median:.0%}" if compares else "nothing is decoded",
        f"{processor.median:.2f}",
        f"{ratio(sides, side, floor, frugality).median:.0%}" if compares else "nothing is decoded",
        *(
            "" if is_floor else f"{1000 * spread([figure(turn) for turn in turns]).median:.1f}"
            for figure in (lambda turn: turn.p50_seconds, slowness)
        ),
        "" if is_floor else f"{1000 * spread([turn.client_seconds for turn in turns]).median:.2f}",
    ]


def _files(folder: Path, name: str, count: int, predictor: Predictor) -> Files:
    contents = [path.read_bytes() for path in write_pictures(folder, SIZES[name], count)]
    return Files(name, contents, np.stack([one.probabilities for one in predictor.predict(contents)]))


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
            files = _files(work / name.replace(" ", ""), name, count, predictor)
            found |= measure(arena, sides, files, connections, options)
            print(f"{name}: {count} files measured", flush=True)
    return finish(
        Report(
            name=NAME if options.image_size == IMAGE_SIZE else f"{NAME}_{options.image_size}px",
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
