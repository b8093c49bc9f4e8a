"""The comparison as CSV, read back."""

import csv
import io

import pytest

from toolkit.report.csv_table import HEADER, bench_csv, cell


def test_raw_numbers_of_every_row_and_batch_size(bench):
    rows = list(csv.DictReader(io.StringIO(bench_csv(bench))))
    assert [(row["name"], row["device"], row["batch_size"]) for row in rows] == [
        ("eager", "cpu", "1"),
        ("eager", "cpu", "32"),
        ("channels_last", "cpu", "1"),
        ("channels_last", "cpu", "32"),
        ("onnx", "cpu", "1"),
        ("onnx", "cpu", "32"),
        ("onnx", "cuda", ""),
    ]
    onnx = rows[4]
    assert float(onnx["throughput_images_per_second"]) == 131.25
    assert float(onnx["throughput_relative_to_eager"]) == 1.3125
    assert float(onnx["latency_p95_seconds"]) == bench.rows[2].timings[0].latency.p95_seconds
    assert (onnx["peak_memory_bytes"], onnx["size_bytes"], onnx["load_seconds"]) == ("512000000", "13456789", "0.0456")
    assert (onnx["test_accuracy"], onnx["test_accuracy_low"], onnx["test_images"], onnx["missing"]) == (
        "0.98056",
        "0.9605",
        "360",
        "",
    )


def test_why_and_the_time_from_files_to_labels_are_columns(explained):
    rows = list(csv.DictReader(io.StringIO(bench_csv(explained))))
    assert rows[4]["why"] == rows[5]["why"] == "60% of an image's time from file to label is decoding"
    assert {name: value for name, value in rows[4].items() if name.startswith("end_to_end")} == {
        "end_to_end_images_per_second": "250.0",
        "end_to_end_low_images_per_second": "240.0",
        "end_to_end_high_images_per_second": "255.0",
        "end_to_end_processor_seconds_per_image": "0.0075",
        "end_to_end_decode_seconds": "0.006",
        "end_to_end_resize_seconds": "0.001",
        "end_to_end_call_seconds": "0.002",
        "end_to_end_other_seconds": "0.001",
    }
    assert {value for name, value in rows[0].items() if name.startswith("end_to_end") or name == "why"} == {""}


def test_a_missing_row_has_its_reason_and_empty_fields(bench):
    row = list(csv.DictReader(io.StringIO(bench_csv(bench))))[-1]
    assert row["missing"] == "asked for cuda, onnxruntime 1.20.0 runs it on cpu"
    assert {row[name] for name in HEADER if name.startswith(("throughput", "latency", "test_accuracy"))} == {""}


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "=="])
def test_a_text_that_a_spreadsheet_would_compute_is_kept_a_text(text):
    assert cell(text) == f"'{text}"
    assert cell(text, "./") == f"./{text}"


@pytest.mark.parametrize("text", ["cat", "-1", "+1", "-0.5", "=", "+", "-", "a=b", "", "猫", "12"])
def test_labels_that_are_signs_and_numbers_stay_as_they_are(text):
    assert cell(text) == text


def test_every_text_of_the_table_is_guarded(bench):
    changed = bench.model_copy(update={"run": "=cmd|x"})
    assert {row["run"] for row in csv.DictReader(io.StringIO(bench_csv(changed)))} == {"'=cmd|x"}


def test_what_later_versions_measured(settled_bench):
    row = list(csv.DictReader(io.StringIO(bench_csv(settled_bench))))[5]
    expected = {
        "throughput_relative_to_eager": "1.3125",
        "throughput_relative_low": "1.27",
        "throughput_relative_high": "1.36",
        "settled": "False",
        "warm": "False",
        "warm_up_seconds": "0.21",
        "processor_seconds_per_image": "0.015",
        "flops_per_second": "12300000000.0",
        "share_of_peak": "0.25",
        "cold_start_seconds": "2.345",
        "memory_above_idle_bytes": "90000000",
        "provider": "CPUExecutionProvider",
        "precision": "float32",
        "tf32": "",
    }
    assert {name: row[name] for name in expected} == expected
