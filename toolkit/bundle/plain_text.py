"""The golden samples and the labels as plain text, for programs that read no JSON: above all those in C and C++.

They say nothing that ``golden/expected.json`` and the manifest do not say, and toolkit itself reads those. The format
is specified in docs/bundle.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from toolkit.bundle.manifest import ArtifactRecord, Golden, InputContract, Manifest
from toolkit.compare.rounding import allowed_typical_error

SAMPLES_VERSION = 1
"""Stands in the first line of ``golden/samples.txt``."""
NOT_JUDGED = "-"
"""Stands in the place of a limit."""


def labels_text(labels: Iterable[str]) -> str:
    """Return class names one a line, in order.

    Nothing is escaped: a text of a bundle holds no character that could end a line (``printable.unprintable``).
    """
    return "".join(f"{label}\n" for label in labels)


def samples_text(manifest: Manifest, golden: Golden) -> str:
    """Return the golden samples, what an engine is fed, and what each artifact is held to, as lines of words.

    Args:
        manifest: of the bundle; its artifacts have their tolerances.
        golden: every number is written with as many digits as tell one float32 from the next.
    """
    counts = (len(golden.cases), golden.images, golden.height, golden.width, len(golden.labels))
    return "".join(f"{line}\n" for line in (_numbers("samples", (SAMPLES_VERSION, *counts)), *_lines(manifest, golden)))


def _lines(manifest: Manifest, golden: Golden) -> Iterator[str]:
    yield _input(manifest.input)
    for artifact in manifest.artifacts:
        yield f"artifact {artifact.file}"
        yield f"format {artifact.format}"
        yield f"precision {artifact.precision}"
        yield _numbers("limits", _limits(artifact, golden.rounding.get(artifact.precision)))
    for case in golden.cases:
        yield f"case {case.file}"
        yield _numbers("logits", case.logits)
        yield _numbers("probabilities", case.probabilities)


def _limits(artifact: ArtifactRecord, rounding: float | None) -> tuple[float | None, ...]:
    """Return how far single values may be off, and how far all logits together."""
    allowed = artifact.tolerance
    if allowed is None:
        return (None,) * 4
    typical = allowed_typical_error(rounding, artifact.precision, allowed)
    return allowed.logits_absolute, allowed.logits_relative, allowed.probabilities_absolute, typical


def _input(taken: InputContract) -> str:
    """Say which input there is, and how a caller normalises where that is left to it."""
    if taken.normalization_in_graph:
        return f"input {taken.name}"
    return _numbers(f"input {taken.name}", (*taken.normalization.mean, *taken.normalization.std))


def _numbers(word: str, values: Iterable[float | None]) -> str:
    return " ".join((word, *(NOT_JUDGED if value is None else repr(value) for value in values)))
