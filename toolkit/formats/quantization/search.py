"""The search.

Candidates judged on validation images, the fastest one that keeps the accuracy, and a record of everything that was
tried.

First every calibration method is tried with weights quantised per tensor and per channel. Only where none of these
passes, the most sensitive groups of nodes are measured and left in float32, twice as many at each step.

Accuracy alone does not tell candidates apart: on the 144 validation images of the digits recipe, an EfficientNet-Lite0
whose weights are quantised per tensor loses nothing, and 3.3 points on test images; its probabilities were 50 times as
far from those in float32 as with a scale per channel, at the same speed. So a candidate must keep its probabilities
near those in float32 as well, and of equally fast ones the nearest is chosen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from toolkit.bundle.content import Content
from toolkit.compare.divergence import kl_divergence
from toolkit.compare.tolerances import TOLERANCES
from toolkit.errors import first_line
from toolkit.formats.base import Calibration
from toolkit.formats.onnx import OnnxSession
from toolkit.formats.onnx_graph import layer_groups
from toolkit.formats.quantization.arithmetic import Arithmetic
from toolkit.formats.quantization.graph import OPERATORS, quantizable, quantize
from toolkit.formats.quantization.ranges import Ranges, batch_size_for, find_ranges
from toolkit.formats.quantization.sensitivity import IMAGES, MOST_GROUPS, kept_in_float, measure
from toolkit.formats.quantization.timing import images_per_second
from toolkit.results import CalibrationMethod, GroupSensitivity, QuantizationCandidate, QuantizationSearch

if TYPE_CHECKING:
    import onnx

EVALUATION_BATCH = 32
TIMED_BATCH = 16
TIMED_THREADS = 1
"""With more, idle threads of one session would spin for a while beside the next one that is timed."""
EQUALLY_FAST = 0.03
"""Candidates within this share of the fastest count as equally fast: a median over few rounds says no more. The one
nearest to float32 is chosen."""
MAX_DIVERGENCE = (TOLERANCES["int8"].mean_divergence or math.inf) / 2
"""Largest mean divergence on the validation images, in nats: half of what ``toolkit verify`` allows on images that
nobody chose a candidate by."""


@dataclass(frozen=True)
class Predictions:
    """What a graph says of the validation images."""

    accuracy: float
    """Share whose class is recognised; an image with logits that are not finite is not."""
    probabilities: npt.NDArray[np.float32]
    """``[n, C]``."""


@dataclass(frozen=True)
class _Tried:
    """A candidate with its file."""

    method: CalibrationMethod
    per_channel: bool
    kept_float32: tuple[str, ...] = ()
    file: Path | None = None
    accuracy: float | None = None
    divergence: float = math.inf
    """Mean Kullback-Leibler divergence from the probabilities in float32, in nats."""
    speed: float | None = None
    problem: str | None = None
    """Why it could not be made or run."""

    def drop(self, reference: float) -> float | None:
        """Return what it loses against ``reference``, in points."""
        return None if self.accuracy is None else round(100 * (reference - self.accuracy), 6)


class Search:
    """One search over one graph."""

    def __init__(
        self,
        file: Path,
        model: onnx.ModelProto,
        calibration: Calibration,
        arithmetic: Arithmetic,
        scratch: Path,
        threads: int,
    ) -> None:
        """Prepare a search.

        Args:
            file: the float32 graph after pre-processing.
            model: the same, parsed.
            calibration: training and validation images.
            arithmetic: of the processor.
            scratch: folder for the candidates' files.
            threads: CPU threads.
        """
        self._file = file
        self._model = model
        self._calibration = calibration
        self._arithmetic = arithmetic
        self._scratch = scratch
        self._threads = threads
        self._nodes = quantizable(model.graph)
        self._ranges: Ranges = {}
        self._tried: list[_Tried] = []
        self._sensitivity: tuple[GroupSensitivity, ...] = ()

    def run(self) -> tuple[Path | None, QuantizationSearch]:
        """Search.

        Return the file of the chosen candidate, None where no candidate keeps the accuracy, and the record of
        what was tried.
        """
        started = time.perf_counter()
        batches = self._calibration.training(batch_size_for(self._model))
        self._ranges = find_ranges(self._file, OPERATORS, batches, self._model.graph.input[0].name, self._scratch)
        reference = self._expected.accuracy
        for method in self._ranges:
            for per_channel in (False, True):
                self._try(_Tried(method, per_channel))
        if not any(self._passes(tried, reference) for tried in self._tried):
            self._keep_sensitive(reference)
        reference_speed = self._time()
        chosen = choose([tried for tried in self._tried if self._passes(tried, reference)])
        record = QuantizationSearch(
            activations=self._arithmetic.activations,
            weight_bits=self._arithmetic.weight_bits,
            processor=self._arithmetic.reason,
            calibration_images=self._calibration.training_images,
            validation_images=self._calibration.validation_images,
            float32_accuracy=reference,
            float32_images_per_second=reference_speed,
            timed_batch_size=TIMED_BATCH,
            timed_threads=TIMED_THREADS,
            max_drop_points=self._calibration.max_drop,
            max_divergence=MAX_DIVERGENCE,
            sensitivity=self._sensitivity,
            candidates=tuple(self._record(tried, chosen, reference) for tried in self._tried),
            seconds=time.perf_counter() - started,
        )
        return (chosen.file if chosen else None), record

    @cached_property
    def _expected(self) -> Predictions:
        return predict(OnnxSession(Content.of(self._file), "cpu", self._threads), self._calibration)

    def _passes(self, tried: _Tried, reference: float) -> bool:
        drop = tried.drop(reference)
        return drop is not None and drop <= self._calibration.max_drop and tried.divergence <= MAX_DIVERGENCE

    def _quantize(self, tried: _Tried, nodes: set[str]) -> onnx.ModelProto:
        return quantize(self._model, self._ranges[tried.method], nodes, tried.per_channel, self._arithmetic)

    def _try(self, tried: _Tried) -> None:
        """Make a candidate and judge it on the validation images."""
        import onnx

        file = self._scratch / f"candidate-{len(self._tried)}.onnx"
        try:
            onnx.save_model(self._quantize(tried, self._nodes - set(tried.kept_float32)), file)
            answers = predict(OnnxSession(Content.of(file), "cpu", self._threads), self._calibration)
        except Exception as error:  # the quantiser raises many types, and a way that does not work is a result too
            self._tried.append(replace(tried, problem=first_line(error)))
            return
        divergence = float(kl_divergence(self._expected.probabilities, answers.probabilities).mean())
        self._tried.append(replace(tried, file=file, accuracy=answers.accuracy, divergence=divergence))

    def _keep_sensitive(self, reference: float) -> None:
        """Leave more and more of the most sensitive groups in float32, at most half of them.

        Beyond that little is quantised at all.
        """
        usable = [tried for tried in self._tried if tried.accuracy is not None]
        if not usable:
            return
        best = min(usable, key=lambda tried: tried.divergence)
        groups = layer_groups(self._model.graph, self._nodes, MOST_GROUPS)
        inputs = next(self._calibration.training(IMAGES))
        logits = OnnxSession(Content.of(self._file), "cpu", self._threads).run(inputs)["logits"]
        self._sensitivity = measure(
            groups, lambda nodes: self._quantize(best, set(nodes)), inputs, logits, self._scratch, self._threads
        )
        kept = 1
        while kept <= len(groups) // 2:
            self._try(_Tried(best.method, best.per_channel, kept_in_float(self._sensitivity, kept)))
            if self._passes(self._tried[-1], reference):
                return
            kept *= 2

    def _time(self) -> float:
        """Measure the speed of every candidate; return that of the float32 graph in the same rounds."""
        inputs = next(self._calibration.training(TIMED_BATCH))
        usable = [position for position, tried in enumerate(self._tried) if tried.file is not None]
        files = [self._file, *(file for position in usable if (file := self._tried[position].file) is not None)]
        reference, *speeds = images_per_second(
            [OnnxSession(Content.of(file), "cpu", TIMED_THREADS) for file in files], inputs
        )
        for position, speed in zip(usable, speeds, strict=True):
            self._tried[position] = replace(self._tried[position], speed=speed)
        return reference

    def _record(self, tried: _Tried, chosen: _Tried | None, reference: float) -> QuantizationCandidate:
        return QuantizationCandidate(
            method=tried.method,
            per_channel=tried.per_channel,
            kept_float32=tried.kept_float32,
            validation_accuracy=tried.accuracy,
            drop_points=tried.drop(reference),
            validation_divergence=tried.divergence if math.isfinite(tried.divergence) else None,
            images_per_second=tried.speed,
            chosen=tried is chosen,
            outcome=self._outcome(tried, chosen, reference),
        )

    def _outcome(self, tried: _Tried, chosen: _Tried | None, reference: float) -> str:
        drop = tried.drop(reference)
        if drop is None:
            return f"it cannot be made or run: {tried.problem}"
        if drop > self._calibration.max_drop:
            return (
                f"it loses {drop:.2f} points of validation accuracy, more than {self._calibration.max_drop:g} "
                "(--max-drop)"
            )
        if not tried.divergence <= MAX_DIVERGENCE:
            return (
                f"its probabilities diverge by {tried.divergence:.2g} nats from those in float32, more than "
                f"{MAX_DIVERGENCE:g}"
            )
        if tried is chosen:
            return "the fastest that keeps the accuracy"
        if chosen is not None and (tried.speed or 0.0) >= (chosen.speed or 0.0) * (1 - EQUALLY_FAST):
            return "as fast as the chosen one and not nearer to float32"
        return "it keeps the accuracy and is slower than the chosen one"


def choose(passing: Sequence[_Tried]) -> _Tried | None:
    """Return the fastest candidate; of those that are equally fast within the noise, the one nearest to float32.

    Of equals the first.
    """
    if not passing:
        return None
    limit = max(tried.speed or 0.0 for tried in passing) * (1 - EQUALLY_FAST)
    return min((tried for tried in passing if (tried.speed or 0.0) >= limit), key=lambda tried: tried.divergence)


def predict(session: OnnxSession, calibration: Calibration) -> Predictions:
    """Run all validation images."""
    right, probabilities = 0, []
    for inputs, targets in calibration.validation(EVALUATION_BATCH):
        outputs = session.run(inputs)
        finite = np.isfinite(outputs["logits"]).all(axis=1)
        right += int((finite & (outputs["logits"].argmax(axis=1) == targets)).sum())
        probabilities.append(outputs["probabilities"].copy())
    return Predictions(right / calibration.validation_images, np.concatenate(probabilities))
