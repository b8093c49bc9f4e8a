"""Hand-built records."""

from __future__ import annotations

import numpy as np
import pytest
from bench_rows import missing

from toolkit.bundle.manifest import Normalization
from toolkit.compare.metrics import evaluate, softmax
from toolkit.compare.paired import paired_accuracy
from toolkit.preprocess import Preprocessing
from toolkit.results import (
    ArtifactParity,
    BatchTiming,
    BenchReport,
    BenchRow,
    Check,
    EndToEnd,
    ErrorStatistics,
    Estimate,
    Evaluation,
    Flip,
    Hardware,
    Interval,
    Latency,
    Leak,
    Load,
    MachineState,
    OutputParity,
    PairedAccuracy,
    ParityReport,
    Peak,
    Phase,
    Provenance,
    Rounding,
    Tolerance,
    Tuned,
)
from toolkit.run_folder import DataSummary, RunRecord

PROVENANCE = Provenance(
    created="2030-01-02T03:04:05+00:00",
    toolkit="0.1.0",
    python="3.12.1",
    packages={"torch": "2.9.0", "onnxruntime": "1.20.0"},
    hardware=Hardware(
        processor="Example CPU", cores=8, memory_bytes=16_000_000_000, gpu=None, operating_system="Linux 6.1"
    ),
    commit="abc123-dirty",
)


def timing(batch_size: int, throughput: float) -> BatchTiming:
    call = batch_size / throughput
    return BatchTiming(
        batch_size=batch_size,
        throughput=Estimate(
            median=throughput, interval=Interval(low=throughput * 0.95, high=throughput * 1.03), rounds=7
        ),
        latency=Latency(p50_seconds=call, p95_seconds=call * 1.1, p99_seconds=call * 1.5, calls=70),
    )


def measured(name: str, device: str, one: float, many: float) -> BenchRow:
    return BenchRow(
        name=name,
        file=f"model.{name}",
        sha256="a" * 64,
        device=device,
        missing=None,
        engine=f"engine of {name} 1.0",
        threads=2,
        timings=(timing(1, one), timing(32, many)),
        load_seconds=0.0456,
        peak_memory_bytes=512_000_000,
        size_bytes=13_456_789,
        test_accuracy=0.98056,
        test_accuracy_interval=Interval(low=0.9605, high=0.9905),
        test_images=360,
    )


REASON = "asked for cuda, onnxruntime 1.20.0 runs it on cpu"


@pytest.fixture
def bench() -> BenchReport:
    return BenchReport(
        run="digits-1",
        model="timm:tf_efficientnet_lite0, 64 x 64, 10 classes",
        data="digits",
        rows=(
            measured("eager", "cpu", 100.0, 400.0),
            measured("channels_last", "cpu", 80.0, 420.0),
            measured("onnx", "cpu", 131.25, 1234.5),
            missing("onnx", "cuda", REASON),
        ),
        seconds=31.2,
        provenance=PROVENANCE,
    )


@pytest.fixture
def settled_bench(bench) -> BenchReport:
    """The same, with the figures of later versions in the row ``onnx``: settled at batch 1, not at batch 32."""
    row = bench.rows[2]
    interval = Interval(low=1.27, high=1.36)
    one, many = (
        timing.model_copy(
            update={
                "ratio": Estimate(median=1.3125, interval=interval, rounds=7),
                "settled": timing.batch_size == 1,
                "warm": timing.batch_size == 1,
                "warm_up_seconds": 0.21,
                "processor_seconds_per_image": 0.015,
                "flops_per_second": 12.3e9,
                "share_of_peak": 0.25,
            }
        )
        for timing in row.timings
    )
    changed = {
        "timings": (one, many),
        "cold_start_seconds": 2.345,
        "memory_above_idle_bytes": 90_000_000,
        "provider": "CPUExecutionProvider",
        "precision": "float32",
    }
    load = Load(load_average=1.5, busy_share=0.34, steal_share=0.0, frequency_mhz=2500.0)
    return bench.model_copy(
        update={
            "rows": (*bench.rows[:2], row.model_copy(update=changed), bench.rows[3]),
            "machine": MachineState(before=load, during=load, remarks=("The machine was busy.",)),
            "peaks": (Peak(device="cpu", threads=2, flops_per_second=49.2e9),),
            "flops_per_image": 94e6,
            "precision": 0.02,
        }
    )


@pytest.fixture
def explained(bench: BenchReport) -> BenchReport:
    """The report with everything that is known of the onnx row on the CPU."""
    end_to_end = EndToEnd(
        files=32,
        throughput=Estimate(median=250.0, interval=Interval(low=240.0, high=255.0), rounds=5),
        processor_seconds_per_image=0.0075,
        phases=(
            Phase(name="decode", seconds_per_image=0.006, share=0.6),
            Phase(name="resize", seconds_per_image=0.001, share=0.1),
            Phase(name="call", seconds_per_image=0.002, share=0.2),
            Phase(name="other", seconds_per_image=0.001, share=0.1),
        ),
        batch_size=32,
    )
    best = {"threads": 1, "images_per_second": 1500.0, "latency_p50_seconds": 0.0123}
    rows = list(bench.rows)
    rows[2] = rows[2].model_copy(
        update={
            "why": "60% of an image's time from file to label is decoding",
            "end_to_end": end_to_end,
            "tuned": (
                Tuned(purpose="latency", batch_size=1, streams=1, **best),
                Tuned(purpose="throughput", batch_size=8, streams=2, spinning=True, **best),
            ),
        }
    )
    return bench.model_copy(update={"rows": tuple(rows)})


def paired(images: int, lost: int, won: int) -> PairedAccuracy:
    """Two sides that differ on a few of the images."""
    sides = [np.zeros((images, 2), np.float32) for _ in range(2)]
    sides[0][:, 0], sides[1][:, 0] = 1, 1
    sides[1][:lost], sides[0][lost : lost + won] = (0, 1), (0, 1)
    reference, artifact = ({"logits": logits, "probabilities": softmax(logits).astype(np.float32)} for logits in sides)
    return paired_accuracy(reference, artifact, np.zeros(images, np.int64), ("a", "b"))


@pytest.fixture
def parity() -> ParityReport:
    def artifact(name: str, passed: bool) -> ArtifactParity:
        statistics = ErrorStatistics(
            elements=2560,
            max_absolute=1.2e-6,
            mean_absolute=1e-7,
            p99_absolute=1e-6,
            max_relative=3e-7,
            min_cosine=0.9999999,
        )
        flips = (
            Flip(
                input="7.png",
                batch_size=3,
                reference_label="seven",
                artifact_label="one",
                reference_margin=0.5,
                counted=True,
            ),
            Flip(
                input="8.png",
                batch_size=3,
                reference_label="eight",
                artifact_label="one",
                reference_margin=0.0,
                counted=False,
            ),
        )
        return ArtifactParity(
            artifact=name,
            file=f"model.{name}",
            sha256="a" * 64,
            passed=passed,
            failures=() if passed else ("1 label flipped although the margin was 0.5",),
            device="cpu",
            engine="engine 1.0",
            threads=2,
            test_images=256,
            edge_inputs=8,
            batch_sizes=(1, 3, 32),
            outputs=(OutputParity(output="logits", statistics=statistics),) if name != "broken" else (),
            top1_agreement=(1.0 if passed else 0.99621) if name != "broken" else None,
            flips=() if passed else flips,
            tolerance=Tolerance(
                precision="float32", logits_absolute=1e-3, logits_relative=1e-3, probabilities_absolute=1e-4
            ),
            seconds=1.0,
            checks=(
                Check(name="opens", passed=name != "broken", failures=(), detail="engine 1.0 on cpu"),
                Check(name="outputs", passed=passed, failures=(), detail="largest errors"),
            ),
            rounding=Rounding(images=50, reference=1e-6, artifact=1.21e-6, ratio=1.21) if name == "onnx" else None,
            accuracy=paired(256, lost=3, won=1) if name == "onnx" else None,
        )

    return ParityReport(
        run="digits-1",
        reference="PyTorch 2.9.0",
        passed=False,
        artifacts=(artifact("onnx", True), artifact("torchscript", False), artifact("broken", False)),
        provenance=PROVENANCE,
        checks=(Check(name="preprocessing", passed=True, failures=(), detail="16 hard files"),),
    )


@pytest.fixture
def make_evaluation():
    """Evaluate random logits; every 20th image is taken for the class after its own."""

    def make(labels: list[str], images: int = 400) -> Evaluation:
        targets = np.arange(images) % len(labels)
        said = np.where(np.arange(images) % 20 == 0, (targets + 1) % len(labels), targets)
        logits = np.zeros((images, len(labels)), np.float32)
        logits[np.arange(images), said] = 5.0
        return evaluate(logits, targets, labels, "test")

    return make


@pytest.fixture
def evaluation(make_evaluation) -> Evaluation:
    return make_evaluation([f"digit {index}" for index in range(10)])


@pytest.fixture
def leaking(evaluation) -> Evaluation:
    interval = Interval(low=0.879, high=0.938)
    leak = Leak(images=37, near=0, seen_in=("train",), top1_without=0.912, top1_without_interval=interval)
    return evaluation.model_copy(update={"leak": leak})


@pytest.fixture
def run_record():
    """Return a maker of the record of a run that kept the weights of a stage and epoch."""

    def make(best: tuple[int, int]) -> RunRecord:
        return RunRecord(
            name="digits-1",
            recipe="digits",
            labels=("a", "b"),
            backbone="torchvision:resnet18",
            weights="random",
            parameters=1,
            normalization=Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
            preprocessing=Preprocessing(height=8, width=8, resize="squash", interpolation="bilinear"),
            data=DataSummary(source="digits", splits={}, skipped=()),
            stages=(),
            best_stage=best[0],
            best_epoch=best[1],
            best_validation_accuracy=0.9,
            model_sha256="a" * 64,
            device="cpu",
            threads=1,
            seconds=1.0,
            provenance=PROVENANCE,
        )

    return make
