"""What a person sees at several widths, away from a terminal."""

import io

import pytest
from rich.console import Console

from toolkit.report.terminal import print_bench, print_evaluation, print_parity


def shown(show, record, width):
    text = io.StringIO()
    show(record, Console(file=text, width=width, highlight=False))
    return text.getvalue()


@pytest.mark.parametrize("width", [100, 160])
def test_no_figure_is_cut_and_no_line_is_too_long(bench, width):
    text = shown(print_bench, bench, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "\x1b" not in text
    for cell in ("1234 [1173, 1272]", "131 [125, 135]", "98.1% [96.0, 99.1]", "channels_last", "3.09x", "11.4", "13.5", "45.6", "512"):
        assert cell in text
    assert "onnx on cuda is not measured: asked for cuda, onnxruntime 1.20.0 runs it on cpu" in text


def test_one_table_where_it_fits_and_two_where_it_does_not(bench):
    assert shown(print_bench, bench, 160).count("channels_last") == 1
    assert shown(print_bench, bench, 100).count("channels_last") == 2


def test_a_narrow_terminal_wraps_instead_of_cutting(bench):
    text = shown(print_bench, bench, 60)
    assert "…" not in text


def test_a_row_without_figures_says_so_in_the_table(bench):
    line = next(line for line in shown(print_bench, bench, 160).splitlines() if "cuda" in line)
    assert line.split() == ["onnx", "cuda", "not", "measured"]


@pytest.mark.parametrize("width", [100, 160])
def test_verdicts_and_their_reasons(parity, width):
    text = shown(print_parity, parity, width)
    assert "digits-1: parity with PyTorch 2.9.0 FAILED" in text
    assert "torchscript: 1 label flipped although the margin was 0.5" in text
    assert next(line for line in text.splitlines() if "onnx" in line).split() == (
        ["onnx", "cpu", "passed", "264", "1.2e-06", "3.0e-07", "0.9999999", "100.00%", "0", "of", "0"]
    )
    passed = parity.model_copy(update={"passed": True, "artifacts": parity.artifacts[:1]})
    assert "parity with PyTorch 2.9.0 passed" in shown(print_parity, passed, width)


def test_few_classes_are_all_listed(evaluation):
    text = shown(print_evaluation, evaluation, 100)
    assert text.startswith("top-1 95.0% [92.4, 96.7], top-5 100.0% on 400 test images")
    assert all(f"digit {index}" in text for index in range(10))
    assert "most frequent mistakes: digit 0 taken for digit 1 (20)" in text


def test_of_many_classes_the_worst_are_listed(make_evaluation):
    evaluation = make_evaluation([f"kind {index}" for index in range(40)])
    text = shown(print_evaluation, evaluation, 100)
    assert "the 10 classes with the lowest recall, of 40:" in text
    assert "kind 20 " in text
    assert "kind 39" not in text


def test_labels_are_never_read_as_markup(make_evaluation):
    text = shown(print_evaluation, make_evaluation(["[red]a[/red]", ":smile:", "c"]), 100)
    assert "[red]a[/red]" in text
    assert ":smile:" in text
