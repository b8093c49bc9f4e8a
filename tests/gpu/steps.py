"""The steps of ``make gpu-check``: each proves something on the device, or says why it could not."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gpu.machine import CannotError, Line, Machine, TooLongError

REPOSITORY = Path(__file__).parents[2]
SMALL_FORMATS, LARGE_FORMATS = "onnx,torchscript,pt2", "onnx,onnx-fp16,torchscript"
"""float16 belongs to the larger network: its depthwise kernels are slow enough to take the time of the others."""
VERIFIED_IMAGES = "128"
OUTCOMES = {"PASSED": "proved", "SKIPPED": "could not", "FAILED": "failed", "ERROR": "failed"}
"""Of what pytest says of a test."""
SMALL, LARGE = "gpu-small", "gpu-large"
"""The embedded job, and a ResNet-50 at 224 px from random weights, whose speed is worth a figure."""


Step = Callable[[Machine], list[Line]]

DESCRIBE = """
import json, platform, sys, torch, onnxruntime
gpu = {"gpu": "no GPU asked for"}
if sys.argv[1] == "cuda":
    if not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no CUDA device")
    card = torch.cuda.get_device_properties(0)
    gpu = {"gpu": card.name, "memory_bytes": card.total_memory, "compute_capability": f"{card.major}.{card.minor}"}
print(json.dumps({
    **gpu, "python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda,
    "cudnn": torch.backends.cudnn.version(), "onnxruntime": onnxruntime.__version__,
    "providers": onnxruntime.get_available_providers(),
}))
"""


def machine_line(machine: Machine) -> list[Line]:
    """Say which card, driver and engines there are."""
    figures = json.loads(machine.run(["-c", DESCRIBE, machine.device], 90).splitlines()[-1])
    detail = "{gpu}, torch {torch}, CUDA {cuda}, onnxruntime {onnxruntime}".format(**figures)
    return [Line("machine", "proved", detail, figures=figures)]


PROVIDER = """
import sys
from pathlib import Path
from toolkit.bundle.content import Content
from toolkit.formats.onnx import OnnxFormat
import numpy
session = OnnxFormat().open(Content.of(Path(sys.argv[1])), sys.argv[2], 1)
size = tuple(session.run(numpy.zeros((2, 8, 8, 3), numpy.uint8))["logits"].shape)
print(session.engine, "on", session.device, "gave logits of", size)
"""


def provider_line(machine: Machine) -> list[Line]:
    """Open a small ONNX file in onnxruntime's CUDA provider and run it."""
    model = REPOSITORY / "tests" / "assets" / "bundles" / "version-1" / "model.onnx"
    return [
        Line(
            "onnxruntime",
            "proved",
            machine.run(["-c", PROVIDER, str(model), machine.device], 90).strip().splitlines()[-1],
        )
    ]


def test_lines(machine: Machine) -> list[Line]:
    """Run every test that is marked ``gpu``."""
    report = machine.work / "junit.xml"
    command = ["-m", "pytest", "-v", "-m", "gpu", "-p", "no:cacheprovider", "-p", "no:benchmark"]
    command += ["--rootdir", str(REPOSITORY)]
    if find_spec("xdist"):
        # Most of a test is Python and the CPU; a file's tests share what its fixtures make.
        command += ["-n", "2", "--dist", "loadfile"]
    command += ["-c", str(REPOSITORY / "pyproject.toml"), f"--junitxml={report}", str(REPOSITORY / "tests")]
    try:
        machine.run(command, 240)
    except TooLongError as error:
        return [Line("tests", "failed", str(error)), *printed_lines(error.printed)]
    except CannotError:
        if not report.is_file():
            raise
    return junit_lines(report.read_text("utf-8"))


def printed_lines(printed: str) -> list[Line]:
    """Return a line per test that had ended in what ``pytest -v`` printed, with or without xdist; no report is left."""
    lines = []
    for words in map(str.split, printed.splitlines()):
        ended = [word for word in words if word in OUTCOMES]
        names = [word for word in words if "::" in word]
        if ended and names:
            file, _, test = names[0].partition("::")
            lines.append(Line(f"test {Path(file).stem}::{test}", OUTCOMES[ended[0]], ended[0].lower()))
    return lines


def junit_lines(text: str) -> list[Line]:
    """Return a line per test of a JUnit report; none at all is a failure."""
    lines = []
    for case in ElementTree.fromstring(text).iter("testcase"):
        name = f"test {case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        problem = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        outcome = "proved" if problem is None else "could not" if problem.tag == "skipped" else "failed"
        detail = "passed" if problem is None else f"{problem.get('message', '')} {problem.text or ''}"[:4000]
        lines.append(Line(name, outcome, detail, float(case.get("time", 0))))
    return lines or [Line("tests", "failed", "no test is marked gpu")]


def finetune_line(name: str, *arguments: str) -> Step:
    """Return the step that fine-tunes on CUDA."""

    def step(machine: Machine) -> list[Line]:
        machine.toolkit("finetune", "--run", name, "--device", machine.device, "--quiet", *arguments)
        record, evaluation = machine.record(name, "run.json"), machine.record(name, "evaluation.json")
        if not record["device"].startswith(machine.device):
            return [Line(f"finetune {name}", "failed", f"it ran on {record['device']}")]
        figures = {key: record[key] for key in ("backbone", "device", "precision", "seconds", "stages")}
        history = machine.work.joinpath("artifacts", name, "history.csv").read_text("utf-8").splitlines()
        figures |= {"top1": evaluation["top1"], "test_images": evaluation["images"], "history": history}
        detail = f"{record['backbone']} in {record['precision']}: {evaluation['top1']:.1%}, {record['seconds']:.1f} s"
        return [Line(f"finetune {name}", "proved", detail, figures=figures)]

    return step


def export_line(name: str, formats: str) -> Step:
    """Return the step that exports a run."""

    def step(machine: Machine) -> list[Line]:
        machine.toolkit("export", "--run", name, "--formats", formats, "--quiet")
        artifacts = machine.record(name, "bundle", "manifest.json")["artifacts"]
        return [Line(f"export {name}", "proved", ", ".join(artifact["format"] for artifact in artifacts))]

    return step


def verify_lines(name: str) -> Step:
    """Return the step that compares a run's artifacts on the device with PyTorch on the CPU."""

    def step(machine: Machine) -> list[Line]:
        record = machine.record_file(name, "verify", "parity.json")
        machine.gate(record, "verify", "--run", name, "--images", VERIFIED_IMAGES)
        return parity_lines(name, machine.record(name, "verify", "parity.json"), machine.device)

    return step


def parity_lines(name: str, report: Mapping[str, Any], device: str) -> list[Line]:
    """Return a line per artifact of a parity report."""
    lines = []
    for artifact in report["artifacts"]:
        on_device = artifact["device"] == device
        outcome = "proved" if artifact["passed"] and on_device else "failed"
        worst = {output["output"]: output["statistics"]["max_relative"] for output in artifact["outputs"]}
        detail = (
            f"on {artifact['device']} in {artifact['engine']}, relative error {worst.get('logits', float('nan')):.1e}"
        )
        figures = {
            key: artifact[key] for key in ("passed", "failures", "rounding", "top1_agreement", "outputs", "checks")
        }
        reasons = "" if artifact["passed"] else f": {' '.join(artifact['failures'])}"
        lines.append(Line(f"verify {name} {artifact['artifact']}", outcome, detail + reasons, figures=figures))
    return lines or [Line(f"verify {name}", "failed", "no artifact was judged")]


def bench_lines(name: str, *arguments: str) -> Step:
    """Return the step that measures a run on the device."""

    def step(machine: Machine) -> list[Line]:
        machine.gate(machine.record_file(name, "bench", "bench.json"), "bench", "--run", name, *arguments)
        report = machine.record(name, "bench", "bench.json")
        return [*row_lines(name, report), measuring_line(name, report, machine.device)]

    return step


def row_lines(name: str, report: Mapping[str, Any]) -> list[Line]:
    """Return a line per row of a benchmark report."""
    lines = []
    for row in report["rows"]:
        rates = {timing["batch_size"]: timing["throughput"]["median"] for timing in row["timings"]}
        detail = row["missing"] or ", ".join(f"{rate:.0f} img/s at batch {size}" for size, rate in rates.items())
        outcome = "could not" if row["missing"] else "proved"
        lines.append(Line(f"bench {name} {row['device']} {row['name']}", outcome, detail, figures=row))
    return lines or [Line(f"bench {name}", "failed", "no row was measured")]


EVENTS_WITHIN = 1.05
"""How much longer the time between two events may be than the clock's around them."""


def measuring_line(name: str, report: Mapping[str, Any], device: str) -> Line:
    """Say whether what is recorded beside the speed of the rows is there, and fits together."""
    rows = [row for row in report["rows"] if row["device"] == device and not row["missing"]]
    problems = [f"{row['name']}: {problem}" for row in rows for problem in _row_problems(row, device)]
    if not any(peak["device"] == device for peak in report["peaks"]):
        problems.append("no matrix product was measured")
    if not rows:
        problems.append("no row was measured")
    figures = {key: report[key] for key in ("peaks", "flops_per_image", "machine", "precision")}
    detail = "; ".join(problems) or f"{len(rows)} rows: provider, precision, events, ratio, memory and peak are there"
    return Line(f"bench {name} measuring", "failed" if problems else "proved", detail, figures=figures)


def _row_problems(row: Mapping[str, Any], device: str) -> list[str]:
    on_gpu = device == "cuda"
    problems = []
    if not row["provider"] or (on_gpu and "cpu" in row["provider"].lower()):
        problems.append(f"it ran in {row['provider']}")
    if row["tf32"] is not (False if on_gpu else None):
        problems.append(f"TF32 is {row['tf32']}")
    problems += [f"no {key}" for key in ("cold_start_seconds", "memory_above_idle_bytes", "correct") if not row[key]]
    for timing in row["timings"]:
        where = f"batch {timing['batch_size']}"
        if timing["ratio"] is None and row["name"] != "eager":
            problems.append(f"no ratio at {where}")
        share = timing["share_of_peak"]
        if share is None or (row["precision"] == "float32" and not 0 < share < 1):
            problems.append(f"{share} of the peak at {where}")
        events, clock = timing["device_p50_seconds"], timing["latency"]["p50_seconds"]
        if on_gpu and row["engine"].startswith("torch") and (events is None or not 0 < events <= EVENTS_WITHIN * clock):
            problems.append(f"{events} s between events, {clock} s by the clock at {where}")
    return problems


LARGE_JOB = ("--recipe", "digits", "--backbone", "torchvision:resnet50", "--weights", "none", "--image-size", "224")
STEPS: tuple[tuple[str, Step, tuple[str, ...]], ...] = (
    ("machine", machine_line, ()),
    ("onnxruntime", provider_line, ("machine",)),
    ("finetune small", finetune_line(SMALL, "--recipe", "digits"), ("machine",)),
    ("export small", export_line(SMALL, SMALL_FORMATS), ("finetune small",)),
    ("verify small", verify_lines(SMALL), ("export small",)),
    ("bench small", bench_lines(SMALL, "--rounds", "3"), ("verify small",)),
    ("tests", test_lines, ("machine",)),
    ("finetune large", finetune_line(LARGE, *LARGE_JOB, "--stage1-epochs", "1", "--stage2-epochs", "1"), ("machine",)),
    ("export large", export_line(LARGE, LARGE_FORMATS), ("finetune large",)),
    ("verify large", verify_lines(LARGE), ("export large",)),
    (
        "bench large",
        bench_lines(LARGE, "--rounds", "3", "--batch-sizes", "1,32,256"),
        ("verify large",),
    ),
)
"""Name, what it does, and which steps must have come to an end before; a gate that failed has come to one."""
