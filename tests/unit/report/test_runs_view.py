"""What the page of several runs shows."""

from __future__ import annotations

import pytest
from full_runs import estimate, provenance, write_full_run

from toolkit.report.records import RunRecords, read_records
from toolkit.report.runs_view import RunsView, machine_of


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> RunRecords:
    return read_records(write_full_run(tmp_path_factory.mktemp("full") / "cifar", images=1000, mistakes=1))


def renamed(records: RunRecords, name: str, **bench) -> RunRecords:
    return RunRecords(
        records.bench.model_copy(update={"run": name, **bench}),
        records.parity,
        records.evaluation,
        None,
        records.record,
    )


def test_runs_of_one_machine_stand_beside_each_other(records: RunRecords) -> None:
    view = RunsView([records, renamed(records, "other")], ["a.html", ""], ())
    assert [[member.name for member in group.members] for group in view.groups] == [["cifar", "other"]]
    assert view.warnings == []
    assert view.groups[0].links == ("a.html", "")
    cells = view.groups[0].table.lines[0].cells
    assert (cells[0], cells[3], cells[5], cells[8]) == ("cifar", "onnx-int8", "onnx-int8", "-0.4 [-1.0, 0.1]")
    assert {"cifar: onnx-int8", "other: onnx-int8"} <= set(_texts(view.groups[0].chart.wide))


def test_the_best_are_named_and_a_difference_that_is_not_shown_is_said(records: RunRecords) -> None:
    faster = tuple(
        row.model_copy(
            update={
                "sweep": (),
                "tuned": (),
                "timings": tuple(
                    each.model_copy(update={"throughput": estimate(9 * each.throughput.median)}) for each in row.timings
                ),
            }
        )
        for row in records.bench.rows
    )
    view = RunsView([records, renamed(records, "fast", rows=faster)], ["", ""], ())
    accurate, fast, level = view.best
    assert accurate.startswith("Most accurate: cifar, ")
    assert fast.startswith("Highest throughput: fast, ")
    assert level == "A difference in accuracy between cifar and fast is not shown: their intervals overlap."


def test_runs_of_two_machines_are_never_compared(records: RunRecords) -> None:
    view = RunsView([records, renamed(records, "b", provenance=provenance("Another CPU"))], ["", ""], ())
    assert [len(group.members) for group in view.groups] == [1, 1]
    assert view.warnings[0].startswith("These runs were measured on 2 machines or with other numbers of threads: ")
    assert view.best == []


def test_so_are_runs_with_other_numbers_of_threads(records: RunRecords) -> None:
    rows = tuple(row.model_copy(update={"threads": 1}) for row in records.bench.rows)
    assert machine_of(renamed(records, "b", rows=rows)) != machine_of(records)


def test_runs_on_other_test_images_say_that_accuracy_is_not_comparable(records: RunRecords) -> None:
    assert records.record is not None
    test = records.record.data.splits["test"].model_copy(update={"fingerprint": "0" * 64})
    data = records.record.data.model_copy(update={"splits": {**records.record.data.splits, "test": test}})
    other = RunRecords(records.bench, records.parity, record=records.record.model_copy(update={"data": data}))
    view = RunsView([records, other], ["", ""], ())
    assert view.warnings == ["They were tested on different images: their accuracies are not comparable."]
    assert view.best == []


def test_a_run_with_nothing_to_ship_says_so_in_its_line(records: RunRecords) -> None:
    view = RunsView([RunRecords(records.bench)], [""], ())
    line = view.groups[0].table.lines[0]
    assert line.cells == ("cifar", records.bench.model)
    assert line.missing is not None
    assert line.missing.startswith("There is nothing to recommend: no artifact was compared with PyTorch yet")
    assert view.groups[0].chart is None


def _texts(drawing: str) -> list[str]:
    import re

    return re.findall(r"<text[^>]*>([^<]*)</text>", drawing)
