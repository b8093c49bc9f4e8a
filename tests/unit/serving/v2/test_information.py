"""What the protocol tells of the server and its models."""

from __future__ import annotations

import pytest

from tests.v2_models import FixedModels, Remembering
from toolkit import __version__
from toolkit.serving.interface import Limits
from toolkit.serving.refusals import BadRequest, NotReady, UnknownModel
from toolkit.serving.v2 import information
from toolkit.serving.v2.service import Service


@pytest.fixture
def service(models: FixedModels, observer: Remembering) -> Service:
    return Service(models, Limits(images=9), observer, observer)


def test_the_server_says_its_name_and_extensions(service: Service) -> None:
    known = information.server_metadata(service)
    assert (known["name"], known["version"]) == ("toolkit", __version__)
    assert {"binary_tensor_data", "classification", "model_repository", "statistics"} <= set(known["extensions"])


def test_without_statistics_the_extension_is_not_spoken(models: FixedModels, observer: Remembering) -> None:
    service = Service(models, Limits(), observer)
    assert "statistics" not in information.server_metadata(service)["extensions"]
    with pytest.raises(BadRequest, match="keeps no statistics"):
        information.statistics(service, None, None)


def test_the_metadata_of_a_model_list_the_versions_that_are_ready(service: Service) -> None:
    assert information.model_metadata(service, "colours", None)["versions"] == ["0", "1"]


def test_the_configuration_says_the_most_images(service: Service) -> None:
    assert information.model_configuration(service, "colours", "0")["max_batch_size"] == 9


def test_the_index_says_why_a_version_is_not_ready(service: Service) -> None:
    assert information.repository_index(service, ready=False) == [
        {"name": "colours", "version": "0", "state": "READY", "reason": ""},
        {"name": "colours", "version": "1", "state": "READY", "reason": ""},
        {"name": "broken", "version": "1", "state": "UNAVAILABLE", "reason": "its golden samples differ"},
    ]
    assert [entry["name"] for entry in information.repository_index(service, ready=True)] == ["colours"] * 2


@pytest.mark.parametrize(
    ("name", "version", "versions"),
    [(None, None, ["0", "1"]), ("colours", None, ["0", "1"]), ("colours", "1", ["1"])],
)
def test_statistics_are_those_of_the_versions_that_are_ready(
    service: Service, name: str | None, version: str | None, versions: list[str]
) -> None:
    stats = information.statistics(service, name, version)["model_stats"]
    assert [(each["name"], each["version"]) for each in stats] == [("colours", version) for version in versions]
    assert stats[0]["last_inference"] == 7


def test_statistics_of_what_there_is_not_are_refused(service: Service) -> None:
    with pytest.raises(UnknownModel):
        information.statistics(service, "none", None)
    with pytest.raises(NotReady):
        information.statistics(service, "broken", None)


def test_no_client_loads_models() -> None:
    with pytest.raises(BadRequest, match="not loaded and unloaded over the network"):
        information.refuse_model_control()
