from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from gpu import check
from gpu.check import CannotError, Line, Machine

TESTS = Path(check.__file__).parents[1]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, check.environment(None, tmp_path), time.monotonic() + 60, "cpu")


def proves(*names: str) -> check.Step:
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
        names = [name for name, _, _ in check.STEPS]
        assert all(names.index(need) < names.index(name) for name, _, needs in check.STEPS for need in needs)
        assert len(set(names)) == len(names)


class TestCommands:
    def test_the_end_of_what_a_failed_command_said_is_in_the_message(self, machine: Machine) -> None:
        with pytest.raises(CannotError, match=r"exit code 3: first \| last"):
            machine.run(["-c", "import sys; print('first'); print('last', file=sys.stderr); sys.exit(3)"], 30)

    def test_a_command_is_stopped_at_its_limit(self, machine: Machine) -> None:
        with pytest.raises(CannotError, match="it ran past its 2 s: so far"):
            machine.run(["-c", "import threading; print('so far', flush=True); threading.Event().wait()"], 2)

    def test_nothing_starts_once_the_time_is_over(self, machine: Machine) -> None:
        late = Machine(machine.work, machine.environment, time.monotonic() + check.RESERVE_SECONDS)
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
    lines = check.junit_lines(report)
    assert [(line.name, line.outcome) for line in lines] == [
        ("test test_gpu::test_good", "proved"),
        ("test test_gpu::test_bad", "failed"),
        ("test test_other::test_left_out", "could not"),
    ]
    assert lines[0].seconds == 2.5
    assert "0.7 is not 0.9" in lines[1].detail
    assert "no CUDA device" in lines[2].detail


def test_no_test_at_all_is_a_failure() -> None:
    assert [line.outcome for line in check.junit_lines("<testsuites/>")] == ["failed"]


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
        (line,) = check.parity_lines("run", {"artifacts": [artifact()]}, "cuda")
        assert (line.outcome, line.name) == ("proved", "verify run onnx")
        assert "2.0e-06" in line.detail

    def test_one_that_ran_elsewhere_is_not(self) -> None:
        (line,) = check.parity_lines("run", {"artifacts": [artifact(device="cpu")]}, "cuda")
        assert line.outcome == "failed"

    def test_one_that_differs_gives_its_reasons(self) -> None:
        report = {"artifacts": [artifact(passed=False, failures=["logits differ by 0.5"])]}
        (line,) = check.parity_lines("run", report, "cuda")
        assert line.outcome == "failed"
        assert "logits differ by 0.5" in line.detail

    def test_nothing_judged_is_a_failure(self) -> None:
        assert [line.outcome for line in check.parity_lines("run", {"artifacts": []}, "cuda")] == ["failed"]


def test_a_row_without_figures_says_why() -> None:
    timing = {"batch_size": 32, "throughput": {"median": 1234.4}}
    rows = [
        {"name": "onnx", "device": "cuda", "missing": None, "timings": [timing]},
        {"name": "aoti", "device": "cuda", "missing": "it is compiled for the CPU", "timings": []},
    ]
    measured, missing = check.row_lines("run", {"rows": rows})
    assert (measured.outcome, measured.detail) == ("proved", "1234 img/s at batch 32")
    assert (missing.outcome, missing.detail) == ("could not", "it is compiled for the CPU")


def test_without_wheels_it_says_how_to_get_them_and_leaves_the_record(tmp_path: Path) -> None:
    out = tmp_path / "check.json"
    command = [sys.executable, "-m", "gpu.check", "--wheels", str(tmp_path / "none"), "--out", str(out)]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "make gpu-wheels" in done.stdout
    assert json.loads(out.read_text("utf-8"))["failed"] == 1
