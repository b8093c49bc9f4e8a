"""A package from outside adds a format: it is listed, exported, verified and benchmarked with no change here."""

from __future__ import annotations

from pathlib import Path

import commands
import pytest
from example_packages import environment_with, install

from toolkit.bundle import read_manifest
from toolkit.results import BenchReport, ParityReport
from toolkit.run_folder import find_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install("example_format", tmp_path_factory.mktemp("installed"))


def run(folder: Path, installed: Path, *arguments: str) -> commands.Done:
    return commands.run_python(folder, "-m", "toolkit.cli.main", *arguments, **environment_with(installed))


def test_it_is_listed_exported_verified_and_benchmarked(job: Path, installed: Path) -> None:
    listed = run(job, installed, "formats")
    assert listed.returncode == 0, listed.stderr
    row = next(line for line in listed.stdout.splitlines() if line.startswith("onnx-gzip"))
    assert row.split() == ["onnx-gzip", "float32", "model.onnx.gz", "yes"]
    for arguments in (
        ("export", "--formats", "onnx,onnx-gzip", "--quiet"),
        ("verify", "--images", "32", "--threads", "1", "--quiet"),
        ("bench", "--rounds", "2", "--threads", "1", "--batch-sizes", "4", "--device", "cpu", "--quiet"),
    ):
        done = run(job, installed, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    folder = find_run("small", job / "artifacts")
    plain, packed = read_manifest(folder.bundle).artifacts
    assert packed.format == "onnx-gzip"
    assert packed.file == "model.onnx.gz"
    assert (packed.opset, packed.ir_version) == (plain.opset, plain.ir_version)
    assert packed.size_bytes < plain.size_bytes
    assert [verdict.passed for verdict in ParityReport.load(folder.parity_file, "toolkit verify").artifacts] == [
        True,
        True,
    ]
    rows = {row.name: row for row in BenchReport.load(folder.bench_file, "toolkit bench").rows}
    assert rows["onnx-gzip"].timings
    assert rows["onnx-gzip"].test_accuracy == rows["onnx"].test_accuracy


def test_without_the_package_there_is_no_such_format(tmp_path: Path) -> None:
    listed = run(tmp_path, tmp_path, "formats")
    assert "onnx-gzip" not in listed.stdout
    assert listed.stdout.splitlines()[1].split() == ["torchscript", "float32", "model.torchscript.pt", "yes"]
