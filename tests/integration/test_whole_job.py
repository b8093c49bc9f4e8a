"""``toolkit run`` on real data: everything once, nothing twice, and Ctrl-C on the way."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run

from toolkit.results import BenchReport
from toolkit.run_folder import RunFolder

pytestmark = pytest.mark.slow

QUICK = (
    *("--recipe", "digits", "--image-size", "32", "--train-limit", "60", "--test-limit", "30", "--threads", "1"),
    *("--stage1-epochs", "1", "--stage2-epochs", "0", "--formats", "onnx", "--run", "whole"),
)
MEASURED = ("--rounds", "2", "--batch-sizes", "1", "--images", "20")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Where the job was done, and what it printed."""
    folder = tmp_path_factory.mktemp("whole_job")
    ended = run(folder, "run", *QUICK, *MEASURED)
    assert ended.returncode == 0, ended.stderr
    return folder, ended.stdout, ended.stderr


def whole(folder: Path) -> RunFolder:
    return RunFolder(folder / "artifacts" / "whole")


def stamps(folder: RunFolder) -> dict[str, int]:
    files = (folder.record_file, folder.bundle / "model.onnx", folder.parity_file, folder.bench_file)
    return {file.name: file.stat().st_mtime_ns for file in files}


def test_one_command_leaves_what_five_do(done: tuple[Path, str, str]) -> None:
    folder, out, err = done
    made = whole(folder)
    assert BenchReport.load(made.bench_file, "toolkit bench").rows
    for file in (
        made.model_file,
        made.parity_file,
        made.junit_file,
        made.bench / "report.md",
        made.bench / "bench.csv",
    ):
        assert file.is_file(), file
    lines = out.splitlines()
    assert "the run is artifacts/whole" in err.splitlines()
    assert lines[-1] == (
        "wrote artifacts/whole, artifacts/whole/bench/report.html; next: toolkit predict artifacts/whole IMAGES"
    )
    assert sum(line.startswith("wrote ") for line in lines) == 1
    assert err.splitlines()[0] == "loading PyTorch ..."
    stages = [line for line in err.splitlines() if " of 5: " in line]
    assert stages == ["1 of 5: finetune", "2 of 5: export", "3 of 5: verify", "4 of 5: bench", "5 of 5: report"]


def test_what_is_there_is_not_made_again(done: tuple[Path, str, str]) -> None:
    folder, _, _ = done
    made = whole(folder)
    before = stamps(made)
    again = run(folder, "run", "--resume", *MEASURED)
    assert again.returncode == 0, again.stderr
    kept = [f"{stage}: there already" for stage in ("finetune", "export", "verify", "bench")]
    assert again.stdout.splitlines()[:4] == kept
    assert stamps(made) == before
    made.bench_file.unlink()
    again = run(folder, "run", "--resume", *MEASURED)
    assert again.stdout.splitlines()[:3] == kept[:3], again.stderr
    after = stamps(made)
    assert after["bench.json"] != before["bench.json"]
    assert {name: after[name] for name in ("run.json", "model.onnx", "parity.json")} == {
        name: before[name] for name in ("run.json", "model.onnx", "parity.json")
    }


@pytest.mark.skipif(sys.platform == "win32", reason="a process is sent SIGINT")
def test_ctrl_c_while_it_measures_says_how_to_go_on(done: tuple[Path, str, str]) -> None:
    folder, _, _ = done
    made = whole(folder)
    made.bench_file.unlink()
    # Where the tests run in the background of a shell, processes start with Ctrl-C ignored.
    heeded = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    start = f"{heeded}; from toolkit.cli.start import main; main()"
    command = [sys.executable, "-c", start, "run", "--resume", "--run", "whole", *MEASURED]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line == "4 of 5: bench\n":
            process.send_signal(signal.SIGINT)
            break
    _, rest = process.communicate(timeout=120)
    said = "".join(lines) + rest
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == (
        "toolkit: stopped by Ctrl-C in bench; done so far: finetune, export, verify; go on with 'toolkit run --run "
        "whole --resume --images 20 --batch-sizes 1 --rounds 2'."
    )
    assert not made.bench_file.exists()
    assert run(folder, "run", "--resume", *MEASURED).returncode == 0
    assert made.bench_file.exists()
