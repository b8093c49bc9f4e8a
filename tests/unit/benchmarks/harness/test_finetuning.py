"""How the benchmarks call ``toolkit finetune``."""

import sys

from benchmarks.harness.finetuning import toolkit_command


def test_module_stands_in_for_a_missing_command(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert toolkit_command() == [str(tmp_path / "python"), "-m", "toolkit.cli.main"]
    script = tmp_path / ("toolkit.exe" if sys.platform == "win32" else "toolkit")
    script.touch()
    assert toolkit_command() == [str(script)]
