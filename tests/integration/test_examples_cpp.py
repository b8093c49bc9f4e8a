"""The hosts in C++: each engine reproduces the golden samples, and what reads and judges them in C++ does it right."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import commands
import pytest
from filelock import FileLock
from once import made_once

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples"
BUILT = REPOSITORY / "build" / "examples"
"""Where hosts are built, and found again by the next run of the tests."""
HOSTS = {"cpp-openvino": "openvino", "cpp-libtorch": "torch"}
"""Each with the package whose wheel brings headers and libraries."""
ANSWERS = {
    "host": r".+ [0-9.]+ in C\+\+",
    "artifact": r"\S+ \(\w+, float32\)",
    "golden samples": "12, each alone and all together",
    "largest logit difference": r"[0-9.]+e-[0-9]+",
    "images per second": r"[0-9.]+",
}
"""What every host says, with what is said."""
COMPILER = os.environ.get("CXX", "c++")
Done = subprocess.CompletedProcess[str]


def call(*command: str | Path, **environment: str) -> Done:
    return subprocess.run(
        list(map(str, command)), env=os.environ | environment, capture_output=True, text=True, check=False, timeout=600
    )


@pytest.fixture(scope="session")
def bundles(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One bundle whose graphs normalise, without an OpenVINO artifact; and one that leaves that to the caller."""

    def make(folder: Path) -> None:
        shutil.copytree(finished, folder, symlinks=True, dirs_exist_ok=True)
        flags = ("--input", "tensor", "--formats", "onnx,openvino,torchscript")
        done = commands.run(folder, "export", "--run", "small", *flags)
        assert done.returncode == 0, done.stderr

    tensor = made_once(tmp_path_factory, "tensor", make)
    return {"images": finished / "artifacts" / "small" / "bundle", "tensor": tensor / "artifacts" / "small" / "bundle"}


@pytest.fixture(scope="session", params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    """Build a host, and return its name."""
    name: str = request.param
    for tool in ("bash", "cmake", COMPILER):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed, which builds the examples in C++")
    if find_spec(HOSTS[name]) is None:
        pytest.skip(f"the package {HOSTS[name]} is not installed, whose headers and libraries {name} is built with")
    BUILT.mkdir(parents=True, exist_ok=True)
    with FileLock(BUILT / f"{name}.lock"):
        done = call(EXAMPLES / name / "run.sh", PYTHON=sys.executable)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr == f"usage: {BUILT / name / name} BUNDLE [FORMAT]\n"
    return name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "kind", "arguments", "artifact"),
    [
        ("cpp-openvino", "images", (), "model.onnx (onnx, float32)"),
        ("cpp-openvino", "tensor", (), "model.openvino.xml (openvino, float32)"),
        ("cpp-openvino", "tensor", ("onnx",), "model.onnx (onnx, float32)"),
        ("cpp-libtorch", "images", (), "model.torchscript.pt (torchscript, float32)"),
        ("cpp-libtorch", "tensor", (), "model.torchscript.pt (torchscript, float32)"),
    ],
    indirect=["host"],
)
def test_a_host_reproduces_the_golden_samples(
    host: str, kind: str, arguments: tuple[str, ...], artifact: str, bundles: dict[str, Path]
) -> None:
    done = call(BUILT / host / host, bundles[kind], *arguments)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    *said, last = done.stdout.splitlines()
    found = dict(line.split(": ", 1) for line in said)
    assert list(found) == list(ANSWERS)
    for name, pattern in ANSWERS.items():
        assert re.fullmatch(pattern, found[name]), found
    assert found["artifact"] == artifact
    assert 0 < float(found["largest logit difference"]) < 1e-4
    assert float(found["images per second"]) > 0
    assert last == "passed"


@pytest.mark.slow
@pytest.mark.parametrize("host", HOSTS, indirect=True)
def test_a_host_notices_another_network(host: str, bundles: dict[str, Path], tmp_path: Path) -> None:
    """The pixels of two samples are exchanged, so each is answered as the other should be."""
    bundle = tmp_path / "bundle"
    shutil.copytree(bundles["images"], bundle)
    first, second = (bundle / "golden" / f"00{index}.bin" for index in (0, 1))
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    done = call(BUILT / host / host, bundle)
    assert done.returncode == 1, done.stdout + done.stderr
    assert float(re.findall("largest logit difference: (.*)", done.stdout)[0]) > 1e-2
    for where in ("000.bin alone", "001.bin alone", "000.bin in a batch", "001.bin in a batch"):
        assert f"FAILED: a logit of golden/{where} is off by" in done.stdout
    assert "002.bin" not in done.stdout
    assert "passed" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("host", ["cpp-openvino"], indirect=True)
def test_a_host_cannot_open_what_is_no_network(host: str, bundles: dict[str, Path], tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(bundles["images"], bundle)
    (bundle / "model.onnx").write_bytes(b"nothing")
    done = call(BUILT / host / host, bundle)
    assert (done.returncode, done.stdout) == (2, "")
    assert "model.onnx" in done.stderr


def test_a_library_that_is_missing_is_one_sentence(tmp_path: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed, which starts the examples in C++")
    for tool in ("cmake", "c++"):
        (tmp_path / tool).symlink_to("/bin/true")
    for tool in ("bash", "dirname"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o700)
    script = EXAMPLES / "cpp-openvino" / "run.sh"
    environment = {"PATH": str(tmp_path), "PYTHON": str(python), "CXX": "c++", "OpenVINO_DIR": ""}
    done = call(script, tmp_path, **environment)
    said = "'make setup' installs it, or set OpenVINO_DIR"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"cpp-openvino cannot be built: {python} has no package openvino: {said}\n"
    (tmp_path / "cmake").unlink()
    done = call(script, tmp_path, **environment)
    said = "install CMake and a C++ compiler"
    assert (done.returncode, done.stderr) == (2, f"cpp-openvino cannot be built: cmake is not installed: {said}\n")


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a host that answers what it is told to, compiled so that it stops at what C++ does not define."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"{COMPILER} is not installed, which compiles what the hosts in C++ share")

    def make(folder: Path) -> None:
        strict = ("-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsanitize=address,undefined")
        source = REPOSITORY / "tests" / "assets" / "given_engine.cpp"
        shared = f"-I{EXAMPLES / 'shared'}"
        done = call(COMPILER, *strict, "-fno-sanitize-recover", shared, source, "-o", folder / "given")
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "given-engine", make) / "given"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("off", ["a logit of golden/000.bin alone is off by 1.00e+00, allowed", "a logit of golden/002.bin in a"]),
        ("alone", [f"a logit of golden/00{index}.bin alone" for index in range(3)]),
        ("together", ["a logit of golden/002.bin in a batch"]),
        ("nan", [f"a logit of golden/000.bin {where} is off by inf" for where in ("alone", "in a batch")]),
        ("infinite", [f"a probability of golden/000.bin {where} is off by inf" for where in ("alone", "in a batch")]),
        ("swapped", ["a logit of golden/000.bin in a batch", "a logit of golden/002.bin in a batch"]),
        ("short", ["the outputs of 1 images have another shape", "the outputs of 3 images have another shape"]),
        ("probability", ["a probability of golden/000.bin alone is off by 1.00e-02, allowed 1.00e-03"]),
    ],
)
def test_outputs_that_are_wrong_are_failures(how: str, said: list[str], given: Path, colour_bundle_once: Path) -> None:
    done = call(given, colour_bundle_once, how)
    assert (done.returncode, done.stderr) == (1, "")
    failures = [line for line in done.stdout.splitlines() if line.startswith("FAILED: ")]
    for reason in said:
        assert any(line.startswith(f"FAILED: {reason}") for line in failures), failures
    if how in ("alone", "together", "swapped"):
        assert len(failures) == len(said)
    assert "passed" not in done.stdout


def test_outputs_that_are_right_pass(given: Path, colour_bundle_once: Path) -> None:
    done = call(given, colour_bundle_once)
    assert (done.returncode, done.stderr) == (0, "")
    assert "golden samples: 3, each alone and all together\nlargest logit difference: 0.00e+00\n" in done.stdout
    assert done.stdout.endswith("\npassed\n")


def change_text(bundle: Path, change: Callable[[str], str]) -> None:
    path = bundle / "golden" / "samples.txt"
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def test_the_typical_error_is_held_to_rounding(given: Path, colour_bundle: Path) -> None:
    """Where no limit is given, it is not; 2e-5 is well within the limit of a single value."""
    assert call(given, colour_bundle, "typical").returncode == 0
    for limit, code in (("2.1e-05", 0), ("1.9e-05", 1)):
        change_text(colour_bundle, lambda text, limit=limit: re.sub("(?m)^(limits .*) .*$", rf"\1 {limit}", text))
        done = call(given, colour_bundle, "typical")
        assert done.returncode == code, done.stdout
    where = ("of all samples alone", "of all samples in a batch")
    for part in where:
        assert (
            f"FAILED: the typical logit, as a share of the largest, {part} is off by 2.00e-05, allowed" in done.stdout
        )


def test_the_folder_of_a_run_will_do(given: Path, colour_bundle: Path) -> None:
    assert call(given, colour_bundle.parent).returncode == 0


BROKEN = {
    "another version": (lambda text: text.replace("samples 1 ", "samples 2 "), "are not of version 1"),
    "another text": (lambda _: "{}\n", "are not of version 1"),
    "no counts": (lambda text: text.replace("samples 1 3 3", "samples 1 x 3"), "lacks numbers"),
    "no samples": (lambda text: text.replace("samples 1 3 3", "samples 1 0 0"), "lacks numbers"),
    "a sample too many": (lambda text: text.replace("samples 1 3 3", "samples 1 4 3"), "should start with 'case'"),
    "an unknown input": (lambda text: text.replace("input images", "input sound"), "the input 'sound' is not known"),
    "no normalisation": (lambda text: text.replace("input images", "input tensor 0.5"), "the input 'tensor' is not"),
    "a class too many": (lambda text: text.replace(" 8 8 3\n", " 8 8 4\n"), "line 8 should hold 4 numbers"),
    "a class too few": (lambda text: text.replace(" 8 8 3\n", " 8 8 2\n"), "line 8 should hold 2 numbers"),
    "a word as a number": (lambda text: text.replace("logits ", "logits x"), "line 8 should hold 3 numbers"),
    "a limit that is none": (lambda text: text.replace("limits 0.0001", "limits all"), "has 'all' for a limit"),
    "other pixels": (lambda text: text.replace(" 8 8 3\n", " 9 8 3\n"), "has 192 bytes and should have 216"),
    "a line too many": (lambda text: text + "more\n", "line 16 should not be there"),
    "a way out": (lambda text: text.replace("case golden/000", "case ../golden/000"), "leads out of the bundle"),
    "an absolute path": (lambda text: text.replace("artifact model", "artifact /model"), "leads out of the bundle"),
    "no such artifact": (lambda text: text.replace("format onnx", "format pt2"), "the format onnx, only pt2: export"),
    "no artifact": (lambda text: re.sub("(?ms)^artifact.*?(?=^case)", "", text), "the format onnx, only none: export"),
    "an artifact judged by its classes": (
        lambda text: re.sub("(?m)^limits .*$", "limits - - - -", text),
        "model.onnx is judged by its classes",
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_text_that_makes_no_sense_is_one_sentence(broken: str, given: Path, colour_bundle: Path) -> None:
    change, said = BROKEN[broken]
    change_text(colour_bundle, change)
    done = call(given, colour_bundle)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_text_that_was_cut_anywhere_is_refused(given: Path, colour_bundle: Path) -> None:
    text = (colour_bundle / "golden" / "samples.txt").read_text(encoding="utf-8")
    ends = {*(match.start() for match in re.finditer("[ \n]", text)), *range(0, len(text), 37), len(text) - 2}
    for end in sorted(ends):
        change_text(colour_bundle, lambda _, end=end: text[:end])
        done = call(given, colour_bundle)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), (text[:end], done.stderr)


def test_what_is_no_bundle_is_one_sentence(given: Path, colour_bundle: Path, tmp_path: Path) -> None:
    (colour_bundle / "golden" / "samples.txt").unlink()
    for folder, said in (
        (colour_bundle, "golden/samples.txt cannot be read. Bundles of an older toolkit have none: export again."),
        (tmp_path / "nothing", "there is no bundle in"),
    ):
        done = call(given, folder)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
