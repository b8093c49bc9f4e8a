from __future__ import annotations

from pathlib import Path

from benchmarks.harness.bare import open_bare


def test_a_session_sleeps_where_its_threads_are_said(colour_bundle: Path) -> None:
    said = open_bare(colour_bundle / "model.onnx", 1).get_session_options()
    assert said.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert said.intra_op_num_threads == 1
