from __future__ import annotations

from pathlib import Path

import pytest

from toolkit import provenance
from toolkit.bundle import Bundle, read_manifest
from toolkit.bundle.recording import record_benchmarks, record_intended_use, record_parity
from toolkit.errors import IntegrityError
from toolkit.results import (
    ArtifactParity,
    BatchTiming,
    BenchReport,
    BenchRow,
    Check,
    ErrorStatistics,
    Estimate,
    Interval,
    Latency,
    OutputParity,
    ParityReport,
    Rounding,
    Tuned,
)


def parity(bundle: Path, **changes: object) -> ParityReport:
    """What verify says of the one artifact of the bundle."""
    artifact = read_manifest(bundle).artifacts[0]
    assert artifact.tolerance is not None
    statistics = ErrorStatistics(
        elements=9, max_absolute=2e-6, mean_absolute=1e-6, p99_absolute=2e-6, max_relative=3e-6, min_cosine=1.0
    )
    judged = ArtifactParity(
        artifact="onnx",
        file=artifact.file,
        sha256=artifact.sha256,
        passed=False,
        failures=("a label flipped",),
        device="cpu",
        engine="onnxruntime",
        threads=1,
        test_images=100,
        edge_inputs=8,
        batch_sizes=(1, 32),
        outputs=(OutputParity(output="logits", statistics=statistics),),
        top1_agreement=0.99,
        flips=(),
        tolerance=artifact.tolerance,
        seconds=1.0,
        checks=(
            Check(name="opens", passed=True, failures=(), detail=""),
            Check(name="labels", passed=False, failures=("a label flipped",), detail=""),
        ),
        rounding=Rounding(images=100, reference=1e-6, artifact=2e-6, ratio=2.0),
    )
    return ParityReport(
        run="colours",
        reference="torch",
        passed=False,
        artifacts=(judged.model_copy(update=changes),),
        provenance=provenance.collect().model_copy(update={"created": "2030-01-02T03:04:05+00:00"}),
    )


def row(bundle: Path, device: str, images_per_second: float, **changes: object) -> BenchRow:
    artifact = read_manifest(bundle).artifacts[0]
    timings = tuple(
        BatchTiming(
            batch_size=size,
            throughput=Estimate(median=speed, interval=Interval(low=speed, high=speed), rounds=3),
            latency=Latency(p50_seconds=size / speed, p95_seconds=size / speed, p99_seconds=size / speed, calls=30),
        )
        for size, speed in ((1, images_per_second / 4), (32, images_per_second), (128, images_per_second / 2))
    )
    fields = {
        "name": "onnx",
        "file": artifact.file,
        "sha256": artifact.sha256,
        "device": device,
        "missing": None,
        "engine": "onnxruntime",
        "threads": 2,
        "timings": timings,
        "load_seconds": 0.1,
        "peak_memory_bytes": 1,
        "size_bytes": 1,
        "test_accuracy": 0.75,
        "test_accuracy_interval": None,
        "test_images": 100,
    }
    return BenchRow.model_validate({**fields, **changes})


def bench(*rows: BenchRow) -> BenchReport:
    machine = provenance.collect()
    hardware = machine.hardware.model_copy(update={"processor": "Example CPU", "gpu": "Example GPU"})
    return BenchReport(
        run="colours",
        model="m",
        data="d",
        rows=rows,
        seconds=1.0,
        provenance=machine.model_copy(update={"hardware": hardware, "created": "2030-01-02T03:04:05+00:00"}),
    )


def test_the_verdict_stands_beside_the_file_that_was_judged(colour_bundle: Path) -> None:
    record_parity(colour_bundle, parity(colour_bundle))
    verdict = Bundle.open(colour_bundle).manifest.artifacts[0].parity
    assert verdict is not None
    assert (verdict.passed, verdict.failures, verdict.failed_checks) == (False, ("a label flipped",), ("labels",))
    assert (verdict.max_absolute_logits, verdict.max_relative_logits, verdict.rounding_ratio) == (2e-6, 3e-6, 2.0)
    assert (verdict.test_images, verdict.top1_agreement, verdict.verified) == (100, 0.99, "2030-01-02T03:04:05+00:00")
    assert (verdict.accuracy_difference, verdict.mean_divergence) == (None, None)
    assert "**failed**: a label flipped" in (colour_bundle / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_no_verdict_is_given_to_another_file_and_an_old_one_stays(colour_bundle: Path) -> None:
    record_parity(colour_bundle, parity(colour_bundle, sha256="0" * 64))
    assert read_manifest(colour_bundle).artifacts[0].parity is None
    record_parity(colour_bundle, parity(colour_bundle))
    record_parity(colour_bundle, parity(colour_bundle, sha256="0" * 64, test_images=7))
    verdict = read_manifest(colour_bundle).artifacts[0].parity
    assert verdict is not None
    assert verdict.test_images == 100


def test_outputs_that_could_not_be_compared_have_no_error(colour_bundle: Path) -> None:
    record_parity(colour_bundle, parity(colour_bundle, outputs=(), rounding=None))
    verdict = read_manifest(colour_bundle).artifacts[0].parity
    assert verdict is not None
    assert (verdict.max_absolute_logits, verdict.rounding_ratio) == (None, None)


def test_of_a_benchmark_the_fastest_batch_and_the_latency_of_the_smallest_stand_in_the_manifest(
    colour_bundle: Path,
) -> None:
    record_benchmarks(colour_bundle, bench(row(colour_bundle, "cpu", 400.0)))
    (summary,) = Bundle.open(colour_bundle).manifest.artifacts[0].benchmarks
    assert (summary.batch_size, summary.images_per_second) == (32, 400.0)
    assert (summary.latency_batch_size, summary.latency_p50_seconds) == (1, pytest.approx(0.01))
    assert (summary.device, summary.processor, summary.threads, summary.test_accuracy) == (
        "cpu",
        "Example CPU",
        2,
        0.75,
    )
    assert [(speed.batch_size, speed.images_per_second) for speed in summary.speeds] == [
        (1, 100.0),
        (32, 400.0),
        (128, 200.0),
    ]
    card = (colour_bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert (
        "| file | device | threads | ms per call at batch 1 | images/s at batch 1 | images/s at batch 32 | images/s at "
        "batch 128 | processor |"
    ) in card
    assert "| `model.onnx` | cpu | 2 | 10.00 | 100 | 400 | 200 | Example CPU |" in card


def test_a_second_benchmark_replaces_that_of_its_device_only(colour_bundle: Path) -> None:
    record_benchmarks(colour_bundle, bench(row(colour_bundle, "cpu", 400.0), row(colour_bundle, "cuda", 9000.0)))
    record_benchmarks(colour_bundle, bench(row(colour_bundle, "cpu", 500.0)))
    summaries = read_manifest(colour_bundle).artifacts[0].benchmarks
    assert {summary.device: summary.images_per_second for summary in summaries} == {"cpu": 500.0, "cuda": 9000.0}
    assert {summary.device: summary.processor for summary in summaries}["cuda"] == "Example GPU"


TUNED = Tuned(
    purpose="throughput", batch_size=8, threads=1, streams=2, images_per_second=500.0, latency_p50_seconds=0.03, cores=2
)


def test_the_best_settings_stand_in_the_manifest_and_on_the_card(colour_bundle: Path) -> None:
    record_benchmarks(colour_bundle, bench(row(colour_bundle, "cpu", 400.0, tuned=(TUNED,))))
    assert read_manifest(colour_bundle).artifacts[0].benchmarks[0].tuned == (TUNED,)
    card = (colour_bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert (
        "- `model.onnx`, best for throughput on cpu (Example CPU): batch 8, 1 thread, 2 streams: 500 images/s, 30.00 "
        "ms per call."
    ) in card


def test_a_benchmark_without_a_sweep_keeps_the_settings_of_the_same_processor_only(colour_bundle: Path) -> None:
    record_benchmarks(colour_bundle, bench(row(colour_bundle, "cpu", 400.0, tuned=(TUNED,))))
    record_benchmarks(colour_bundle, bench(row(colour_bundle, "cpu", 300.0)))
    (summary,) = read_manifest(colour_bundle).artifacts[0].benchmarks
    assert (summary.images_per_second, summary.tuned) == (300.0, (TUNED,))
    report = bench(row(colour_bundle, "cpu", 300.0))
    other = report.provenance.hardware.model_copy(update={"processor": "Other CPU"})
    record_benchmarks(
        colour_bundle,
        report.model_copy(update={"provenance": report.provenance.model_copy(update={"hardware": other})}),
    )
    assert read_manifest(colour_bundle).artifacts[0].benchmarks[0].tuned == ()


def test_rows_without_figures_and_of_other_files_change_nothing(colour_bundle: Path) -> None:
    record_benchmarks(colour_bundle, bench(row(colour_bundle, "cpu", 400.0)))
    record_benchmarks(
        colour_bundle,
        bench(
            row(colour_bundle, "cpu", 1.0, timings=(), missing="killed"),
            row(colour_bundle, "cpu", 2.0, sha256="0" * 64),
        ),
    )
    (summary,) = read_manifest(colour_bundle).artifacts[0].benchmarks
    assert summary.images_per_second == 400.0


def test_the_intended_use_is_recorded_of_a_bundle_that_is_whole(colour_bundle: Path) -> None:
    record_intended_use(colour_bundle.parent, "  Tiles.\n")
    assert Bundle.open(colour_bundle).manifest.intended_use == "Tiles."
    (colour_bundle / "golden" / "000.bin").write_bytes(bytes(192))
    with pytest.raises(IntegrityError):
        record_intended_use(colour_bundle, "Something else.")
    assert read_manifest(colour_bundle).intended_use == "Tiles."
