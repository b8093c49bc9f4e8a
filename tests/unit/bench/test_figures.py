"""From what was measured to the row of a report, against values worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from toolkit.bench.figures import Setting, batch_timing, bench_row, peaks
from toolkit.bench.sweep import Outcome, Timed, reference_of

SETTING = Setting(threads=1, images=20)


def test_batch_timing_pools_calls_and_takes_the_median_of_rounds(plan: Any) -> None:
    timed = Timed(rounds=[[0.5, 0.5], [1.0], [0.25, 0.25, 0.25, 0.25]])
    timing = batch_timing(4, Outcome(plan("a"), timed={4: timed}), SETTING)
    assert timing.throughput.median == 8.0
    assert (timing.throughput.interval.low, timing.throughput.interval.high) == (4.0, 16.0)
    assert (timing.latency.calls, timing.latency.p50_seconds) == (7, 0.25)
    assert timing.rounds_images_per_second == (8.0, 4.0, 16.0)
    assert (timing.ratio, timing.settled, timing.flops_per_second, timing.device_p50_seconds) == (None,) * 4


def test_what_a_row_costs(plan: Any) -> None:
    eager = Outcome(plan("eager"), timed={2: Timed(rounds=[[1.0], [1.0]])}, peak_flops_per_second=800.0)
    timed = Timed(
        rounds=[[0.5], [0.25, 0.25]],
        processor_seconds=3.0,
        device_seconds=[0.3, 0.1, 0.2],
        warm_up_seconds=1.5,
        warm=False,
    )
    onnx = Outcome(plan("onnx"), timed={2: timed})
    setting = Setting(threads=1, images=20, flops_per_image=10.0, precision=0.5)
    timing = batch_timing(2, onnx, setting, eager)
    # Rounds of 4 and 8 images a second against 2 and 2.
    assert timing.ratio is not None
    assert (timing.ratio.median, timing.ratio.interval.low, timing.ratio.interval.high) == (3.0, 2.0, 4.0)
    assert timing.settled is True  # 1 to either side of 3
    assert timing.processor_seconds_per_image == 0.5  # 3 seconds for 6 images
    # 3 seconds in one second of calls. The median of 6 images a second times half a second each says the same here, and
    # nothing true where rounds differ much, see below.
    assert timing.cores_busy == 3.0
    assert (timing.flops_per_second, timing.share_of_peak) == (60.0, 0.075)
    assert (timing.device_p50_seconds, timing.warm_up_seconds, timing.warm) == (0.2, 1.5, False)
    narrower = Setting(threads=1, images=20, precision=0.3)
    assert batch_timing(2, onnx, narrower, eager).settled is False


def test_busy_cores_are_those_of_all_rounds_also_where_half_of_them_were_slow(plan: Any) -> None:
    # One core computed throughout: 10 seconds of 10. The median round of 4 images a second at 10 / 7 seconds an image
    # would make nearly six of it.
    timed = Timed(rounds=[[0.25] * 2, [9.0], [0.125] * 4], processor_seconds=10.0)
    timing = batch_timing(1, Outcome(plan("a"), timed={1: timed}), SETTING)
    assert timing.throughput.median * (timing.processor_seconds_per_image or 0) == pytest.approx(40 / 7)
    assert timing.cores_busy == 1.0


def test_the_reference_is_compared_with_nothing_but_has_its_share_of_the_peak(plan: Any) -> None:
    eager = Outcome(plan("eager"), timed={2: Timed(rounds=[[1.0], [1.0]])}, peak_flops_per_second=100.0)
    timing = batch_timing(2, eager, Setting(threads=1, images=20, flops_per_image=10.0), eager)
    assert (timing.ratio, timing.share_of_peak) == (None, 0.2)


def test_the_reference_is_that_of_the_same_device_and_only_if_it_was_measured(plan: Any) -> None:
    cpu, cuda = Outcome(plan("eager")), Outcome(plan("eager", device="cuda"), missing="it died")
    assert reference_of([cuda, cpu], "cpu") is cpu
    assert reference_of([cuda, cpu], "cuda") is None


def test_a_row(plan: Any) -> None:
    outcome = Outcome(
        plan("onnx"),
        engine="fake 1.0",
        provider="FakeProvider",
        tf32=False,
        load_seconds=0.5,
        cold_start_seconds=2.0,
        idle_memory_bytes=100,
        peak_memory_bytes=170,
        correct=bytearray(b"\x07\xff\xf0"),
        timed={1: Timed(rounds=[[0.1]])},
    )
    row = bench_row(outcome, SETTING)
    assert (row.test_accuracy, row.correct) == (0.75, "07fff0")
    assert (row.memory_above_idle_bytes, row.cold_start_seconds) == (70, 2.0)
    assert (row.provider, row.tf32, row.precision) == ("FakeProvider", False, "float32")
    outcome.peak_memory_bytes = None
    assert bench_row(outcome, SETTING).memory_above_idle_bytes is None


def test_a_row_that_dropped_out_half_way_shows_no_figures(plan: Any) -> None:
    outcome = Outcome(
        plan("half"),
        missing="it died",
        engine="fake",
        load_seconds=1.0,
        cold_start_seconds=1.0,
        peak_memory_bytes=1,
        correct=bytearray(b"\xff"),
        timed={1: Timed(rounds=[[0.1]])},
    )
    row = bench_row(outcome, SETTING)
    figures = (
        row.engine,
        row.timings,
        row.load_seconds,
        row.cold_start_seconds,
        row.peak_memory_bytes,
        row.test_accuracy,
        row.test_accuracy_interval,
        row.correct,
        row.test_images,
    )
    assert figures == (None, (), None, None, None, None, None, None, 0)


def test_the_peak_of_each_device_that_has_one(plan: Any) -> None:
    found = peaks([Outcome(plan("eager"), peak_flops_per_second=7.0), Outcome(plan("onnx"))], threads=3)
    assert [(peak.device, peak.threads, peak.flops_per_second) for peak in found] == [("cpu", 3, 7.0)]


def test_a_short_second_round_is_paired_with_its_own(plan: Any) -> None:
    eager = Outcome(plan("eager"), timed={1: Timed(rounds=[[1.0], [2.0], [9.0]])})
    onnx = Outcome(plan("onnx"), timed={1: Timed(rounds=[[0.5], [1.0]])})
    ratio = batch_timing(1, onnx, SETTING, eager).ratio
    assert ratio is not None
    assert (ratio.median, ratio.rounds) == (pytest.approx(2.0), 2)
