"""What a stage found out: frozen records with a JSON round trip and a published JSON Schema.

A record carries figures and verdicts, never behaviour. Units stand in the field names (``_seconds``, ``_bytes``) or in the docstring.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from toolkit.errors import RunError
from toolkit.files import write_text


class Record(BaseModel):
    """A frozen record. Not-a-number and infinity are kept in JSON as strings, so that a diverged result can still be written."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings", use_attribute_docstrings=True)

    def to_json(self) -> str:
        """Return the record as indented JSON, ending in a newline."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse what ``to_json`` wrote.

        Raises:
            pydantic.ValidationError: the text is not such a record.
        """
        return cls.model_validate_json(text)

    def save(self, path: Path) -> None:
        """Write the record as JSON, atomically."""
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: Path, made_by: str) -> Self:
        """Read a record from a run folder; ``made_by`` is the command that writes it, named in the error.

        Raises:
            RunError: the file is missing or is not such a record.
        """
        try:
            return cls.from_json(path.read_bytes())
        except OSError as error:
            raise RunError(f"{path} cannot be read ({error.strerror}): run '{made_by}' first.") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise RunError(f"{path} is not what '{made_by}' writes ({where}: {first['msg']}): run '{made_by}' again.") from error


class Interval(Record):
    """A two-sided interval."""

    low: float
    high: float
    level: float = 0.95
    """Confidence level, between 0 and 1."""


class Hardware(Record):
    """The machine that something ran on."""

    processor: str
    cores: int
    memory_bytes: int
    gpu: str | None
    operating_system: str


class Provenance(Record):
    """Where a result comes from: enough to make it again, or to see why it cannot be made again."""

    created: str
    """UTC time, ISO 8601."""
    toolkit: str
    python: str
    packages: dict[str, str]
    """Version of each package that matters, by distribution name."""
    hardware: Hardware
    commit: str | None
    """Commit of the working directory if it is a Git checkout, with ``-dirty`` if files differ from it."""


class ClassScore(Record):
    """How well one class is recognised."""

    label: str
    support: int
    """Test images of this class."""
    precision: float | None
    """None where the class was never predicted."""
    recall: float | None
    """None where the class has no test image."""


class Evaluation(Record):
    """The one look at the test split at the end of fine-tuning."""

    split: str
    images: int
    top1: float
    """Share of images whose most probable class is right."""
    top1_interval: Interval
    """Wilson score interval (Wilson 1927) of ``top1``."""
    top5: float | None
    """None where there are fewer than 6 classes: it would be 1 or nearly so whatever the model."""
    loss: float
    """Mean negative log likelihood of the true class, in nats."""
    expected_calibration_error: float
    """Over 15 equal-width confidence bins (Guo et al. 2017)."""
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    """``confusion[i][j]``: test images of class i that were predicted as class j."""


class ErrorStatistics(Record):
    """How far one output of an artifact is from the reference, over all inputs and elements."""

    elements: int
    max_absolute: float
    mean_absolute: float
    p99_absolute: float
    max_relative: float
    """Largest absolute error divided by the largest absolute reference value of the same image (row), so that zeros do not count."""
    min_cosine: float
    """Smallest cosine similarity of an image's output vector to its reference."""


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
    """True if the margin is above what the tolerance explains."""


class Tolerance(Record):
    """What a verdict allows, per precision."""

    precision: str
    logits_absolute: float
    logits_relative: float
    """Allowed share of the largest absolute reference logit of the same image."""
    probabilities_absolute: float


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


class ParityReport(Record):
    """What ``toolkit verify`` found out."""

    run: str
    reference: str
    """What the artifacts were compared with."""
    passed: bool
    artifacts: tuple[ArtifactParity, ...]
    provenance: Provenance


class Estimate(Record):
    """A measured quantity: median over rounds, and a bootstrap interval of that median."""

    median: float
    interval: Interval
    rounds: int


class Latency(Record):
    """Per-call times at one batch size, pooled over all rounds."""

    p50_seconds: float
    p95_seconds: float
    p99_seconds: float
    calls: int


class BatchTiming(Record):
    """Speed at one batch size."""

    batch_size: int
    throughput: Estimate
    """Images per second."""
    latency: Latency


class BenchRow(Record):
    """One way to run the model on one device."""

    name: str
    """Format name, or ``eager`` and ``channels_last`` for PyTorch itself."""
    file: str | None
    sha256: str | None
    device: str
    """The device that was asked for. A row with timings really ran on it."""
    missing: str | None
    """Why there are no figures, as one sentence; None for a row that was measured."""
    engine: str | None
    threads: int
    timings: tuple[BatchTiming, ...]
    load_seconds: float | None
    """Opening the file in a fresh process, with the engine already imported."""
    peak_memory_bytes: int | None
    """Peak resident memory of the worker process."""
    size_bytes: int | None
    test_accuracy: float | None
    test_accuracy_interval: Interval | None
    test_images: int


class BenchReport(Record):
    """What ``toolkit bench`` found out."""

    run: str
    model: str
    """Backbone, input size and classes, for the title of a table."""
    data: str
    rows: tuple[BenchRow, ...]
    seconds: float
    provenance: Provenance
