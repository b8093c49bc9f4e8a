"""What the page of one run shows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from full_runs import write_full_run

from toolkit.report.records import RunRecords, read_records
from toolkit.report.run_view import FIRST_MISTAKES, FIRST_PAIRS, MOST_PAIRS, RunView
from toolkit.results import ConfusedPair, Interval
from toolkit.run_folder import RunFolder


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> RunRecords:
    return read_records(write_full_run(tmp_path_factory.mktemp("full") / "cifar", images=1000, mistakes=20))


@pytest.fixture(scope="module")
def view(records: RunRecords) -> RunView:
    return RunView(records)


def test_the_tiles_are_the_answer(view: RunView) -> None:
    assert [(tile.question, tile.answer) for tile in view.tiles] == [
        ("How good it is", f"{view.records.evaluation.top1:.1%}"),
        ("For latency, ship", "onnx-int8"),
        ("For throughput, ship", "onnx-int8"),
        ("What it costs in accuracy", "none shown"),
    ]
    assert view.tiles[2].detail == "batch size 64, 8 threads; not told from openvino"
    assert view.tiles[3].detail == "onnx-int8 -0.4 [-1.0, 0.1] points beside PyTorch, on 1,000 test images"


def test_a_shown_cost_is_a_number(records: RunRecords) -> None:
    def lossy(accuracy):
        interval = accuracy.interval.model_copy(update={"low": -0.02, "high": -0.006})
        return accuracy.model_copy(update={"difference": -0.013, "interval": interval})

    artifacts = tuple(a.model_copy(update={"accuracy": lossy(a.accuracy)}) for a in records.parity.artifacts)
    parity = records.parity.model_copy(update={"artifacts": artifacts})
    tile = RunView(RunRecords(records.bench, parity)).tiles[-1]
    assert (tile.answer, tile.figure) == ("-1.3", "points")


def test_what_was_trained_on_what(view: RunView) -> None:
    assert (view.model, view.data) == ("tf_efficientnet_lite0", "cifar10")
    assert view.trained == [
        "128 x 128",
        "10 classes",
        "40,888 training images",
        "6 + 10 epochs in 2 stages, 24 min",
        "3.4 million parameters",
    ]


def test_of_a_path_to_the_data_only_its_last_part_is_shown(records: RunRecords) -> None:
    bench = records.bench.model_copy(update={"data": "/home/somebody/photographs"})
    assert RunView(RunRecords(bench)).data == "photographs"


def test_mistakes_come_by_confidence_and_by_pair(view: RunView) -> None:
    assert len(view.mistakes) == FIRST_MISTAKES
    shares = [float(picture.probability.strip("<>%")) for picture in view.mistakes]
    assert shares == sorted(shares, reverse=True)
    assert all(picture.source.startswith("data:image/jpeg") for picture in view.mistakes)
    assert [pair.count for pair in view.pairs] == sorted((pair.count for pair in view.pairs), reverse=True)
    assert sum(len(pair.pictures) for pair in view.pairs) == 20
    assert [pair.opened for pair in view.pairs].count(True) == 1
    assert view.more_mistakes == view.records.review.mistakes_in_all - 20


def test_of_a_thousand_pairs_the_frequent_ones_and_those_with_pictures_are_listed(records: RunRecords) -> None:
    pairs = tuple(ConfusedPair(label=f"a{n}", predicted="b", count=1) for n in range(1000))
    review = records.review.model_copy(update={"pairs": pairs, "mistakes": ()})
    assert len(RunView(RunRecords(records.bench, review=review)).pairs) == MOST_PAIRS


def test_a_run_without_anything_else_has_its_benchmark(records: RunRecords) -> None:
    view = RunView(RunRecords(records.bench))
    assert [tile.answer for tile in view.tiles] == ["not evaluated", "nothing yet"]
    assert view.reasons == [
        "There is nothing to recommend: no artifact was compared with PyTorch yet, which 'toolkit verify' does."
    ]
    empty = (view.curves, view.confusion, view.calibration, view.suspected, view.flips, view.classes, view.recipe)
    assert set(empty) == {None}
    assert (view.mistakes, view.pairs, view.verdicts, view.data_lines) == ([], [], [], [])


def test_what_was_not_measured_says_of_which_row_and_why(view: RunView) -> None:
    assert view.unmeasured[0] == "onnx on cuda: asked for cuda, onnxruntime 1.24.0 runs it on cpu"


def test_a_run_that_was_renamed_has_its_new_name(records: RunRecords) -> None:
    moved = replace(records, folder=RunFolder(records.folder.path.parent / "moved"))
    assert RunView(moved).name == "moved"
    assert RunView(moved).commands[-1] == "toolkit bench moved-again"


def test_an_accuracy_of_three_images_is_said_to_be_hardly_known(records: RunRecords) -> None:
    three = records.evaluation.model_copy(
        update={"images": 3, "top1": 1.0, "top1_interval": Interval(low=0.4385, high=1.0)}
    )
    assert RunView(replace(records, evaluation=three)).warnings[-1] == (
        "The accuracy is that of 3 test images: it lies anywhere from 44 to 100% (95% interval)."
    )


def test_of_many_pairs_a_dozen_stand_in_the_page(view: RunView, records: RunRecords) -> None:
    assert view.first_pairs == min(len(view.pairs), FIRST_PAIRS if len(view.pairs) > FIRST_PAIRS + 3 else 99)
    pairs = tuple(ConfusedPair(label=f"a{n}", predicted="b", count=1) for n in range(100))
    review = records.review.model_copy(update={"pairs": pairs, "mistakes": ()})
    assert RunView(replace(records, review=review)).first_pairs == FIRST_PAIRS


def test_labels_that_nobody_looked_at_say_why(records: RunRecords) -> None:
    review = records.review.model_copy(update={"label_issues": None, "not_looked": "there are 12 images of a class"})
    view = RunView(RunRecords(records.bench, review=review))
    assert view.suspected == "Labels were not looked at: there are 12 images of a class."
    assert view.suspects == []


def test_a_failed_parity_and_a_busy_machine_stand_on_top(records: RunRecords) -> None:
    bad = records.parity.artifacts[0].model_copy(update={"passed": False})
    parity = records.parity.model_copy(update={"passed": False, "artifacts": (bad, *records.parity.artifacts[1:])})
    assert RunView(RunRecords(records.bench, parity)).warnings == [
        "The machine was busy while it measured: 22% of the processor time went to other programs.",
        "Parity failed: torchscript. What failed is never recommended.",
    ]


def test_only_what_may_be_shipped_can_be_on_the_front(view: RunView) -> None:
    points = {point.name: point.may_ship for point in view._points("cpu")}
    assert points == {
        "eager": False,
        "channels_last": False,
        "torchscript": True,
        "onnx": True,
        "onnx-int8": True,
        "openvino": True,
    }
