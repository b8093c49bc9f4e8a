from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from toolkit.errors import MissingDependencyError, TrackerError
from toolkit.trackers import mlflow, registry, tensorboard
from toolkit.trackers.registry import require_trackers, trackers, usable


class Theirs:
    name = "theirs"
    title = "Theirs"

    def unavailable(self) -> str | None:
        return None

    def open(self, run: object, reference: object) -> None: ...


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    entries: list[Any] = []
    monkeypatch.setattr(registry, "entry_points", lambda group: entries if group == "toolkit.trackers" else [])
    trackers.cache_clear()
    yield entries
    trackers.cache_clear()


def entry(plugin: type) -> Any:
    return SimpleNamespace(name="extra", dist=SimpleNamespace(name="their-package"), value="x:X", load=lambda: plugin)


def test_another_package_adds_its_own(added: list[Any]) -> None:
    added.append(entry(Theirs))
    assert list(trackers()) == ["tensorboard", "mlflow", "theirs"]
    assert isinstance(usable("theirs"), Theirs)


def test_what_is_no_tracker_is_said(added: list[Any]) -> None:
    added.append(entry(object))
    with pytest.raises(TrackerError, match="the tracker 'extra' of their-package"):
        trackers()


def test_an_unknown_name_lists_those_there_are(added: list[Any]) -> None:
    with pytest.raises(TrackerError, match=r"^there is no tracker 'wandb'; trackers here are tensorboard, mlflow\.$"):
        require_trackers(["tensorboard", "wandb"])


@pytest.mark.parametrize(("name", "module"), [("tensorboard", tensorboard), ("mlflow", mlflow)])
def test_a_missing_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, name: str, module: Any) -> None:
    monkeypatch.setattr(module, "is_installed", lambda package: False)
    sentence = rf"is not installed: pip install 'vision-deploy-toolkit\[{name}\]'\.$"
    with pytest.raises(MissingDependencyError, match=sentence):
        require_trackers([name])


def test_mlflow_without_a_way_to_open_a_database_is_incomplete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow, "is_installed", lambda package: package != "sqlalchemy")
    with pytest.raises(MissingDependencyError, match="MLflow is not installed"):
        usable("mlflow")


@pytest.mark.parametrize(
    "error", [RuntimeError("no https://me:secret@licence"), SystemExit("no https://licence?key=secret")]
)
def test_one_that_fails_when_it_is_asked_is_one_sentence(added: list[Any], error: BaseException) -> None:
    class Failing(Theirs):
        def unavailable(self) -> str | None:
            raise error

    added.append(entry(Failing))
    sentence = (
        rf"the tracker 'theirs' cannot be used \({type(error).__name__}: no https://licence\): update or uninstall"
    )
    with pytest.raises(TrackerError, match=sentence):
        require_trackers(["theirs"])
    require_trackers(["tensorboard"])
