"""One run, killed and gone on with, exported, verified and measured, in three trackers: what they hold is what it has.

TensorBoard and MLflow are read back by their own packages; the third tracker is another package's, which pip installs.
"""

from __future__ import annotations

import json
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from commands import Command, Commands
from example_packages import install

from tests.integration.test_resume import at_name
from toolkit.results import BenchReport, ParityReport
from toolkit.run_folder import RunFolder
from toolkit.training.history import read_history

pytestmark = pytest.mark.slow
for needed in ("tensorboard", "mlflow"):
    pytest.importorskip(needed, reason=f"the extra {needed!r} is not installed")

TRAIN = (
    *("finetune", "--recipe", "digits", "--backbone", "timm:test_efficientnet", "--weights", "none"),
    *("--image-size", "32", "--train-limit", "120", "--test-limit", "40", "--threads", "1", "--no-cache"),
    *("--stage1-epochs", "2", "--stage2-epochs", "2", "--formats", "onnx", "--run", "mine", "--quiet"),
    *("--track", "tensorboard", "--track", "mlflow", "--track", "jsonl"),
)
ENVIRONMENT = {"MLFLOW_TRACKING_URI": ""}
Curve = list[tuple[int, float]]


class Tracked(NamedTuple):
    run: RunFolder
    events: Any
    client: Any
    mlflow_run: Any
    lines: list[dict[str, Any]]

    def curves(self, name: str) -> list[Curve]:
        """Return a figure as each tracker has it."""
        history = self.client.get_metric_history(self.mlflow_run.info.run_id, name)
        return [
            [(event.step, event.value) for event in self.events.Scalars(name)],
            sorted((metric.step, metric.value) for metric in history),
            [(line["step"], line["figures"][name]) for line in self.lines if name in line.get("figures", {})],
        ]

    def expect(self, name: str, values: list[float]) -> None:
        """Hold a figure of every tracker against what the run has."""
        for curve in self.curves(name):
            assert [step for step, _ in curve] == list(range(1, len(values) + 1)), name
            assert [value for _, value in curve] == pytest.approx(values, rel=1e-5), name


@pytest.fixture(scope="module")
def warm() -> Iterator[Commands]:
    commands = Commands()
    yield commands
    commands.close()


@pytest.fixture(scope="module")
def tracked(warm: Commands, tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    folder = tmp_path_factory.mktemp("trackers")
    found = f"import sys; sys.path.insert(0, {str(install('example_tracker', folder))!r})\n"
    for arguments, kill in (
        (TRAIN, at_name("latest.json", '"stage": 2')),  # saved, and not yet logged
        (("finetune", "--resume", "--quiet"), ""),
        (("export", "--quiet"), ""),
        (("verify", "--images", "16", "--threads", "1", "--quiet"), ""),
        (("bench", "--rounds", "2", "--batch-sizes", "1", "--threads", "1", "--quiet"), ""),
    ):
        warm.start(Command(folder, arguments, ENVIRONMENT, found + kill))
        done = warm.wait()
        assert done.returncode == (-signal.SIGKILL if kill else 0), done.stdout + done.stderr
        assert "left out" not in done.stderr
    return _read(RunFolder(folder / "artifacts" / "mine"))


def _read(run: RunFolder) -> Tracked:
    from mlflow.tracking.client import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = MlflowClient(f"sqlite:///{run.path.parent / '_mlflow' / 'mlflow.db'}")
        (mlflow_run,) = client.search_runs([client.get_experiment_by_name("toolkit").experiment_id])
    lines = [json.loads(line) for line in (run.path / "tracked.jsonl").read_text().splitlines()]
    return Tracked(run, events, client, mlflow_run, lines)


def test_epochs_before_and_after_the_kill_are_one_curve(tracked: Tracked) -> None:
    epochs = read_history(tracked.run.history_file)
    assert [(epoch.stage, epoch.epoch) for epoch in epochs] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    tracked.expect("train/loss", [epoch.train_loss for epoch in epochs])
    tracked.expect("train/accuracy", [epoch.train_accuracy for epoch in epochs])
    tracked.expect("validation/loss", [epoch.validation_loss for epoch in epochs])
    tracked.expect("validation/accuracy", [epoch.validation_accuracy for epoch in epochs])
    tracked.expect("learning_rate/head", [epoch.head_lr for epoch in epochs])
    tracked.expect("learning_rate/backbone", [epoch.backbone_lr for epoch in epochs])


def test_evaluation_parity_and_bench_are_those_of_the_records(tracked: Tracked) -> None:
    run = tracked.run
    tracked.expect("test/accuracy", [run.evaluation().top1])
    parity = ParityReport.load(run.parity_file, "toolkit verify")
    tracked.expect("parity/passed", [1.0])
    statistics = parity.artifacts[0].outputs[0].statistics
    tracked.expect("parity/onnx/logits_max_absolute", [statistics.max_absolute])
    rows = BenchReport.load(run.bench_file, "toolkit bench").rows
    tracked.expect("bench/rows_measured", [float(len(rows))])
    for row in rows:
        prefix = f"bench/{row.name}/{row.device}"
        tracked.expect(f"{prefix}/batch_1/images_per_second", [row.timings[0].throughput.median])
        tracked.expect(f"{prefix}/batch_1/latency_p50_seconds", [row.timings[0].latency.p50_seconds])
        assert row.test_accuracy is not None
        tracked.expect(f"{prefix}/test_accuracy", [row.test_accuracy])


def test_hyperparameters_pictures_and_texts_are_there(tracked: Tracked) -> None:
    run, identifier = tracked.run, tracked.mlflow_run.info.run_id
    assert tracked.mlflow_run.info.status == "FINISHED"
    assert tracked.mlflow_run.data.params["backbone.name"] == "timm:test_efficientnet"
    assert [line["parameters"]["stage1.epochs"] for line in tracked.lines if "parameters" in line] == [2]
    files = Path(tracked.mlflow_run.info.artifact_uri.removeprefix("file://"))
    assert [file.path for file in tracked.client.list_artifacts(identifier)] == ["bench.md", "parity.md", "pictures"]
    for name in ("learning_curves", "confusion"):
        picture = (run.path / f"{name}.png").read_bytes()
        assert (files / "pictures" / f"{name}.png").read_bytes() == picture
        assert [image.encoded_image_string for image in tracked.events.Images(name)] == [picture]
    report = (run.bench / "report.md").read_text()
    assert (files / "bench.md").read_text() == report
    assert [tensor.tensor_proto.string_val[0].decode() for tensor in tracked.events.Tensors("bench")] == [report]


def test_nothing_but_the_store_names_a_folder_of_this_machine(tracked: Tracked) -> None:
    folder = str(tracked.run.path.parent)
    assert folder not in (tracked.run.path / "trackers.json").read_text()
    assert folder not in json.dumps(tracked.lines)
