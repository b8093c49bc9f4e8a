"""Interleaved rounds over real workers, and rows that drop out."""

from typing import ClassVar

import pytest

from toolkit.bench import sweep as module
from toolkit.bench.sweep import Settings, Sweep


@pytest.fixture
def run(inputs, contract, lines):
    def go(plans, **settings):
        chosen = Settings(**{"batch_sizes": (1, 3), "rounds": 2, "min_seconds": 0.0, **settings})
        return Sweep(plans, inputs, contract, chosen, lines).run()

    return go


def test_every_row_is_measured_once_per_round_and_batch_size(run, plan, lines):
    outcomes = run([plan("one"), plan("two")])
    for outcome in outcomes:
        assert outcome.missing is None
        assert {size: [len(calls) >= 3 for calls in rounds] for size, rounds in outcome.rounds.items()} == {
            1: [True, True],
            3: [True, True],
        }
        assert (outcome.engine, outcome.correct) == ("fake 1.0", 15)
        assert outcome.load_seconds is not None
        assert outcome.peak_memory_bytes
    assert lines.bars == {"bench": [2 * 2 * 3, 2 * 2 * 3], "accuracy": [40, 40]}
    assert lines.lines == []


def test_rows_that_fail_drop_out_and_the_others_go_on(run, plan, lines):
    outcomes = run(
        [
            plan("good"),
            plan("raises", fails={"3": "raise"}),
            plan("dies", fails={"1": "exit"}),
            plan("no_engine", import_fails=True),
            plan("elsewhere", device="cuda", claims="cpu"),
            plan("wrong", refused="failed verification: logits differ"),
        ],
        rounds=1,
    )
    assert [outcome.missing for outcome in outcomes] == [
        None,
        "RuntimeError: no memory for this batch at batch 3",
        "the worker ended with exit code 3: last words at batch 1",
        "ImportError: libfake.so: cannot open shared object file",
        "asked for cuda, fake 1.0 runs it on cpu",
        "failed verification: logits differ",
    ]
    assert outcomes[0].correct == 15
    assert len(lines.lines) == 5
    assert "elsewhere on cuda is not measured: asked for cuda, fake 1.0 runs it on cpu" in lines.lines
    assert lines.bars["bench"] == [12, 12]


class RecordingProcess:
    """A worker that only notes what it is asked, and never two at a time."""

    log: ClassVar[list[tuple[object, ...]]] = []
    open_workers = 0

    def __init__(self, job, log):
        self.name = job.arguments["name"]
        RecordingProcess.open_workers += 1

    def wait_ready(self):
        pass

    def ask(self, do, **arguments):
        if self.log and self.log[-1] == ("interrupt",):
            raise KeyboardInterrupt
        self.log.append((self.name, do, arguments.get("batch_size")))
        return {
            "open": {"device": "cpu", "engine": "fake", "load_seconds": 0.1},
            "measure": {"seconds": [0.5, 0.25]},
            "memory": {"peak_memory_bytes": None},
            "accuracy": {"correct": 1},
        }.get(do, {})

    def close(self):
        RecordingProcess.open_workers -= 1


@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.setattr(RecordingProcess, "log", [])
    monkeypatch.setattr(RecordingProcess, "open_workers", 0)
    monkeypatch.setattr(module, "WorkerProcess", RecordingProcess)
    return RecordingProcess


def test_rounds_are_interleaved_in_a_seeded_order(run, plan, recorded):
    plans = [_named(plan, name) for name in ("one", "two", "three")]
    run(plans, rounds=4, seed=1)
    first = list(recorded.log)
    measured = [(name, size) for name, do, size in first if do == "measure"]
    rounds = [measured[start : start + 6] for start in range(0, 24, 6)]
    everything = sorted((name, size) for name in ("one", "two", "three") for size in (1, 3))
    assert [sorted(order) for order in rounds] == [everything] * 4
    assert len({tuple(order) for order in rounds}) > 1
    recorded.log.clear()
    run(plans, rounds=4, seed=1)
    assert recorded.log == first
    recorded.log.clear()
    run(plans, rounds=4, seed=2)
    assert recorded.log != first


def test_memory_is_asked_after_speed_and_before_accuracy(run, plan, recorded):
    run([_named(plan, "one")], rounds=1, batch_sizes=(1,))
    assert [do for _, do, _ in recorded.log] == ["open", "warm_up", "measure", "memory", "accuracy"]


def test_workers_are_closed_when_somebody_presses_ctrl_c(run, plan, recorded):
    recorded.log.append(("interrupt",))
    with pytest.raises(KeyboardInterrupt):
        run([_named(plan, "one"), _named(plan, "two")])
    assert recorded.open_workers == 0


def _named(plan, name):
    made = plan(name)
    made.arguments["name"] = name
    return made
