"""A comparison for people: what came of it first."""

from __future__ import annotations

import io

import pytest
from bench_reports import HARDWARE, noisy_report, provenance, report, row, timing
from bench_rows import missing
from rich.console import Console

from toolkit.comparison import Limits, compare_figures
from toolkit.comparison.sides import figures_of_report
from toolkit.report import comparison_markdown, print_comparison
from toolkit.report.comparison import comparison_headline, comparison_notes, comparison_tables, side_sentence
from toolkit.results import BenchReport, Comparison

LIMITS = Limits(throughput=0.05, accuracy=0.01)


def compared(a: BenchReport, b: BenchReport, limits: Limits | None = None, **how: bool) -> Comparison:
    return compare_figures(figures_of_report(a, "run"), figures_of_report(b, "report"), limits, **how)


@pytest.fixture(scope="module")
def slower() -> Comparison:
    return compared(noisy_report(1), noisy_report(2, {"onnx": 1.1}), LIMITS)


def test_the_headline_says_what_came_of_it(slower: Comparison) -> None:
    assert comparison_headline(slower) == (
        "throughput may fall by 5.00%: FAILED in 2 of 6 lines; accuracy may fall by 1.00%: passed, 3 lines; "
        "B against A in speed: slower in 2, no difference shown in 4; in accuracy: no difference shown in 3"
    )
    nothing = compared(report([missing("onnx", "cpu", "gone")]), noisy_report(1), LIMITS)
    assert comparison_headline(nothing).startswith(
        "throughput may fall by 5.00%: NOT JUDGED, nothing could be compared;"
    )
    assert comparison_headline(nothing).endswith("B against A in speed: nothing")


def test_every_line_has_its_figures(slower: Comparison) -> None:
    speeds, accuracies, files = comparison_tables(slower)
    assert [column.header for column in speeds.columns[:2]] == ["model on cpu", "batch"]
    lines = {line.cells[:2]: line.cells[2:] for line in speeds.lines}
    a, b, ratio, verdict = lines["onnx", "1"]
    assert verdict == "slower"
    assert ratio.startswith("0.9")
    assert float(b) / float(a) == pytest.approx(1 / 1.1, rel=0.04)
    assert lines["eager", "1"][3] == "none shown"
    assert accuracies.lines[1].cells[:3] == ("onnx", "95.0%", "95.0%")
    assert accuracies.lines[1].cells[4] == "none shown"
    assert files.lines[1].cells == ("onnx", "13.0", "13.0", "-", "-")


def test_devices_stand_in_a_column_where_there_are_several() -> None:
    rows = [row("onnx", [timing(1, [100.0] * 8)], device=device) for device in ("cpu", "cuda")]
    speeds, *_ = comparison_tables(compared(report(rows), report(rows)))
    assert [line.cells[:3] for line in speeds.lines] == [("onnx", "cpu", "1"), ("onnx", "cuda", "1")]


def test_the_notes_say_what_a_reader_must_know() -> None:
    timings = [timing(1, [100.0] * 8), timing(8, [100.0] * 8)]
    a = report([row("onnx", timings), row("pt2", timings)])
    b = report(
        [row("onnx", timings[:1], correct=None), missing("pt2", "cpu", "it failed")],
        provenance=provenance(HARDWARE.model_copy(update={"cores": 4})),
    )
    assert comparison_notes(compared(a, b, any_machine=True)) == [
        "machines differ: cores 2 in A, 4 in B",
        "nothing that is the same on both sides was measured at both times: a machine that was slower at one of them "
        "cannot be told from a difference, and --measure can",
        "onnx on cpu at batch 8 is not compared: B was not measured at this batch size",
        "pt2 on cpu is not compared: B has no figures: it failed",
        "accuracy of 1 line is not compared image by image: the test images are the same, and a report is too old to "
        "say which of them were right",
        "the sides were measured at different times, so what the machine did between them is in the ratios: --measure "
        "measures both in turns",
        "B / A is the median over all pairs of rounds (Hodges and Lehmann), not the quotient of the two columns beside "
        "it, and its interval is that of the exact rank test",
        "all 2 intervals hold together with 95% (97.50% each), as far as the machine did the same at both times: of "
        "comparisons in which nothing differs at most 5% call any; of speed, a difference below 1% is never called",
    ]


def test_sides_that_were_measured_in_turns_say_so() -> None:
    notes = comparison_notes(compared(noisy_report(1), noisy_report(2), interleaved=True))
    assert notes[0] == "both sides were measured now, in turns: what slows the machine slows both"


def test_a_side_is_one_line(slower: Comparison) -> None:
    assert side_sentence("A", slower.a) == (
        "A: run made, test:net, 32 x 32, 10 classes, digits, measured 2030-01-02T03:04:05+00:00 on Example CPU, 2 cores"
    )
    unknown = slower.a.model_copy(update={"processor": None, "cores": None, "measured": None})
    assert side_sentence("B", unknown).endswith("digits on an unknown machine")


def test_markdown_begins_with_the_verdict(slower: Comparison) -> None:
    text = comparison_markdown(slower)
    assert text.startswith("### toolkit compare: **FAILED**\n\nthroughput may fall by 5.00%: FAILED in 2 of 6 lines;")
    assert "- onnx on cpu at batch 1 reaches 0.9" in text
    assert text.index("| model on cpu | batch |") < text.index("<details>")
    assert text.rstrip().endswith("</details>")
    assert comparison_markdown(compared(noisy_report(1), noisy_report(2), LIMITS)).startswith(
        "### toolkit compare: passed\n"
    )
    assert comparison_markdown(compared(noisy_report(1), noisy_report(2))).startswith("### toolkit compare\n")


def test_names_of_others_are_not_read_as_markdown() -> None:
    odd = compared(noisy_report(1, run="a|b <script>"), noisy_report(2, data="*x*"))
    text = comparison_markdown(odd)
    assert "a\\|b \\<script>" in text
    assert "\\*x\\*" in text


def test_names_of_others_call_nobody_and_link_to_nothing() -> None:
    name = "@someone #1 GH-2"
    renamed = [
        report(
            [row(name, [timing(1, [speed] * 8), timing(8, [1.0] * 8)]), missing(f"no {name}", "cpu", name)], run=name
        )
        for speed in (100.0, 50.0)
    ]
    text = comparison_markdown(compared(*renamed, LIMITS))
    assert text.count("someone") > 5
    assert text.count("@&#8203;someone #&#8203;1 GH-&#8203;2") == text.count("someone")


@pytest.mark.parametrize("width", [80, 160])
def test_the_terminal_shows_everything_whole(slower: Comparison, width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    print_comparison(slower, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    # No cell is broken over two lines.
    assert any("torchscript" in line and "2707" in line and "]   none shown" in line for line in text.splitlines())
    flat = " ".join(text.split())
    assert "FAILED in 2 of 6 lines" in flat
    assert "onnx on cpu at batch 1 reaches 0.9" in flat
    assert "no difference shown" in flat
    assert "(interval)" in flat


def test_names_of_somebody_else_neither_break_lines_nor_tables() -> None:
    hostile = "x\n# pwned | `a` <b>"
    sides = [
        report(
            [row(hostile, [timing(1, [100.0 + place for place in range(8)][::step])], device="cpu|\nb")], run=hostile
        )
        for step in (1, -1)
    ]
    found = compared(*sides, limits=Limits(throughput=0.05))
    assert "\n" not in side_sentence("A", found.a)
    assert not any("\n" in line for line in comparison_notes(found))
    lines = comparison_markdown(found).splitlines()
    assert not any(line.startswith("# pwned") for line in lines)
    head, rule, *_ = (line for line in lines if line.startswith("|"))
    assert head.replace("\\|", "").count("|") == rule.count("|")
