from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks import spinning
from benchmarks.spinning import Measured, claims, load_of, measure, open_side, table, turn
from toolkit import provenance


def found(before: float, after: float) -> Measured:
    """Seconds per call of several workers; 10 ms elsewhere."""
    side = {"spin": before, "sleep": after}
    same: dict[str, dict[str, list[float]]] = {name: {"wall": [0.01], "processor": [0.02]} for name in side}
    shared = {name: {"wall": [value, 2 * value, value / 2], "processor": [value]} for name, value in side.items()}
    return {"idle": same, "loaded": same, "workers": shared}


def test_a_default_that_gains_on_shared_cores_and_loses_nothing_on_idle_ones() -> None:
    faster, kept = claims(found(before=0.09, after=0.03))
    assert (faster.measured, faster.met) == ("3.00x", True)
    assert (kept.measured, kept.met) == ("100%", True)


def test_a_default_that_gains_nothing() -> None:
    faster, _ = claims(found(before=0.03, after=0.03))
    assert not faster.met


def test_the_table_has_every_side_under_every_load() -> None:
    rows = table(found(before=0.1, after=0.05)).rows
    assert [row[:2] for row in rows] == [
        (load, side) for load in (*spinning.LOADS, "workers") for side in spinning.SIDES
    ]
    assert rows[5] == ("workers", "sleep", "20.0 (10.0 to 40.0)", "2.00", "50.00 (25.00 to 100.00)", "50.00")


def test_each_side_has_a_turn_in_each_round() -> None:
    calls: list[str] = []
    sides = {side: (lambda side=side: calls.append(side)) for side in ("one", "two")}
    measured = measure(sides, rounds=2, seconds=0.0)
    assert {len(values) for load in measured.values() for side in load.values() for values in side.values()} == {2}
    assert calls.count("one") == calls.count("two") == 2 * 2 * 2


def test_a_turn_is_timed_per_call() -> None:
    measured = turn(lambda: None, 0.01)
    assert 0 < measured["wall"] < 0.01


def test_every_core_is_kept_busy_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "available_cores", lambda: 2)
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(command: list[str]) -> subprocess.Popen[bytes]:
        started.append(popen([*command[:-1], "import time; time.sleep(60)"]))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    with load_of("idle"):
        assert started == []
    with load_of("loaded"):
        assert [process.poll() for process in started] == [None, None]
    assert all(process.poll() is not None for process in started)


def test_a_side_is_a_session_of_onnxruntime(colour_bundle: Path) -> None:
    session = open_side(colour_bundle / "model.onnx", 1, spins=False)
    assert [entry.name for entry in session.get_inputs()] == ["images"]
    options = session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.inter_op.allow_spinning") == "0"
