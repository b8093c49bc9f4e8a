"""What the turns say: the server against the floor and against a plain handler, as claims and as a table."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.harness.figures import Spread, spread
from benchmarks.harness.pictures import PHOTOGRAPHS
from benchmarks.harness.report import Claim, Table
from benchmarks.servers.arena import FLOOR, Measured, Sides, Turn
from benchmarks.servers.sides import FASTAPI, OURS, V2_PIXELS

CONNECTIONS = 64
"""Where the server is held against the floor."""
FLOOR_SHARE = 0.9
PHOTOGRAPH_FACTOR = 1.5
"""Of FastAPI's images per second, on photographs."""
NEVER_BELOW = 1.0
"""The same, on any files at any number of connections."""
SLOWEST = 1.0
"""Of FastAPI's 99th percentile, at most."""


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
