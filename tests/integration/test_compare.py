"""The gate of ``toolkit compare`` as a CI job meets it: exit codes of real commands, and a slowdown that is real."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import commands
import pytest
from bench_reports import noisy_report

from toolkit.bench import BenchOptions
from toolkit.bench.rows import Plan
from toolkit.comparison import Limits, compare_figures, side_of_run, together
from toolkit.run_folder import RunFolder

SEEDS = 8
FILES = ("--junit", "out/junit.xml", "--markdown", "out/compare.md", "--json", "out/compare.json")


def gate(folder: Path, a: str, b: str) -> int:
    done = commands.run(folder, "compare", a, b, "--fail-over", "5%", *FILES)
    assert "Traceback" not in done.stderr
    return done.returncode


def test_a_planted_slowdown_of_a_tenth_always_fails_the_gate_and_none_never_does(tmp_path: Path) -> None:
    """Rounds of 2% noise: what a quiet machine gives."""
    failed = {"none": 0, "a tenth": 0}
    noisy_report(0).save(tmp_path / "a.json")
    for seed in range(1, SEEDS + 1):
        for name, slowed in (("none", {}), ("a tenth", {"onnx": 1.1})):
            noisy_report(seed, slowed).save(tmp_path / "b.json")
            code = gate(tmp_path, "a.json", "b.json")
            failed[name] += code
            root = ET.parse(tmp_path / "out" / "junit.xml").getroot()
            assert (root.attrib["failures"] != "0") == bool(code)
            text = (tmp_path / "out" / "compare.md").read_text(encoding="utf-8")
            assert text.startswith("### toolkit compare: " + ("**FAILED**" if code else "passed"))
    assert failed == {"none": 0, "a tenth": SEEDS}


@pytest.mark.exhaustive
def test_calls_that_really_take_longer_fail_the_gate(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half as long again, because other tests keep this machine busy; benchmarks.honesty has a tenth."""
    assert commands.run(job, "verify", "--run", "small").returncode == 0
    run = RunFolder(job / "artifacts" / "small")
    shutil.copytree(run.path, job / "artifacts" / "other")
    other = RunFolder(job / "artifacts" / "other")
    planned = together.artifact_plan

    def plan(bundle: Any, artifact: Any, device: str, threads: int) -> Plan:
        made = planned(bundle, artifact, device, threads)
        if bundle.path != other.bundle or artifact.format != "onnx":
            return made
        return replace(made, factory="benchmarks.honesty:slowed", arguments={**made.arguments, "share": 0.5})

    monkeypatch.setattr(together, "artifact_plan", plan)
    options = BenchOptions("cpu", 1, (1,), rounds=24, min_seconds=0.1)
    figures = together.measure_together(side_of_run(run), side_of_run(other), options)
    found = compare_figures(*figures, Limits(throughput=0.05), interleaved=True)
    verdicts = {row.name: row.speeds[0].verdict for row in found.rows}
    assert verdicts.pop("onnx") == "slower"
    assert set(verdicts.values()) == {"no difference shown"}
    assert [failure.split(" at ")[0] for failure in found.gates[0].failures] == ["onnx on cpu"]
    assert all(row.accuracy is not None and row.accuracy.difference == 0 for row in found.rows)
