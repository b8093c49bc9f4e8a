"""What a person sees at several widths, away from a terminal."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from toolkit.report.terminal import print_bench, print_evaluation, print_parity, print_review
from toolkit.results import Bisection, DivergedNode, LabelIssues, Review, ReviewedImage


def shown(show, record, width):
    text = io.StringIO()
    show(record, Console(file=text, width=width, highlight=False))
    return text.getvalue()


@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_figure_is_cut_and_no_line_is_too_long(bench, width):
    text = shown(print_bench, bench, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "\x1b" not in text
    for cell in (
        "1234 [1173, 1272]",
        "131 [125, 135]",
        "98.1% [96.0, 99.1]",
        "channels_last",
        "3.09x",
        "11.4",
        "13.5",
        "45.6",
        "512",
    ):
        assert cell in text
    assert "onnx on cuda is not measured: asked for cuda, onnxruntime 1.20.0 runs it on cpu" in text


def test_below_the_table_a_line_says_why_and_the_other_figures_stand_apart(explained):
    lines = shown(print_bench, explained, 100).splitlines()
    why = lines.index("onnx on cpu: 60% of an image's time from file to label is decoding")
    assert why < lines.index("from the bytes of image files to labels") < lines.index("best settings")
    assert ["onnx", "cpu", "throughput", "8", "1", "2", "spin", "1500", "12.3"] in [line.split() for line in lines]
    assert max(map(len, lines)) <= 100


def test_one_table_where_it_fits_and_two_where_it_does_not(bench):
    assert shown(print_bench, bench, 160).count("channels_last") == 1
    assert shown(print_bench, bench, 100).count("channels_last") == 2


def test_a_narrow_terminal_wraps_instead_of_cutting(bench):
    text = shown(print_bench, bench, 60)
    assert "…" not in text


def test_a_row_without_figures_says_so_in_the_table(bench):
    line = next(line for line in shown(print_bench, bench, 160).splitlines() if "cuda" in line)
    assert line.split() == ["onnx", "cuda", "not", "measured"]


@pytest.mark.parametrize("width", [100, 180])
def test_marks_are_explained_and_a_busy_machine_is_said_below_the_table(settled_bench, width):
    text = shown(print_bench, settled_bench, width)
    assert max(map(len, text.splitlines())) <= width
    assert "1234 [1173, 1272]*^" in text
    assert "1.31x [1.27, 1.36]" in text
    flat = " ".join(text.split())
    assert "* never settled: the interval was still wider than 2% to either side" in flat
    assert "^ never became warm:" in flat
    assert flat.endswith("The machine was busy.")


@pytest.mark.parametrize("width", [80, 100, 160])
def test_verdicts_and_their_reasons(parity, width):
    text = shown(print_parity, parity, width)
    assert "digits-1: parity with PyTorch 2.9.0 FAILED" in text
    assert "torchscript: 1 label flipped although the margin was 0.5" in text
    assert next(line for line in text.splitlines() if "onnx" in line).split() == (
        ["onnx", "cpu", "passed", "1.2e-06", "3.0e-07", "1.21x", "100.00%", "0/0"]
    )
    assert "preprocessing: passed, 16 hard files" in text
    assert "passed: opens 2 of 3 (not broken); outputs 1 of 3 (not torchscript, broken)" in " ".join(text.split())
    passed = parity.model_copy(update={"passed": True, "artifacts": parity.artifacts[:1]})
    assert "parity with PyTorch 2.9.0 passed" in shown(print_parity, passed, width)


def test_many_reasons_are_cut_short(parity):
    failures = tuple(f"reason {index}" for index in range(9))
    bad = parity.artifacts[1].model_copy(update={"failures": failures})
    text = shown(print_parity, parity.model_copy(update={"artifacts": (bad,)}), 160)
    assert "reason 4" in text
    assert "reason 5" not in text
    assert "torchscript: and 4 more reasons, in parity.json" in text


def test_a_bisection_names_the_node_and_shows_the_way_there(parity):
    nodes = [
        DivergedNode(node=f"conv{index}", operator="Conv", module=f"layer{index}.conv", tensor=f"c{index}", error=error)
        for index, error in enumerate((0.0, 0.25, 0.5))
    ]
    found = Bisection(
        reference="reference.onnx",
        samples=6,
        compared=3,
        allowed=1e-5,
        first=nodes[1],
        path=tuple(nodes),
        lacking=("relu",),
    )
    bad = parity.artifacts[1].model_copy(update={"bisection": found})
    text = shown(print_parity, parity.model_copy(update={"artifacts": (bad,)}), 160)
    assert (
        "torchscript: the first node that diverges is conv1 (Conv) of layer1.conv, by 0.25 of its largest value" in text
    )
    assert [line.split() for line in text.splitlines() if line.strip().startswith("conv")] == [
        ["conv0", "Conv", "layer0.conv", "0"],
        ["conv1", "Conv", "layer1.conv", "2.5e-01", "<-", "first"],
        ["conv2", "Conv", "layer2.conv", "5.0e-01"],
    ]
    assert "torchscript: its graph lacks relu" in text
    same = found.model_copy(update={"first": None, "path": (), "lacking": ()})
    text = shown(
        print_parity, parity.model_copy(update={"artifacts": (bad.model_copy(update={"bisection": same}),)}), 160
    )
    assert "all 3 nodes are within 1e-05 of the reference" in text


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


def test_what_a_name_holds_steers_no_terminal(parity, bench):
    hostile = parity.model_copy(update={"run": "a\x1b[31mrun"})
    assert "\x1b" not in shown(print_parity, hostile, 160)
    assert "a\\x1b[31mrun: parity" in shown(print_parity, hostile, 160)
    renamed = bench.model_copy(update={"rows": (bench.rows[0].model_copy(update={"name": "a\x9brow"}),)})
    assert "\x9b" not in shown(print_bench, renamed, 160)


def test_a_leak_is_said_below_the_accuracy(leaking):
    text = shown(print_evaluation, leaking, 160)
    assert text.splitlines()[1].startswith("37 of 400 test images are also in train; without them 91.2% (95% interval")


def review(issues, not_looked=None):
    return Review(
        mistakes=(),
        mistakes_in_all=4,
        pairs=(),
        calibration=(),
        label_issues=issues,
        not_looked=not_looked,
        class_images={"train": (30, 30), "validation": (5, 5), "test": (12, 13)},
    )


def test_what_a_person_should_look_at_is_two_lines():
    image = ReviewedImage(
        split="train",
        name="cats/a\x1b[31m.jpg",
        label="cat",
        predicted="dog",
        probability=0.9,
        label_probability=0.1,
        thumbnail=None,
    )
    issues = LabelIssues(
        looked_at=95, estimated_wrong=2, folds=5, features="made", accuracy=0.93, suspects=(image,), limits=()
    )

    def show(record, console):
        print_review(record, Path("artifacts/run/review.json"), console)

    assert shown(show, review(issues), 160).splitlines() == [
        "mistakes: 4 of 25 test images; listed in artifacts/run/review.json",
        "labels that look wrong to a classifier that is right on 93.0%: at least 2 of 95, "
        "first cats/a\\x1b[31m.jpg (cat, not dog?)",
    ]
    none = issues.model_copy(update={"estimated_wrong": 0})
    line = "labels: none of 95 stands out as wrong to a classifier that is right on 93.0%"
    assert shown(show, review(none), 160).splitlines()[1] == (
        line + "; the most suspect is cats/a\\x1b[31m.jpg (cat, not dog?)"
    )
    assert shown(show, review(none.model_copy(update={"suspects": ()})), 160).splitlines()[1] == line
    assert shown(show, review(None, "a reason"), 100).splitlines()[1] == "labels were not looked at: a reason"
