"""The program beside a model, against a server that runs the model by its configuration."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from triton_model import TritonModel, serving

from tests.bundles import make_grey
from toolkit.bundle import Bundle
from toolkit.deploy.triton import Wanted, deploy_triton
from toolkit.deploy.triton_check import check, check_folder, differences


@pytest.fixture
def folder(colour_bundle: Path, tmp_path: Path) -> Path:
    return deploy_triton(Bundle.open(colour_bundle), tmp_path / "models", Wanted(max_batch_size=2))[0]


def expected_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "expected.json").read_text(encoding="utf-8"))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    expected = expected_of(folder)
    change(expected)
    (folder / "expected.json").write_text(json.dumps(expected), encoding="utf-8")


def test_a_server_that_is_right_passes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(TritonModel(folder)) as url:
        assert check_folder(folder, url) == 0
        assert capsys.readouterr().out == (
            f"passed: 3 golden samples, alone and together, of colours, version 1, at {url}\n"
        )


def test_the_file_itself_runs_without_toolkit(folder: Path, tmp_path: Path) -> None:
    with serving(TritonModel(folder)) as url:
        call = [sys.executable, "-P", "-S", "-c"]
        program = f"import sys; sys.path[:0] = {[path for path in sys.path if 'site-packages' in path]!r}\n" + (
            "import runpy; sys.modules['toolkit'] = None\n"
            f"sys.argv[1:] = [{url!r}]; runpy.run_path({str(folder / 'check.py')!r}, run_name='__main__')"
        )
        done = subprocess.run([*call, program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout[:7]) == (0, "passed:"), done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda expected: expected["cases"][0]["logits"].__setitem__(0, 99.0), "FAILED alone: logits differ by up to"),
        (
            lambda expected: expected["cases"][1]["probabilities"].__setitem__(0, 0.5),
            "FAILED together: probabilities differ by up to",
        ),
        (lambda expected: expected.__setitem__("labels", ["x", "y", "z"]), "FAILED the first sample is called 'blue'"),
    ],
)
def test_a_server_that_is_wrong_fails(
    folder: Path, capsys: pytest.CaptureFixture[str], change: Callable[[dict[str, Any]], object], said: str
) -> None:
    rewrite(folder, change)
    with serving(TritonModel(folder)) as url:
        assert check_folder(folder, url) == 1
    assert said in capsys.readouterr().out


def test_a_label_may_hold_colons(
    relabelled: Callable[[tuple[str, ...]], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, _ = deploy_triton(Bundle.open(relabelled(("a: b:\u00e9", "c", "d"))), tmp_path / "models", Wanted())
    with serving(TritonModel(target)) as url:
        assert check_folder(target, url) == 0, capsys.readouterr().out
        (target / "labels.txt").write_text("a\nc\nd\n", encoding="utf-8")
        assert check_folder(target, url) == 1
    assert "the first sample is called 'a', not 'a: b:\u00e9'" in capsys.readouterr().out


@pytest.mark.parametrize("artifact", ["torchscript", "openvino"])
def test_other_backends_are_asked_by_their_names(artifact: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    bundle = request.getfixturevalue(f"{artifact}_bundle")
    target, _ = deploy_triton(Bundle.open(bundle), tmp_path / "models", Wanted(artifact=artifact))
    with serving(TritonModel(target)) as url:
        assert check_folder(target, url) == 0


def test_edge_inputs_and_images_are_all_asked_for(colour_bundle: Path, tmp_path: Path) -> None:
    make_grey(colour_bundle)
    target, _ = deploy_triton(Bundle.open(colour_bundle), tmp_path / "models", Wanted())
    cases = expected_of(target)["cases"]
    assert {case["kind"] for case in cases} == {"image", "edge"}
    with serving(TritonModel(target)) as url:
        assert check_folder(target, url) == 0


def test_a_server_that_is_not_there_or_has_another_version_cannot_be_asked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_folder(folder, "127.0.0.1:1") == 2
    model = TritonModel(folder)
    rewrite(folder, lambda expected: expected.__setitem__("version", 9))
    with serving(model) as url:
        assert check_folder(folder, url) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("colours, version 1, at 127.0.0.1:1 cannot be asked: ")
    assert "there is no colours 9" in second


def test_no_request_is_larger_than_the_server_takes(folder: Path) -> None:
    expected, sizes = expected_of(folder), []

    def ask(inputs: np.ndarray) -> dict[str, np.ndarray]:
        sizes.append(len(inputs))
        return {name: np.zeros((len(inputs), 3), np.float32) for name in ("logits", "probabilities")}

    inputs = np.zeros((3, 8, 8, 3), np.uint8)
    assert list(check(expected, inputs, ask)) != []
    assert sizes == [1, 1, 1, 2, 1]
    sizes.clear()
    list(check({**expected, "max_batch_size": 0}, inputs, ask))
    assert sizes == [1, 1, 1, 3]


def answers(expected: dict[str, Any]) -> dict[str, np.ndarray]:
    return {
        name: np.array([case[name] for case in expected["cases"]], np.float32) for name in ("logits", "probabilities")
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda answer: answer["logits"].__setitem__((0, 0), np.nan), "logits are not finite"),
        (
            lambda answer: answer.__setitem__("probabilities", np.zeros((3, 2))),
            r"have the shape \[3, 2\], not",
        ),
    ],
)
def test_what_is_no_answer_is_said(folder: Path, change: Callable[[Any], object], said: str) -> None:
    expected = expected_of(folder)
    answer = answers(expected)
    assert list(differences(expected, answer)) == []
    change(answer)
    (sentence,) = differences(expected, answer)
    assert re.search(said, sentence)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"different_classes": 1, "mean_divergence": 9.0, "edge_error": None}, []),
        ({"different_classes": 1, "mean_divergence": None, "edge_error": 9.0}, []),
        ({"different_classes": 0, "mean_divergence": 9.0, "edge_error": 9.0}, ["1 of 2 images have another class"]),
        ({"different_classes": 1, "mean_divergence": 0.0, "edge_error": 9.0}, ["probabilities diverge by"]),
        ({"different_classes": 1, "mean_divergence": 9.0, "edge_error": 0.01}, ["edge inputs differ by"]),
    ],
)
def test_an_8_bit_file_is_judged_by_its_classes(folder: Path, limits: dict[str, Any], said: list[str]) -> None:
    expected = expected_of(folder)
    expected["cases"][2]["kind"] = "edge"
    expected |= {"tolerance": None, "limits": limits}
    answer = answers(expected)
    answer["logits"][0] = answer["logits"][0][::-1]
    answer["probabilities"][0] = [0.2, 0.3, 0.5]
    answer["logits"][2] *= 1.1
    found = list(differences(expected, answer))
    assert len(found) == len(said)
    assert all(part in sentence for part, sentence in zip(said, found, strict=True))


def test_where_nothing_is_judged_any_finite_answer_passes(folder: Path) -> None:
    expected = expected_of(folder) | {"tolerance": None, "limits": None}
    assert list(differences(expected, {name: values + 5 for name, values in answers(expected).items()})) == []


def test_a_copy_elsewhere_finds_its_own_samples(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere")
    shutil.rmtree(folder / "warmup")
    with serving(TritonModel(folder)) as url:
        assert check_folder(tmp_path / "elsewhere", url) == 0
