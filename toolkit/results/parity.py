"""Whether artifacts compute what they should: ``parity.json``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from toolkit.results.provenance import Provenance
from toolkit.results.record import Interval, Record


class ErrorStatistics(Record):
    """How far one output of an artifact is from the reference, over all inputs and elements."""

    elements: int
    max_absolute: float
    mean_absolute: float
    p99_absolute: float
    max_relative: float
    """Largest absolute error divided by the largest absolute reference value of the same image (row), so that zeros do
    not count."""
    min_cosine: float
    """Smallest cosine similarity of an image's output vector to its reference."""
    p50_absolute: float | None = None
    """Median absolute error of an element."""
    p50_relative: float | None = None
    """Median over images of the largest error relative to the image (see ``max_relative``)."""
    p99_relative: float | None = None


class OutputParity(Record):
    """Parity of one named output."""

    output: str
    statistics: ErrorStatistics


class Flip(Record):
    """One input whose most probable class differs between artifact and reference."""

    input: str
    """Name of the test image or edge input."""
    batch_size: int
    reference_label: str
    artifact_label: str
    reference_margin: float
    """Difference of the two largest reference logits."""
    counted: bool
    """True if the margin is above what the tolerance explains, where single errors are judged."""
    artifact_margin: float | None = None
    """Difference of the two largest logits of the artifact."""
    true_label: str | None = None
    """None where it is not known."""


class Tolerance(Record):
    """What a verdict allows, per precision. A limit that is None is not judged."""

    precision: str
    logits_absolute: float | None
    logits_relative: float | None
    """Allowed share of the largest absolute reference logit of the same image."""
    probabilities_absolute: float | None
    rounding_multiple: float | None = None
    """How many times the rounding error of PyTorch in the same precision, measured against float64 on the same
    images."""
    self_relative: float = 1e-3
    """Allowed difference between two runs of one image through the artifact, as a share of its largest absolute
    logit."""
    softmax_absolute: float = 1e-3
    """Allowed difference between the probabilities and the softmax of the logits beside them."""
    top1_agreement: float | None = None
    """Least share of test images with the same most probable class."""
    accuracy_drop: float | None = None
    """Largest loss of top-1 accuracy, as a share of the test images; a larger one counts if it is significant too
    (exact McNemar, 5%)."""
    mean_divergence: float | None = None
    """Largest mean Kullback-Leibler divergence over the test images, in nats."""
    median_range_use: float | None = None
    """Least share of its 8-bit range that the median quantised activation uses on the images of the comparison."""
    least_range_use: float | None = None
    """The same for every single one that uses more than one level."""
    tensor_relative: float = 1e-3
    """What bisection allows of a tensor inside the graph, as a share of its largest absolute value."""


_Limit = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class GoldenLimits(Record):
    """How far an artifact may be from what is expected of the golden samples, where single values are not judged."""

    different_classes: Annotated[int, Field(ge=0)]
    """How many of the images among them may have another most probable class; edge inputs are not counted."""
    mean_divergence: _Limit | None
    """Largest mean Kullback-Leibler divergence of the artifact's probabilities from the expected ones over these
    images, in nats; None where this is not judged."""
    edge_error: _Limit | None = None
    """Largest root mean square over the edge inputs of the largest logit error relative to the largest expected logit;
    None where this is not judged."""


class Divergence(Record):
    """Kullback-Leibler divergence of the artifact's probabilities from the reference's, per test image, in nats."""

    mean: float
    p99: float
    max: float


class ClassDifference(Record):
    """How many images of one class both sides recognise."""

    label: str
    support: int
    """Images of this class."""
    reference_right: int
    artifact_right: int
    p_value: float
    """Exact McNemar test over the images of this class."""


class PairedAccuracy(Record):
    """Artifact and reference scored on the same labelled test images."""

    images: int
    reference_accuracy: float
    artifact_accuracy: float
    difference: float
    """Artifact minus reference."""
    interval: Interval
    """Of ``difference``: square-and-add score interval for paired proportions (Newcombe 1998, Statistics in Medicine
    17:2635, method 10)."""
    only_reference_right: int
    only_artifact_right: int
    p_value: float
    """Two-sided exact McNemar test (McNemar 1947; a sign test over the images that only one side gets right)."""
    reference_calibration_error: float
    artifact_calibration_error: float
    """Expected calibration error over 15 bins (Guo et al. 2017); their difference is the drift."""
    classes: tuple[ClassDifference, ...]


class Rounding(Record):
    """The artifact's error beside the one that arithmetic of this precision has in this network.

    Errors are root mean squares over images of the largest logit error relative to the largest logit, against PyTorch
    in float64.
    """

    images: int
    reference: float
    """PyTorch in the artifact's precision."""
    artifact: float
    ratio: float


class Check(Record):
    """One thing that was checked."""

    name: str
    passed: bool
    failures: tuple[str, ...]
    """One sentence per reason; empty if passed."""
    detail: str
    """What was measured, in a few words."""
    seconds: float = 0.0


class DivergedNode(Record):
    """One node of a graph beside the same node of the reference."""

    node: str
    operator: str
    module: str
    """The PyTorch module it came from; empty where the file does not say."""
    tensor: str
    error: float
    """Largest error over all samples as a share of the tensor's largest absolute value; infinite where shape or type
    differ, or it is not finite."""


class Bisection(Record):
    """The first node of a graph whose output leaves the tolerance."""

    reference: str
    samples: int
    compared: int
    """Tensors that were compared."""
    allowed: float
    """Largest error allowed, as a share of the tensor's largest absolute value."""
    first: DivergedNode | None
    """None where every tensor that both graphs have is within tolerance."""
    path: tuple[DivergedNode, ...]
    """The nodes before it and after it, in the order of computation."""
    lacking: tuple[str, ...]
    """Nodes of the reference before it (all of them, where there is no first) that the artifact's graph does not
    have."""


class ArtifactParity(Record):
    """The verdict on one artifact."""

    artifact: str
    """Format name."""
    file: str
    sha256: str
    """Digest of the file that was judged: another file is not verified."""
    passed: bool
    failures: tuple[str, ...]
    """One sentence per reason; empty if passed."""
    device: str
    engine: str
    threads: int
    test_images: int
    edge_inputs: int
    batch_sizes: tuple[int, ...]
    outputs: tuple[OutputParity, ...]
    """Empty where the artifact could not run at all."""
    top1_agreement: float | None
    """Share of inputs with the same most probable class."""
    flips: tuple[Flip, ...]
    tolerance: Tolerance
    seconds: float
    checks: tuple[Check, ...] = ()
    """What was checked, in order; the failures above are theirs."""
    top5_agreement: float | None = None
    """Share of inputs whose most probable class is among the artifact's five; None where there are fewer than 6
    classes."""
    divergence: Divergence | None = None
    accuracy: PairedAccuracy | None = None
    """None where no true labels are known."""
    rounding: Rounding | None = None
    """None where PyTorch is not at hand, or cannot compute in this precision."""
    bitwise_repeatable: bool | None = None
    """Whether the same batch gave the same bits each time."""
    bisection: Bisection | None = None
    """Where it was asked for and the artifact failed."""
    limits: tuple[str, ...] = ()
    """One sentence on each limit that was replaced by whoever asked, or that the bundle carries and that was not
    used."""


class ParityReport(Record):
    """What ``toolkit verify`` found out."""

    run: str
    reference: str
    """What the artifacts were compared with."""
    passed: bool
    artifacts: tuple[ArtifactParity, ...]
    provenance: Provenance
    checks: tuple[Check, ...] = ()
    """What was checked of the bundle as a whole, e.g. its preprocessing."""
    not_judged: dict[str, str] = Field(default_factory=dict)
    """Files of artifacts whose engine is not installed on this machine, each with the reason."""
