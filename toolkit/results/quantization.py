"""How an 8-bit artifact was found: everything that was tried, as it stands in the manifest."""

from __future__ import annotations

from typing import Literal

from toolkit.results.record import Record

CalibrationMethod = Literal["minmax", "entropy", "percentile"]
"""How the range of an activation is chosen from its values: all of it, the part that loses least information (in the
sense of Kullback and Leibler), or all but the outermost values."""


class GroupSensitivity(Record):
    """How much the logits suffer when one group of neighbouring nodes alone is quantised."""

    nodes: tuple[str, ...]
    """Names in the graph, a layer with weights first."""
    sqnr_decibels: float
    """Signal to quantisation noise of the logits; the lower, the more sensitive. Infinite where nothing changed."""


class QuantizationCandidate(Record):
    """One way to quantise that was tried."""

    method: CalibrationMethod
    per_channel: bool
    """Whether each output channel of a weight has a scale of its own."""
    kept_float32: tuple[str, ...]
    """Nodes that were left in float32 because they are the most sensitive."""
    validation_accuracy: float | None
    """None where this candidate could not be made or run."""
    drop_points: float | None
    """Accuracy of the float32 graph minus that of this candidate on the same images, in points (hundredths)."""
    validation_divergence: float | None = None
    """Mean Kullback-Leibler divergence of its probabilities from those of the float32 graph on the same images, in
    nats; None where it could not be run or is not finite."""
    images_per_second: float | None
    """Median over interleaved rounds on the machine that exported."""
    chosen: bool
    outcome: str
    """Why it was chosen or not, as one sentence."""


class QuantizationSearch(Record):
    """Everything that was tried to find a quantised artifact. No test image was looked at."""

    activations: Literal["uint8", "int8"]
    weights: Literal["int8"] = "int8"
    weight_bits: Literal[7, 8]
    """7 where the processor adds 8-bit products with saturation; a file with 8 bits must not run on such a
    processor."""
    processor: str
    """What the two choices above follow from."""
    calibration_images: int
    """Training images that the ranges of activations were found on."""
    validation_images: int
    """Validation images that candidates were judged on."""
    float32_accuracy: float
    """Of the graph before quantisation, on the same validation images."""
    float32_images_per_second: float
    """Of the graph before quantisation, in the same rounds as the candidates."""
    timed_batch_size: int
    timed_threads: int
    max_drop_points: float
    """What a candidate may lose at most."""
    max_divergence: float | None = None
    """How far its probabilities may be from those of the float32 graph; None where this was not asked for."""
    sensitivity: tuple[GroupSensitivity, ...] = ()
    """Most sensitive first; empty where a candidate passed with every node quantised."""
    candidates: tuple[QuantizationCandidate, ...]
    seconds: float
