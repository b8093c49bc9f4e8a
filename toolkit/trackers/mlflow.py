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
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from toolkit.dependencies import import_optional, is_installed
from toolkit.distribution import install_hint
from toolkit.errors import TrackerError
from toolkit.printable import public_url
from toolkit.telemetry import opt_out
from toolkit.trackers.base import FILE, TrackedRun, Value

FOLDER = "_mlflow"
"""In the folder of runs; no run can have this name."""
FILES = "files"
"""In it."""
DATABASE = "mlflow.db"
"""MLflow 3 refuses to open a store of plain files and asks for a database:
https://mlflow.org/docs/latest/self-hosting/migrate-from-file-store"""
EXPERIMENT = "toolkit"
"""Unless ``MLFLOW_EXPERIMENT_NAME`` names another."""
_ANEW = f"remove {FILE} and give --track mlflow again, to log it anew"
_NOT_THERE = "RESOURCE_DOES_NOT_EXIST"
"""https://github.com/mlflow/mlflow/blob/master/mlflow/protos/databricks.proto"""
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
        asked = os.environ.get("MLFLOW_TRACKING_URI", "")
        known = None if reference is None or run.copied else _known(reference)
        store = asked if known is None else _same_store(asked, known)
        with _quiet():
            client = _client(store or _own_store(run.root))
            if known is not None and _goes_on(client, known, run):
                identifier = known.run
            else:
                tags = {"mlflow.source.name": "toolkit"}
                identifier = client.create_run(
                    _experiment(client, run, store), run_name=run.name, tags=tags
                ).info.run_id
        return _MlflowRun(client, identifier, json.dumps({"store": public_url(store), "run": identifier}))


class _Known(NamedTuple):
    """What a reference says."""

    store: str
    """Without credentials; empty for the one beside the runs."""
    run: str


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


def _known(reference: str) -> _Known:
    try:
        known = json.loads(reference)
        store, identifier = known["store"], known["run"]
    except (ValueError, KeyError, TypeError):
        store = identifier = None
    if not isinstance(store, str) or not isinstance(identifier, str):
        raise TrackerError(f"{FILE} names no run of MLflow: {_ANEW}.")
    return _Known(store, identifier)


def _same_store(asked: str, known: _Known) -> str:
    """Return the store in which a run is logged, with the credentials of the one that is asked for.

    Those in MLflow's variables belong to the store that is asked for, and are shown to no other one.
    """
    if asked and public_url(asked).rstrip("/") != known.store.rstrip("/"):
        where = known.store or f"the folder {FOLDER} beside it"
        raise TrackerError(
            f"this run is logged in {where}, and MLFLOW_TRACKING_URI names {public_url(asked)}: unset it or name that "
            f"place, or {_ANEW}."
        )
    return asked or known.store


def _goes_on(client: Any, known: _Known, run: TrackedRun) -> bool:
    """Go on with a run of MLflow; tell whether that could be done, or its whole store is another one by now.

    Raises:
        TrackerError: it was deleted, or its pictures would go elsewhere.
    """
    own = not known.store
    try:
        info = client.get_run(known.run).info
    except Exception as error:
        if getattr(error, "error_code", None) != _NOT_THERE:
            raise
        info = None
    if info is None and own:
        return False
    if info is None or info.lifecycle_stage != "active":
        raise TrackerError(f"{known.store or 'MLflow'} no longer has the run {known.run} of MLflow: {_ANEW}.")
    if own:
        _require_here(info.artifact_uri, run)
    client.update_run(known.run, status="RUNNING")
    return True


def _experiment(client: Any, run: TrackedRun, store: str) -> str:
    """Return the identifier of the experiment, which is made if there is none."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    place = None if store else (run.root.absolute() / FOLDER / FILES).as_uri()
    found = client.get_experiment_by_name(name)
    if found is None:
        made: str = client.create_experiment(name, artifact_location=place)
        return made
    if not store:
        _require_here(found.artifact_location, run)
    identifier: str = found.experiment_id
    return identifier


def _require_here(location: str, run: TrackedRun) -> None:
    """Refuse a store whose files would be written to where it was made."""
    here, there = (run.root / FOLDER / FILES).resolve(), Path(url2pathname(urlsplit(location).path)).resolve()
    if here not in (there, *there.parents):
        raise TrackerError(
            f"{run.root / FOLDER} was moved, and its pictures would still go to where it was: remove it, or name a "
            "store with MLFLOW_TRACKING_URI."
        )


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
