"""What artifacts are judged by: inputs, and what is expected of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from toolkit.bundle import Bundle, Manifest
from toolkit.bundle.manifest import InputContract
from toolkit.compare.verdict import OUTPUTS, Outputs
from toolkit.formats.base import Session
from toolkit.results import GoldenLimits
from toolkit.verify.inputs import MAIN_BATCH, Images, Inputs


@dataclass(frozen=True)
class Expected:
    """Inputs, and what the reference says of them."""

    names: tuple[str, ...]
    images: Images
    """uint8 ``[n, H, W, 3]``."""
    outputs: Outputs
    true_labels: tuple[str | None, ...] | None = None

    def rows(self, rows: tuple[int, ...]) -> Outputs:
        """Return the outputs of some inputs."""
        return {name: values[list(rows)] for name, values in self.outputs.items()}


@dataclass(frozen=True)
class Exact:
    """What float64 says of some inputs, and how far lower precisions are from it."""

    rows: tuple[int, ...]
    """Positions in the inputs."""
    logits: npt.NDArray[np.float64]
    """``[len(rows), C]``."""
    rounding: Mapping[str, float]
    """By precision: root mean square of ``compare.rounding`` of PyTorch. A precision that PyTorch cannot compute here
    is absent."""


@dataclass(frozen=True)
class GoldenExpected(Expected):
    """The golden samples that a bundle holds, images first, and what it says of them."""

    edge_inputs: int = 0
    """How many of them, the last ones, are edge inputs."""
    rounding: Mapping[str, float] = field(default_factory=dict)
    """See ``bundle.manifest.Golden``; empty where the outputs are not those of float64."""
    limits: Mapping[str, GoldenLimits] = field(default_factory=dict)
    """See ``bundle.manifest.Golden``."""

    @property
    def test_images(self) -> int:
        """How many of them are test images."""
        return len(self.names) - self.edge_inputs

    @property
    def exact(self) -> Exact | None:
        """The same as what float64 says; None where it is not."""
        if not self.rounding:
            return None
        return Exact(tuple(range(len(self.names))), self.outputs["logits"].astype(np.float64), self.rounding)


@dataclass(frozen=True)
class Judgement:
    """What every artifact of a bundle is judged by."""

    contract: InputContract
    labels: tuple[str, ...]
    inputs: Inputs
    reference: Expected
    """The reference on ``inputs``."""
    golden: GoldenExpected | None
    """The golden samples that are shipped in the bundle; None where they were made by another network."""
    exact: Exact | None = None
    """None where it is not known what float64 says."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What an artifact that stores metadata must say of itself."""
    unknown: Images | None = None
    """Edge inputs, uint8 ``[n, H, W, 3]``, that no reference is at hand for: their outputs must be finite."""


def run_reference(
    session: Session, inputs: Inputs, contract: InputContract, on_batch: Callable[[int], None] = lambda _: None
) -> Expected:
    """Run the reference once over all inputs; all artifacts are compared with these rows.

    Args:
        session: what is right by definition.
        inputs: what to run.
        contract: how pixels are fed.
        on_batch: called with the number of inputs after each batch.
    """
    collected: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in OUTPUTS}
    for start in range(0, len(inputs.names), MAIN_BATCH):
        images = inputs.images[start : start + MAIN_BATCH]
        outputs = session.run(contract.encode(images))
        for name, parts in collected.items():
            parts.append(outputs[name])
        on_batch(len(images))
    return Expected(inputs.names, inputs.images, {name: np.concatenate(parts) for name, parts in collected.items()})


def with_truths(expected: Expected, inputs: Inputs, labels: tuple[str, ...]) -> Expected:
    """Name the true class of each test image; edge inputs have none."""
    if inputs.targets is None:
        return expected
    return replace(
        expected, true_labels=(*(labels[target] for target in inputs.targets), *(None,) * inputs.edge_inputs)
    )


def golden_expected(
    sources: Mapping[str, str],
    images: Images,
    logits: list[tuple[float, ...]],
    probabilities: list[tuple[float, ...]],
    true_labels: tuple[str | None, ...] | None = None,
) -> GoldenExpected:
    """Turn golden samples into expectations.

    Args:
        sources: file of each sample to the image it was made from, in order.
        images: uint8 ``[n, h, w, 3]``.
        logits: one row per sample.
        probabilities: one row per sample.
        true_labels: class of each sample, None where it is not known.
    """
    names = tuple(f"golden sample {file} ({source})" for file, source in sources.items())
    outputs = {"logits": np.array(logits, np.float32), "probabilities": np.array(probabilities, np.float32)}
    return GoldenExpected(names, images, outputs, true_labels)


def metadata_of(manifest: Manifest) -> dict[str, str]:
    """Return what export stores inside an artifact, as far as a wrong value changes what the artifact means."""
    return {
        "toolkit.labels": json.dumps(manifest.labels, ensure_ascii=False),
        "toolkit.input": manifest.input.model_dump_json(),
        "toolkit.preprocessing": manifest.preprocessing.model_dump_json(),
        "toolkit.model_sha256": manifest.origin.model_sha256,
    }


def golden_of(bundle: Bundle) -> GoldenExpected:
    """Read the golden samples of a bundle.

    Raises:
        BundleError: they cannot be read.
    """
    golden = bundle.golden()
    cases = golden.cases
    expected = golden_expected(
        {case.file: case.source for case in cases},
        bundle.golden_images(),
        [case.logits for case in cases],
        [case.probabilities for case in cases],
        tuple(case.true_label for case in cases),
    )
    edges = len(cases) - golden.images
    return replace(expected, edge_inputs=edges, rounding=golden.rounding, limits=golden.limits)
