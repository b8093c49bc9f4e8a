from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small_contract import CONTRACT

from toolkit.bundle import Bundle
from toolkit.compare.tolerances import TOLERANCES
from toolkit.errors import BundleError, DeviceError, ExportError, MissingDependencyError, RecipeError
from toolkit.formats.onnx import OnnxFormat
from toolkit.verify.candidate import CannotRunError, Checks, candidates_of, open_session, run_outputs, run_session
from toolkit.verify.options import VerifyOptions

IMAGES = np.zeros((2, 4, 4, 3), np.uint8)


def session(run: Callable[[np.ndarray], Any]) -> Any:
    return SimpleNamespace(device="cpu", engine="fake", threads=1, run=run)


def outputs(rows: int, dtype: type = np.float32) -> dict[str, np.ndarray]:
    return {name: np.zeros((rows, 3), dtype) for name in ("logits", "probabilities")}


# --- Which artifacts are judged


def test_every_artifact_is_a_candidate_that_is_run_as_asked(colour_bundle: Path) -> None:
    bundle = Bundle.open(colour_bundle)
    options = VerifyOptions(threads=2, tolerances={"logits_relative": 0.5})
    (candidate,) = candidates_of(bundle, options)
    assert candidate.artifact == bundle.manifest.artifacts[0]
    assert (candidate.device, candidate.threads) == ("cpu", 2)
    assert candidate.content is not None
    assert candidate.content().main == (colour_bundle / "model.onnx").read_bytes()
    assert (candidate.tolerance.precision, candidate.tolerance.logits_relative) == ("float32", 0.5)
    assert (candidate.bisectable, candidate.narrow_type) == (True, None)
    opened = candidate.opened(1)
    assert (opened.device, opened.threads) == ("cpu", 1)


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"format": "nothing", "family": "nothing"}, ExportError, "no format 'nothing'"),
        ({"family": "torchscript"}, BundleError, "of the family 'torchscript', and that format reads 'onnx'"),
    ],
)
def test_what_cannot_be_judged_is_told_before_any_work(
    colour_bundle: Path, changes: dict[str, str], error: type[Exception], sentence: str
) -> None:
    bundle = Bundle.open(colour_bundle)
    artifact = bundle.manifest.artifacts[0].model_copy(update=changes)
    bundle.manifest = bundle.manifest.model_copy(update={"artifacts": (artifact,)})
    with pytest.raises(error, match=sentence):
        candidates_of(bundle, VerifyOptions())


def test_a_format_of_a_precision_without_limits_needs_them(
    colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxFormat, "precision", "float4")
    bundle = Bundle.open(colour_bundle)
    artifact = bundle.manifest.artifacts[0].model_copy(update={"precision": "float4", "tolerance": None})
    bundle.manifest = bundle.manifest.model_copy(update={"artifacts": (artifact,)})
    with pytest.raises(RecipeError, match="no tolerance for precision 'float4'"):
        candidates_of(bundle, VerifyOptions())


def test_an_artifact_is_held_to_what_its_format_makes_whatever_the_manifest_calls_it(colour_bundle: Path) -> None:
    bundle = Bundle.open(colour_bundle)
    changes = {"precision": "int8", "tolerance": TOLERANCES["int8"]}
    artifact = bundle.manifest.artifacts[0].model_copy(update=changes)
    bundle.manifest = bundle.manifest.model_copy(update={"artifacts": (artifact,)})
    (candidate,) = candidates_of(bundle, VerifyOptions())
    assert candidate.tolerance.logits_relative == TOLERANCES["float32"].logits_relative
    assert candidate.limits[0].startswith("the manifest says that it is int8, and onnx artifacts are float32")
    assert "logits_relative not judged" in candidate.limits[1]


def test_a_limit_that_there_is_not_is_refused(colour_bundle: Path) -> None:
    with pytest.raises(RecipeError, match="has no atol"):
        candidates_of(Bundle.open(colour_bundle), VerifyOptions(tolerances={"atol": 1.0}))


# --- What it does wrong


def test_what_an_artifact_raises_inside_a_check_is_its_failure() -> None:
    checks = Checks()
    with checks.check("first") as finding:
        finding.detail = "seen"
    with checks.check("second") as finding:
        finding.failures.append("wrong")
        raise CannotRunError("it raised")
    assert [(check.name, check.passed, check.detail) for check in checks.done] == [
        ("first", True, "seen"),
        ("second", False, ""),
    ]
    assert checks.failures() == ("wrong", "it raised")


def test_a_sentence_of_two_checks_is_told_once() -> None:
    checks = Checks()
    for name in ("a", "b"):
        with checks.check(name) as finding:
            finding.failures.append("the same")
    assert checks.failures() == ("the same",)


def test_any_other_error_is_a_bug_of_ours_and_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), Checks().check("ours"):
        raise ZeroDivisionError


def test_an_artifact_that_cannot_be_opened_cannot_run() -> None:
    def refuse(threads: int) -> Any:
        raise ValueError("bad header\nand more")

    with pytest.raises(CannotRunError, match=r"^it cannot be opened: ValueError: bad header$"):
        open_session(refuse, 1)


@pytest.mark.parametrize("error", [DeviceError("no GPU"), MissingDependencyError("no engine")])
def test_what_this_machine_lacks_says_nothing_about_the_file(error: Exception) -> None:
    def refuse(threads: int) -> Any:
        raise error

    with pytest.raises(type(error)):
        open_session(refuse, 1)


def test_a_batch_is_a_copy_that_the_engine_may_write_into() -> None:
    def spoil(inputs: np.ndarray) -> str:
        inputs[...] = 1
        return "returned"

    assert run_session(session(spoil), CONTRACT, IMAGES) == "returned"
    assert not IMAGES.any()


def test_what_a_batch_raises_says_its_size() -> None:
    def fail(inputs: np.ndarray) -> Any:
        raise RuntimeError("no room")

    with pytest.raises(CannotRunError, match="it cannot run a batch of 2: RuntimeError: no room"):
        run_session(session(fail), CONTRACT, IMAGES)


@pytest.mark.parametrize(
    "value", [None, {"logits": outputs(2)["logits"]}, outputs(1), outputs(2, np.float64), {"logits": 1}]
)
def test_outputs_that_lost_their_form_cannot_be_compared(value: Any) -> None:
    with pytest.raises(CannotRunError, match=r"not float32 \[2, C\] at batch size 2, and were before"):
        run_outputs(session(lambda inputs: value), CONTRACT, IMAGES)


def test_outputs_are_copied_out_of_the_memory_of_the_engine() -> None:
    memory = outputs(2)
    kept = run_outputs(session(lambda inputs: memory), CONTRACT, IMAGES)
    memory["logits"][...] = 7
    assert not kept["logits"].any()
