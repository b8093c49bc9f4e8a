"""Parity verdicts as plain text: the table, what was checked, what failed, and where a graph first diverges."""

from __future__ import annotations

from toolkit.report import figures
from toolkit.report.tables import Column, Line, Table
from toolkit.results import Bisection, ParityReport

FEW = 100
"""Of fewer images, a difference of accuracy is not told: its interval is several points wide whatever the artifact
does. The report has it."""


def parity_table(report: ParityReport) -> Table:
    """Return the verdicts: one line per artifact.

    Errors are those of the logits, rounding is a multiple of what PyTorch itself loses.
    """
    columns = (
        Column("model", "left"),
        Column("device", "left"),
        Column("verdict", "left"),
        Column("error"),
        Column("relative"),
        Column("rounding"),
        Column("top-1"),
        Column("flips"),
    )
    lines = []
    for artifact in report.artifacts:
        logits = next((output.statistics for output in artifact.outputs if output.output == "logits"), None)
        errors = (figures.NONE,) * 2
        if logits is not None:
            errors = (figures.scientific(logits.max_absolute), figures.scientific(logits.max_relative))
        lines.append(
            Line(
                (
                    artifact.artifact,
                    artifact.device,
                    "passed" if artifact.passed else "FAILED",
                    *errors,
                    figures.ratio(artifact.rounding.ratio if artifact.rounding else None),
                    figures.NONE if artifact.top1_agreement is None else f"{artifact.top1_agreement:.2%}",
                    f"{sum(flip.counted for flip in artifact.flips)}/{len(artifact.flips)}",
                )
            )
        )
    return Table(columns, tuple(lines))


def parity_checks(report: ParityReport) -> list[str]:
    """Return lines on the bundle's checks, what was compared, accuracy, and how many artifacts passed the rest."""
    lines = [f"{file} is not judged here: {reason}" for file, reason in report.not_judged.items()]
    lines += [f"{check.name}: {'passed' if check.passed else 'FAILED'}, {check.detail}" for check in report.checks]
    if inputs := sorted(
        {(artifact.test_images, artifact.edge_inputs) for artifact in report.artifacts if artifact.test_images}
    ):
        lines.append(
            f"compared on {' and '.join(f'{images} test images and {edges} edge inputs' for images, edges in inputs)}"
        )
    lines += [f"{artifact.artifact}: {sentence}" for artifact in report.artifacts for sentence in artifact.limits]
    judged = [artifact for artifact in report.artifacts if artifact.test_images >= FEW]
    accuracies = [(artifact.artifact, artifact.accuracy) for artifact in judged if artifact.accuracy is not None]
    if accuracies:
        differences = "; ".join(
            f"{name} {figures.points(accuracy.difference, accuracy.interval)}" for name, accuracy in accuracies
        )
        lines.append(f"accuracy minus that of the reference, in points [95%]: {differences}")
    names = list(dict.fromkeys(check.name for artifact in report.artifacts for check in artifact.checks))
    passed = []
    for name in names:
        verdicts = [
            (artifact.artifact, check.passed)
            for artifact in report.artifacts
            for check in artifact.checks
            if check.name == name
        ]
        bad = [artifact for artifact, good in verdicts if not good]
        passed.append(
            f"{name} {len(verdicts) - len(bad)} of {len(verdicts)}" + (f" (not {', '.join(bad)})" if bad else "")
        )
    return [*lines, "passed: " + "; ".join(passed)] if passed else lines


def parity_failures(report: ParityReport) -> list[tuple[str, tuple[str, ...]]]:
    """Return what failed, by the artifact's format or the name of the check of the bundle."""
    whole = [(check.name, check.failures) for check in report.checks if check.failures]
    return whole + [(artifact.artifact, artifact.failures) for artifact in report.artifacts if artifact.failures]


def path_table(bisection: Bisection) -> Table:
    """Return the nodes around the first one that diverges, with their errors."""
    columns = (
        Column("node", "left"),
        Column("operator", "left"),
        Column("module", "left"),
        Column("error"),
        Column("", "left"),
    )
    lines = tuple(
        Line(
            (
                node.node,
                node.operator,
                node.module,
                figures.scientific(node.error),
                "<- first" if node == bisection.first else "",
            )
        )
        for node in bisection.path
    )
    return Table(columns, lines)
