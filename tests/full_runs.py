"""A run folder in which every record is filled, made up: what reports are drawn from when all stages have done all."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from bench_rows import missing
from PIL import Image

from toolkit.bundle.manifest import Normalization
from toolkit.compare.metrics import evaluate, softmax, wilson_interval
from toolkit.compare.paired import paired_accuracy
from toolkit.preprocess import Preprocessing
from toolkit.recipe import Recipe
from toolkit.results import (
    ArtifactParity,
    BatchTiming,
    BenchReport,
    BenchRow,
    CalibrationBin,
    Check,
    ConfusedPair,
    EndToEnd,
    ErrorStatistics,
    Estimate,
    Flip,
    Hardware,
    Interval,
    LabelIssues,
    Latency,
    Load,
    MachineState,
    OutputParity,
    ParityReport,
    Peak,
    Phase,
    Provenance,
    Review,
    ReviewedImage,
    SettingTiming,
    Tolerance,
    Tuned,
)
from toolkit.run_folder import (
    DataSummary,
    DuplicateGroup,
    DuplicateImage,
    DuplicateSummary,
    RunFolder,
    RunRecord,
    SplitSummary,
    StageSummary,
)

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SPEEDS = {
    "eager": (118.0, 402.0),
    "channels_last": (109.0, 431.0),
    "torchscript": (171.0, 466.0),
    "onnx": (402.0, 1180.0),
    "onnx-int8": (661.0, 2230.0),
    "openvino": (640.0, 2215.0),
}
"""Images per second at batch size 1 and 32."""
HISTORY = "stage,epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,head_lr,backbone_lr,seconds\n"


def provenance(processor: str = "Example CPU @ 2.60GHz") -> Provenance:
    """Return where everything was made."""
    return Provenance(
        created="2030-01-02T03:04:05+00:00",
        toolkit="0.1.0",
        python="3.12.1",
        packages={"torch": "2.9.0", "onnxruntime": "1.24.0", "openvino": "2026.1.0"},
        hardware=Hardware(
            processor=processor, cores=8, memory_bytes=16_000_000_000, gpu=None, operating_system="Linux 6.1"
        ),
        commit="abc123",
    )


def estimate(value: float, width: float = 0.03) -> Estimate:
    """Return an estimate with an interval of so much on each side."""
    return Estimate(median=value, interval=Interval(low=value * (1 - width), high=value * (1 + width)), rounds=7)


def latency(median: float, seed: int = 0) -> Latency:
    """Return a right-skewed distribution of the times of calls."""
    times = median * (0.93 + np.random.default_rng(seed).lognormal(-2.6, 0.9, 400))
    percentiles = np.percentile(times, range(101))
    p50, p95, p99 = (float(percentiles[at]) for at in (50, 95, 99))
    return Latency(
        p50_seconds=p50, p95_seconds=p95, p99_seconds=p99, calls=400, percentiles_seconds=tuple(map(float, percentiles))
    )


def timing(batch_size: int, rate: float, seed: int) -> BatchTiming:
    """Return a timing with all fields."""
    return BatchTiming(
        batch_size=batch_size,
        throughput=estimate(rate),
        latency=latency(batch_size / rate, seed),
        rounds_images_per_second=tuple(rate * (1 + 0.01 * round_) for round_ in range(-3, 4)),
        ratio=estimate(rate / SPEEDS["eager"][0]),
        settled=True,
        warm_up_seconds=0.8,
        warm=True,
        processor_seconds_per_image=2 / rate,
        flops_per_second=rate * 0.8e9,
        share_of_peak=0.4,
    )


def sweep(one: float, many: float) -> tuple[tuple[SettingTiming, ...], tuple[Tuned, ...]]:
    """Return the settings of a sweep, and the best ones."""
    settings = [
        SettingTiming(
            batch_size=size,
            threads=threads,
            streams=streams,
            throughput=estimate(rate),
            latency=latency(size * streams / rate),
        )
        for size in (1, 4, 16, 64)
        for threads, streams in ((1, 1), (4, 1), (1, 4), (8, 1))
        for rate in [(one + (many - one) * (1 - 1 / size)) * (0.45 + 0.6 * min(threads * streams, 6) / 6)]
    ]
    fast, wide = (
        min(settings, key=lambda setting: setting.latency.p50_seconds),
        max(settings, key=lambda setting: setting.throughput.median),
    )
    tuned = tuple(
        Tuned(
            purpose=purpose,  # type: ignore[arg-type]  # a text where pydantic checks the literal
            batch_size=best.batch_size,
            threads=best.threads,
            streams=best.streams,
            images_per_second=best.throughput.median,
            latency_p50_seconds=best.latency.p50_seconds,
        )
        for purpose, best in (("latency", fast), ("throughput", wide))
    )
    return tuple(settings), tuned


def row(name: str, images: int, right: int, device: str = "cpu") -> BenchRow:
    """Return a row with all fields."""
    one, many = SPEEDS[name]
    seed = sorted(SPEEDS).index(name)
    is_artifact = name not in ("eager", "channels_last")
    settings, tuned = sweep(one, many) if is_artifact else ((), ())
    call = 1 / one
    parts = {"decode": 0.0012, "resize": 0.0007, "call": call, "other": 0.0002}
    return BenchRow(
        name=name,
        file=f"model.{name}" if is_artifact else None,
        sha256="a" * 64 if is_artifact else None,
        device=device,
        missing=None,
        engine="an engine 1.0",
        threads=8,
        timings=(timing(1, one, seed), timing(32, many, seed)),
        load_seconds=0.05,
        peak_memory_bytes=512_000_000,
        size_bytes={"onnx-int8": 3_500_000}.get(name, 13_456_789) if is_artifact else None,
        test_accuracy=right / images,
        test_accuracy_interval=wilson_interval(right, images),
        test_images=images,
        cold_start_seconds=0.4,
        memory_above_idle_bytes=64_000_000,
        provider="CPUExecutionProvider" if name.startswith("onnx") else None,
        correct=None,
        end_to_end=EndToEnd(
            files=64,
            throughput=estimate(1 / sum(parts.values())),
            processor_seconds_per_image=sum(parts.values()) * 1.3,
            phases=tuple(
                Phase(name=part, seconds_per_image=seconds, share=seconds / sum(parts.values()))  # type: ignore[arg-type]  # the name is one of the literal's, as pydantic checks
                for part, seconds in parts.items()
            ),
            batch_size=32,
        )
        if is_artifact
        else None,
        sweep=settings,
        tuned=tuned,
        why=f"{parts['decode'] / sum(parts.values()):.0%} of the time of an image is decoding; 8 threads.",
    )


def parity_of(name: str, images: int, lost: int, flips: tuple[Flip, ...] = ()) -> ArtifactParity:
    """Return a verdict that passed, with so many images lost in comparison with PyTorch."""
    sides = [np.zeros((images, 2), np.float32) for _ in range(2)]
    sides[0][:, 0] = sides[1][:, 0] = 1
    sides[1][:lost] = (0, 1)
    reference, artifact = ({"logits": logits, "probabilities": softmax(logits).astype(np.float32)} for logits in sides)
    statistics = ErrorStatistics(
        elements=images * 10,
        max_absolute=1.2e-6,
        mean_absolute=1e-7,
        p99_absolute=1e-6,
        max_relative=3e-7,
        min_cosine=0.9999999,
    )
    return ArtifactParity(
        artifact=name,
        file=f"model.{name}",
        sha256="a" * 64,
        passed=True,
        failures=(),
        device="cpu",
        engine="an engine 1.0",
        threads=8,
        test_images=images,
        edge_inputs=8,
        batch_sizes=(1, 3, 32),
        outputs=(OutputParity(output="logits", statistics=statistics),),
        top1_agreement=1 - len(flips) / images,
        flips=flips,
        tolerance=Tolerance(
            precision="int8" if name.endswith("int8") else "float32",
            logits_absolute=1e-3,
            logits_relative=1e-3,
            probabilities_absolute=1e-4,
        ),
        seconds=1.0,
        checks=(Check(name="outputs", passed=True, failures=(), detail="largest errors"),),
        accuracy=paired_accuracy(reference, artifact, np.zeros(images, np.int64), ("a", "b")),
    )


def write_full_run(
    path: Path, labels: tuple[str, ...] = CIFAR10, *, images: int = 10_000, mistakes: int = 300, seed: int = 0
) -> RunFolder:
    """Write a run with all records, thumbnails and history.

    Args:
        path: its folder, new.
        labels: class names.
        images: in the test split.
        mistakes: kept in the review, each with a thumbnail.
        seed: of what is made up.
    """
    run, numbers = RunFolder(path), np.random.default_rng(seed)
    (path / "review").mkdir(parents=True)
    Recipe().save(run.recipe_file)
    count = len(labels)
    truth = np.arange(images) % count
    wrong = numbers.random(images) < 0.042
    near = (truth + numbers.choice((1, 2), images, p=(0.8, 0.2)) * np.where(truth % 2, -1, 1)) % count
    said = np.where(wrong, near, truth)
    logits = np.zeros((images, count), np.float32)
    logits[np.arange(images), said] = 1 + numbers.gamma(6, 1.0, images)
    evaluation = evaluate(logits, truth, labels, "test")
    probabilities = softmax(logits).max(axis=1)
    evaluation.save(run.evaluation_file)
    right = images - int((said != truth).sum())

    def reviewed(index: int, split: str, position: int) -> ReviewedImage:
        name = f"review/{split}-{position}.jpg"
        (path / name).write_bytes(jpeg(numbers))
        return ReviewedImage(
            split=split,
            name=f"{labels[truth[index]]}/{index:05d}.png",
            label=labels[truth[index]],
            predicted=labels[near[index]],
            probability=float(probabilities[index]),
            label_probability=float(0.2 * (1 - probabilities[index])),
            thumbnail=name,
        )

    order = sorted(np.flatnonzero(said != truth), key=lambda index: -probabilities[index])
    kept = tuple(reviewed(int(index), "test", position) for position, index in enumerate(order[:mistakes]))
    pairs: dict[tuple[str, str], int] = {}
    for index in order:
        pair = (labels[truth[index]], labels[said[index]])
        pairs[pair] = pairs.get(pair, 0) + 1
    bins = []
    for low in np.arange(15) / 15:
        inside = (probabilities > low) & (probabilities <= low + 1 / 15)
        if inside.any():
            bins.append(
                CalibrationBin(
                    low=float(low),
                    high=float(low + 1 / 15),
                    images=int(inside.sum()),
                    confidence=float(probabilities[inside].mean()),
                    accuracy=float((said == truth)[inside].mean()),
                )
            )
    train = tuple(4000 + 37 * (index % 7) for index in range(count))
    test = tuple(int(number) for number in np.bincount(truth, minlength=count))
    Review(
        mistakes=kept,
        mistakes_in_all=len(order),
        pairs=tuple(
            ConfusedPair(label=label, predicted=predicted, count=number)
            for (label, predicted), number in sorted(pairs.items(), key=lambda item: -item[1])
        ),
        calibration=tuple(bins),
        label_issues=LabelIssues(
            looked_at=45_000,
            estimated_wrong=27,
            folds=5,
            features="the output of the frozen backbone",
            suspects=tuple(reviewed(index, "train", position) for position, index in enumerate(range(min(12, images)))),
            limits=(
                "An image of two classes, or of none, looks like a wrong label.",
                "Labels that are wrong in the same way throughout a class are not found.",
            ),
        ),
        class_images={"train": train, "validation": train, "test": test},
    ).save(run.review_file)
    epochs = [(1, epoch, 1.4 * 0.8**epoch, 0.6 + 0.04 * epoch) for epoch in range(1, 7)]
    epochs += [(2, epoch, 0.35 * 0.9**epoch, 0.87 + 0.009 * epoch) for epoch in range(1, 11)]
    run.history_file.write_text(
        HISTORY + "".join(f"{s},{e},{loss},{a},{loss * 1.1},{a - 0.005},0.001,0,9\n" for s, e, loss, a in epochs),
        encoding="utf-8",
    )
    splits = {
        name: SplitSummary(images=sum(counts), per_class=counts, fingerprint="f" * 64)
        for name, counts in (("train", train), ("validation", train), ("test", test))
    }
    duplicates = DuplicateSummary(
        copies=3,
        near_copies=2,
        two_classes=1,
        leaked={"train": 0, "validation": 0, "test": 1},
        groups=(
            DuplicateGroup(
                exact=True,
                images=(
                    DuplicateImage(split="train", name="cat/1.png", label=labels[0]),
                    DuplicateImage(split="test", name="dog/2.png", label=labels[1]),
                ),
            ),
        ),
    )
    RunRecord(
        name=run.name,
        recipe="cifar10",
        labels=labels,
        backbone="timm:tf_efficientnet_lite0",
        weights="published",
        parameters=3_384_000,
        normalization=Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        preprocessing=Preprocessing(height=128, width=128, resize="squash", interpolation="bilinear"),
        data=DataSummary(source="cifar10", splits=splits, skipped=(), duplicates=duplicates),
        stages=tuple(
            StageSummary(stage=stage, epochs=n, trained=("head",), trainable_parameters=12_000, seconds=700.0)
            for stage, n in ((1, 6), (2, 10))
        ),
        best_stage=2,
        best_epoch=9,
        best_validation_accuracy=0.957,
        model_sha256="a" * 64,
        device="cpu",
        threads=8,
        seconds=1431.0,
        provenance=provenance(),
    ).save(run.record_file)
    flips = tuple(
        Flip(
            input=f"{labels[index % count]}/{index:05d}.png",
            batch_size=32,
            reference_label=labels[index % count],
            artifact_label=labels[(index + 1) % count],
            reference_margin=0.04 * index,
            counted=index > 5,
            true_label=labels[index % count],
        )
        for index in range(1, 9)
    )
    artifacts = tuple(
        parity_of(name, 1000, 4 if name == "onnx-int8" else 0, flips if name == "onnx-int8" else ())
        for name in SPEEDS
        if name not in ("eager", "channels_last")
    )
    ParityReport(
        run=run.name,
        reference="PyTorch 2.9.0",
        passed=True,
        artifacts=artifacts,
        provenance=provenance(),
        checks=(Check(name="preprocessing", passed=True, failures=(), detail="17 hard files"),),
    ).save(run.parity_file)
    quiet = Load(load_average=0.3, busy_share=0.01, steal_share=0.0, frequency_mhz=2594.0)
    busy = Load(load_average=6.1, busy_share=0.22, steal_share=0.03, frequency_mhz=2594.0)
    BenchReport(
        run=run.name,
        model=f"timm:tf_efficientnet_lite0, 128 x 128, {count} classes",
        data="cifar10",
        rows=(
            *(row(name, images, right - (3 * images // 1000 if name == "onnx-int8" else 0)) for name in SPEEDS),
            missing("onnx", "cuda", "asked for cuda, onnxruntime 1.24.0 runs it on cpu"),
        ),
        seconds=231.2,
        provenance=provenance(),
        machine=MachineState(
            before=quiet,
            during=busy,
            remarks=("The machine was busy while it measured: 22% of the processor time went to other programs.",),
        ),
        peaks=(Peak(device="cpu", threads=8, flops_per_second=2.1e11),),
        flops_per_image=0.8e9,
        test_fingerprint="f" * 64,
    ).save(run.bench_file)
    return run


def jpeg(numbers: np.random.Generator) -> bytes:
    """Return a small picture in colours of its own."""
    coarse = numbers.integers(0, 256, (4, 4, 3)).astype(np.uint8)
    target = io.BytesIO()
    Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC).save(target, format="JPEG", quality=80)
    return target.getvalue()
