"""What the pictures show, read from their text."""

from __future__ import annotations

import re

import numpy as np
import pytest
from full_runs import CIFAR10, HISTORY, row, write_full_run

from toolkit.report import charts
from toolkit.report.charts import Chart, Point
from toolkit.report.pictures import read_history
from toolkit.report.records import RunRecords, read_records
from toolkit.results import Interval


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> RunRecords:
    return read_records(write_full_run(tmp_path_factory.mktemp("full") / "cifar", images=300, mistakes=1))


def point(name: str, throughput: float, accuracy: float, **given: bool) -> Point:
    around = Interval(low=throughput * 0.9, high=throughput * 1.1)
    return Point(name, throughput, around, accuracy, Interval(low=accuracy - 0.01, high=accuracy + 0.01), **given)


def texts(drawing: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", drawing)


def both(chart: Chart) -> list[list[str]]:
    return [texts(chart.wide), texts(chart.narrow)]


def test_the_front_is_what_nothing_beats() -> None:
    slow, fast, beaten = point("slow", 100, 0.96), point("fast", 200, 0.95), point("beaten", 150, 0.94)
    twin = point("twin", 200, 0.95)
    assert charts.pareto_front([beaten, fast, slow]) == [slow, fast]
    assert charts.pareto_front([fast, twin]) == [fast, twin]
    assert charts.pareto_front([point("a", 100, 0.96), point("b", 100, 0.95)]) == [point("a", 100, 0.96)]
    assert charts.pareto_front([]) == []


def test_the_trade_off_names_every_model_and_says_the_front() -> None:
    points = [point("eager", 100, 0.97, may_ship=False), point("onnx", 300, 0.96), point("int8", 500, 0.95)]
    chart = charts.trade_off(points, "t", "Accuracy & throughput")
    for drawn in both(chart):
        assert {"eager", "onnx", "int8"} <= set(drawn)
    assert '<title id="tw-title">Accuracy &amp; throughput</title>' in chart.wide
    assert "both faster and more accurate than onnx, int8.</desc>" in chart.wide


def test_one_model_and_models_at_one_place_are_drawn() -> None:
    chart = charts.trade_off([point("a", 100, 1.0), point("b", 100, 1.0)], "t", "T")
    for drawn in both(chart):
        assert {"a", "b"} <= set(drawn)


@pytest.mark.parametrize("whole", [True, False])
def test_latencies_of_old_records_have_three_percentiles(whole: bool) -> None:
    rows = [row("onnx", 100, 90)]
    if not whole:
        timings = tuple(
            each.model_copy(update={"latency": each.latency.model_copy(update={"percentiles_seconds": ()})})
            for each in rows[0].timings
        )
        rows = [rows[0].model_copy(update={"timings": timings})]
    chart = charts.latencies(rows, "l", 1, "onnx")
    median = 1000 * rows[0].timings[0].latency.p50_seconds
    assert f"onnx on cpu: median {median:.2f} ms" in chart.wide
    assert "ms per call at batch size 1" in texts(chart.narrow)


def test_times_far_apart_are_drawn_on_a_logarithmic_axis() -> None:
    slow = row("eager", 100, 90)
    far = tuple(
        each.model_copy(update={"latency": each.latency.model_copy(update={"p99_seconds": 1.0})})
        for each in slow.timings
    )
    chart = charts.latencies([slow.model_copy(update={"timings": far})], "l", 1, None)
    assert "ms per call at batch size 1 (logarithmic)" in texts(chart.wide)


def test_a_row_on_two_devices_is_told_apart() -> None:
    chart = charts.latencies([row("onnx", 100, 90), row("onnx", 100, 90, device="cuda")], "l", 1, None)
    assert {"onnx, cpu", "onnx, cuda"} <= set(texts(chart.wide))


def test_a_sweep_says_its_best_settings() -> None:
    chart = charts.sweeps([row("onnx", 100, 90), row("openvino", 100, 90)], "s", "T")
    for drawn in both(chart):
        assert {"onnx", "openvino"} <= set(drawn)
    assert re.search(
        r"onnx on cpu, throughput: batch size 64, \d threads, \d streams, \d+ images per second", chart.wide
    )


def test_of_many_sweeps_none_is_dropped() -> None:
    rows = [row("onnx", 100, 90).model_copy(update={"name": f"format-{number}"}) for number in range(9)]
    assert {f"format-{number}" for number in range(9)} <= set(texts(charts.sweeps(rows, "s", "T").wide))


def test_an_interval_that_reaches_far_down_leaves_the_points_apart() -> None:
    stuck = Point("stuck", 100.0, Interval(low=0.0, high=110.0), 0.9, None)
    drawn = texts(charts.trade_off([stuck, point("b", 200, 0.9)], "t", "T").wide)
    ticks = [float(text.replace(",", "")) for text in drawn if re.fullmatch(r"[\d,.]+", text)]
    assert min(tick for tick in ticks if tick > 0) >= 10


def test_where_time_goes_says_every_part() -> None:
    measured = row("onnx", 100, 90).end_to_end
    assert measured is not None
    chart = charts.where_time_goes([("onnx", measured)], "w", "T")
    for drawn in both(chart):
        assert {"decode", "resize", "call", "other"} <= set(drawn)
    assert "onnx: decode 26.2%, resize 15.3%, call 54.2%, other 4.4%" in chart.wide


def test_learning_curves_name_both_stages_and_ring_the_epoch_that_was_kept(records: RunRecords) -> None:
    assert records.history is not None
    for drawn in both(charts.learning(records.history, (2, 9), "c")):
        assert {"stage 1", "stage 2", "train", "validation"} <= set(drawn)
        assert any(text.startswith("best ") and text.endswith("stage 2 epoch 9") for text in drawn)
    assert not any("best" in text for text in texts(charts.learning(records.history, None, "c").wide))


def test_losses_that_are_not_finite_are_no_error(tmp_path) -> None:
    (tmp_path / "history.csv").write_text(HISTORY + "1,1,nan,0.1,nan,0.1,0.001,0,1\n", encoding="utf-8")
    chart = charts.learning(read_history(tmp_path / "history.csv"), (1, 1), "c")
    assert "no finite value" in texts(chart.wide)


def test_a_confusion_matrix_says_counts_and_classes(records: RunRecords) -> None:
    assert records.evaluation is not None
    for drawn in both(charts.confusion(records.evaluation, "m")):
        assert set(CIFAR10) <= set(drawn)
        assert {str(count) for count in (records.evaluation.confusion[0][0],)} <= set(drawn)


@pytest.mark.parametrize(("classes", "is_image"), [(2, False), (25, False), (26, True), (400, True)])
def test_a_matrix_of_many_classes_is_one_small_image(make_evaluation, classes: int, is_image: bool) -> None:
    evaluation = make_evaluation([f"class {index}" for index in range(classes)], images=2 * classes)
    chart = charts.confusion(evaluation, "m")
    assert ("<image" in chart.wide) == is_image
    assert len(chart.wide) < 200_000


def test_the_calibration_curve_says_every_bin(records: RunRecords) -> None:
    assert records.review is not None
    bins = records.review.calibration
    chart = charts.calibration(bins, [Interval(low=0.1, high=0.9)] * len(bins), "k")
    assert chart.wide.count("said ") == len(bins)
    assert "probability of the predicted class (%)" in texts(chart.narrow)


def test_of_more_models_than_there_is_room_for_the_front_is_named() -> None:
    points = [point(f"model-{place:03d}-of-many", 100 + place, 0.9 - 0.001 * (60 - place)) for place in range(60)]
    chart = charts.trade_off(points, "t", "T")
    for drawn in both(chart):
        assert [text for text in drawn if text.startswith("model")] == ["model-059-of-many"]
    some = charts.trade_off(points[:10], "t", "T")
    assert sum(text.startswith("model") for text in texts(some.wide)) == 10


def test_names_that_are_cut_still_differ() -> None:
    points = [point(f"resnet{place}-of-an-experiment-with-a-long-name: onnx", 100 * place, 0.9) for place in (1, 2)]
    for drawn in both(charts.trade_off(points, "t", "T")):
        assert len({text for text in drawn if "resnet" in text}) == 2


def test_a_mistake_among_a_thousand_classes_is_not_lost() -> None:
    cells = np.zeros((1000, 1000, 4))
    cells[10, 900] = (1.0, 0.5, 0.0, 0.05)
    cells[11, 901] = (1.0, 0.5, 0.0, 0.02)
    pooled = charts._pooled(cells, 8)
    assert pooled.shape == (125, 125, 4)
    assert np.argwhere(pooled[..., 3] > 0).tolist() == [[1, 112]]
    assert pooled[1, 112].tolist() == [1.0, 0.5, 0.0, 0.4]
    assert charts._pooled(cells, 1) is cells
    assert charts._pooled(cells, 7).shape == (143, 143, 4)  # the last blocks are not whole


@pytest.mark.parametrize(("classes", "sentences"), [(10, 0), (100, 1), (1000, 2)], ids=["few", "positions", "blocks"])
def test_what_a_matrix_of_many_classes_does_not_show_is_said(classes: int, sentences: int) -> None:
    assert charts.confusion_note(classes).count(".") == sentences
