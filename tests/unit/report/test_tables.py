"""The tables as cells."""

from toolkit.report.tables import bench_table, class_table, most_confused, relative_throughput


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
        "memory MB": "512",
    }
    assert table.lines[5].cells[8:] == ("", "", "", "")


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
    assert table.lines[0].cells[-2:] == ("-", "-")


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
