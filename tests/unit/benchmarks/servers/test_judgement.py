"""Each claim can be met and missed, and what the table shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.harness.pictures import PHOTOGRAPHS, SMALL
from benchmarks.servers.arena import Measured, Turn
from benchmarks.servers.judgement import best_floor, claims, table
from benchmarks.servers.sides import FASTAPI, OURS, V2_PIXELS

SLOW_FLOOR, FAST_FLOOR = "floor, batches of 1, 2 at a time", "floor, batches of 8, 1 at a time"


def turns(images_per_second: float, processor: float = 0.001, p99: float = 0.01, errors: int = 0) -> list[Turn]:
    """Three rounds, of which the median is what is given."""
    turn = Turn(images_per_second, processor, 0.0001, p99 / 2, p99, errors)
    return [replace(turn, images_per_second=images_per_second * share) for share in (1.0, 0.9, 1.1)]


def found() -> Measured:
    """All claims are met, with nothing to spare: the floor makes 1,000 images a second, for 1 ms of processor each."""
    sides = {
        SLOW_FLOOR: turns(500),
        FAST_FLOOR: turns(1000),
        OURS: turns(900, processor=0.00111),
        FASTAPI: turns(600),
    }
    return {place: dict(sides) for place in ((SMALL, 1), (SMALL, 64), (PHOTOGRAPHS, 64))}


def missed(measured: Measured) -> list[str]:
    return [claim.text for claim in claims(measured) if not claim.met]


def test_all_claims_are_met_with_nothing_to_spare() -> None:
    assert missed(found()) == []
    assert len(claims(found())) == 8


@pytest.mark.parametrize(
    ("place", "changed", "said"),
    [
        ((SMALL, 64), turns(899, processor=0.001), "files of 32 x 32 pixels at 64 connections: images per second"),
        ((SMALL, 64), turns(950, processor=0.00112), "files of 32 x 32 pixels at 64 connections: processor time"),
        ((PHOTOGRAPHS, 64), turns(899), "photographs at 64 connections: at least 1.5x the FastAPI handler"),
        ((SMALL, 1), turns(599), "nowhere below 1.0x the FastAPI handler"),
        ((SMALL, 1), turns(700, p99=0.0101), "a 99th percentile no worse than that of the FastAPI handler"),
        ((SMALL, 1), turns(700, errors=1), "every request is answered"),
    ],
)  # fmt: skip
def test_each_claim_can_be_missed(place: tuple[str, int], changed: list[Turn], said: str) -> None:
    measured = found()
    measured[place][OURS] = changed
    assert [text for text in missed(measured) if text.startswith(said)]


def test_a_handler_that_is_not_there_is_no_claim_that_is_met() -> None:
    measured = found()
    for sides in measured.values():
        del sides[FASTAPI]
    assert missed(measured) == ["no slower than a plain FastAPI handler"]


def test_where_64_connections_were_not_measured_the_nearest_number_is_judged() -> None:
    measured = {(SMALL, 1): found()[SMALL, 1], (SMALL, 8): found()[SMALL, 1]}
    assert claims(measured)[0].text.startswith("files of 32 x 32 pixels at 8 connections")


def test_the_floor_is_its_fastest_shape_and_the_table_shows_no_other() -> None:
    measured = found()
    assert best_floor(measured[SMALL, 64]) == FAST_FLOOR
    rows = [row for row in table(measured).rows if row[:2] == (SMALL, "64")]
    assert [row[2] for row in rows] == [FAST_FLOOR, OURS, FASTAPI]
    assert rows[1][3:7] == ("900.0 (810.0 to 990.0)", "90%", "1.11", "90%")


def test_pixels_are_not_held_against_a_floor_that_decodes() -> None:
    measured = {(SMALL, 1): {**found()[SMALL, 1], V2_PIXELS: turns(5000)}}
    (row,) = [row for row in table(measured).rows if row[2] == V2_PIXELS]
    assert row[4] == row[6] == "nothing is decoded"
