"""The whole stage on a hand-built run with fake engines: gates, rows, files."""

import hashlib
import tempfile
from dataclasses import replace

import numpy as np
import pytest

from toolkit.bench import rows, stage
from toolkit.bench.machine import Watch
from toolkit.bench.options import BenchOptions
from toolkit.bench.settings_sweep import Found
from toolkit.bench.statistics import half_width
from toolkit.bundle import Bundle, read_manifest
from toolkit.bundle.manifest import ArtifactRecord, Manifest, Origin, OutputContract, ParityVerdict
from toolkit.bundle.writer import write_manifest
from toolkit.compare.metrics import wilson_interval
from toolkit.errors import DeviceError, FileWriteError, IntegrityError, RunError, ToolkitError
from toolkit.files import sha256_file, write_bytes
from toolkit.provenance import collect, default_threads
from toolkit.recipe import Recipe
from toolkit.results import BenchReport, Load, Tolerance, Tuned
from toolkit.run_folder import DataSummary, FinishedRun, RunFolder, RunRecord, SplitSummary

TUNED = Tuned(purpose="latency", batch_size=1, threads=1, streams=1, images_per_second=9.0, latency_p50_seconds=0.1)
PASSED = ParityVerdict(
    passed=True,
    failures=(),
    device="cpu",
    test_images=20,
    max_absolute_logits=1e-6,
    top1_agreement=1.0,
    tolerance=Tolerance(precision="float32", logits_absolute=1e-3, logits_relative=1e-3, probabilities_absolute=1e-4),
    verified="2030-01-01T00:00:00+00:00",
)
FAILED = PASSED.model_copy(
    update={"passed": False, "failures": ("logits differ by 3.0 where 0.001 is allowed", "17 labels flipped")}
)
LABELS = tuple(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"])


@pytest.fixture
def make_run(tmp_path, contract, split, preprocessing):
    """Build a run folder whose artifacts are a few bytes each."""

    def make(**verdicts):
        run = RunFolder(tmp_path / "digits-1")
        run.bundle.mkdir(parents=True)
        Recipe.model_validate({}).save(run.recipe_file)
        write_bytes(run.model_file, b"weights")
        record = RunRecord(
            name=run.name,
            recipe="digits",
            labels=LABELS,
            backbone="torchvision:resnet18",
            weights="random",
            parameters=1,
            normalization=contract.normalization,
            preprocessing=preprocessing,
            data=DataSummary(
                source="digits",
                splits={"test": SplitSummary(images=len(split), per_class=(2,) * 10, fingerprint=split.fingerprint)},
                skipped=(),
            ),
            stages=(),
            best_stage=1,
            best_epoch=1,
            best_validation_accuracy=1.0,
            model_sha256=sha256_file(run.model_file),
            device="cpu",
            threads=1,
            seconds=1.0,
            provenance=collect(),
        )
        record.save(run.record_file)
        artifacts = []
        for name, verdict in verdicts.items():
            # Field 2 of an ONNX model, its producer: among the smallest files that are one.
            content = b"\x12" + bytes([len(name)]) + name.encode()
            write_bytes(run.bundle / f"model.{name}", content)
            artifacts.append(
                ArtifactRecord(
                    format=name,
                    precision="float32",
                    file=f"model.{name}",
                    sha256=sha256_file(run.bundle / f"model.{name}"),
                    size_bytes=len(content),
                    opset=None,
                    ir_version=None,
                    producer="fake",
                    parity=verdict,
                )
            )
        origin = Origin(
            run=run.name,
            recipe="",
            backbone=record.backbone,
            weights="random",
            model_sha256=record.model_sha256,
            data="digits",
            data_fingerprints={},
            provenance=record.provenance,
        )
        outputs = tuple(
            OutputContract(name=name, shape=("N", len(LABELS)), meaning="fake") for name in ("logits", "probabilities")
        )
        manifest = Manifest(
            name=run.name,
            labels=LABELS,
            preprocessing=preprocessing,
            input=contract,
            outputs=outputs,
            artifacts=tuple(artifacts),
            files={},
            evaluation=None,
            origin=origin,
        )
        write_manifest(run.bundle, manifest)
        return run

    return make


@pytest.fixture
def quick(monkeypatch, fakes, split):
    """Replace engines and data by fakes; the stage is otherwise the real one."""
    monkeypatch.setattr(rows, "PYTORCH_FACTORY", fakes)
    monkeypatch.setattr(rows, "ARTIFACT_FACTORY", fakes)
    monkeypatch.setattr(rows, "_cuda_usable", lambda: False)
    monkeypatch.setattr(stage, "load_test_split", lambda run, reporter: split)
    monkeypatch.setattr(stage, "flops_per_image", lambda backbone, classes, side: 1000.0 * side)
    return {"rounds": 2, "min_seconds": 0.0, "batch_sizes": (2, 1, 2), "threads": 1, "end_to_end": False}


def test_the_report_and_the_manifest(make_run, quick, split, preprocessing):
    run = make_run(onnx=PASSED, torchscript=FAILED)
    report = stage.bench_run(run, BenchOptions(**quick))
    assert BenchReport.load(run.bench_file, "toolkit bench") == report
    assert (report.run, report.model, report.data) == ("digits-1", "torchvision:resnet18, 4 x 4, 11 classes", "digits")
    assert [(row.name, row.file, row.device, row.threads) for row in report.rows] == [
        ("eager", "model.safetensors", "cpu", 1),
        ("channels_last", "model.safetensors", "cpu", 1),
        ("onnx", "model.onnx", "cpu", 1),
        ("torchscript", "model.torchscript", "cpu", 1),
    ]
    good, failed = report.rows[2], report.rows[3]
    assert [timing.batch_size for timing in good.timings] == [1, 2]
    assert [timing.throughput.rounds for timing in good.timings] == [2, 2]
    assert all(timing.latency.calls >= 6 for timing in good.timings)
    assert (good.test_accuracy, good.test_images, good.test_accuracy_interval) == (0.75, 20, wilson_interval(15, 20))
    assert (good.engine, good.size_bytes, good.missing) == ("fake 1.0", 6, None)
    eager, channels_last = report.rows[:2]
    for timing, base in zip(good.timings, eager.timings, strict=True):
        pairs = zip(timing.rounds_images_per_second, base.rounds_images_per_second, strict=True)
        assert timing.ratio.median == pytest.approx(np.median([own / other for own, other in pairs]))
        assert timing.settled is (half_width(timing.ratio) <= 0.03)
        assert timing.flops_per_second == pytest.approx(4000 * timing.throughput.median)
        assert timing.warm_up_seconds > 0
        assert timing.processor_seconds_per_image > 0
    assert {timing.ratio for timing in eager.timings} == {None}
    assert all(timing.ratio for timing in channels_last.timings)
    assert (good.correct, good.precision) == ("07fff0", "float32")
    assert good.cold_start_seconds > good.load_seconds
    assert report.flops_per_image == 4000.0
    assert (report.precision, report.peaks) == (0.03, ())  # a fake engine has no matrix product
    content = b"(20, 4, 4, 3)" + split.load(np.arange(20), preprocessing).tobytes() + split.targets.tobytes()
    assert report.test_fingerprint == hashlib.sha256(content).hexdigest()
    assert report.machine is not None
    assert failed.missing == "failed verification: logits differ by 3.0 where 0.001 is allowed"
    assert (failed.timings, failed.test_accuracy, failed.engine, failed.load_seconds) == ((), None, None, None)
    recorded = {artifact.format: artifact.benchmarks for artifact in read_manifest(run.bundle).artifacts}
    assert [summary.device for summary in recorded["onnx"]] == ["cpu"]
    assert recorded["torchscript"] == ()


def test_a_sweep_of_each_artifact_on_request(make_run, quick):
    run = make_run(onnx=PASSED, torchscript=FAILED)
    report = stage.bench_run(run, BenchOptions(**quick, sweep=True))
    assert {row.name: len(row.sweep) for row in report.rows} == {
        "eager": 0,
        "channels_last": 0,
        "onnx": 2,
        "torchscript": 0,
    }
    onnx = report.rows[2]
    assert {chosen.purpose for chosen in onnx.tuned} == {"latency", "throughput"}
    assert {(one.batch_size, one.threads, one.streams) for one in onnx.sweep} == {(1, 1, 1), (2, 1, 1)}
    recorded = {artifact.format: artifact.benchmarks for artifact in read_manifest(run.bundle).artifacts}
    assert recorded["onnx"][0].tuned == onnx.tuned


def test_what_was_measured_before_a_sweep_was_stopped_is_kept_and_said(make_run, quick, lines, monkeypatch):
    run = make_run(onnx=PASSED, openvino=PASSED)

    def swept_once(*given):
        yield ("onnx", "cpu"), Found(tuned=(TUNED,))
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "sweep_settings", swept_once)
    with pytest.raises(KeyboardInterrupt):
        stage.bench_run(run, BenchOptions(**quick, sweep=True), reporter=lines)
    kept = BenchReport.load(run.bench_file, "toolkit bench")
    assert [bool(row.timings) for row in kept.rows] == [True] * 4
    assert [row.tuned for row in kept.rows] == [(), (), (TUNED,), ()]
    recorded = {artifact.format: artifact.benchmarks for artifact in read_manifest(run.bundle).artifacts}
    assert (recorded["onnx"][0].tuned, recorded["openvino"][0].tuned) == ((TUNED,), ())
    assert lines.lines[-1] == (
        f"the sweep was stopped after 1 of 2 artifacts: what was measured is kept in {run.bench_file}, and 'toolkit "
        f"report {run.name}' writes the reports of it"
    )


def test_from_files_to_labels_by_default_and_what_fails_there_keeps_its_other_figures(make_run, quick):
    report = stage.bench_run(make_run(onnx=PASSED), BenchOptions(**{**quick, "end_to_end": True}))
    onnx = report.rows[2]
    assert (onnx.missing, onnx.end_to_end) == (None, None)  # the file of this run is no model that an engine opens
    assert onnx.timings


def test_rows_say_what_they_compute_in(make_run, quick):
    report = stage.bench_run(make_run(onnx=PASSED), BenchOptions(**quick))
    assert [row.precision for row in report.rows] == ["float32", "float32", "float32"]


def test_an_engine_that_falls_back_to_the_cpu_is_never_a_gpu_row(make_run, quick, monkeypatch):

    monkeypatch.setattr(rows, "ARTIFACT_FACTORY", "bench_fake_sessions:falls_back")
    run = make_run(onnx=PASSED)
    report = stage.bench_run(run, BenchOptions(**{**quick, "device": "cuda"}))
    assert {(row.name, row.device): row.missing for row in report.rows} == {
        ("eager", "cuda"): None,
        ("channels_last", "cuda"): None,
        ("onnx", "cuda"): "asked for cuda, fake 1.0 runs it on cpu",
    }
    assert report.rows[2].timings == ()
    assert read_manifest(run.bundle).artifacts[0].benchmarks == ()


def test_artifacts_that_were_not_verified_are_refused(make_run, quick):
    with pytest.raises(RunError, match=r"model\.onnx of .* was not verified: run 'toolkit verify' first"):
        stage.bench_run(make_run(onnx=None, torchscript=PASSED), BenchOptions(**quick))


def test_an_artifact_that_was_changed_after_verification_is_refused(make_run, quick):
    run = make_run(onnx=PASSED)
    (run.bundle / "model.onnx").write_bytes(b"\x12\x04onnX")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        stage.bench_run(run, BenchOptions(**quick))


def test_a_bundle_of_other_weights_is_refused(make_run, quick):
    run = make_run(onnx=PASSED)
    manifest = read_manifest(run.bundle)
    origin = manifest.origin.model_copy(update={"model_sha256": "0" * 64})
    write_manifest(run.bundle, manifest.model_copy(update={"origin": origin}))
    with pytest.raises(RunError, match=r"exported from other weights.*run 'toolkit export' again"):
        stage.bench_run(run, BenchOptions(**quick))


def test_weights_that_were_changed_or_are_missing_are_refused(make_run, quick):
    run = make_run(onnx=PASSED)
    run.model_file.write_bytes(b"others")
    with pytest.raises(RunError, match=r"is not the file that run\.json describes"):
        stage.bench_run(run, BenchOptions(**quick))
    run.model_file.unlink()
    with pytest.raises(RunError, match="is missing: run 'toolkit finetune' again"):
        stage.bench_run(run, BenchOptions(**quick))


def test_a_run_that_has_not_finished(make_run, quick):
    run = make_run(onnx=PASSED)
    run.record_file.unlink()
    with pytest.raises(RunError, match="was interrupted before fine-tuning had finished"):
        stage.bench_run(run, BenchOptions(**quick))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_sizes": ()}, "batch sizes"),
        ({"batch_sizes": (1, 0)}, "batch sizes"),
        ({"rounds": 0}, "rounds is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"accuracy_images": 0}, "accuracy_images is 0"),
        ({"min_seconds": -1.0}, "min_seconds"),
    ],
)
def test_counts_out_of_range(make_run, quick, changes, message):
    with pytest.raises(ToolkitError, match=message):
        stage.bench_run(make_run(onnx=PASSED), BenchOptions(**{**quick, **changes}))


def test_an_unknown_device_is_refused(make_run, quick):
    with pytest.raises(DeviceError, match="tpu"):
        stage.bench_run(make_run(onnx=PASSED), BenchOptions(**{**quick, "device": "tpu"}))


def test_all_rows_get_the_same_thread_budget(make_run):
    run = make_run(onnx=PASSED)
    plans = rows.plan_rows(FinishedRun.of(run), Bundle.open(run.bundle), ("cpu", "cuda"), 3)
    assert [(plan.name, plan.device) for plan in plans] == [
        (name, device) for device in ("cpu", "cuda") for name in ("eager", "channels_last", "onnx")
    ]
    assert {plan.arguments["threads"] for plan in plans} == {3}
    assert [plan.arguments["channels_last"] for plan in plans[:2]] == [False, True]


def test_the_default_budget_is_every_core_of_the_process(make_run, quick):
    report = stage.bench_run(
        make_run(onnx=PASSED), BenchOptions(**{**quick, "threads": None, "rounds": 1, "batch_sizes": (1,)})
    )
    assert {row.threads for row in report.rows} == {default_threads()}


class Dataset:
    def __init__(self, split):
        self._split = split

    def split(self, name):
        assert name == "test"
        return self._split


def test_other_test_images_than_those_of_the_run_are_refused(make_run, split, monkeypatch, lines):
    from toolkit.data import of_run

    run = make_run(onnx=PASSED)
    asked = []

    def load_dataset(recipe, seed, splits, reporter):
        asked.append((recipe, seed, splits))
        return Dataset(split)

    monkeypatch.setattr(of_run, "load_dataset", load_dataset)
    assert stage.load_test_split(FinishedRun.of(run), lines) is split
    assert asked == [(run.recipe().data, run.recipe().seed, ("test",))]
    split.fingerprint = "0" * 64
    with pytest.raises(RunError, match="fingerprint differs"):
        stage.load_test_split(FinishedRun.of(run), lines)


def test_nothing_is_left_in_the_temporary_folder(make_run, quick, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    stage.bench_run(make_run(onnx=PASSED), BenchOptions(**{**quick, "rounds": 1, "batch_sizes": (1,)}))
    assert list(scratch.iterdir()) == []


def test_two_processes_do_not_measure_one_run(make_run, quick):
    run = make_run(onnx=PASSED)
    with run.only_writer(), pytest.raises(RunError, match=r"another process is writing .*: wait for it to end\.$"):
        stage.bench_run(run, BenchOptions(**quick))
    assert not run.bench_file.exists()


@pytest.mark.parametrize("part", ["path", "bundle"])
def test_a_run_that_cannot_be_written_is_refused_before_anything_is_measured(make_run, quick, monkeypatch, part):
    run = make_run(onnx=PASSED)
    folder = getattr(run, part)

    def mkstemp(prefix="", dir=None):
        if dir == folder:
            raise PermissionError(13, "Permission denied")
        return made(prefix=prefix, dir=dir)

    made = tempfile.mkstemp
    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)
    monkeypatch.setattr(stage, "Sweep", None)
    with pytest.raises(FileWriteError, match=r"The figures are written into the run: copy it to where you may write"):
        stage.bench_run(run, BenchOptions(**quick))


def test_a_busy_machine_is_said_at_once_and_in_the_record(make_run, quick, lines, monkeypatch):
    load = Load(load_average=3.0, busy_share=0.34, steal_share=0.05, frequency_mhz=2000.0)
    monkeypatch.setattr(Watch, "load", lambda self: load)
    report = stage.bench_run(make_run(onnx=PASSED), BenchOptions(**quick), reporter=lines)
    assert lines.lines[0].startswith(
        "The machine was busy: other processes took 34% of the processor time just before measuring."
    )
    assert report.machine.before == report.machine.during == load
    assert report.machine.remarks == (
        "The machine was busy: other processes took 34% of the processor time while it was measured. End them and "
        "measure again for figures that hold.",
        "The host of this virtual machine gave 5% of its processor time to other machines while it was measured "
        "(steal).",
    )


def test_rounds_are_fixed_where_no_precision_is_asked_for(make_run, quick):
    options = replace(BenchOptions(**quick), precision=None)
    report = stage.bench_run(make_run(onnx=PASSED), options)
    assert report.precision is None
    assert {timing.settled for row in report.rows for timing in row.timings} == {None}
