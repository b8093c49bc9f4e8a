from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from toolkit.bundle.content import Content
from toolkit.bundle.manifest import ArtifactRecord, InputContract, Normalization
from toolkit.compare.metrics import softmax
from toolkit.compare.tolerances import TOLERANCES
from toolkit.errors import BundleError, DeviceError, MissingDependencyError
from toolkit.results import ArtifactParity
from toolkit.verify import gate
from toolkit.verify.candidate import Candidate
from toolkit.verify.expected import Exact, Expected, Judgement, golden_expected, run_reference
from toolkit.verify.gate import planned_inputs, verify_artifact
from toolkit.verify.inputs import BATCH_SIZES, make_inputs
from toolkit.verify.value_range import RangeFinding

SIZE, LABELS = 6, ("cat", "dog", "eel", "fox")
NORMALIZATION = Normalization(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
CONTRACT = InputContract(
    name="images", dtype="uint8", shape=("N", SIZE, SIZE, 3), normalization=NORMALIZATION, normalization_in_graph=True
)
ARTIFACT = ArtifactRecord(
    format="fake",
    precision="float32",
    file="model.fake",
    sha256="a" * 64,
    size_bytes=1,
    opset=None,
    ir_version=None,
    producer="test",
)
Change = Callable[[dict[str, Any], int], Any]


class Linear:
    """A linear classifier; ``change`` is what is wrong with it."""

    def __init__(self, change: Change = lambda outputs, batch: outputs, device: str = "cpu") -> None:
        self.device, self.engine, self.threads = device, "numpy", 1
        self._weights = (
            np.random.default_rng(0).normal(scale=0.05, size=(SIZE * SIZE * 3, len(LABELS))).astype(np.float32)
        )
        self._change = change
        self.batches: list[int] = []

    def run(self, inputs: np.ndarray) -> Any:
        self.batches.append(len(inputs))
        logits = (inputs.reshape(len(inputs), -1).astype(np.float32) / 255 - 0.5) @ self._weights
        return self._change({"logits": logits, "probabilities": softmax(logits).astype(np.float32)}, len(inputs))


def judgement() -> Judgement:
    images = np.random.default_rng(1).integers(0, 256, (40, SIZE, SIZE, 3), dtype=np.uint8)
    inputs = make_inputs(tuple(f"test/{index:05d}" for index in range(40)), images, seed=0)
    outputs = Linear().run(images[:4])
    golden = golden_expected(
        {f"golden/{index:03d}.bin": f"test/{index:05d}" for index in range(4)},
        images[:4],
        [tuple(row) for row in outputs["logits"].tolist()],
        [tuple(row) for row in outputs["probabilities"].tolist()],
    )
    return Judgement(CONTRACT, LABELS, inputs, run_reference(Linear(), inputs, CONTRACT), golden)


JUDGEMENT = judgement()
NOTHING_INSIDE = Content(Path("model.onnx"), "model.onnx", {"model.onnx": b""})


def candidate(opened: Callable[[int], Any], precision: str = "float32", **fields: Any) -> Candidate:
    return Candidate(ARTIFACT, opened, **{"tolerance": TOLERANCES[precision], **fields})


def verify(
    change: Change = lambda outputs, batch: outputs, device: str = "cpu", judged: Judgement = JUDGEMENT
) -> ArtifactParity:
    return verify_artifact(candidate(lambda threads: Linear(change, device)), judged)


def failed_checks(found: ArtifactParity) -> list[str]:
    return [check.name for check in found.checks if not check.passed]


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "available_cores", lambda: 2)


def test_the_same_model_passes_on_every_input_at_every_batch_size() -> None:
    classifier, seen, opened = Linear(), 0, []

    def count(steps: int) -> None:
        nonlocal seen
        seen += steps

    def open_candidate(threads: int) -> Linear:
        opened.append(threads)
        return classifier

    begun: list[str] = []
    found = verify_artifact(candidate(open_candidate), JUDGEMENT, on_batch=count, on_check=begun.append)
    assert begun == [check.name for check in found.checks]
    assert found.passed
    assert found.failures == ()
    assert (found.artifact, found.file, found.sha256, found.device, found.engine) == (
        "fake",
        "model.fake",
        "a" * 64,
        "cpu",
        "numpy",
    )
    assert (found.test_images, found.edge_inputs, found.batch_sizes) == (40, 18, BATCH_SIZES)
    assert (found.top1_agreement, found.top5_agreement, found.bitwise_repeatable) == (1.0, None, True)
    assert found.divergence is not None
    assert found.divergence.max < 1e-9
    assert seen == planned_inputs(JUDGEMENT) == (16 + 18) + (16 + 18) + (24 + 18) + (28 + 18) + (40 + 18) + 128
    assert all(output.statistics.elements == (40 + 18) * len(LABELS) for output in found.outputs)
    assert set(BATCH_SIZES) <= set(classifier.batches)
    assert opened == [1, 2]
    assert found.seconds > 0
    assert [check.name for check in found.checks] == [
        "opens",
        "outputs",
        "batch sizes",
        "agreement",
        "golden samples",
        "batch invariance",
        "repeated runs",
        "state between calls",
        "threads",
    ]
    assert all(check.detail for check in found.checks)


def test_the_reference_runs_each_input_once_in_batches_of_32() -> None:
    session, seen = Linear(), []
    expected = run_reference(session, JUDGEMENT.inputs, CONTRACT, seen.append)
    assert session.batches == seen == [32, 26]
    assert expected.outputs["logits"].shape == (58, len(LABELS))


def test_wrong_logits_fail_with_the_size_of_the_error() -> None:
    def change(outputs: dict[str, Any], batch: int) -> dict[str, Any]:
        return {**outputs, "logits": outputs["logits"] + np.float32(0.31)}

    found = verify(change)
    assert not found.passed
    assert any(
        sentence.startswith("logits differ by 0.31 on ") and ", allowed 0.00" in sentence for sentence in found.failures
    )
    assert found.top1_agreement == 1.0


def test_swapped_classes_fail_as_counted_flips() -> None:
    def change(outputs: dict[str, Any], batch: int) -> dict[str, Any]:
        return {name: array[:, [1, 0, 2, 3]] for name, array in outputs.items()}

    found = verify(change)
    assert not found.passed
    assert any(flip.counted for flip in found.flips)
    assert any("the most probable class changes from" in sentence for sentence in found.failures)
    assert found.top1_agreement is not None
    assert found.top1_agreement < 0.9


def test_nan_on_a_single_input_fails() -> None:
    def change(outputs: dict[str, Any], batch: int) -> dict[str, Any]:
        if batch == 32:
            outputs["logits"][5, 2] = math.nan
        return outputs

    assert any(
        sentence.startswith("logits hold NaN on test/00005 (batch size 32)") for sentence in verify(change).failures
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda outputs, batch: {"logits": outputs["logits"]},
            "the output probabilities is missing at batch size 32; it returns logits",
        ),
        (
            lambda outputs, batch: {name: array.astype(np.float64) for name, array in outputs.items()},
            "logits are float64 instead of float32",
        ),
        (
            lambda outputs, batch: {**outputs, "logits": outputs["logits"][:, :3]},
            "logits have the shape [32, 3] instead of [32, 4] at batch size 32",
        ),
        (lambda outputs, batch: None, "it returns a NoneType instead of named outputs"),
    ],
)
def test_malformed_outputs_fail(change: Change, sentence: str) -> None:
    found = verify(change)
    assert not found.passed
    assert sentence in found.failures


def test_an_artifact_that_is_right_only_at_batch_1_fails() -> None:
    def change(outputs: dict[str, Any], batch: int) -> dict[str, Any]:
        return {name: np.repeat(array[:1], batch, axis=0) for name, array in outputs.items()}

    found = verify(change)
    assert not found.passed
    assert not any(flip.batch_size == 1 for flip in found.flips)
    assert {flip.batch_size for flip in found.flips} >= {3, 32, 128}
    assert "batch invariance" in failed_checks(found)


def test_an_artifact_that_runs_only_batches_of_1_fails_and_is_compared_there() -> None:
    def change(outputs: dict[str, Any], batch: int) -> dict[str, Any]:
        if batch > 1:
            raise RuntimeError("Got invalid dimensions\nindex: 0")
        return outputs

    found = verify(change)
    assert found.failures[:5] == tuple(
        f"it cannot run a batch of {size}: RuntimeError: Got invalid dimensions" for size in (32, 2, 3, 7, 128)
    )
    assert found.top1_agreement is None
    assert failed_checks(found) == ["outputs", "batch sizes", "golden samples"]


class EngineError(Exception):
    """Stands for the private exception of an engine."""


@pytest.mark.parametrize("error", [EngineError("bad node"), ValueError(), MemoryError("no room"), KeyError("images")])
def test_an_artifact_that_always_raises_is_a_failed_verdict(error: Exception) -> None:
    def change(outputs: dict[str, Any], batch: int) -> dict[str, Any]:
        raise error

    found = verify(change)
    assert not found.passed
    assert len(found.failures) == len(BATCH_SIZES)
    assert all(type(error).__name__ in sentence for sentence in found.failures)
    assert (found.outputs, found.top1_agreement, found.flips) == ((), None, ())


@pytest.mark.parametrize("error", [EngineError("bad header"), BundleError("onnxruntime refuses it")])
def test_an_artifact_that_cannot_be_opened_is_a_failed_verdict(error: Exception) -> None:
    def refuse(threads: int) -> Any:
        raise error

    found = verify_artifact(candidate(refuse, device="cpu", threads=2), JUDGEMENT)
    assert found.failures == (f"it cannot be opened: {type(error).__name__}: {error}",)
    assert (found.passed, found.test_images, found.batch_sizes, found.threads) == (False, 0, (), 2)


@pytest.mark.parametrize("error", [DeviceError("no CUDA here"), MissingDependencyError("no onnxruntime here")])
def test_what_this_machine_lacks_is_not_held_against_the_artifact(error: Exception) -> None:
    def refuse(threads: int) -> Any:
        raise error

    with pytest.raises(type(error), match="here"):
        verify_artifact(candidate(refuse), JUDGEMENT)


def test_running_on_another_device_than_asked_fails() -> None:
    found = verify_artifact(candidate(lambda threads: Linear(device="cpu"), device="cuda"), JUDGEMENT)
    assert found.failures == ("it was asked to run on cuda and runs on cpu",)
    assert found.device == "cpu"
    assert found.top1_agreement == 1.0


def with_reference(logits: np.ndarray) -> Judgement:
    """The same inputs, for which the reference says ``logits``."""
    outputs = {"logits": logits, "probabilities": softmax(logits).astype(np.float32)}
    reference = Expected(JUDGEMENT.inputs.names, JUDGEMENT.inputs.images, outputs)
    return Judgement(CONTRACT, LABELS, JUDGEMENT.inputs, reference, JUDGEMENT.golden)


def test_a_flip_within_the_tolerance_is_listed_but_not_counted() -> None:
    logits = JUDGEMENT.reference.outputs["logits"].copy()
    best, second = np.argsort(-logits[0])[:2]
    allowed = 1e-4 + 1e-3 * np.abs(logits[0]).max()
    # The candidate keeps its logits; the reference puts the second class ahead by less than two errors.
    middle = (logits[0, best] + logits[0, second]) / 2
    logits[0, best], logits[0, second] = middle - allowed / 4, middle + allowed / 4
    near = JUDGEMENT.reference.outputs["logits"].copy()
    near[0, best], near[0, second] = middle + allowed / 4, middle - allowed / 4

    def change(outputs: dict[str, Any], batch: int) -> dict[str, Any]:
        rows = np.abs(outputs["logits"] - JUDGEMENT.reference.outputs["logits"][0]).max(axis=1) < 1e-5
        outputs["logits"][rows] = near[0]
        return {"logits": outputs["logits"], "probabilities": softmax(outputs["logits"]).astype(np.float32)}

    loose = TOLERANCES["float32"]
    found = verify_artifact(candidate(lambda threads: Linear(change), tolerance=loose), with_reference(logits))
    flips = [flip for flip in found.flips if flip.input == "test/00000"]
    assert [flip.batch_size for flip in flips] == [32, 1, 2, 3, 7, 128, 128, 128]
    assert not any(flip.counted for flip in found.flips)
    # Golden samples still hold the first logits, which is what fails here; the inputs themselves do not.
    assert all("golden sample" in sentence for sentence in found.failures)
    assert found.top1_agreement is not None
    assert found.top1_agreement < 1.0


def test_golden_samples_that_say_something_else_fail() -> None:
    outputs = {name: values.copy() for name, values in JUDGEMENT.golden.outputs.items()}
    outputs["probabilities"][2, 0] += 0.5
    stale = Judgement(
        CONTRACT,
        LABELS,
        JUDGEMENT.inputs,
        JUDGEMENT.reference,
        replace(JUDGEMENT.golden, outputs=outputs),
    )
    (failure,) = verify(judged=stale).failures
    assert (
        failure
        == "probabilities differ by 0.5 on golden sample golden/002.bin (test/00002) (batch size 4), allowed 0.001"
    )


def test_an_engine_that_writes_into_its_input_harms_no_other_batch() -> None:
    before = JUDGEMENT.inputs.images.copy()

    class Writer(Linear):
        def run(self, inputs: np.ndarray) -> Any:
            outputs = super().run(inputs)
            inputs[...] = 0
            return outputs

    assert verify_artifact(candidate(lambda threads: Writer()), JUDGEMENT).passed
    assert np.array_equal(JUDGEMENT.inputs.images, before)


def test_a_tensor_contract_is_fed_normalised_floats() -> None:
    contract = InputContract(
        name="tensor",
        dtype="float32",
        shape=("N", 3, SIZE, SIZE),
        normalization=NORMALIZATION,
        normalization_in_graph=False,
    )
    seen: list[tuple[Any, ...]] = []

    class Recorder(Linear):
        def run(self, inputs: np.ndarray) -> Any:
            seen.append((inputs.dtype, inputs.shape[1:]))
            return super().run(inputs)

    run_reference(Recorder(), JUDGEMENT.inputs, contract)
    assert set(seen) == {(np.dtype(np.float32), (3, SIZE, SIZE))}


def test_the_progress_total_is_the_number_of_compared_inputs() -> None:
    def change(outputs: dict[str, Any], batch: int) -> dict[str, Any]:
        raise EngineError("always")

    steps: list[int] = []
    verify_artifact(candidate(lambda threads: Linear(change)), JUDGEMENT, on_batch=steps.append)
    assert sum(steps) == planned_inputs(JUDGEMENT)


class Stateful(Linear):
    """Keeps the mean of the last batch and lets a little of it into the next."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self._share, self._kept = share, 0.0

    def run(self, inputs: np.ndarray) -> Any:
        outputs = super().run(inputs)
        outputs["logits"] += np.float32(self._kept * self._share)
        self._kept = float(inputs.mean()) / 255
        return outputs


def test_what_is_kept_between_calls_shows_although_every_output_is_within_tolerance_of_the_reference() -> None:
    wide = TOLERANCES["float32"].model_copy(update={"logits_absolute": 1.0, "softmax_absolute": 1.0})
    found = verify_artifact(candidate(lambda threads: Stateful(0.01), tolerance=wide), JUDGEMENT)
    assert "state between calls" in failed_checks(found)
    assert any("after other images were run in between" in failure for failure in found.failures)
    assert verify_artifact(candidate(lambda threads: Stateful(0.0), tolerance=wide), JUDGEMENT).passed


def test_runs_that_differ_in_bits_are_recorded_and_fail_only_beyond_the_tolerance() -> None:
    def noise(size: float) -> ArtifactParity:
        random = np.random.default_rng(0)

        def change(outputs: dict[str, Any], batch: int) -> dict[str, Any]:
            return {
                **outputs,
                "logits": outputs["logits"] * (1 + random.normal(0, size, (batch, 1)).astype(np.float32)),
            }

        return verify(change)

    small, large = noise(1e-7), noise(1e-3)
    assert small.passed
    assert small.bitwise_repeatable is False
    assert {"repeated runs", "state between calls"} <= set(failed_checks(large))


def test_outputs_that_depend_on_the_number_of_threads_fail() -> None:
    def opened(threads: int) -> Linear:
        return Linear(
            lambda outputs, batch: {**outputs, "logits": outputs["logits"] * np.float32(1 + 0.01 * (threads - 1))}
        )

    found = verify_artifact(candidate(opened), JUDGEMENT)
    assert failed_checks(found) == ["threads"]
    assert "with 2 threads, allowed 0.0001" in found.failures[0]


def test_outputs_that_depend_on_the_neighbours_fail() -> None:
    class Batched(Linear):
        def run(self, inputs: np.ndarray) -> Any:
            centred = np.clip(inputs.astype(np.float32) - inputs.mean() * 0.2, 0, 255)
            return super().run(centred)

    found = verify_artifact(candidate(lambda threads: Batched(), "int8"), JUDGEMENT)
    assert {"batch sizes", "batch invariance"} & set(failed_checks(found))


def exact() -> Exact:
    rows = tuple(range(58))
    weights = Linear()._weights.astype(np.float64)
    logits = (JUDGEMENT.inputs.images.reshape(58, -1).astype(np.float64) / 255 - 0.5) @ weights
    reference = JUDGEMENT.reference.outputs["logits"]
    rms = np.sqrt(np.mean((np.abs(reference - logits).max(axis=1) / np.abs(logits).max(axis=1)) ** 2))
    return Exact(rows, logits, {"float32": float(rms)})


def test_weights_that_lost_their_low_bits_show_beside_the_rounding_of_pytorch_and_nowhere_else() -> None:
    judged = Judgement(CONTRACT, LABELS, JUDGEMENT.inputs, JUDGEMENT.reference, JUDGEMENT.golden, exact())
    good = verify(judged=judged)
    assert good.passed
    assert good.rounding is not None
    assert good.rounding.ratio == pytest.approx(1.0, abs=0.5)

    class Truncated(Linear):
        def __init__(self) -> None:
            super().__init__()
            self._weights = (self._weights.view(np.uint32) & np.uint32(0xFFFFF000)).view(np.float32)

    found = verify_artifact(candidate(lambda threads: Truncated()), judged)
    assert failed_checks(found) == ["rounding"]
    assert "times what PyTorch loses by rounding in float32" in found.failures[0]


def test_accuracy_is_compared_where_the_true_classes_are_known() -> None:
    images = JUDGEMENT.inputs.images[:40]
    targets = JUDGEMENT.reference.outputs["logits"][:40].argmax(axis=1)
    inputs = make_inputs(JUDGEMENT.inputs.names[:40], images, 0, targets)
    judged = Judgement(CONTRACT, LABELS, inputs, JUDGEMENT.reference, JUDGEMENT.golden)
    good = verify(judged=judged)
    assert good.accuracy is not None
    assert (good.accuracy.reference_accuracy, good.accuracy.artifact_accuracy, good.accuracy.p_value) == (1.0, 1.0, 1.0)
    swapped = verify_artifact(
        candidate(
            lambda threads: Linear(
                lambda outputs, batch: {name: array[:, [1, 0, 2, 3]] for name, array in outputs.items()}
            ),
            "int8",
        ),
        judged,
    )
    assert failed_checks(swapped) == ["agreement", "golden samples"] or failed_checks(swapped) == ["agreement"]
    assert any(failure.startswith("accuracy falls by") for failure in swapped.failures)


def test_a_file_that_says_something_else_of_itself_than_the_manifest_fails() -> None:
    class Labelled(Linear):
        metadata: ClassVar = {"toolkit.labels": '["dog", "cat"]', "toolkit.model_sha256": "1", "other": "x"}

    judged = replace(JUDGEMENT, metadata={"toolkit.labels": '["cat", "dog"]', "toolkit.model_sha256": "1"})
    found = verify_artifact(candidate(lambda threads: Labelled()), judged)
    assert failed_checks(found) == ["identity"]
    assert found.failures == ("the file itself says another labels than the manifest",)
    assert verify(judged=judged).passed


@pytest.mark.parametrize(
    ("stored", "manifest", "same"),
    [
        ('{"height": 8}', '{"height": 8, "new": 1}', True),
        ('{"height": 8, "old": 0}', '{"height": 9}', False),
        ('["a", "b"]', '["a","b"]', True),
        ("abc", "abc", True),
        ("abc", "abd", False),
    ],
)
def test_fields_that_only_one_side_knows_are_no_difference(stored: str, manifest: str, same: bool) -> None:
    assert gate._says_the_same(stored, manifest) is same


def test_edge_inputs_without_a_reference_must_be_finite() -> None:
    judged = replace(JUDGEMENT, unknown=np.full((2, SIZE, SIZE, 3), 255, np.uint8))

    class Overflows(Linear):
        def run(self, inputs: np.ndarray) -> Any:
            outputs = super().run(inputs)
            if len(inputs) == 2 and (inputs == 255).all():
                outputs["logits"][0] = np.inf
            return outputs

    assert verify(judged=judged).passed
    found = verify_artifact(candidate(lambda threads: Overflows()), judged)
    assert failed_checks(found) == ["edge inputs"]


# --- The values inside a file


def test_a_file_whose_values_do_not_fit_fails_on_a_cpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = RangeFinding(("loud reaches 1e+06, and float16 holds 65504 at most",), "the largest")
    monkeypatch.setattr(gate, "examine_ranges", lambda *_: seen)
    found = verify_artifact(
        candidate(lambda threads: Linear(), "float16", content=lambda: NOTHING_INSIDE, narrow_type="float16"), JUDGEMENT
    )
    assert failed_checks(found) == ["range"]
    assert found.failures == seen.failures
    assert found.checks[-1].detail == "the largest"


def test_float32_files_have_no_range_to_check() -> None:
    found = verify_artifact(candidate(lambda threads: Linear(), content=lambda: NOTHING_INSIDE), JUDGEMENT)
    assert found.passed
    assert "range" not in [check.name for check in found.checks]


def test_a_file_whose_values_cannot_be_looked_at_fails(tmp_path: Path) -> None:
    path = tmp_path / "model.fp16.onnx"
    path.write_bytes(b"no model")
    found = verify_artifact(
        candidate(lambda threads: Linear(), "float16", content=lambda: Content.of(path), narrow_type="float16"),
        JUDGEMENT,
    )
    assert failed_checks(found) == ["range"]
