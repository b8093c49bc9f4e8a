"""The command line; what is measured stands in ``servers/``. tests/integration/test_serve_load.py runs all of it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.serve import parse


def test_the_command_line_says_how_much_is_measured() -> None:
    words = [
        "--connections",
        "1",
        "8",
        "64",
        "256",
        "--photograph-connections",
        "8",
        "64",
        "--rounds",
        "3",
        "--seconds",
        "2",
    ]
    options = parse(words)
    assert (options.connections, options.photograph_connections) == ([1, 8, 64, 256], [8, 64])
    assert (options.rounds, options.seconds, options.image_size, options.kserve) == (3, 2.0, 64, None)
    assert parse(["--photograph-connections"]).photograph_connections == []


def test_kserve_is_measured_where_it_is_asked_for() -> None:
    assert parse(["--kserve"]).kserve == Path()
    assert parse(["--kserve", "there"]).kserve == Path("there")
