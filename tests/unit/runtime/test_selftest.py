from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import toolkit
from toolkit.bundle import ArtifactRecord, Bundle
from toolkit.bundle.writer import write_manifest
from toolkit.compare.tolerances import TOLERANCES
from toolkit.errors import MissingDependencyError, RecipeError
from toolkit.formats.onnx import OnnxFormat
from toolkit.runtime.selftest import Selftest, selftest, selftest_bundle

Outputs = dict[str, np.ndarray]


class Fake:
    """A session that changes what the real one returns."""

    device, engine, threads = "cpu", "fake 1.0", 1

    def __init__(self, bundle: Bundle, change: Callable[[Outputs, int], object]) -> None:
        self._real = toolkit.load(bundle.path).session
        self._change = change
        self.batches: list[int] = []

    def run(self, inputs: np.ndarray) -> Outputs:
        self.batches.append(len(inputs))
        return self._change(self._real.run(inputs), len(inputs))  # type: ignore[return-value]  # a broken engine returns anything


def with_fault(
    bundle: Path,
    change: Callable[[Outputs, int], object],
    tolerances: dict[str, float] | None = None,
    **artifact: object,
) -> Selftest:
    opened = Bundle.open(bundle)
    changed = opened.manifest.artifacts[0].model_copy(update=artifact)
    return selftest(opened, changed, Fake(opened, change), tolerances)


def test_a_good_artifact_passes_alone_and_together(colour_bundle: Path) -> None:
    bundle = Bundle.open(colour_bundle)
    session = Fake(bundle, lambda outputs, _: outputs)
    result = selftest(bundle, bundle.manifest.artifacts[0], session)
    assert result.passed
    assert result.failures == ()
    assert session.batches == [1, 1, 1, 3]
    assert result.samples == 3
    assert result.max_absolute_logits is not None
    assert result.max_absolute_logits < 1e-5
    assert result.top1_agreement == 1.0
    assert result.judges_values
    assert result.tolerance == TOLERANCES["float32"]


def scaled(factor: float) -> Callable[[Outputs, int], Outputs]:
    """Return a fault that is consistent in itself: other logits, and the probabilities that belong to them."""

    def change(outputs: Outputs, _: int) -> Outputs:
        logits = (outputs["logits"] * factor).astype(np.float32)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return {"logits": logits, "probabilities": exponentials / exponentials.sum(axis=1, keepdims=True)}

    return change


def raises(outputs: Outputs, size: int) -> Outputs:
    raise RuntimeError(f"no batch of {size}")


FAULTS: dict[str, tuple[Callable[[Outputs, int], object], str]] = {
    "other logits": (
        lambda outputs, _: {**outputs, "logits": outputs["logits"] * np.float32(1.01)},
        "logits differ by",
    ),
    "other classes": (
        lambda outputs, _: {name: value[:, ::-1] for name, value in outputs.items()},
        "the most probable class changes",
    ),
    "other probabilities": (
        lambda outputs, _: {**outputs, "probabilities": outputs["probabilities"] ** 2},
        "probabilities differ by",
    ),
    "only at batch 1": (
        lambda outputs, size: outputs if size == 1 else {**outputs, "logits": outputs["logits"][::-1]},
        "batch size 3",
    ),
    "only together": (
        lambda outputs, size: outputs if size > 1 else {**outputs, "logits": outputs["logits"] + np.float32(1)},
        "batch size 1",
    ),
    "nan": (lambda outputs, _: {**outputs, "logits": outputs["logits"] * np.float32(np.nan)}, "logits hold NaN"),
    "infinity": (lambda outputs, _: {**outputs, "logits": outputs["logits"] / np.float32(0)}, "logits hold"),
    "a missing output": (lambda outputs, _: {"logits": outputs["logits"]}, "the output probabilities is missing"),
    "another dtype": (
        lambda outputs, _: {**outputs, "logits": outputs["logits"].astype(np.float64)},
        "logits are float64 instead of float32",
    ),
    "another shape": (lambda outputs, _: {**outputs, "logits": outputs["logits"][:, :2]}, "logits have the shape"),
    "nothing": (lambda outputs, _: None, "it returns a NoneType"),
    "an error": (raises, "it cannot run a batch of 1: RuntimeError: no batch of 1"),
    "an error together": (
        lambda outputs, size: outputs if size == 1 else raises(outputs, size),
        "it cannot run a batch of 3: RuntimeError",
    ),
}


@pytest.mark.parametrize(("fault", "said"), FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.filterwarnings(
    "ignore:divide by zero:RuntimeWarning", "ignore:invalid value:RuntimeWarning"
)  # the faults divide by zero on purpose
def test_a_fault_fails_with_its_reason(colour_bundle: Path, fault: Callable[[Outputs, int], object], said: str) -> None:
    result = with_fault(colour_bundle, fault)
    assert not result.passed
    assert any(said in failure for failure in result.failures), result.failures


def test_the_share_of_samples_with_the_expected_class_counts_each_once(colour_bundle: Path) -> None:
    def first_is_wrong(outputs: Outputs, size: int) -> Outputs:
        logits = outputs["logits"].copy()
        if size == 3:
            logits[0] = logits[0, ::-1]
        return {**outputs, "logits": logits}

    result = with_fault(colour_bundle, first_is_wrong)
    assert result.top1_agreement == pytest.approx(2 / 3)
    assert "the most probable class changes from blue" in " ".join(result.failures)
    assert with_fault(colour_bundle, FAULTS["nothing"][0]).top1_agreement is None


def test_a_precision_without_a_tolerance_is_judged_by_its_form(
    colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxFormat, "precision", "int3")
    result = with_fault(colour_bundle, scaled(1.2), precision="int3", tolerance=None)
    assert result.passed
    assert result.tolerance is None
    assert not result.judges_values
    assert result.max_absolute_logits is not None
    assert result.max_absolute_logits > 0.5
    assert not with_fault(colour_bundle, FAULTS["nan"][0], precision="int3", tolerance=None).passed
    assert not with_fault(colour_bundle, FAULTS["a missing output"][0], precision="int3", tolerance=None).passed


def test_a_bundle_may_tighten_its_limits_and_never_widen_them(colour_bundle: Path) -> None:
    usual = TOLERANCES["float32"]
    tight = usual.model_copy(update={"logits_relative": 1e-7, "logits_absolute": 0.0})
    wide = usual.model_copy(update={"logits_relative": 0.5, "probabilities_absolute": None})
    assert with_fault(colour_bundle, scaled(1.000_01)).passed
    found = with_fault(colour_bundle, scaled(1.000_01), tolerance=tight)
    assert not found.passed
    assert found.tolerance == tight
    assert found.limits == ()
    found = with_fault(colour_bundle, scaled(1.01), tolerance=wide)
    assert not found.passed
    assert found.tolerance == usual
    assert found.limits == (
        "the bundle's own limits are wider than float32 allows and were not used: logits_relative 0.5, "
        "probabilities_absolute not judged; used: logits_relative 0.001, probabilities_absolute 0.001",
    )


def test_a_manifest_that_calls_a_float32_file_int8_widens_nothing(colour_bundle: Path) -> None:
    found = with_fault(colour_bundle, scaled(1.2), precision="int8", tolerance=TOLERANCES["int8"])
    assert not found.passed
    assert found.limits[0] == (
        "the manifest says that it is int8, and onnx artifacts are float32: it was held to what float32 allows"
    )


def test_what_the_caller_replaces_counts_and_is_said(colour_bundle: Path) -> None:
    wide = {"logits_relative": 0.5, "probabilities_absolute": 0.5}
    found = with_fault(colour_bundle, scaled(1.01), tolerances=wide)
    assert found.passed
    assert found.tolerance is not None
    assert found.tolerance.logits_relative == 0.5
    assert found.limits == (
        "limits replaced by whoever asked: logits_relative 0.5, probabilities_absolute 0.5; usual: logits_relative "
        "0.001, probabilities_absolute 0.001",
    )
    with pytest.raises(RecipeError, match="a tolerance has no atol"):
        with_fault(colour_bundle, scaled(1.0), tolerances={"atol": 1.0})


def test_a_predictor_tests_the_session_that_it_uses(colour_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = toolkit.load(colour_bundle)
    assert predictor.selftest().passed
    monkeypatch.setattr(predictor._streams[0], "_session", Fake(Bundle.open(colour_bundle), FAULTS["other logits"][0]))
    assert not predictor.selftest().passed


def with_artifact(bundle: Path, **changes: object) -> Bundle:
    opened = Bundle.open(bundle)
    (bundle / "second.bin").write_bytes((bundle / "model.onnx").read_bytes())
    second: ArtifactRecord = opened.manifest.artifacts[0].model_copy(update={"file": "second.bin", **changes})
    write_manifest(bundle, opened.manifest.model_copy(update={"artifacts": (*opened.manifest.artifacts, second)}))
    return Bundle.open(bundle)


def test_an_artifact_of_a_format_that_is_not_here_is_said_and_not_failed(colour_bundle: Path) -> None:
    good, other = selftest_bundle(with_artifact(colour_bundle, format="made elsewhere"))
    assert good.passed
    assert (other.passed, other.failures, other.samples) == (False, (), 0)
    assert "there is no format 'made elsewhere'" in (other.missing or "")


@pytest.mark.parametrize(
    ("error", "missing"),
    [(MissingDependencyError("its engine is not installed"), True), (ValueError("these are not weights"), False)],
)
def test_a_missing_engine_is_not_a_refused_file(
    colour_bundle: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, missing: bool
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr("toolkit.formats.onnx.OnnxFormat.open", refuse)
    (result,) = selftest_bundle(Bundle.open(colour_bundle))
    assert not result.passed
    assert (result.missing is not None) is missing
    assert result.failures == (() if missing else ("it cannot be opened: ValueError: these are not weights",))
