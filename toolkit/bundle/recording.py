"""Recording in a bundle what later stages find out about it: the parity verdict, benchmarks, the intended use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from toolkit.bundle.folder import Bundle
from toolkit.bundle.manifest import MANIFEST_NAME, ArtifactRecord, BatchSpeed, BenchSummary, Manifest, ParityVerdict
from toolkit.bundle.trust.check import LARGEST_MANIFEST, parse_manifest, small_file
from toolkit.bundle.trust.known import is_known
from toolkit.bundle.writer import write_manifest
from toolkit.devices import kind_of
from toolkit.results import ArtifactParity, BenchReport, BenchRow, ParityReport


def record_parity(folder: Path, report: ParityReport) -> None:
    """Write the verdicts of a parity report into the manifest, each only beside the very file that was judged."""
    verdicts = {(result.file, result.sha256): _verdict(result, report) for result in report.artifacts}

    def with_verdict(artifact: ArtifactRecord) -> ArtifactRecord:
        return artifact.model_copy(update={"parity": verdicts.get((artifact.file, artifact.sha256), artifact.parity)})

    _rewrite_artifacts(folder, with_verdict)


def record_benchmarks(folder: Path, report: BenchReport) -> None:
    """Write the figures of a benchmark into the manifest, replacing older ones of the same device."""
    _rewrite_artifacts(folder, lambda artifact: _with_benchmarks(artifact, report))


def record_intended_use(path: str | Path, text: str) -> None:
    """Write into the manifest, and so into the model card, what the model is for.

    Args:
        path: the bundle's folder, or a run folder that has one.
        text: Markdown; replaces what was written before.

    Raises:
        BundleError: there is no bundle, or it is malformed.
        IntegrityError: a file is not the one that the manifest describes.
        FileWriteError: the bundle cannot be written.
    """
    bundle = Bundle.open(path)
    changed = bundle.manifest.model_copy(update={"intended_use": text.strip()})
    write_manifest(bundle.path, changed, own=is_known(bundle.manifest_bytes))


def _rewrite_artifacts(folder: Path, change: Callable[[ArtifactRecord], ArtifactRecord]) -> None:
    """Change the entries of a manifest; a bundle that was this user's own stays so, any other does not become it."""
    content = small_file(folder / MANIFEST_NAME, LARGEST_MANIFEST)
    manifest: Manifest = parse_manifest(content, folder / MANIFEST_NAME)
    changed = manifest.model_copy(update={"artifacts": tuple(change(artifact) for artifact in manifest.artifacts)})
    write_manifest(folder, changed, own=is_known(content))


def _verdict(result: ArtifactParity, report: ParityReport) -> ParityVerdict:
    logits = next((output.statistics for output in result.outputs if output.output == "logits"), None)
    return ParityVerdict(
        passed=result.passed,
        failures=result.failures,
        device=result.device,
        test_images=result.test_images,
        max_absolute_logits=logits.max_absolute if logits else None,
        top1_agreement=result.top1_agreement,
        tolerance=result.tolerance,
        verified=report.provenance.created,
        max_relative_logits=logits.max_relative if logits else None,
        rounding_ratio=result.rounding.ratio if result.rounding else None,
        mean_divergence=result.divergence.mean if result.divergence else None,
        accuracy_difference=result.accuracy.difference if result.accuracy else None,
        accuracy_interval=result.accuracy.interval if result.accuracy else None,
        failed_checks=tuple(check.name for check in result.checks if not check.passed),
        limits=result.limits,
    )


def _with_benchmarks(artifact: ArtifactRecord, report: BenchReport) -> ArtifactRecord:
    fresh = [_summary(row, report) for row in report.rows if row.sha256 == artifact.sha256 and row.timings]
    of_other_devices = [old for old in artifact.benchmarks if old.device not in {summary.device for summary in fresh}]
    return artifact.model_copy(update={"benchmarks": tuple(of_other_devices + fresh)})


def _summary(row: BenchRow, report: BenchReport) -> BenchSummary:
    fastest = max(row.timings, key=lambda timing: timing.throughput.median)
    smallest = min(row.timings, key=lambda timing: timing.batch_size)
    return BenchSummary(
        device=row.device,
        processor=(report.provenance.hardware.gpu or "GPU")
        if kind_of(row.device) == "cuda"
        else report.provenance.hardware.processor,
        threads=row.threads,
        batch_size=fastest.batch_size,
        images_per_second=fastest.throughput.median,
        images_per_second_interval=fastest.throughput.interval,
        latency_batch_size=smallest.batch_size,
        latency_p50_seconds=smallest.latency.p50_seconds,
        test_accuracy=row.test_accuracy,
        measured=report.provenance.created,
        speeds=tuple(
            BatchSpeed(
                batch_size=timing.batch_size,
                images_per_second=timing.throughput.median,
                latency_p50_seconds=timing.latency.p50_seconds,
            )
            for timing in sorted(row.timings, key=lambda timing: timing.batch_size)
        ),
    )
