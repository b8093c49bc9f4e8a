"""The turns that the sides take: who is asked, for how long, and what that is in figures."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from benchmarks.harness.answers import Answers, apart, require_same
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.pictures import PHOTOGRAPHS, SIZES, write_pictures
from benchmarks.servers.client import OK, Client, Loaded, Order, write_requests
from benchmarks.servers.floor import Done, Floor, shapes
from benchmarks.servers.process import Running, Server, running
from benchmarks.servers.sides import Side
from toolkit import provenance
from toolkit.runtime import Predictor

FLOOR = "floor"
PAUSE_SECONDS = 0.1
"""Between two sides, so that what one left to do is done when the other starts."""
TURNS_EACH = 3
"""Answers for each connection that a turn has at least: the first ones are not counted."""


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


def read_files(folder: Path, name: str, count: int, predictor: Predictor) -> Files:
    """Make files of a kind, and say what ``Predictor`` says of each."""
    contents = [path.read_bytes() for path in write_pictures(folder, SIZES[name], count)]
    return Files(name, contents, np.stack([one.probabilities for one in predictor.predict(contents)]))
