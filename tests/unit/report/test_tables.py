"""The tables as cells."""

from typing import Any

import pytest

from toolkit.report.tables import bench_table, class_table, cost_table, marks, most_confused, relative_throughput
from toolkit.results import BatchTiming, BenchReport, Estimate, Interval, Latency


def by_header(table, line):
    return dict(zip([column.header for column in table.columns], line.cells, strict=True))


def test_one_line_per_row_and_batch_size(bench):
    table = bench_table(bench)
    assert [(line.cells[:3], line.continues) for line in table.lines] == [
        (("eager", "cpu", "1"), False),
        (("eager", "cpu", "32"), True),
        (("channels_last", "cpu", "1"), False),
        (("channels_last", "cpu", "32"), True),
        (("onnx", "cpu", "1"), False),
        (("onnx", "cpu", "32"), True),
        (("onnx", "cuda"), False),
    ]
    assert by_header(table, table.lines[4]) == {
        "model": "onnx",
        "device": "cpu",
        "batch": "1",
        "img/s [95%]": "131 [125, 135]",
        "vs eager": "1.31x",
        "p50 ms": "7.62",
        "p95 ms": "8.38",
        "p99 ms": "11.4",
        "test accuracy [95%]": "98.1% [96.0, 99.1]",
        "size MB": "13.5",
        "load ms": "45.6",
        "cold start s": "-",
        "memory MB": "512",
    }
    assert table.lines[5].cells[8:] == ("", "", "", "", "")


def test_a_missing_row_has_a_reason_and_no_figure(bench):
    line = bench_table(bench).lines[-1]
    assert line.cells == ("onnx", "cuda")
    assert line.missing == "asked for cuda, onnxruntime 1.20.0 runs it on cpu"


def test_ratios_stay_on_the_device(bench):
    eager, _, onnx, gone = bench.rows
    assert relative_throughput(bench, eager, 32) == 1.0
    assert relative_throughput(bench, onnx, 1) == 1.3125
    assert relative_throughput(bench, onnx, 8) is None
    assert relative_throughput(bench, gone, 1) is None
    on_gpu = onnx.model_copy(update={"device": "cuda"})
    assert relative_throughput(bench.model_copy(update={"rows": (eager, on_gpu)}), on_gpu, 1) is None
    unmeasured = eager.model_copy(update={"timings": (), "missing": "it died"})
    assert relative_throughput(bench.model_copy(update={"rows": (unmeasured, onnx)}), onnx, 1) is None


def test_figures_that_a_system_does_not_tell_are_dashes(bench):
    row = bench.rows[0].model_copy(update={"peak_memory_bytes": None, "load_seconds": None})
    table = bench_table(bench.model_copy(update={"rows": (row,)}))
    assert table.lines[0].cells[-3:] == ("-", "-", "-")


def test_classes_in_order_or_the_worst_first(evaluation):
    assert [line.cells[0] for line in class_table(evaluation).lines] == [f"digit {index}" for index in range(10)]
    assert class_table(evaluation).lines[0].cells == ("digit 0", "40", "100.0%", "50.0%")
    assert [line.cells[0] for line in class_table(evaluation, worst=2).lines] == ["digit 0", "digit 1"]


def test_a_class_without_test_images_is_not_the_worst(make_evaluation):
    evaluation = make_evaluation(["a", "b", "c"], images=2)
    assert class_table(evaluation).lines[2].cells == ("c", "0", "-", "-")
    assert [line.cells[0] for line in class_table(evaluation, worst=5).lines] == ["a", "b"]


def test_most_frequent_mistakes(make_evaluation):
    evaluation = make_evaluation(["a", "b", "c"], images=90)
    # Images 0, 20, 40, 60 and 80 are taken for the next class: targets 0, 2, 1, 0 and 2.
    assert most_confused(evaluation) == [("a", "b", 2), ("c", "a", 2), ("b", "c", 1)]
    assert most_confused(evaluation, count=1) == [("a", "b", 2)]


def test_a_ratio_has_its_interval_and_unsettled_figures_their_marks(settled_bench):
    table = bench_table(settled_bench)
    one, many = (by_header(table, line) for line in table.lines[4:6])
    assert one["vs eager"] == "1.31x [1.27, 1.36]"
    assert one["img/s [95%]"] == "131 [125, 135]"
    assert many["img/s [95%]"] == "1234 [1173, 1272]*^"
    assert one["cold start s"] == "2.35"
    assert by_header(table, table.lines[0])["vs eager"] == "1.00x"


def test_each_mark_has_its_sentence(bench, settled_bench):
    assert marks(bench) == []
    assert marks(settled_bench) == [
        "* never settled: the interval was still wider than 2% to either side when rounds or time were over. It holds "
        "all the same. It is wide on a busy machine: end other programs and measure again; more --rounds alone help "
        "little.",
        "^ never became warm: the times of calls were still changing when warm-up had to end, so that the figure may "
        "be too low.",
    ]


def timed(rate: float, spread: float, rounds: int = 24, **fields: Any) -> BatchTiming:
    """A figure whose interval reaches so far to either side, of calls that took a second each."""
    interval = Interval(low=rate * (1 - spread), high=rate * (1 + spread), level=fields.pop("level", 0.95))
    return BatchTiming(
        batch_size=1,
        throughput=Estimate(median=rate, interval=interval, rounds=rounds),
        latency=Latency(p50_seconds=1 / rate, p95_seconds=1.0, p99_seconds=1.0, calls=round(rate * rounds)),
        settled=spread <= 0.03,
        warm=fields.pop("warm", True),
    )


def of_figures(bench: BenchReport, *timings: BatchTiming) -> BenchReport:
    row = bench.rows[0].model_copy(update={"timings": timings})
    return bench.model_copy(update={"rows": (row,), "precision": 0.03, "machine": None})


def test_where_most_figures_never_settled_none_is_marked_and_one_sentence_speaks_of_them(bench):
    report = of_figures(bench, timed(10.0, 0.06), timed(20.0, 0.04), timed(30.0, 0.02))
    assert [line.cells[3] for line in bench_table(report).lines] == [
        "10.0 [9.4, 10.6]",
        "20.0 [19.2, 20.8]",
        "30.0 [29.4, 30.6]",
    ]
    # Half of 6% wants four times 24 rounds, of a second each.
    assert marks(report) == [
        "2 of the 3 figures never settled: the interval was still wider than 3% to either side when rounds or time "
        "were over. It holds all the same. About --rounds 100 --max-seconds 100 would narrow it, or a quieter machine."
    ]
    warm = of_figures(bench, *(timed(10.0, 0.01, warm=False) for _ in range(3)))
    assert [sentence.partition(":")[0] for sentence in marks(warm)] == ["3 of the 3 figures never became warm"]
    assert bench_table(warm).lines[0].cells[3] == "10.0 [9.9, 10.1]"


@pytest.mark.parametrize(("spread", "rounds"), [(0.3, 24), (0.1, 3)])
def test_no_number_of_rounds_is_named_that_would_be_too_large_or_is_not_known(bench, spread, rounds):
    report = of_figures(bench, timed(10.0, spread, rounds), timed(20.0, 0.02), timed(30.0, 0.02))
    (sentence,) = marks(report)
    assert sentence.startswith("* never settled: ")
    assert sentence.endswith("A quieter machine narrows it; more --rounds alone help little.")


def test_an_interval_that_cannot_hold_in_95_of_100_cases_is_said_to_be_such(bench):
    report = of_figures(bench, timed(10.0, 0.02, 3, level=0.75), timed(20.0, 0.02, 4, level=0.875), timed(30.0, 0.02))
    assert marks(report) == [
        "The interval of 3 rounds is only their range, which holds the median in 75% of cases and not in 95%: give 7 "
        "--rounds or more, and more --max-seconds."
    ]


def test_what_a_row_costs(bench, settled_bench):
    assert cost_table(bench).lines == ()  # written before it was measured
    table = cost_table(settled_bench)
    assert by_header(table, table.lines[0]) == {
        "model": "onnx",
        "device": "cpu",
        "batch": "1",
        "processor ms per image": "15.0",
        "GFLOP/s": "12.3",
        "of float32 peak": "25%",
        "warm-up s": "0.210",
        "memory above idle MB": "90.0",
    }
    assert table.lines[1].cells[-1] == ""
