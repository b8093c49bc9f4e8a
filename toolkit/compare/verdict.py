"""From outputs, batch by batch, to a verdict with one sentence per reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from toolkit.compare.agreement import find_flips
from toolkit.compare.errors import ErrorAccumulator
from toolkit.compare.metrics import softmax
from toolkit.compare.tolerances import allowed_error
from toolkit.results import Flip, OutputParity, Tolerance

OUTPUTS = ("logits", "probabilities")
"""What every artifact returns."""

Outputs = Mapping[str, npt.NDArray[np.float32]]
"""``logits`` and ``probabilities``, float32 ``[n, C]``."""


@dataclass(frozen=True)
class Verdict:
    """What was found out about one artifact."""

    failures: tuple[str, ...]
    """One sentence per reason."""
    outputs: tuple[OutputParity, ...]
    """Of the outputs that could be compared."""
    flips: tuple[Flip, ...]

    @property
    def passed(self) -> bool:
        """True without any failure."""
        return not self.failures


@dataclass
class _Fault:
    """Rows with one kind of fault: the first or the worst of them, and how many there are."""

    rows: int = 0
    where: str = ""

    def add(self, places: Sequence[str]) -> None:
        if places and not self.rows:
            self.where = places[0]
        self.rows += len(places)


@dataclass
class _Output:
    """One named output."""

    name: str
    errors: ErrorAccumulator = field(default_factory=ErrorAccumulator)
    rows: int = 0
    outside: int = 0
    """Rows that are farther away than is allowed."""
    worst: tuple[float, float, str] = (0.0, 0.0, "")
    """Error, what was allowed, and where, of the row that is farthest above what is allowed."""
    nan: _Fault = field(default_factory=_Fault)
    infinite: _Fault = field(default_factory=_Fault)
    reference: _Fault = field(default_factory=_Fault)

    def add(
        self,
        places: Sequence[str],
        reference: npt.NDArray[np.float32],
        actual: npt.NDArray[np.float32],
        tolerance: Tolerance,
    ) -> None:
        self.errors.add(reference, actual)
        self.rows += len(places)
        good_reference, good = np.isfinite(reference).all(axis=1), np.isfinite(actual).all(axis=1)
        for fault, rows in (
            (self.reference, ~good_reference),
            (self.nan, np.isnan(actual).any(axis=1)),
            (self.infinite, np.isinf(actual).any(axis=1)),
        ):
            fault.add([places[row] for row in np.flatnonzero(rows).tolist()])
        comparable = np.flatnonzero(good_reference & good)
        if not comparable.size:
            return
        expected = reference[comparable].astype(np.float64)
        error = np.abs(actual[comparable].astype(np.float64) - expected).max(axis=1)
        allowed = allowed_error(self.name, expected, tolerance)
        excess = error - allowed
        self.outside += int((excess > 0).sum())
        row = int(excess.argmax())
        if excess[row] > max(0.0, self.worst[0] - self.worst[1]):
            self.worst = (float(error[row]), float(allowed[row]), places[int(comparable[row])])

    def failures(self) -> list[str]:
        sentences = []
        if self.reference.rows:
            sentences.append(
                f"the reference itself gives {self.name} that are not finite on "
                f"{self.reference.where}{_others(self.reference.rows)}"
            )
        if self.nan.rows:
            sentences.append(f"{self.name} hold NaN on {self.nan.where}{_others(self.nan.rows)}")
        if self.infinite.rows:
            sentences.append(f"{self.name} hold an infinity on {self.infinite.where}{_others(self.infinite.rows)}")
        if self.outside:
            error, allowed, where = self.worst
            sentences.append(
                f"{self.name} differ by {error:.3g} on {where}, allowed {allowed:.3g}{_others(self.outside)}"
            )
        return sentences


class Comparison:
    """Compares an artifact with the reference, batch by batch, with bounded memory.

    Whatever an artifact returns can be added: a missing output, another dtype, another shape, NaN and infinity each
    become a failure.
    """

    def __init__(self, labels: Sequence[str], tolerance: Tolerance) -> None:
        self._labels = tuple(labels)
        self._tolerance = tolerance
        self._outputs = {name: _Output(name) for name in OUTPUTS}
        self._flips: list[Flip] = []
        self._softmax = _Fault()
        # A fault of form is the same in every batch: it is told once, with the first batch that showed it.
        self._malformed: dict[str, str] = {}

    def add(
        self, inputs: Sequence[str], reference: Outputs, actual: object, true_labels: Sequence[str | None] | None = None
    ) -> Outputs | None:
        """Compare one batch.

        Args:
            inputs: name of each of the n inputs.
            reference: ``logits`` and ``probabilities``, float32 ``[n, C]``.
            actual: what the artifact returned for these inputs at once; should be the same.
            true_labels: class of each input, None where it is not known.

        Returns:
            What the artifact returned if its form is right, whatever its values; None if not.
        """
        size = len(inputs)
        places = [f"{name} (batch size {size})" for name in inputs]
        if not isinstance(actual, Mapping):
            self._malformed.setdefault("return", f"it returns a {type(actual).__name__} instead of named outputs")
            return None
        good = {}
        for name, output in self._outputs.items():
            value = self._well_formed(name, actual, reference[name].shape, size)
            if value is None:
                continue
            output.add(places, reference[name], value, self._tolerance)
            good[name] = value
            if name == "logits":
                self._flips += find_flips(
                    inputs, reference[name], value, self._labels, self._tolerance, size, true_labels
                )
        if len(good) < len(OUTPUTS):
            return None
        self._softmax.add([places[row] for row in np.flatnonzero(_off_softmax(good, self._tolerance)).tolist()])
        return good

    def _well_formed(
        self, name: str, actual: Mapping[str, object], shape: tuple[int, ...], batch_size: int
    ) -> npt.NDArray[np.float32] | None:
        value = actual.get(name)
        if value is None:
            others = ", ".join(str(key) for key in actual) or "nothing"
            self._malformed.setdefault(
                f"{name} missing", f"the output {name} is missing at batch size {batch_size}; it returns {others}"
            )
        elif not isinstance(value, np.ndarray):
            self._malformed.setdefault(f"{name} type", f"{name} are a {type(value).__name__} instead of an array")
        elif value.shape != shape:
            wanted = f"{list(value.shape)} instead of {list(shape)}"
            self._malformed.setdefault(f"{name} shape", f"{name} have the shape {wanted} at batch size {batch_size}")
        elif value.dtype != np.float32:
            self._malformed.setdefault(f"{name} dtype", f"{name} are {value.dtype} instead of float32")
        else:
            return value
        return None

    def verdict(self) -> Verdict:
        """Judge everything added so far.

        Where nothing could be compared the verdict fails: silence is not agreement.
        """
        failures = list(self._malformed.values())
        for output in self._outputs.values():
            failures += output.failures()
            if not output.rows and not any(key.startswith((output.name, "return")) for key in self._malformed):
                failures.append(f"{output.name} were not compared on any input")
        if self._softmax.rows:
            failures.append(
                f"probabilities are not the softmax of the logits on {self._softmax.where}{_others(self._softmax.rows)}"
            )
        counted = [flip for flip in self._flips if flip.counted]
        if counted:
            first = counted[0]
            failures.append(
                f"the most probable class changes from {first.reference_label} to {first.artifact_label} on "
                f"{first.input} "
                f"(batch size {first.batch_size}) over a margin of {first.reference_margin:.3g}{_others(len(counted))}"
            )
        return Verdict(
            failures=tuple(failures),
            outputs=tuple(
                OutputParity(output=name, statistics=output.errors.statistics())
                for name, output in self._outputs.items()
                if output.rows
            ),
            flips=tuple(self._flips),
        )


def _off_softmax(outputs: Outputs, tolerance: Tolerance) -> npt.NDArray[np.bool_]:
    """Return which rows do not hold the softmax of their logits.

    Rows that are not finite are a fault of another kind.
    """
    logits, probabilities = outputs["logits"], outputs["probabilities"]
    finite = np.isfinite(logits).all(axis=1) & np.isfinite(probabilities).all(axis=1)
    off = np.zeros(len(logits), np.bool_)
    off[finite] = np.abs(softmax(logits[finite]) - probabilities[finite]).max(axis=1) > tolerance.softmax_absolute
    return off


def _others(rows: int) -> str:
    return f", and on {rows - 1} more" if rows > 1 else ""
