"""What of the records of a run goes to a tracker, and under which names: the same for every tracker."""

from __future__ import annotations

from toolkit.recipe import Recipe
from toolkit.results import ArtifactParity, BenchReport, BenchRow, Evaluation, ParityReport
from toolkit.trackers.base import Value
from toolkit.training.history import Epoch

EPOCHS = "train/loss"
"""Of each group of figures, the one by whose steps it is seen what a tracker has already."""
EVALUATION = "test/accuracy"
PARITY = "parity/passed"
BENCH = "bench/rows_measured"


def hyperparameters(recipe: Recipe) -> dict[str, Value]:
    """Return the fields of a recipe by dotted names; of paths in it the last part: it may leave the machine."""
    tree = recipe.without_folders().model_dump(mode="json", exclude_none=True)
    flat: dict[str, Value] = {}
    for section, value in tree.items():
        fields = value.items() if isinstance(value, dict) else [("", value)]
        for field, inner in fields:
            plain = inner if isinstance(inner, str | int | float | bool) else ", ".join(map(str, inner))
            flat[f"{section}.{field}".rstrip(".")] = plain
    return flat


def of_epoch(epoch: Epoch) -> dict[str, float]:
    """Return the figures of an epoch."""
    return {
        EPOCHS: epoch.train_loss,
        "train/accuracy": epoch.train_accuracy,
        "validation/loss": epoch.validation_loss,
        "validation/accuracy": epoch.validation_accuracy,
        "learning_rate/head": epoch.head_lr,
        "learning_rate/backbone": epoch.backbone_lr,
        "epoch/stage": float(epoch.stage),
        "epoch/seconds": epoch.seconds,
    }


def of_evaluation(evaluation: Evaluation) -> dict[str, float]:
    """Return the figures of the one look at the test images."""
    return _known(
        {
            EVALUATION: evaluation.top1,
            "test/accuracy_low": evaluation.top1_interval.low,
            "test/accuracy_high": evaluation.top1_interval.high,
            "test/top5_accuracy": evaluation.top5,
            "test/loss": evaluation.loss,
            "test/calibration_error": evaluation.expected_calibration_error,
        }
    )


def of_parity(report: ParityReport) -> dict[str, float]:
    """Return verdicts, 1 for passed and 0 for failed, and the errors behind them."""
    figures = {PARITY: float(report.passed)}
    for artifact in report.artifacts:
        figures |= _of_artifact(artifact)
    return figures


def parity_text(report: ParityReport) -> str:
    """Return the verdicts in words, as Markdown."""
    lines = [f"Compared with {report.reference}: **{'passed' if report.passed else 'FAILED'}**", ""]
    for artifact in report.artifacts:
        verdict = "passed" if artifact.passed else "FAILED"
        lines.append(f"- `{artifact.file}`: {verdict}, on {artifact.test_images} test images ({artifact.engine})")
        lines += [f"    - {reason}" for reason in artifact.failures]
    lines += [f"- {check.name}: FAILED: {reason}" for check in report.checks for reason in check.failures]
    lines += [f"- `{file}`: not judged: {reason}" for file, reason in report.not_judged.items()]
    return "\n".join(lines) + "\n"


def of_bench(report: BenchReport) -> dict[str, float]:
    """Return speed, size and accuracy of every row that was measured."""
    rows = [row for row in report.rows if row.missing is None]
    figures = {BENCH: float(len(rows))}
    for row in rows:
        figures |= _of_row(row)
    return figures


def _of_artifact(artifact: ArtifactParity) -> dict[str, float]:
    logits = next((output.statistics for output in artifact.outputs if output.output == "logits"), None)
    accuracy = artifact.accuracy
    figures = {
        "passed": float(artifact.passed),
        "logits_max_absolute": None if logits is None else logits.max_absolute,
        "logits_max_relative": None if logits is None else logits.max_relative,
        "top1_agreement": artifact.top1_agreement,
        "accuracy": None if accuracy is None else accuracy.artifact_accuracy,
        "accuracy_difference": None if accuracy is None else accuracy.difference,
    }
    return _known({f"parity/{artifact.artifact}/{name}": value for name, value in figures.items()})


def _of_row(row: BenchRow) -> dict[str, float]:
    figures: dict[str, float | None] = {
        "test_accuracy": row.test_accuracy,
        "size_bytes": row.size_bytes,
        "load_seconds": row.load_seconds,
        "cold_start_seconds": row.cold_start_seconds,
        "peak_memory_bytes": row.peak_memory_bytes,
        "end_to_end_images_per_second": None if row.end_to_end is None else row.end_to_end.throughput.median,
    }
    for timing in row.timings:
        batch = f"batch_{timing.batch_size}"
        figures[f"{batch}/images_per_second"] = timing.throughput.median
        figures[f"{batch}/latency_p50_seconds"] = timing.latency.p50_seconds
        figures[f"{batch}/latency_p95_seconds"] = timing.latency.p95_seconds
        figures[f"{batch}/latency_p99_seconds"] = timing.latency.p99_seconds
    return _known({f"bench/{row.name}/{row.device}/{name}": value for name, value in figures.items()})


def _known(figures: dict[str, float | None]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items() if value is not None}
