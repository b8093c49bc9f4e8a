"""``report.md``."""

import pytest

from toolkit.report import markdown
from toolkit.report.records import RunRecords
from toolkit.results import Load


def bench_markdown(bench, parity, evaluation):
    return markdown.bench_markdown(RunRecords(bench, parity, evaluation))


def test_the_whole_report(bench, parity, evaluation):
    text = bench_markdown(bench, parity, evaluation)
    assert text.startswith(
        "# digits-1: timm:tf_efficientnet_lite0, 64 x 64, 10 classes, fine-tuned on digits\n\nTop-1 95.0% [92.4, 96.7]"
    )
    assert text.index("\n- For latency, ship onnx. Half of all calls") < text.index("## Comparison")
    assert text.endswith(
        "Made by `toolkit bench --run digits-1`; written again from its records by `toolkit report --run digits-1`.\n"
    )
    assert "| onnx | cpu | 32 | 1234 [1173, 1272] | 3.09x | 25.9 | 28.5 | 38.9 |" in text
    assert "- `onnx` on cuda: asked for cuda, onnxruntime 1.20.0 runs it on cpu" in text
    assert "Example CPU, 8 cores, 16.0 GB memory, Linux 6.1; GPU: none." in text
    assert "2 CPU threads for every row" in text
    assert "torch 2.9.0, onnxruntime 1.20.0" in text
    assert "7 rounds are interleaved" in text
    assert "| torchscript | cpu | FAILED |" in text
    assert "- `torchscript`: 1 label flipped although the margin was 0.5" in text
    assert "| digit 0 | 40 | 100.0% | 50.0% |" in text
    assert "Most frequent mistakes: digit 0 taken for digit 1 (20)." in text


def test_why_files_to_labels_and_best_settings_are_sections_of_their_own(explained):
    text = bench_markdown(explained, None, None)
    assert "## Why\n\n- `onnx on cpu`: 60% of an image's time from file to label is decoding.\n" in text
    assert "| onnx | cpu | 250 [240, 255] | 7.50 | 60.0% | 10.0% | 20.0% | 10.0% |" in text
    assert "Not to be compared with the time of the model alone." in text
    assert "| onnx | cpu | throughput | 8 | 1 | 2 | spin | 1500 | 12.3 |" in text
    assert "Decoding and resizing of image files" not in text


def test_without_them_the_report_says_that_files_were_not_measured(bench):
    text = bench_markdown(bench, None, None)
    assert "## Why" not in text
    assert "- Decoding and resizing of image files, and anything else around the call of the model." in text


def test_every_table_line_has_as_many_cells_as_its_head(bench, parity, evaluation):
    blocks = [
        block.splitlines() for block in bench_markdown(bench, parity, evaluation).split("\n\n") if block.startswith("|")
    ]
    assert len(blocks) == 4
    for block in blocks:
        assert len({line.replace("\\|", "").count("|") for line in block}) == 1


def test_parts_without_a_record_are_left_out(bench):
    text = bench_markdown(bench, None, None)
    assert "## Parity" not in text
    assert "## Accuracy" not in text


@pytest.mark.parametrize(
    ("gpu", "devices", "said"),
    [
        (None, {"cpu"}, "GPU speed: there is no CUDA device on this machine."),
        ("Example GPU", {"cpu"}, "GPU speed: CUDA was not asked for, or no engine here can use Example GPU."),
        ("Example GPU", {"cuda"}, "CPU speed: only CUDA was asked for."),
    ],
)
def test_what_was_not_measured_is_said(bench, gpu, devices, said):
    hardware = bench.provenance.hardware.model_copy(update={"gpu": gpu})
    provenance = bench.provenance.model_copy(update={"hardware": hardware})
    rows = tuple(row for row in bench.rows if row.device in devices)
    assert said in bench_markdown(bench.model_copy(update={"provenance": provenance, "rows": rows}), None, None)


def test_labels_are_not_read_as_markdown(bench, make_evaluation):
    evaluation = make_evaluation(["a|b", "*c*", "<script>", "`d`", "[e](f)", "_g_", "h_i", "new\nline"])
    text = bench_markdown(bench, None, evaluation)
    for label in ("a\\|b", "\\*c\\*", "\\<script>", "\\`d\\`", "[e]\\(f)", "\\_g\\_", "h_i", "new line"):
        assert f"| {label} | 50 |" in text


def test_a_leak_is_said_below_the_accuracy(bench, leaking):
    assert "37 of 400 test images are also in train; without them 91.2%" in bench_markdown(bench, None, leaking)


def test_costs_marks_and_the_state_of_the_machine(settled_bench):
    text = bench_markdown(settled_bench, None, None)
    assert "| onnx | cpu | 32 | 1234 [1173, 1272]\\*^ | 1.31x [1.27, 1.36] |" in text
    assert "- \\* never settled: the interval was still wider than 2% to either side" in text
    assert "**The machine was busy.**" in text
    assert "| onnx | cpu | 1 | 15.0 | 12.3 | 25% | 0.210 | 90.0 |" in text
    busy = (
        "load average 1.50, 34.0% of the processor time went to other programs, 0.0% was stolen by the hypervisor, "
        "2500 MHz."
    )
    assert f"- Before the benchmark: {busy}\n- During the benchmark: {busy}" in text
    assert "- Fastest float32 matrix product on CPU with 2 threads: 49.2 GFLOP/s." in text
    assert "- One image takes 0.094 GFLOP." in text


def test_a_report_of_an_older_version_says_nothing_of_what_it_did_not_measure(bench):
    text = bench_markdown(bench, None, None)
    for words in ("## What it costs", "Before the benchmark", "matrix product on", "One image takes", "never settled"):
        assert words not in text


def test_a_system_that_does_not_tell_how_busy_it_was(settled_bench):
    silent = Load(load_average=None, busy_share=None, steal_share=None, frequency_mhz=None)
    machine = settled_bench.machine.model_copy(update={"during": silent})
    text = bench_markdown(settled_bench.model_copy(update={"machine": machine}), None, None)
    assert "- Before the benchmark: " in text
    assert "- During the benchmark: " not in text
