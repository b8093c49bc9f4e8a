"""What stands below the comparison."""

from __future__ import annotations

from toolkit.report.bench_sections import end_to_end_note, end_to_end_table, reasons, tuned_table
from toolkit.results import BenchReport


def test_a_row_of_which_it_is_known_says_what_limits_it(explained: BenchReport) -> None:
    assert reasons(explained) == [("onnx on cpu", "60% of an image's time from file to label is decoding")]


def test_from_files_to_labels(explained: BenchReport) -> None:
    table = end_to_end_table(explained)
    assert [line.cells for line in table.lines] == [
        ("onnx", "cpu", "250 [240, 255]", "7.50", "60.0%", "10.0%", "20.0%", "10.0%")
    ]
    assert len(table.columns) == len(table.lines[0].cells)


def test_how_to_read_it_says_where_there_were_no_files(explained: BenchReport) -> None:
    assert end_to_end_note(explained).startswith("32 files of test images, already in memory")
    row = explained.rows[2]
    assert row.end_to_end is not None
    encoded = row.model_copy(update={"end_to_end": row.end_to_end.model_copy(update={"encoded_as_png": True})})
    assert end_to_end_note(explained.model_copy(update={"rows": (encoded,)})).startswith(
        "32 test images that were written as PNG once, already in memory"
    )


def test_the_best_settings(explained: BenchReport) -> None:
    table = tuned_table(explained)
    assert [line.cells for line in table.lines] == [
        ("onnx", "cpu", "latency", "1", "1", "1", "-", "1500", "12.3"),
        ("onnx", "cpu", "throughput", "8", "1", "2", "spin", "1500", "12.3"),
    ]
    assert len(table.columns) == len(table.lines[0].cells)


def test_a_report_without_any_of_it_has_none_of_it(bench: BenchReport) -> None:
    assert reasons(bench) == []
    assert end_to_end_table(bench).lines == tuned_table(bench).lines == ()
    assert end_to_end_note(bench) == ""
