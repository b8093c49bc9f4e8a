"""The gate that an artifact must pass: the same outputs as PyTorch, on every input and at every batch size."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from toolkit.bundle.manifest import ArtifactRecord, InputContract
from toolkit.compare.verdict import OUTPUTS, Comparison, Outputs, Verdict
from toolkit.errors import DeviceError, MissingDependencyError, first_line
from toolkit.formats.base import Session
from toolkit.results import ArtifactParity, Tolerance
from toolkit.verify.inputs import TEST_IMAGES, Images, Inputs, batches

REFERENCE_BATCH = 32
NOTHING = Verdict((), (), None, ())
"""Of an artifact that could not run at all: its failures say why."""


@dataclass(frozen=True)
class Expected:
    """Inputs, and what the reference says of them."""

    names: tuple[str, ...]
    images: Images
    """uint8 ``[n, H, W, 3]``."""
    outputs: Outputs

    def rows(self, rows: tuple[int, ...]) -> Outputs:
        """Return the outputs of some inputs."""
        return {name: values[list(rows)] for name, values in self.outputs.items()}


@dataclass(frozen=True)
class Judgement:
    """What every artifact of a bundle is judged by."""

    contract: InputContract
    labels: tuple[str, ...]
    inputs: Inputs
    reference: Expected
    """The reference on ``inputs``."""
    golden: Expected
    """The golden samples that are shipped in the bundle."""


def run_reference(session: Session, inputs: Inputs, contract: InputContract, on_batch: Callable[[int], None] = lambda _: None) -> Expected:
    """Run the reference once over all inputs; all artifacts are compared with these rows.

    Args:
        session: PyTorch.
        inputs: what to run.
        contract: how pixels are fed.
        on_batch: called with the number of inputs after each batch.
    """
    collected: dict[str, list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]] = {name: [] for name in OUTPUTS}
    for start in range(0, len(inputs.names), REFERENCE_BATCH):
        images = inputs.images[start : start + REFERENCE_BATCH]
        outputs = session.run(contract.encode(images))
        for name, parts in collected.items():
            parts.append(outputs[name])
        on_batch(len(images))
    return Expected(inputs.names, inputs.images, {name: np.concatenate(parts) for name, parts in collected.items()})


@dataclass
class _Candidate:
    """An artifact while it is being judged."""

    open: Callable[[], Session]
    contract: InputContract
    failures: list[str] = field(default_factory=list)
    session: Session | None = None

    def start(self) -> None:
        try:
            self.session = self.open()
        except (DeviceError, MissingDependencyError):
            # This machine cannot judge the file; that says nothing about the file, and must not stand in its manifest as a failure.
            raise
        except Exception as error:  # an engine may raise anything, and whatever it raises is the verdict
            self.failures.append(f"it cannot be opened: {first_line(error)}")

    def run(self, session: Session, images: Images) -> tuple[bool, object]:
        """Return whether it ran, and what it returned; where it raises, a failure is noted."""
        encoded = self.contract.encode(images)
        try:
            return True, session.run(encoded)
        except Exception as error:  # see start
            self.failures.append(f"it cannot run a batch of {len(images)}: {first_line(error)}")
            return False, None


def verify_artifact(
    open_candidate: Callable[[], Session],
    artifact: ArtifactRecord,
    judgement: Judgement,
    tolerance: Tolerance,
    *,
    device: str = "cpu",
    threads: int = 1,
    on_batch: Callable[[int], None] = lambda _: None,
) -> ArtifactParity:
    """Compare one artifact with the reference and with the golden samples.

    Whatever the artifact does wrong, raising included, is a failure in the record and not an exception.

    Args:
        open_candidate: opens the artifact the way a service does.
        artifact: its entry in the manifest.
        judgement: inputs and what is expected of them.
        tolerance: what is allowed.
        device: where it was asked to run.
        threads: how many threads it was asked to use.
        on_batch: called with the number of inputs after each batch.

    Raises:
        DeviceError: the device cannot be used here, so that nothing can be said of the artifact.
        MissingDependencyError: the artifact's engine is not installed.
    """
    started = time.perf_counter()
    candidate = _Candidate(open_candidate, judgement.contract)
    candidate.start()
    session = candidate.session
    verdict = NOTHING
    if session is not None:
        if session.device != device:
            candidate.failures.append(f"it was asked to run on {device} and runs on {session.device}")
        verdict = _compare(candidate, session, judgement, tolerance, on_batch)
    failures = (*candidate.failures, *verdict.failures)
    return ArtifactParity(
        artifact=artifact.format,
        file=artifact.file,
        sha256=artifact.sha256,
        passed=not failures,
        failures=failures,
        device=session.device if session else device,
        engine=session.engine if session else "none: it cannot be opened",
        threads=session.threads if session else threads,
        test_images=judgement.inputs.test_images if session else 0,
        edge_inputs=judgement.inputs.edge_inputs if session else 0,
        batch_sizes=tuple(TEST_IMAGES) if session else (),
        outputs=verdict.outputs,
        top1_agreement=verdict.top1_agreement,
        flips=verdict.flips,
        tolerance=tolerance,
        seconds=time.perf_counter() - started,
    )


def _compare(candidate: _Candidate, session: Session, judgement: Judgement, tolerance: Tolerance, on_batch: Callable[[int], None]) -> Verdict:
    def compare(expected: Expected, rows: tuple[int, ...], comparison: Comparison) -> bool:
        # Indexing copies the images: an engine that writes into its input harms no later batch.
        ran, outputs = candidate.run(session, expected.images[list(rows)])
        if ran:
            comparison.add([expected.names[row] for row in rows], expected.rows(rows), outputs)
        return ran

    whole = Comparison(judgement.labels, tolerance)
    given_up: set[int] = set()
    for batch in batches(judgement.inputs.test_images, judgement.inputs.edge_inputs):
        # One failure per batch size says enough, and an engine may take long to fail.
        if batch.batch_size not in given_up and not compare(judgement.reference, batch.rows, whole):
            given_up.add(batch.batch_size)
        on_batch(len(batch.rows))
    if given_up == set(TEST_IMAGES):
        return NOTHING
    golden = Comparison(judgement.labels, tolerance)
    compare(judgement.golden, tuple(range(len(judgement.golden.names))), golden)
    return _joined(whole.verdict(), golden.verdict())


def _joined(verdict: Verdict, golden: Verdict) -> Verdict:
    """Add the failures on golden samples; the statistics stay those of the inputs."""
    extra = tuple(sentence for sentence in golden.failures if sentence not in verdict.failures)
    return Verdict(verdict.failures + extra, verdict.outputs, verdict.top1_agreement, verdict.flips)


def golden_expected(sources: Mapping[str, str], images: Images, logits: list[tuple[float, ...]], probabilities: list[tuple[float, ...]]) -> Expected:
    """Turn golden samples into expectations.

    Args:
        sources: file of each sample to the image it was made from, in order.
        images: uint8 ``[n, H, W, 3]``.
        logits: one row per sample.
        probabilities: one row per sample.
    """
    names = tuple(f"golden sample {file} ({source})" for file, source in sources.items())
    return Expected(names, images, {"logits": np.array(logits, np.float32), "probabilities": np.array(probabilities, np.float32)})
