"""The tables as cells."""

from toolkit.report.tables import bench_table, class_table, cost_table, marks, most_confused, relative_throughput


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
        "* never settled: the interval was still wider than 2% to either side when rounds or time were over. More "
        "--rounds or a quieter machine narrow it.",
        "^ never warm: the times of calls were still changing when warm-up had to end, so that the figure may be too "
        "low.",
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
        "of peak": "25%",
        "warm-up s": "0.210",
        "memory above idle MB": "90.0",
    }
    assert table.lines[1].cells[-1] == ""
