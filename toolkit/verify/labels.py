"""What is checked of the labels of a bundle: a right graph with other names for its classes is a wrong model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from toolkit.bundle import Bundle
from toolkit.results import Check


def check_labels(bundle: Bundle) -> Check:
    """Judge what the golden samples are labelled with.

    That they were written with the same labels in the same order, ``Bundle.golden`` requires.
    """
    golden, manifest = bundle.golden(), bundle.manifest
    unknown = sorted({case.true_label for case in golden.cases if case.true_label is not None} - set(manifest.labels))
    failures = (
        (f"golden samples are labelled {', '.join(unknown)}, which the manifest does not have",) if unknown else ()
    )
    return Check(
        name="labels", passed=not failures, failures=failures, detail=f"{len(manifest.labels)} labels in their order"
    )


def check_same_order(new: Bundle, old: Bundle) -> Check:
    """Judge whether a position in the outputs of two bundles means the same class."""
    same = new.manifest.labels == old.manifest.labels
    failures = (
        ()
        if same
        else (
            "the labels stand in another order than in the other bundle: a service that uses positions would misname "
            "classes",
        )
    )
    return Check(
        name="same labels",
        passed=same,
        failures=failures,
        detail=f"{len(new.manifest.labels)} labels in the order of the other bundle",
    )


def targets_of(truths: Sequence[str | None], labels: tuple[str, ...]) -> npt.NDArray[np.int64] | None:
    """Return the position of each true label, int64 ``[n]``; None unless all are known."""
    places = {label: index for index, label in enumerate(labels)}
    known = [places[label] for label in truths if label in places]
    return np.array(known, np.int64) if known and len(known) == len(truths) else None
