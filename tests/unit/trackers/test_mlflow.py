"""A store in a file, read back by MLflow's own client."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from toolkit.errors import TrackerError
from toolkit.trackers.base import Log, TrackedRun
from toolkit.trackers.mlflow import DATABASE, FOLDER, MlflowTracker

pytest.importorskip("mlflow", reason="the extra 'mlflow' is not installed")


@pytest.fixture
def root(tmp_path: Path, with_database: Callable[[Path], None]) -> Path:
    with_database(tmp_path / "artifacts")
    return tmp_path / "artifacts"


def opened(root: Path, reference: str | None = None) -> Log:
    return MlflowTracker().open(TrackedRun("mine", root / "mine", root), reference)


def store(path: Path) -> tuple[Any, list[Any]]:
    """Return a client and the runs of the experiment."""
    from mlflow.tracking.client import MlflowClient

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = MlflowClient(f"sqlite:///{path}")
        return client, list(client.search_runs([client.get_experiment_by_name("toolkit").experiment_id]))


def test_a_run_goes_on_in_another_process(root: Path) -> None:
    first = opened(root)
    first.parameters({"train.batch_size": 64})
    first.figures({"train/loss": 0.5}, 1)
    (run,) = store(root / FOLDER / DATABASE)[1]
    assert run.info.status == "RUNNING"
    first.close(finished=False)
    (run,) = store(root / FOLDER / DATABASE)[1]
    assert run.info.status == "KILLED"
    second = opened(root, first.reference)
    second.figures({"train/loss": 0.25}, 2)
    second.close(finished=True)
    client, (run,) = store(root / FOLDER / DATABASE)
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")
    assert run.data.params == {"train.batch_size": "64"}
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.5), (2, 0.25)]


def test_texts_and_pictures_are_artifacts_beside_the_database(root: Path) -> None:
    Image.new("RGB", (30, 20)).save(root / "a.png")
    log = opened(root)
    log.text("parity", "# passed\n", 1)
    log.text("parity", "# failed\n", 2)
    log.picture("a", root / "a.png", 1)
    log.close(finished=True)
    client, (run,) = store(root / FOLDER / DATABASE)
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["parity-2.md", "parity.md", "pictures"]
    files = root / FOLDER / "files" / run.info.run_id / "artifacts"
    assert (files / "parity-2.md").read_text() == "# failed\n"
    assert (files / "pictures" / "a.png").read_bytes() == (root / "a.png").read_bytes()


def test_names_that_mlflow_does_not_take_are_changed(root: Path) -> None:
    log = opened(root)
    log.figures({"bench/onnx:(x)/cpu": 1.0}, 1)
    log.close(finished=True)
    assert store(root / FOLDER / DATABASE)[1][0].data.metrics == {"bench/onnx__x_/cpu": 1.0}


def test_the_store_that_the_user_names_is_taken_and_remembered(
    root: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = root / "other.db"
    other.write_bytes(empty_database.read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")
    log = opened(root)
    log.figures({"train/loss": 0.5}, 1)
    log.close(finished=True)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    again = opened(root, log.reference)
    again.figures({"train/loss": 0.25}, 2)
    again.close(finished=True)
    client, (run,) = store(other)
    assert len(client.get_metric_history(run.info.run_id, "train/loss")) == 2


def test_what_is_kept_of_a_server_holds_no_secret(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[str] = []

    class Client:
        def get_experiment_by_name(self, name: str) -> Any:
            return type("Experiment", (), {"experiment_id": "1", "artifact_location": "s3://pictures"})

        def create_run(self, *_: Any, **__: Any) -> Any:
            return type("Run", (), {"info": type("Info", (), {"run_id": "7"})})

        def get_run(self, run: str) -> Any:
            return type("Run", (), {"info": type("Info", (), {"lifecycle_stage": "active"})})

        def update_run(self, run: str, status: str) -> None:
            assert (run, status) == ("7", "RUNNING")

    def client(uri: str) -> Client:
        named.append(uri)
        return Client()

    monkeypatch.setattr("toolkit.trackers.mlflow._client", client)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host:5000/ml")
    reference = opened(root).reference
    assert json.loads(reference) == {"store": "https://host:5000/ml", "run": "7"}
    opened(root, reference)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://host:5000/ml/")
    opened(root, reference)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    opened(root, reference)
    assert named == [*["https://me:secret@host:5000/ml"] * 2, "https://host:5000/ml/", "https://host:5000/ml"]
    # The credentials in MLflow's variables are of the place that is named there.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@elsewhere")
    sentence = r"^this run is logged in https://host:5000/ml, and MLFLOW_TRACKING_URI names https://elsewhere: unset it"
    with pytest.raises(TrackerError, match=sentence):
        opened(root, reference)
    assert len(named) == 4


def test_a_store_that_was_moved_is_said(root: Path) -> None:
    opened(root).close(finished=True)
    root.rename(root.with_name("moved"))
    with pytest.raises(TrackerError, match="was moved, and its pictures would still go to where it was: remove it"):
        opened(root.with_name("moved"))


def test_one_that_goes_on_in_a_store_that_was_moved_writes_nothing_where_that_was(root: Path) -> None:
    log = opened(root)
    log.close(finished=True)
    moved = root.rename(root.with_name("moved"))
    with pytest.raises(TrackerError, match="was moved, and its pictures would still go to where it was: remove it"):
        opened(moved, log.reference)
    assert not root.exists()


def test_a_store_that_is_reached_over_a_link_was_not_moved(root: Path) -> None:
    log = opened(root)
    log.close(finished=True)
    link = root.with_name("link")
    link.symlink_to(root)
    again = opened(link, log.reference)
    again.close(finished=True)
    assert again.reference == log.reference
    opened(link).close(finished=True)


def test_where_the_whole_store_is_gone_the_run_begins_anew(root: Path) -> None:
    gone = json.dumps({"store": "", "run": "0" * 32})
    log = opened(root, gone)
    log.close(finished=True)
    assert log.reference != gone
    assert [run.info.run_name for run in store(root / FOLDER / DATABASE)[1]] == ["mine"]


def test_a_run_that_was_deleted_is_not_brought_back(root: Path) -> None:
    log = opened(root)
    log.close(finished=True)
    identifier = json.loads(log.reference)["run"]
    store(root / FOLDER / DATABASE)[0].delete_run(identifier)
    with pytest.raises(TrackerError, match=f"no longer has the run {identifier} of MLflow: remove trackers.json and"):
        opened(root, log.reference)


def test_a_copy_of_a_run_gets_a_run_of_its_own(root: Path) -> None:
    log = opened(root)
    log.close(finished=True)
    copy = MlflowTracker().open(TrackedRun("copy", root / "copy", root, copied=True), log.reference)
    copy.close(finished=True)
    assert copy.reference != log.reference
    assert {run.info.run_name for run in store(root / FOLDER / DATABASE)[1]} == {"mine", "copy"}


@pytest.mark.parametrize("reference", ["", "x", "7", "{}", '{"store": "", "run": 7}', '["store", "run"]'])
def test_a_reference_that_was_edited_by_hand_is_one_sentence(root: Path, reference: str) -> None:
    with pytest.raises(TrackerError, match=r"^trackers\.json names no run of MLflow: remove trackers\.json and give"):
        opened(root, reference)


def test_nothing_of_it_is_reported(root: Path) -> None:
    opened(root).close(finished=True)
    from mlflow.telemetry.utils import is_telemetry_disabled

    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert is_telemetry_disabled()
