"""Reports as a session of Python and a notebook show them."""

from __future__ import annotations

from toolkit.api.shown import ShownBench, ShownParity, escaped, table_html
from toolkit.report.tables import Column, Line, Table
from toolkit.results import BenchReport, ParityReport


def test_a_report_of_verify_shows_its_table_and_is_the_same_report(parity: ParityReport) -> None:
    shown = ShownParity.of(parity)
    assert isinstance(shown, ParityReport)
    assert shown.to_json() == parity.to_json()
    assert shown.passed is False
    assert repr(shown).startswith("digits-1: parity with PyTorch 2.9.0 FAILED\n")
    assert "torchscript: 1 label flipped although the margin was 0.5" in repr(shown)
    assert str(shown) == repr(shown)
    assert "\x1b" not in repr(shown)
    assert "digits-1: parity with PyTorch 2.9.0 ✗ FAILED" in shown._repr_html_()
    assert "torchscript: 1 label flipped although the margin was 0.5" in shown._repr_html_()


def test_a_report_of_bench_shows_its_table_and_is_the_same_report(bench: BenchReport) -> None:
    shown = ShownBench.of(bench)
    assert isinstance(shown, BenchReport)
    assert shown.to_json() == bench.to_json()
    assert "1234 [1173, 1272]" in repr(shown)
    assert "1234 [1173, 1272]" in shown._repr_html_()
    assert "asked for cuda, onnxruntime 1.20.0 runs it on cpu" in shown._repr_html_()


def test_a_report_that_is_read_back_shows_itself_too(parity: ParityReport) -> None:
    assert repr(ShownParity.from_json(parity.to_json())) == repr(ShownParity.of(parity))


def test_a_row_without_figures_fills_the_table() -> None:
    table = Table((Column("a", "left"), Column("b"), Column("c")), (Line(("x",), missing="it <b>fell</b> over"),))
    html = table_html(table)
    assert 'colspan="2"' in html
    assert "it &lt;b&gt;fell&lt;/b&gt; over" in html
    assert html.count("<th ") == 3


def test_text_of_strangers_is_neither_markup_nor_moves_what_is_around_it() -> None:
    assert escaped('<a href="x">&\x1b\u202e') == "&lt;a href=&quot;x&quot;&gt;&amp;\\x1b\\u202e"
