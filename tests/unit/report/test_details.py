"""The tables behind the first one."""

from __future__ import annotations

import pytest
from full_runs import row, write_full_run

from toolkit.report import details, figures
from toolkit.report.records import RunRecords, read_records
from toolkit.report.tables import Table


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> RunRecords:
    return read_records(write_full_run(tmp_path_factory.mktemp("full") / "cifar", images=100, mistakes=2))


def heads(table: Table) -> list[str]:
    return [column.header for column in table.columns]


def test_classes_with_their_images_and_scores(records: RunRecords) -> None:
    table = details.class_table(records)
    assert table is not None
    assert heads(table) == ["class", "train images", "validation images", "test images", "precision", "recall"]
    assert table.lines[1].cells[:4] == ("automobile", "4037", "4037", "10")


def test_classes_of_the_evaluation_alone_and_of_nothing(records: RunRecords) -> None:
    table = details.class_table(RunRecords(records.bench, evaluation=records.evaluation))
    assert table is not None
    assert heads(table) == ["class", "test images", "precision", "recall"]
    assert table.lines[0].cells[:2] == ("airplane", "10")
    assert details.class_table(RunRecords(records.bench)) is None


def test_settings_with_what_they_are_best_for() -> None:
    table = details.settings_table([row("onnx", 100, 90), row("eager", 100, 90)])
    assert len(table.lines) == 16
    assert sorted(line.cells[-1] for line in table.lines if line.cells[-1]) == ["latency", "throughput"]
    assert {line.cells[0] for line in table.lines} == {"onnx"}


def test_flips_up_to_a_number(records: RunRecords) -> None:
    assert records.parity is not None
    table = details.flip_table(records.parity, 3)
    assert table.lines[0].cells == (
        "onnx-int8",
        "automobile/00001.png",
        "automobile",
        "automobile",
        "bird",
        "0.040",
        "yes",
    )
    assert len(table.lines) == 3
    assert details.flip_table(records.parity, 100).lines[-1].cells[-1] == "no"


def test_mistakes_with_their_files(records: RunRecords) -> None:
    assert records.review is not None
    image = records.review.mistakes[0]
    line = details.mistake_table(records.review.mistakes).lines[0]
    assert line.cells == (image.label, image.predicted, figures.percent(image.probability), f"test: {image.name}")
    in_its_split = image.model_copy(update={"name": "test/cat/1.jpg"})
    assert details.place(in_its_split) == "test/cat/1.jpg"
    assert details.place(in_its_split.model_copy(update={"split": "validation"})) == "validation: test/cat/1.jpg"


def test_a_suspected_label_is_called_a_label_and_not_the_truth(records: RunRecords) -> None:
    assert records.review is not None
    assert records.review.label_issues is not None
    image = records.review.label_issues.suspects[0]
    table = details.suspect_table((image,))
    assert [column.header for column in table.columns] == ["label", "looks like", "probability", "of its label", "file"]
    shares = (figures.percent(image.probability), figures.percent(image.label_probability))
    assert table.lines[0].cells == (image.label, image.predicted, *shares, f"train: {image.name}")


def test_duplicates_of_a_run(records: RunRecords) -> None:
    table = details.duplicate_table(records, 10)
    assert table is not None
    assert table.lines[0].cells == ("the same bytes", "train, test", "airplane, automobile", "cat/1.png, dog/2.png")
    assert details.duplicate_table(RunRecords(records.bench), 10) is None
