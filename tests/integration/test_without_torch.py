"""What a service embeds works where torch and everything else of the training extra cannot be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bench_reports import noisy_report
from bundles import judge
from PIL import Image
from pointed_at import write_whole_run

from toolkit.cli.doctor import TRAINING_PACKAGES

BLOCKED = (*TRAINING_PACKAGES, "scipy")

BLOCK = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked in this test", name=name)

sys.meta_path.insert(0, Blocker())
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCK + program, *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture
def picture(tmp_path: Path, colour_image: Callable[[str], np.ndarray]) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(colour_image("green")).save(path)
    return path


def test_the_blocker_blocks() -> None:
    done = run("import torch")
    assert done.returncode == 1
    assert "torch is blocked" in done.stderr


def test_load_and_predict(colour_bundle: Path, picture: Path) -> None:
    done = run(
        "import toolkit\nprint(toolkit.load(sys.argv[1]).predict([sys.argv[2]])[0].label)",
        str(colour_bundle),
        str(picture),
    )
    assert (done.returncode, done.stdout.strip()) == (0, "green"), done.stderr


CLI = "from toolkit.cli.main import main\nmain(sys.argv[1:])"


def test_predict_on_the_command_line(colour_bundle: Path, picture: Path) -> None:
    done = run(CLI, "predict", str(colour_bundle), str(picture), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] == "green"


def test_inspect_on_the_command_line(colour_bundle: Path) -> None:
    done = run(CLI, "inspect", str(colour_bundle))
    assert done.returncode == 0, done.stderr
    assert "3: blue, green, red" in done.stdout


def test_a_service_tests_its_bundle_at_start(colour_bundle: Path) -> None:
    done = run("import toolkit\nprint(toolkit.load(sys.argv[1]).selftest().passed)", str(colour_bundle))
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr


def test_selftest_pack_and_unpack_on_the_command_line(colour_bundle: Path, picture: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (("selftest", str(colour_bundle)), "passed: 3 samples alone and together"),
        (("pack", str(colour_bundle), "-o", str(tmp_path / "it.tar")), "it.tar"),
        (("unpack", str(tmp_path / "it.tar"), "-o", str(tmp_path / "there")), "there"),
        (("selftest", str(tmp_path / "there")), "passed: 3 samples alone and together"),
        (("inspect", str(tmp_path / "there")), "match their SHA-256, and there are no others"),
        (("predict", str(tmp_path / "there"), str(picture)), "green"),
        (("deploy", "triton", str(tmp_path / "there"), "--out", str(tmp_path / "models")), "up to 8 images a call"),
    ):
        done = run(CLI, *arguments)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout


def test_keys_sign_and_check_on_the_command_line(colour_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="the extra 'sign' is not installed")
    private, public = str(tmp_path / "ours.private.pem"), str(tmp_path / "ours.public.pem")
    for arguments in (
        ("keygen", str(tmp_path / "ours")),
        ("sign", str(colour_bundle), "--key", private),
        ("selftest", str(colour_bundle), "--verify-key", public),
    ):
        done = run(CLI, *arguments)
        assert done.returncode == 0, done.stderr


def test_an_artifact_without_its_engine_is_said_and_the_others_are_tested(colour_bundle: Path) -> None:
    program = """
from toolkit.bundle import Bundle
from toolkit.bundle.writer import write_manifest
manifest = Bundle.open(sys.argv[1]).manifest
changes = {"format": "torchscript", "family": "torchscript", "file": "model.torchscript.pt"}
copy = manifest.artifacts[0].model_copy(update=changes)
from pathlib import Path
Path(sys.argv[1], copy.file).write_bytes(Path(sys.argv[1], "model.onnx").read_bytes())
write_manifest(Path(sys.argv[1]), manifest.model_copy(update={"artifacts": (*manifest.artifacts, copy)}), own=True)
from toolkit.cli.main import main
main(["selftest", sys.argv[1]])
"""
    done = run(program, str(colour_bundle))
    assert done.returncode == 0, done.stderr
    tested, other = done.stdout.splitlines()
    assert "passed" in tested
    assert "not tested: a TorchScript artifact needs torch" in other


def test_verify_judges_a_bundle_by_itself(colour_bundle: Path, tmp_path: Path) -> None:
    done = run(CLI, "verify", str(colour_bundle), "--threads", "1", "--output", str(tmp_path / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "parity with its 3 golden samples passed" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"parity.json", "junit.xml"}


def test_verify_compares_two_bundles(colour_bundle: Path, tmp_path: Path) -> None:
    done = run(CLI, "verify", str(colour_bundle), "--against", str(colour_bundle), "--threads", "1", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "parity with the bundle colours passed" in done.stdout


def test_two_reports_are_compared(tmp_path: Path) -> None:
    for seed in (1, 2):
        noisy_report(seed).save(tmp_path / f"{seed}.json")
    done = run(CLI, "compare", str(tmp_path / "1.json"), str(tmp_path / "2.json"), "--fail-over", "5%")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "throughput may fall by 5.00%: passed, 6 lines" in done.stdout


def test_two_bundles_are_measured_in_turns(colour_bundle: Path) -> None:
    bundle = str(judge(colour_bundle))
    how = ("--measure", "--rounds", "6", "--batch-sizes", "1", "--threads", "1", "--quiet")
    done = run(CLI, "compare", bundle, bundle, *how)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "both sides were measured now, in turns" in done.stdout


@pytest.mark.parametrize(
    "arguments", [("finetune",), ("finetune", "--recipe", "digits"), ("backbones",), ("backbones", "timm:resnet18")]
)
def test_what_needs_torch_says_so(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run("import os\nos.chdir(sys.argv.pop(1))\n" + CLI, str(tmp_path), *arguments)
    assert done.returncode == 2, done.stderr
    assert "this needs torch, which is not installed: pip install" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_verify_needs_something_right_to_bisect(colour_bundle: Path) -> None:
    done = run(CLI, "verify", str(colour_bundle), "--bisect")
    assert done.returncode == 2
    assert "--bisect needs what is right" in done.stderr


def test_doctor_says_what_is_missing(tmp_path: Path) -> None:
    done = run(CLI, "doctor")
    assert done.returncode == 0, done.stderr
    assert "prediction does not need it" in done.stdout


def test_formats_are_listed_with_what_is_missing() -> None:
    done = run(CLI, "formats")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert rows["onnx"].endswith("yes")
    for name in ("torchscript", "pt2", "aoti"):
        assert "no: torch is not installed" in rows[name]


def test_a_torchscript_artifact_says_that_it_needs_torch(tmp_path: Path) -> None:
    program = """
from pathlib import Path
from toolkit.errors import MissingDependencyError
from toolkit.bundle.content import Content
from toolkit.formats.registry import get_format
try:
    get_format("torchscript").open(Content(Path("model.pt"), "model.pt", {"model.pt": b""}), "cpu", 1)
except MissingDependencyError as error:
    print(error)
print(get_format("torchscript").unavailable())
"""
    done = run(program)
    assert done.returncode == 0, done.stderr
    assert "a TorchScript artifact needs torch" in done.stdout
    assert "torch is not installed" in done.stdout


def test_without_onnxruntime_loading_says_what_to_install(colour_bundle: Path, picture: Path) -> None:
    program = """
def refuse(name, path=None, target=None):
    if name == "onnxruntime":
        raise ModuleNotFoundError(name, name=name)
sys.meta_path[0].find_spec = refuse
from toolkit.cli.main import main
main(sys.argv[1:])
"""
    done = run(program, "predict", str(colour_bundle), str(picture))
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "toolkit: onnxruntime is not installed: pip install 'vision-deploy-toolkit[cpu]' (or "
        "'vision-deploy-toolkit[gpu]')."
    )


def test_runs_are_listed_shown_and_deleted(tmp_path: Path, colour_bundle: Path) -> None:
    write_whole_run(tmp_path / "artifacts", colour_bundle)
    program = """
import os, toolkit
os.chdir(sys.argv.pop(1))
print(repr(toolkit.open_run()).splitlines()[0])
assert "right on" in toolkit.runs()["tiny"]._repr_html_()
from toolkit.cli.main import main
main(sys.argv[1:])
"""
    done = run(program, str(tmp_path), "runs", "--json")
    assert done.returncode == 0, done.stderr
    first, rest = done.stdout.split("\n", 1)
    assert first.startswith("Run('artifacts/tiny'): ")
    assert [listed["name"] for listed in json.loads(rest)] == ["tiny"]
    assert run(program, str(tmp_path), "runs", "delete", "tiny", "--yes").returncode == 0
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_fine_tuning_from_python_says_what_is_missing(tmp_path: Path) -> None:
    program = """
import toolkit
from toolkit.errors import MissingDependencyError
try:
    toolkit.finetune("digits", root=sys.argv[1], progress=False)
except MissingDependencyError as error:
    print(error)
"""
    done = run(program, str(tmp_path))
    assert "which is not installed: pip install 'vision-deploy-toolkit[train]'" in done.stdout, done.stderr
