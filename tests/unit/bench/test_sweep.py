"""Interleaved rounds over real workers, and rows that drop out."""

from collections.abc import Iterator
from typing import ClassVar

import pytest

from toolkit.bench import sweep as module
from toolkit.bench.process import WorkerFailedError
from toolkit.bench.sweep import Settings, Sweep


@pytest.fixture
def run(inputs, contract, lines):
    def go(plans, **settings):
        chosen = Settings(**{"batch_sizes": (1, 3), "rounds": 2, "min_seconds": 0.0, "max_seconds": 1e6, **settings})
        return Sweep(plans, inputs, contract, chosen, lines).run()

    return go


def test_every_row_is_measured_once_per_round_and_batch_size(run, plan, lines):
    outcomes = run([plan("one"), plan("two")])
    for outcome in outcomes:
        assert outcome.missing is None
        assert {size: [len(calls) >= 3 for calls in timed.rounds] for size, timed in outcome.timed.items()} == {
            1: [True, True],
            3: [True, True],
        }
        assert (outcome.engine, outcome.correct.hex()) == ("fake 1.0", "07fff0")
        assert outcome.load_seconds is not None
        assert outcome.cold_start_seconds > outcome.load_seconds
        assert outcome.peak_memory_bytes >= outcome.idle_memory_bytes > 0
        assert all(timed.warm_up_seconds > 0 and timed.processor_seconds > 0 for timed in outcome.timed.values())
    opened = {"starting": [2, 2], "opening what is measured": [1, 1], "ending what was measured": [1, 1]}
    assert lines.bars == opened | {"bench": [2 * 2 * 3, 2 * 2 * 3], "accuracy": [40, 40]}
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
    assert outcomes[0].correct.hex() == "07fff0"
    assert len(lines.lines) == 5
    assert "elsewhere on cuda is not measured: asked for cuda, fake 1.0 runs it on cpu" in lines.lines
    assert lines.bars["starting"] == [5, 5]
    assert lines.bars["bench"] == [8, 8]  # those that answered once: good and raises


OTHER = {"processor_seconds": 0.1, "device_seconds": []}


class RecordingProcess:
    """A worker that only notes what it is asked, and never two at a time."""

    log: ClassVar[list[tuple[object, ...]]] = []
    speeds: ClassVar[dict[str, Iterator[float]]] = {}
    """Seconds of the calls of each round of a row; three of them a round."""
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
            "warm_up": {"seconds": 1.0, "warm": True},
            "measure": {"seconds": self._seconds() if do == "measure" else [], **OTHER},
            "memory": {"peak_memory_bytes": None},
            "accuracy": {"correct": "01"},
            "peak": {"flops_per_second": 1e9},
        }.get(do, {})

    def _seconds(self):
        return [next(self.speeds[self.name])] * 3 if self.name in self.speeds else [0.5, 0.25]

    def close(self):
        RecordingProcess.open_workers -= 1


@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.setattr(RecordingProcess, "log", [])
    monkeypatch.setattr(RecordingProcess, "speeds", {})
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
    assert [do for _, do, _ in recorded.log] == ["open", "answer", "warm_up", "measure", "memory", "accuracy"]


def test_each_row_starts_and_answers_alone_before_the_next_one_starts(run, plan, recorded, monkeypatch):
    class Clock:
        def now(self):
            return float(len(recorded.log))

    monkeypatch.setattr(module, "MonotonicClock", Clock)
    outcomes = run([_named(plan, "one"), _named(plan, "two")], rounds=1, batch_sizes=(3,))
    started = [("one", "open", None), ("one", "answer", 1), ("two", "open", None), ("two", "answer", 1)]
    assert recorded.log[:4] == started
    assert [outcome.cold_start_seconds for outcome in outcomes] == [2.0, 2.0]


def test_the_matrix_product_is_the_last_question_and_only_for_the_reference(run, plan, recorded):
    outcomes = run([_named(plan, "eager"), _named(plan, "onnx")], rounds=1, batch_sizes=(1,))
    assert [name for name, do, _ in recorded.log if do == "peak"] == ["eager"]
    assert recorded.log[-1] == ("eager", "peak", None)
    assert [outcome.peak_flops_per_second for outcome in outcomes] == [1e9, None]


def rounds_of(outcomes):
    return {outcome.plan.name: len(outcome.timed[1].rounds) for outcome in outcomes}


def rows(plan, *names):
    return [_named(plan, name) for name in names]


STEADY, WILD = (1.0,) * 100, (1.0, 2.0) * 50


def test_a_row_stops_once_its_ratio_is_settled_and_no_sooner_than_after_seven_rounds(run, plan, recorded, lines):
    recorded.speeds = {"eager": iter(STEADY), "onnx": iter(STEADY), "wild": iter(WILD)}
    outcomes = run(rows(plan, "eager", "onnx", "wild"), rounds=20, batch_sizes=(1,), precision=0.02)
    # The reference goes on beside the row that is compared with it, to the last round.
    assert rounds_of(outcomes) == {"eager": 20, "onnx": 7, "wild": 20}
    assert lines.bars["bench"] == [3 * 21, 3 * 21]


def test_what_slows_down_both_sides_of_a_pair_does_not_keep_a_row_from_settling(run, plan, recorded):
    recorded.speeds = {"eager": iter(WILD), "onnx": iter(WILD)}
    outcomes = run(rows(plan, "eager", "onnx"), rounds=20, batch_sizes=(1,), precision=0.02)
    # The throughput of the reference itself never settles; the ratio was clear at once.
    assert rounds_of(outcomes) == {"eager": 20, "onnx": 7}


def test_without_a_reference_the_throughput_has_to_settle(run, plan, recorded):
    recorded.speeds = {"onnx": iter(WILD), "steady": iter(STEADY)}
    outcomes = run(rows(plan, "onnx", "steady"), rounds=20, batch_sizes=(1,), precision=0.02)
    assert rounds_of(outcomes) == {"onnx": 20, "steady": 7}


def test_without_a_precision_all_rounds_are_made(run, plan, recorded):
    recorded.speeds = {"eager": iter(STEADY), "onnx": iter(STEADY)}
    assert rounds_of(run(rows(plan, "eager", "onnx"), rounds=9, batch_sizes=(1,))) == {"eager": 9, "onnx": 9}


def test_time_is_up_for_a_slow_row_after_three_rounds_at_least(run, plan, recorded):
    recorded.speeds = {"eager": iter(STEADY), "slow": iter((50.0,) * 9), "onnx": iter(STEADY)}
    outcomes = run(rows(plan, "eager", "slow", "onnx"), rounds=20, batch_sizes=(1,), max_seconds=30.0)
    assert rounds_of(outcomes) == {"eager": 10, "slow": 3, "onnx": 10}  # three calls of a second a round


def test_a_row_has_no_more_time_than_its_reference(run, plan, recorded):
    recorded.speeds = {"eager": iter((50.0,) * 9), "onnx": iter(STEADY)}
    outcomes = run(rows(plan, "eager", "onnx"), rounds=20, batch_sizes=(1,), max_seconds=30.0)
    assert rounds_of(outcomes) == {"eager": 3, "onnx": 3}


def test_rows_go_on_without_a_reference_that_drops_out(run, plan, recorded):
    recorded.speeds = {"eager": iter((1.0, 1.0)), "onnx": iter(STEADY)}

    def drops_out(self):
        try:
            return [next(self.speeds[self.name])] * 3
        except StopIteration:
            raise WorkerFailedError("it died") from None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RecordingProcess, "_seconds", drops_out)
        outcomes = run(rows(plan, "eager", "onnx"), rounds=20, batch_sizes=(1,), precision=0.02)
    assert [outcome.missing for outcome in outcomes] == ["it died at batch 1", None]
    assert len(outcomes[1].timed[1].rounds) == 7


def test_the_machine_is_looked_at_after_each_round(plan, inputs, contract, lines, recorded):
    looked = []
    sweep = Sweep(rows(plan, "one"), inputs, contract, Settings((1,), 4, 0.0), lines)
    sweep.after_round = lambda: looked.append(len(sweep.outcomes[0].timed[1].rounds))
    sweep.run()
    assert looked == [1, 2, 3, 4]


def test_workers_are_closed_when_somebody_presses_ctrl_c(run, plan, recorded):
    recorded.log.append(("interrupt",))
    with pytest.raises(KeyboardInterrupt):
        run([_named(plan, "one"), _named(plan, "two")])
    assert recorded.open_workers == 0


def _named(plan, name):
    made = plan(name)
    made.arguments["name"] = name
    return made
