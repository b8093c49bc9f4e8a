"""What the protocol tells of the server and its models: the same objects in the JSON of HTTP and in gRPC's messages."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from toolkit import __version__
from toolkit.serving.refusals import BadRequest
from toolkit.serving.v2.contract import configuration, metadata
from toolkit.serving.v2.service import Service

_EXTENSIONS: Final = ("binary_tensor_data", "classification", "model_configuration", "model_repository", "parameters")


def server_metadata(service: Service) -> dict[str, Any]:
    """Return the name of the server, its version, and which extensions of the protocol it speaks."""
    statistics = () if service.statistics is None else ("statistics",)
    return {"name": "toolkit", "version": __version__, "extensions": [*_EXTENSIONS, *statistics]}


def model_metadata(service: Service, name: str, version: str | None) -> dict[str, Any]:
    """Return what there is to know of a model.

    Raises:
        UnknownModel: there is none.
        NotReady: there is one, and it is not ready.
    """
    return metadata(service.models.get(name, version), _ready_versions(service, name))


def model_configuration(service: Service, name: str, version: str | None) -> dict[str, Any]:
    """Return a model as the model configuration extension describes one.

    Raises:
        UnknownModel: there is none.
        NotReady: there is one, and it is not ready.
    """
    return configuration(service.models.get(name, version), service.limits)


def repository_index(service: Service, ready: bool) -> list[dict[str, Any]]:
    """Return every version of every model.

    Args:
        service: whose.
        ready: leave out those that are not.
    """
    return [
        {"name": state.name, "version": state.version, "state": state.state, "reason": state.reason}
        for state in service.models.index()
        if state.state == "READY" or not ready
    ]


def refuse_model_control() -> NoReturn:
    """Say why no client loads or unloads a model.

    Raises:
        BadRequest: always.
    """
    raise BadRequest(
        "models are not loaded and unloaded over the network: the server has those that it was started with, and the "
        "versions that come and go in their folders."
    )


def statistics(service: Service, name: str | None, version: str | None) -> dict[str, Any]:
    """Return what versions that are ready have done so far.

    Args:
        service: whose.
        name: of one model; None for all of them.
        version: one of its versions; None for all of them.

    Raises:
        BadRequest: nobody keeps statistics.
        UnknownModel: there is no such model.
        NotReady: there is one, and it is not ready.
    """
    if service.statistics is None:
        raise BadRequest("this server keeps no statistics.")
    if name is not None:
        service.models.get(name, version)
    versions = [
        (state.name, state.version)
        for state in service.models.index()
        if state.state == "READY" and name in (None, state.name) and version in (None, state.version)
    ]
    return {
        "model_stats": [
            {"name": name, "version": version, **service.statistics.of(name, version)} for name, version in versions
        ]
    }


def _ready_versions(service: Service, name: str) -> list[str]:
    return [state.version for state in service.models.index() if state.name == name and state.state == "READY"]
