"""MLflow: the server or file that ``MLFLOW_TRACKING_URI`` names, else a SQLite file beside the runs.

https://mlflow.org/docs/latest/ml/tracking
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toolkit.dependencies import import_optional, is_installed
from toolkit.distribution import install_hint
from toolkit.errors import TrackerError
from toolkit.printable import public_url
from toolkit.telemetry import opt_out
from toolkit.trackers.base import TrackedRun, Value

FOLDER = "_mlflow"
"""In the folder of runs; no run can have this name."""
DATABASE = "mlflow.db"
"""MLflow 3 refuses to open a store of plain files and asks for a database:
https://mlflow.org/docs/latest/self-hosting/migrate-from-file-store"""
EXPERIMENT = "toolkit"
"""Unless ``MLFLOW_EXPERIMENT_NAME`` names another."""
_MISSING = f"MLflow is not installed: {install_hint('mlflow')}"
_NOT_ALLOWED = re.compile(r"[^\w\-. /]")
"""In names: https://github.com/mlflow/mlflow/blob/master/mlflow/utils/validation.py"""
_LONGEST_PARAMETER = 6000
_DEFAULTS = {
    # A server that does not answer is given up after seconds; MLflow would try for ten minutes, at every call. What is
    # lost by that is told later.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


class MlflowTracker:
    """Implements ``trackers.base.Tracker``."""

    name = "mlflow"
    title = "MLflow"

    def unavailable(self) -> str | None:
        """Say what is missing; the package is imported when it is used."""
        return None if all(map(is_installed, ("mlflow", "sqlalchemy", "alembic"))) else _MISSING

    def open(self, run: TrackedRun, reference: str | None) -> _MlflowRun:
        """Begin a run of MLflow, or go on with one."""
        known = {} if reference is None else json.loads(reference)
        asked = os.environ.get("MLFLOW_TRACKING_URI", "")
        if known and public_url(asked) != known["store"]:
            asked = known["store"]  # which the run began in; credentials come from MLflow's own variables then
        with _quiet():
            client = _client(asked or _own_store(run.root))
            if known:
                identifier = known["run"]
                client.update_run(identifier, status="RUNNING")
            else:
                tags = {"mlflow.source.name": "toolkit"}
                identifier = client.create_run(
                    _experiment(client, run, asked), run_name=run.name, tags=tags
                ).info.run_id
        return _MlflowRun(client, identifier, json.dumps({"store": public_url(asked), "run": identifier}))


class _MlflowRun:
    def __init__(self, client: Any, identifier: str, reference: str) -> None:
        self.reference = reference
        self._client = client
        self._run = identifier
        self._entities = import_optional("mlflow.entities", _MISSING)

    def last_step(self, name: str) -> int:
        """Return the last step that the store has of a metric."""
        with _quiet():
            history = self._client.get_metric_history(self._run, _allowed(name))
        return max((metric.step for metric in history), default=0)

    def parameters(self, values: Mapping[str, Value]) -> None:
        """Write parameters, which are texts."""
        parameters = [
            self._entities.Param(_allowed(name), str(value)[:_LONGEST_PARAMETER]) for name, value in values.items()
        ]
        with _quiet():
            self._client.log_batch(self._run, params=parameters)

    def figures(self, values: Mapping[str, float], step: int) -> None:
        """Write metrics in one transaction, or one request."""
        now = int(time.time() * 1000)
        metrics = [self._entities.Metric(_allowed(name), value, now, step) for name, value in values.items()]
        with _quiet():
            self._client.log_batch(self._run, metrics=metrics)

    def text(self, name: str, markdown: str, step: int) -> None:
        """Write an artifact."""
        with _quiet():
            self._client.log_text(self._run, markdown, f"{_numbered(name, step)}.md")

    def picture(self, name: str, png: Path, step: int) -> None:
        """Write an artifact of the name that the file has."""
        del name, step
        with _quiet():
            self._client.log_artifact(self._run, str(png), "pictures")

    def close(self, *, finished: bool) -> None:
        """Say how it ended."""
        with _quiet():
            self._client.set_terminated(self._run, status="FINISHED" if finished else "KILLED")


def _client(store: str) -> Any:
    opt_out()
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    import_optional("sqlalchemy", _MISSING)
    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return import_optional("mlflow.tracking.client", _MISSING).MlflowClient(store)


def _own_store(root: Path) -> str:
    folder = root.absolute() / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{(folder / DATABASE).as_posix()}"


def _experiment(client: Any, run: TrackedRun, asked: str) -> str:
    """Return the identifier of the experiment, which is made if there is none."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    place = None if asked else (run.root.absolute() / FOLDER / "files").as_uri()
    found = client.get_experiment_by_name(name)
    if found is None:
        made: str = client.create_experiment(name, artifact_location=place)
        return made
    if place is not None and found.artifact_location != place:
        raise TrackerError(
            f"{run.root / FOLDER} was moved, and its pictures would still go to where it was: remove it, or name a "
            "store with MLFLOW_TRACKING_URI."
        )
    identifier: str = found.experiment_id
    return identifier


def _numbered(name: str, step: int) -> str:
    return _allowed(name) if step == 1 else f"{_allowed(name)}-{step}"


def _allowed(name: str) -> str:
    """Return a name as MLflow takes it."""
    return _NOT_ALLOWED.sub("_", name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to themselves what its libraries warn each other of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
