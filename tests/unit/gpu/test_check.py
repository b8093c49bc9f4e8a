from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from gpu import check
from gpu import steps as gpu_steps
from gpu.machine import RESERVE_SECONDS, CannotError, Line, Machine

TESTS = Path(check.__file__).parents[1]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, check.environment(None, tmp_path), time.monotonic() + 60, "cpu")


def proves(*names: str) -> gpu_steps.Step:
    return lambda _: [Line(name, "proved", "it does") for name in names]


def cannot(_: Machine) -> list[Line]:
    raise CannotError("it broke")


class TestSteps:
    def test_what_needs_a_step_that_broke_says_so_and_the_rest_goes_on(self, machine: Machine) -> None:
        shown: list[str] = []
        steps = [("a", cannot, ()), ("b", proves("b"), ("a",)), ("c", proves("c1", "c2"), ())]
        lines = check.run_steps(machine, steps, shown.append)
        assert [(line.name, line.outcome, line.detail) for line in lines] == [
            ("a", "failed", "it broke"),
            ("b", "could not", "it needs 'a', which did not end"),
            ("c1", "proved", "it does"),
            ("c2", "proved", "it does"),
        ]
        assert len(shown) == 4

    def test_a_gate_that_failed_did_end_so_that_its_figures_are_still_taken(self, machine: Machine) -> None:
        steps = [("gate", lambda _: [Line("gate", "failed", "too far")], ()), ("figures", proves("figures"), ("gate",))]
        assert [line.outcome for line in check.run_steps(machine, steps, lambda _: None)] == ["failed", "proved"]

    def test_a_record_that_lacks_a_field_fails_its_step_alone(self, machine: Machine) -> None:
        def lacks(_: Machine) -> list[Line]:
            return [Line("lacks", "proved", {}["top1"])]

        lines = check.run_steps(machine, [("lacks", lacks, ()), ("next", proves("next"), ())], lambda _: None)
        assert [line.outcome for line in lines] == ["failed", "proved"]

    def test_every_step_needs_only_steps_before_it(self) -> None:
        names = [name for name, _, _ in gpu_steps.STEPS]
        assert all(names.index(need) < names.index(name) for name, _, needs in gpu_steps.STEPS for need in needs)
        assert len(set(names)) == len(names)

    def test_chosen_ones_come_with_all_that_they_need_in_order(self) -> None:
        chosen = [name for name, _, _ in check.chosen_steps(["tests", "verify large"])]
        assert chosen == ["machine", "tests", "finetune large", "export large", "verify large"]

    def test_a_step_that_there_is_not_is_refused_with_those_there_are(self) -> None:
        with pytest.raises(CannotError, match=r"no step 'test': give some of machine, .*, tests, .*bench large"):
            check.chosen_steps(["machine", "test"])


class TestCommands:
    def test_the_end_of_what_a_failed_command_said_is_in_the_message(self, machine: Machine) -> None:
        with pytest.raises(CannotError, match=r"exit code 3: first \| last"):
            machine.run(["-c", "import sys; print('first'); print('last', file=sys.stderr); sys.exit(3)"], 30)

    def test_a_command_is_stopped_at_its_limit(self, machine: Machine) -> None:
        with pytest.raises(CannotError, match="it ran past its 2 s: so far"):
            machine.run(["-c", "import threading; print('so far', flush=True); threading.Event().wait()"], 2)

    def test_nothing_starts_once_the_time_is_over(self, machine: Machine) -> None:
        late = Machine(machine.work, machine.environment, time.monotonic() + RESERVE_SECONDS)
        with pytest.raises(CannotError, match="the time of the whole check was over"):
            late.run(["-c", "raise SystemExit('started')"], 30)

    def test_the_wheels_come_before_the_repository_and_both_before_the_rest(self, tmp_path: Path) -> None:
        path = check.environment(tmp_path / "site", tmp_path)["PYTHONPATH"]
        assert path.split(":") == [str(tmp_path / "site"), str(check.REPOSITORY)]


def test_a_line_per_test_with_the_reason_of_each_that_was_left_out() -> None:
    report = """<testsuites><testsuite>
        <testcase classname="tests.integration.test_gpu" name="test_good" time="2.5"/>
        <testcase classname="tests.integration.test_gpu" name="test_bad"><failure message="0.7 is not 0.9">...</failure>
        </testcase>
        <testcase classname="tests.unit.test_other" name="test_left_out"><skipped message="no CUDA device"/></testcase>
        </testsuite></testsuites>"""
    lines = gpu_steps.junit_lines(report)
    assert [(line.name, line.outcome) for line in lines] == [
        ("test test_gpu::test_good", "proved"),
        ("test test_gpu::test_bad", "failed"),
        ("test test_other::test_left_out", "could not"),
    ]
    assert lines[0].seconds == 2.5
    assert "0.7 is not 0.9" in lines[1].detail
    assert "no CUDA device" in lines[2].detail


def test_no_test_at_all_is_a_failure() -> None:
    assert [line.outcome for line in gpu_steps.junit_lines("<testsuites/>")] == ["failed"]


def artifact(**fields: Any) -> dict[str, Any]:
    statistics = {"output": "logits", "statistics": {"max_relative": 2e-6}}
    return {
        "artifact": "onnx",
        "passed": True,
        "failures": [],
        "device": "cuda",
        "engine": "onnxruntime 1.31.1",
        "outputs": [statistics],
        "rounding": None,
        "top1_agreement": 1.0,
        "checks": [],
        **fields,
    }


def test_a_gate_that_failed_is_read_and_one_that_left_no_record_is_an_error(machine: Machine) -> None:
    record = machine.record_file("none", "verify", "parity.json")
    with pytest.raises(CannotError, match=r"exit code 2: .*there is no run"):
        machine.gate(record, "verify", "--run", "none")
    record.parent.mkdir(parents=True)
    record.write_text("{}", "utf-8")
    machine.gate(record, "verify", "--run", "none")


class TestParity:
    def test_an_artifact_that_agrees_on_the_device_is_proved(self) -> None:
        (line,) = gpu_steps.parity_lines("run", {"artifacts": [artifact()]}, "cuda")
        assert (line.outcome, line.name) == ("proved", "verify run onnx")
        assert "2.0e-06" in line.detail

    def test_one_that_ran_elsewhere_is_not(self) -> None:
        (line,) = gpu_steps.parity_lines("run", {"artifacts": [artifact(device="cpu")]}, "cuda")
        assert line.outcome == "failed"

    def test_one_that_differs_gives_its_reasons(self) -> None:
        report = {"artifacts": [artifact(passed=False, failures=["logits differ by 0.5"])]}
        (line,) = gpu_steps.parity_lines("run", report, "cuda")
        assert line.outcome == "failed"
        assert "logits differ by 0.5" in line.detail

    def test_nothing_judged_is_a_failure(self) -> None:
        assert [line.outcome for line in gpu_steps.parity_lines("run", {"artifacts": []}, "cuda")] == ["failed"]


def test_a_row_without_figures_says_why() -> None:
    timing = {"batch_size": 32, "throughput": {"median": 1234.4}}
    rows = [
        {"name": "onnx", "device": "cuda", "missing": None, "timings": [timing]},
        {"name": "aoti", "device": "cuda", "missing": "it is compiled for the CPU", "timings": []},
    ]
    measured, missing = gpu_steps.row_lines("run", {"rows": rows})
    assert (measured.outcome, measured.detail) == ("proved", "1234 img/s at batch 32")
    assert (missing.outcome, missing.detail) == ("could not", "it is compiled for the CPU")


class TestMeasuring:
    """What is recorded beside the speed of a row."""

    def test_all_of_it_is_proved(self) -> None:
        line = gpu_steps.measuring_line("run", bench_report(bench_row()), "cuda")
        assert (line.outcome, line.detail[:7]) == ("proved", "1 rows:")

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"provider": "CPUExecutionProvider"}, "onnx: it ran in CPUExecutionProvider"),
            ({"tf32": True}, "onnx: TF32 is True"),
            ({"cold_start_seconds": None}, "onnx: no cold_start_seconds"),
            ({"memory_above_idle_bytes": None}, "onnx: no memory_above_idle_bytes"),
            ({"ratio": None}, "onnx: no ratio at batch 1"),
            ({"share_of_peak": 1.5}, "onnx: 1.5 of the peak at batch 1"),
            (
                {"engine": "torch 2.9", "device_p50_seconds": 0.0011},
                "onnx: 0.0011 s between events, 0.001 s by the clock at batch 1",
            ),
            ({"engine": "torch 2.9"}, "onnx: None s between events, 0.001 s by the clock at batch 1"),
        ],
    )
    def test_what_is_not_as_it_should_be_fails(self, changes: dict[str, Any], problem: str) -> None:
        line = gpu_steps.measuring_line("run", bench_report(bench_row(**changes)), "cuda")
        assert (line.outcome, line.detail) == ("failed", problem)

    def test_float16_may_pass_the_peak_of_float32_and_the_reference_has_no_ratio(self) -> None:
        half = bench_row(share_of_peak=1.5, precision="float16")
        eager = bench_row(name="eager", ratio=None, engine="torch 2.9", device_p50_seconds=0.0009)
        assert gpu_steps.measuring_line("run", bench_report(half, eager), "cuda").outcome == "proved"

    def test_nothing_measured_is_a_failure(self) -> None:
        line = gpu_steps.measuring_line("run", {**bench_report(), "peaks": []}, "cuda")
        assert (line.outcome, line.detail) == ("failed", "no matrix product was measured; no row was measured")


def bench_row(**changes: Any) -> dict[str, Any]:
    """A row of bench.json on CUDA; changes may be of its only timing."""
    timing = {
        "batch_size": 1,
        "ratio": {"median": 2.0},
        "share_of_peak": 0.5,
        "device_p50_seconds": None,
        "latency": {"p50_seconds": 0.001},
    }
    row = {
        "name": "onnx",
        "device": "cuda",
        "missing": None,
        "engine": "onnxruntime 1.20",
        "provider": "CUDAExecutionProvider",
        "precision": "float32",
        "tf32": False,
        "cold_start_seconds": 2.0,
        "memory_above_idle_bytes": 1000,
        "correct": "ff",
    }
    of_row = {key: value for key, value in changes.items() if key in row}
    of_timing = {key: value for key, value in changes.items() if key not in row}
    return {**row, **of_row, "timings": [{**timing, **of_timing}]}


def test_tests_that_had_ended_count_when_the_others_run_out_of_time() -> None:
    printed = """
[gw0] [ 12%] PASSED ../tests/integration/test_gpu_training.py::test_learns[float32]
../tests/integration/test_gpu_training.py::test_goes_on
[gw1] [ 25%] FAILED ../tests/unit/training/test_precision.py::test_scales
../tests/integration/test_gpu_artifacts.py::test_agrees SKIPPED (no device) [ 37%]
../tests/integration/test_gpu_artifacts.py::test_every_row
"""
    assert [(line.name, line.outcome) for line in gpu_steps.printed_lines(printed)] == [
        ("test test_gpu_training::test_learns[float32]", "proved"),
        ("test test_precision::test_scales", "failed"),
        ("test test_gpu_artifacts::test_agrees", "could not"),
    ]


def bench_report(*rows: dict[str, Any]) -> dict[str, Any]:
    peaks = [{"device": "cuda", "threads": 1, "flops_per_second": 5e13}]
    return {"rows": list(rows), "peaks": peaks, "flops_per_image": 8e9, "machine": None, "precision": 0.02}


def test_without_wheels_it_says_how_to_get_them_and_leaves_the_record(tmp_path: Path) -> None:
    out = tmp_path / "check.json"
    command = [sys.executable, "-m", "gpu.check", "--wheels", str(tmp_path / "none"), "--out", str(out)]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "make gpu-wheels" in done.stdout
    assert json.loads(out.read_text("utf-8"))["failed"] == 1
