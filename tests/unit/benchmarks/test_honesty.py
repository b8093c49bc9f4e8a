"""The arithmetic of the claims, a session that is really slower, and one small comparison through the engine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import honesty
from benchmarks.harness.errors import BenchmarkError
from benchmarks.honesty import SAME, TENTH, TWENTIETH, SlowedSession, apart_table, claims, compare, side, verdict_table
from toolkit.bench import BenchOptions
from toolkit.bench.inputs import Inputs
from toolkit.comparison.together import Measured


def entry(ratio: float, verdict: str = "no difference shown", **changes: Any) -> dict[str, Any]:
    facts = {"low": 0.99 * ratio, "high": 1.01 * ratio, "gate_failed": ratio < 0.94, "images_per_second": 100.0}
    return {"ratio": ratio, "verdict": verdict, **facts, **changes}


def found(same: int = 0, tenth: int = 40, twentieth: int = 40, bare: float = 100.0) -> dict[str, Any]:
    """Forty comparisons of each kind, of which so many call a difference."""

    def of(ratio: float, called: int) -> list[dict[str, Any]]:
        return [entry(ratio, "slower" if place < called else "no difference shown") for place in range(40)]

    return {
        SAME: of(1.0, same),
        TENTH: of(1 / 1.1, tenth),
        TWENTIETH: of(1 / 1.05, twentieth),
        "bare": [bare] * 40,
        "timm": [(100.0, 120.0)] * 40,
        "ultralytics": [(100.0, 101.5), (100.0, 100.0)] * 20,
    }


@pytest.mark.parametrize(
    ("changes", "met"),
    [
        ({}, [True, True, True, True]),
        ({"same": 2, "tenth": 38, "twentieth": 32}, [True, True, True, True]),
        ({"same": 3}, [False, True, True, True]),
        ({"tenth": 37}, [True, False, True, True]),
        ({"twentieth": 31}, [True, True, False, True]),
        ({"bare": 97.0}, [True, True, True, False]),
        ({"bare": 103.0}, [True, True, True, False]),
        ({"bare": 101.0}, [True, True, True, True]),
    ],
)
def test_each_claim_can_be_met_and_missed(changes: dict[str, Any], met: list[bool]) -> None:
    assert [claim.met for claim in claims(found(**changes))] == met


def test_a_call_of_a_faster_side_is_false_too_and_finds_no_slowdown() -> None:
    measured = found()
    measured[SAME] = [entry(1.02, "faster")] * 40
    measured[TENTH] = [entry(1.02, "faster")] * 40
    assert [claim.met for claim in claims(measured)] == [False, False, True, True]


def test_the_tables_say_what_came_of_it() -> None:
    rows = verdict_table(found(same=1)).rows
    assert [row[:2] for row in rows] == [(SAME, "1.000"), (TENTH, "0.909"), (TWENTIETH, "0.952")]
    assert rows[0][4].startswith("1 of 40 [")
    assert rows[1][6].startswith("40 of 40 [")
    assert rows[1][3] == "1.0%"
    assert rows[0][7].startswith("40 of 40 [")
    ours, timm, ultralytics = apart_table(found()).rows
    assert ours[1:] == ("0.0%", "0.0%", "0%", "0%", "0%", "0%")
    assert timm[2:] == ("18.2%", "100%", "100%", "100%", "100%")
    assert ultralytics[3:] == ("50%", "0%", "0%", "0%")


class Sleeping:
    device, engine, threads = "cpu", "test", 1

    def run(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        time.sleep(0.01)
        return {"logits": inputs}


def test_a_slowed_session_really_takes_longer() -> None:
    slow = SlowedSession(Sleeping(), 2.0)
    began = time.perf_counter()
    assert slow.run(np.ones(1, np.float32))["logits"].item() == 1
    assert time.perf_counter() - began >= 0.03
    assert (slow.device, slow.engine, slow.threads) == ("cpu", "test", 1)


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    made = Inputs(folder=tmp_path, images=tmp_path / "images.npy", targets=tmp_path / "targets.npy", count=1)
    np.save(made.images, np.zeros((1, 8, 8, 3), np.uint8))
    np.save(made.targets, np.zeros(1, np.int64))
    return made


def test_what_takes_three_times_as_long_is_found_through_the_engine(colour_bundle: Path, inputs: Inputs) -> None:
    """Calls of some microseconds, slowed enough for a machine that is busy with other tests."""
    model = colour_bundle / "model.onnx"
    sides = [side(model, inputs, 8, 1, share) for share in (0.0, 20.0)]
    result = compare(*sides, BenchOptions("cpu", 1, (1,), rounds=9, min_seconds=0.01))
    assert (result["verdict"], result["gate_failed"]) == ("slower", True)
    assert result["ratio"] < 0.3
    assert result["low"] <= result["ratio"] <= result["high"]
    assert result["images_per_second"] > 0


def test_what_cannot_be_measured_ends_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(a: Any, b: Any, options: Any) -> Any:
        return [Measured(object(), missing="the worker died")], [Measured(object())]  # type: ignore[arg-type]  # no plan is looked at

    monkeypatch.setattr(honesty, "sweep_both", nothing)
    with pytest.raises(BenchmarkError, match="A has no figures: the worker died"):
        compare(None, None, BenchOptions("cpu", 1))  # type: ignore[arg-type]  # what measures is replaced


def test_everything_has_its_turn_each_time(monkeypatch: pytest.MonkeyPatch, inputs: Inputs, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    log: list[str] = []

    def compared(a: Any, b: Any, options: Any) -> dict[str, Any]:
        log.append(f"{b.plans[0].arguments['share']}")
        return entry(1.0)

    def timed(method: str, *rest: object) -> float:
        log.append(method)
        return 1.0

    monkeypatch.setattr(honesty, "compare", compared)
    monkeypatch.setattr(honesty, "plain", timed)
    measured = honesty.measure(tmp_path / "model.onnx", inputs, honesty.parse(["--times", "3"]))
    assert {name: len(values) for name, values in measured.items()} == dict.fromkeys(
        (SAME, TENTH, TWENTIETH, "timm", "ultralytics", "bare"), 3
    )
    turns = [log[start : start + 8] for start in (0, 8, 16)]
    assert all(sorted(turn) == sorted(turns[0]) for turn in turns)
    assert turns[0] != turns[1]
