"""The manifest: everything a service must know about a bundle, in one versioned JSON file."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field, FiniteFloat, StringConstraints, model_validator

from toolkit.bundle.families import with_family
from toolkit.preprocess import Preprocessing
from toolkit.results import Evaluation, GoldenLimits, Interval, Provenance, QuantizationSearch, Record, Tolerance, Tuned

SCHEMA_VERSION: Literal[3] = 3
"""Version that is written; ``toolkit.bundle.versions`` reads the older ones."""
MANIFEST_NAME = "manifest.json"
SIGNATURE_NAME = "manifest.json.sig"
"""Beside the manifest if the bundle is signed; like the manifest, not listed in it."""
MODEL_CARD_NAME = "MODEL_CARD.md"
README_NAME = "README.md"
"""How to check the bundle in any language."""
GIT_ATTRIBUTES_NAME = ".gitattributes"
"""Keeps git from changing the line ends, and with them the hashes, of the files beside it."""
GOLDEN_EXPECTED = "golden/expected.json"
GOLDEN_TEXT = "golden/samples.txt"
"""The same for programs that read no JSON (see ``toolkit.bundle.plain_text``); bundles from before it lack it."""
LABELS_NAME = "labels.txt"
"""As ``GOLDEN_TEXT``."""
LONGEST_LABEL = 1000
"""Characters."""


def label_problem(labels: Iterable[str]) -> str | None:
    """Say which label cannot be told from others by its name; None if all can.

    Args:
        labels: class names; two that differ only in their Unicode normalisation look the same.
    """
    seen: set[str] = set()
    for label in labels:
        name = unicodedata.normalize("NFC", label)
        if name in seen:
            return f"the label {label!r} stands there twice"
        if not name.strip():
            return f"the label {label!r} is blank"
        seen.add(name)
    return None


def _told_apart(labels: tuple[str, ...]) -> tuple[str, ...]:
    if problem := label_problem(labels):
        raise ValueError(problem)
    return labels


Labels = Annotated[
    tuple[Annotated[str, Field(max_length=LONGEST_LABEL)], ...], Field(min_length=1), AfterValidator(_told_apart)
]
"""Class names in order; no two are the same."""
Version = Annotated[int, Field(ge=1, le=10_000)]
"""Of an opset or an IR."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""64 hexadecimal digits."""
SizeBytes = Annotated[int, Field(ge=0, lt=2**33)]
"""Below 8 GiB, the largest that a plain tar archive holds (see ``toolkit.bundle.trust.archive``)."""
Portability = Literal["any", "same-machine"]
"""``any``: wherever its engine runs. ``same-machine``: holds machine code for the processor it was exported on; it
promises nothing elsewhere."""
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
Float32 = Annotated[float, Field(ge=-LARGEST_FLOAT32, le=LARGEST_FLOAT32, allow_inf_nan=False)]
Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Normalization(Record):
    """Per-channel normalisation of RGB pixels scaled to 0..1: ``(pixel / 255 - mean) / std``."""

    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    std: tuple[Deviation, Deviation, Deviation]


class InputContract(Record):
    """The one input of every artifact in the bundle."""

    name: str
    dtype: Literal["uint8", "float32"]
    shape: tuple[int | str, ...]
    """``("N", H, W, 3)`` for images, ``("N", 3, H, W)`` for a tensor; N is any batch of 1 or more."""
    color: Literal["RGB"] = "RGB"
    normalization: Normalization
    normalization_in_graph: bool
    """True: feed the pixels as they are. False: the caller normalises."""

    def encode(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        """Turn prepared pixels into what the graph takes.

        Args:
            images: uint8 ``[N, H, W, 3]`` RGB, already at the model's size.

        Returns:
            The same array, or float32 ``[N, 3, H, W]`` where normalisation is left to the caller.
        """
        if self.normalization_in_graph:
            return images
        mean = np.asarray(self.normalization.mean, np.float32) * np.float32(255)
        std = np.asarray(self.normalization.std, np.float32) * np.float32(255)
        return np.ascontiguousarray(((images.astype(np.float32) - mean) / std).transpose(0, 3, 1, 2))


class OutputContract(Record):
    """One output of every artifact in the bundle."""

    name: Literal["logits", "probabilities"]
    dtype: Literal["float32"] = "float32"
    shape: tuple[int | str, ...]
    meaning: str


class ParityVerdict(Record):
    """What ``toolkit verify`` said of an artifact, in brief; the whole is in the run's ``verify/parity.json``."""

    passed: bool
    failures: tuple[str, ...]
    device: str
    test_images: int
    max_absolute_logits: float | None
    top1_agreement: float | None
    tolerance: Tolerance
    verified: str
    """UTC time, ISO 8601."""
    max_relative_logits: float | None = None
    rounding_ratio: float | None = None
    """See ``results.Rounding``."""
    mean_divergence: float | None = None
    """Nats."""
    accuracy_difference: float | None = None
    """Artifact minus reference, as a share of the test images."""
    accuracy_interval: Interval | None = None
    failed_checks: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    """What there was to say of the limits, e.g. that one was replaced by whoever asked."""


class BatchSpeed(Record):
    """How fast an artifact is at one batch size."""

    batch_size: int
    images_per_second: float
    """Median over rounds."""
    latency_p50_seconds: float
    """Median time of one call."""


class BenchSummary(Record):
    """What ``toolkit bench`` measured of an artifact on one device, in brief.

    The whole is in the run's ``bench/bench.json``.
    """

    device: str
    processor: str
    threads: int
    batch_size: int
    """The fastest that was measured."""
    images_per_second: float
    """At ``batch_size``."""
    images_per_second_interval: Interval
    latency_batch_size: int
    """The smallest batch size that was measured."""
    latency_p50_seconds: float
    """Median time of one call at ``latency_batch_size``."""
    test_accuracy: float | None
    measured: str
    """UTC time, ISO 8601."""
    speeds: tuple[BatchSpeed, ...] = ()
    """At each batch size that was measured, in ascending order. Records from before this field lack it: of those only
    the fastest batch size and the latency above are known."""
    tuned: tuple[Tuned, ...] = ()
    """At most one for each purpose; empty where no sweep was asked for."""


class FileRecord(Record):
    """A file of the bundle."""

    sha256: Sha256
    size_bytes: SizeBytes


class ArtifactRecord(Record):
    """One exported file."""

    format: str
    precision: str
    file: str
    """Path inside the bundle, with forward slashes."""
    sha256: Sha256
    size_bytes: SizeBytes
    opset: Version | None
    ir_version: Version | None
    producer: str
    further_files: dict[str, FileRecord] = Field(default={})
    """Files that the artifact cannot be opened without, by path inside the bundle."""
    family: str = ""
    """What the file is: all formats of one family are read by the same parser. Manifests from before this field lack
    it; what it was then follows from the format."""
    engine: str | None = None
    """The package that runs the file, e.g. ``onnxruntime``; None where that is not known."""
    portability: Portability = "any"
    """Where the artifact can be used."""
    usage: str | None = None
    """What a program that calls the engine itself must know beyond the contract, as sentences in Markdown."""
    carries_code: bool | None = None
    """Whether a file of its format can hold code, for people to read; None where the manifest is from before this
    field. A reader decides by the format, because whoever writes a manifest can write anything here."""
    kept_float32: tuple[str, ...] = ()
    """Nodes that compute in float32 though ``precision`` is lower."""
    quantization: QuantizationSearch | None = None
    """How a quantised artifact was found."""
    tolerance: Tolerance | None = None
    """How far its outputs on the golden samples may be from the expected ones; None where the precision has no
    tolerance."""
    parity: ParityVerdict | None = None
    benchmarks: tuple[BenchSummary, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _says_its_family(cls, raw: object) -> object:
        return with_family(raw) if isinstance(raw, dict) else raw

    @model_validator(mode="after")
    def _is_judged_by_numbers(self) -> Self:
        """A limit that is negative or not finite is none."""
        for tolerance in (self.tolerance, self.parity.tolerance if self.parity else None):
            limits = {} if tolerance is None else tolerance.model_dump(exclude={"precision"}, exclude_none=True)
            for name, limit in limits.items():
                if isinstance(limit, float) and not (math.isfinite(limit) and limit >= 0):
                    raise ValueError(f"{name} of its tolerance is {limit}, which limits nothing")
        return self

    @property
    def all_files(self) -> dict[str, FileRecord]:
        """Every file that the artifact consists of, by path inside the bundle."""
        return {self.file: FileRecord(sha256=self.sha256, size_bytes=self.size_bytes), **self.further_files}

    @property
    def total_bytes(self) -> int:
        """Size of the artifact with everything it cannot be opened without."""
        return self.size_bytes + sum(record.size_bytes for record in self.further_files.values())


class RefusedArtifact(Record):
    """A format that was asked for and that no artifact was made of, because none was good enough."""

    format: str
    precision: str
    reason: str
    """One sentence."""
    quantization: QuantizationSearch | None = None
    """What was tried."""


class Origin(Record):
    """Where the model comes from."""

    run: str
    recipe: str
    """The resolved recipe as TOML, its export as it was asked for; of paths in it the last part only."""
    backbone: str
    weights: str
    """Where the pretrained weights came from."""
    weights_license: str | None = None
    """Under which terms, as their publisher says; None where that is not known."""
    model_sha256: str
    """Digest of the run's ``model.safetensors``."""
    data: str
    """The source of the images by its name, or the last part of its path."""
    data_fingerprints: dict[str, str]
    """SHA-256 over the ordered images and labels of each split."""
    provenance: Provenance


class Manifest(Record):
    """What is in a bundle and what it means."""

    schema_version: Literal[3] = SCHEMA_VERSION
    name: Annotated[str, Field(max_length=LONGEST_LABEL)]
    labels: Labels
    """Class names; position is the index in both outputs."""
    preprocessing: Preprocessing
    input: InputContract
    outputs: tuple[OutputContract, ...]
    artifacts: tuple[ArtifactRecord, ...]
    not_exported: tuple[RefusedArtifact, ...] = ()
    """Formats that were asked for and are not here, and why."""
    files: dict[str, FileRecord]
    """Every other file, by path inside the bundle."""
    evaluation: Evaluation | None
    origin: Origin
    intended_use: str | None = None
    """Markdown for the model card, by whoever ships the model; None if nobody has written it."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        height, width = self.preprocessing.height, self.preprocessing.width
        wanted = (height, width, 3) if self.input.normalization_in_graph else (3, height, width)
        if self.input.shape[1:] != wanted or not isinstance(self.input.shape[0], str):
            raise ValueError(f"the input has the shape {list(self.input.shape)}, preprocessing makes {['N', *wanted]}")
        if (named := sorted(output.name for output in self.outputs)) != ["logits", "probabilities"]:
            raise ValueError(f"its outputs are {named or 'none'}, not logits and probabilities")
        formats = [artifact.format for artifact in self.artifacts]
        if twice := next((name for name in formats if formats.count(name) > 1), None):
            raise ValueError(f"it has two artifacts of the format {twice!r}")
        for output in self.outputs:
            if output.shape[1:] != (len(self.labels),):
                raise ValueError(
                    f"the output {output.name} has the shape {list(output.shape)}, but there are {len(self.labels)} "
                    "labels"
                )
        return self


def golden_source(position: int) -> str:
    """Return what a bundle calls a test image: the name of its file may name a person, and is nobody else's business.

    Args:
        position: among the test images of its run, from 0.
    """
    return f"test image {position}"


class GoldenCase(Record):
    """One input with its expected outputs."""

    file: str
    """Raw uint8 bytes, row by row, ``[H, W, 3]`` RGB, already preprocessed; path inside the bundle."""
    source: str
    """Which image it is: its position among the test images of the run; in older bundles the name of its file."""
    true_label: str | None
    logits: tuple[Float32, ...]
    probabilities: tuple[Float32, ...]
    kind: Literal["image", "edge"] = "image"
    """``image``: a test image. ``edge``: an input that no photograph resembles."""


class Golden(Record):
    """``golden/expected.json``: what the network says to a few inputs."""

    height: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]
    labels: Labels
    cases: Annotated[tuple[GoldenCase, ...], Field(min_length=1)]
    """Images first, then edge inputs."""
    rounding: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default={})
    """By precision: root mean square over the cases of the largest logit error of PyTorch in this precision relative to
    the largest expected logit. Empty where the expected outputs are those of PyTorch in float32 itself and not of
    float64, as in older bundles."""
    limits: dict[str, GoldenLimits] = Field(default={})
    """By file of an artifact that is judged by its classes, not by single values."""

    @property
    def images(self) -> int:
        """How many of the cases are images."""
        return sum(case.kind == "image" for case in self.cases)

    @model_validator(mode="after")
    def _has_images_first(self) -> Self:
        if any(case.kind != "image" for case in self.cases[: max(1, self.images)]):
            raise ValueError("its cases are not one image or more, followed by edge inputs")
        if len({case.file for case in self.cases}) < len(self.cases):
            raise ValueError("two of its cases are the same file")
        return self

    @model_validator(mode="after")
    def _has_a_value_per_label(self) -> Self:
        for case in self.cases:
            if not len(case.logits) == len(case.probabilities) == len(self.labels):
                raise ValueError(
                    f"{case.file} has {len(case.logits)} logits, {len(case.probabilities)} probabilities, "
                    f"{len(self.labels)} labels"
                )
        return self
