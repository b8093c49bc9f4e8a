"""``assert_parity``: two ways to compute the same thing, compared on the same inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.compare.errors import error_statistics
from toolkit.compare.tolerances import tolerance_for
from toolkit.errors import RecipeError
from toolkit.results import ErrorStatistics, Tolerance
from toolkit.testing.sides import Array, Inputs, Outputs, run_side


def assert_parity(
    reference: Any, artifact: Any, inputs: Inputs, *, tolerance: Tolerance | str | float = "float32"
) -> dict[str, ErrorStatistics]:
    """Assert that two sides give the same outputs for the same inputs.

    Each side is a ``torch.nn.Module`` (run in inference mode, its training flag is put back), any callable, the path of
    an ONNX file, its bytes, or an ``onnxruntime.InferenceSession``. Outputs are paired by name where both sides name
    them, and by position otherwise.

    An element may be off by ``absolute + relative * (largest absolute reference value of its row)``; a row is
    everything behind the first axis. NaN, infinity, another shape or dtype, and a missing or additional output always
    fail. Integers and booleans must be equal.

    Args:
        reference: what is right.
        artifact: what is judged.
        inputs: one array or tensor, several in the order of the arguments, or several by name.
        tolerance: a precision of ``toolkit.compare.tolerances.TOLERANCES`` (its limits for logits), a number that is
            both the absolute and the relative limit, or a ``Tolerance``.

    Returns:
        Error statistics of each output of floating point, by name.

    Raises:
        AssertionError: they differ; the message names output, index, both values, the error and what was allowed.
        RecipeError: the tolerance judges no single elements, or is not valid.
    """
    absolute, relative = _limits(tolerance)
    expected, given = run_side(reference, inputs), run_side(artifact, inputs)
    pairs, problems = _pair(expected, given)
    measured = {}
    for name, (right, actual) in pairs.items():
        problem = _form(name, right, actual) or _difference(name, right, actual, absolute, relative)
        if problem:
            problems.append(problem)
        elif np.issubdtype(right.dtype, np.floating) and right.size:
            measured[name] = error_statistics(_rows(right), _rows(actual))
    if problems:
        raise AssertionError("\n".join(problems))
    if not pairs:
        raise AssertionError("neither side returns any output: nothing was compared")
    return measured


def _limits(tolerance: Tolerance | str | float) -> tuple[float, float]:
    if isinstance(tolerance, str):
        tolerance = tolerance_for(tolerance)
    if isinstance(tolerance, Tolerance):
        if tolerance.logits_absolute is None or tolerance.logits_relative is None:
            raise RecipeError(
                f"the tolerance of {tolerance.precision} judges agreement, not single elements: give a number."
            )
        return tolerance.logits_absolute, tolerance.logits_relative
    if not (np.isfinite(tolerance) and tolerance >= 0):
        raise RecipeError(f"the tolerance cannot be {tolerance}: give a number of 0 or more.")
    return float(tolerance), float(tolerance)


def _pair(expected: Outputs, given: Outputs) -> tuple[dict[str, tuple[Array, Array]], list[str]]:
    """Return outputs side by side, and what has no counterpart."""
    if isinstance(expected, Mapping) and isinstance(given, Mapping):
        missing = [
            f"output {name!r} is missing; the artifact returns {', '.join(given) or 'nothing'}"
            for name in expected
            if name not in given
        ]
        missing += [
            f"the artifact returns an output {name!r} that the reference does not have"
            for name in given
            if name not in expected
        ]
        return {name: (values, given[name]) for name, values in expected.items() if name in given}, missing
    right, actual = _values(expected), _values(given)
    names: Sequence[str] = [str(index) for index in range(len(right))]
    for side in (expected, given):
        if isinstance(side, Mapping) and len(side) == len(right):
            names = list(side)
    counts = (
        [f"the artifact returns {len(actual)} outputs, the reference {len(right)}"] if len(right) != len(actual) else []
    )
    return dict(zip(names, zip(right, actual, strict=False), strict=False)), counts


def _values(side: Outputs) -> list[Array]:
    return list(side.values()) if isinstance(side, Mapping) else list(side)


def _form(name: str, expected: Array, actual: Array) -> str | None:
    if expected.shape != actual.shape:
        return f"output {name!r} has the shape {list(actual.shape)} instead of {list(expected.shape)}"
    if expected.dtype != actual.dtype:
        return f"output {name!r} is {actual.dtype} instead of {expected.dtype}"
    for side, values in (("reference", expected), ("artifact", actual)):
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            bad = np.argwhere(~np.isfinite(values))
            where = tuple(int(place) for place in bad[0])
            return (
                f"output {name!r} of the {side} is {values[where]} at {list(where)}, and not finite on {len(bad)} of "
                f"{values.size} elements"
            )
    return None


def _difference(name: str, expected: Array, actual: Array, absolute: float, relative: float) -> str | None:
    if not expected.size:
        return None
    if not np.issubdtype(expected.dtype, np.floating):
        error, allowed = (expected != actual).astype(np.float64), np.zeros(expected.shape)
    else:
        right = _rows(expected).astype(np.float64)
        error = np.abs(_rows(actual).astype(np.float64) - right).reshape(expected.shape)
        limit = absolute + relative * np.abs(right).max(axis=1, keepdims=True)
        allowed = np.broadcast_to(limit, right.shape).reshape(expected.shape)
    outside = error > allowed
    if not outside.any():
        return None
    worst = np.unravel_index(int(np.argmax(error - allowed)), expected.shape)
    return (
        f"output {name!r} differs at {[int(place) for place in worst]}: reference {expected[worst]!s}, artifact "
        f"{actual[worst]!s}, "
        f"error {error[worst]:.3g}, allowed {allowed[worst]:.3g}; {int(outside.sum())} of {expected.size} elements "
        "are outside"
    )


def _rows(values: Array) -> npt.NDArray[Any]:
    """Return ``[n, everything else]``; a scalar or a vector is one row."""
    return values.reshape(len(values), -1) if values.ndim > 1 else values.reshape(1, -1)
