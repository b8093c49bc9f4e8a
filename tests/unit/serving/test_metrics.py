from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from pages import rows, text_of
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from toolkit.serving.interface import Answered, Model, ModelState
from toolkit.serving.metrics import Metrics
from toolkit.serving.refusals import BadRequest, NotReady, Overloaded, UnknownModel
from toolkit.serving.routing import Router


class Index:
    """Models of which a test says the index."""

    ready = True
    names = ()

    def __init__(self, *states: ModelState) -> None:
        self.states = list(states)

    def index(self) -> Sequence[ModelState]:
        return self.states

    def get(self, name: str, version: str | None = None) -> Model:
        raise UnknownModel(name)


CATS = ModelState("cats", "1", "READY")


def made(*states: ModelState, **options: float) -> tuple[Metrics, Index]:
    metrics, models = Metrics(**options), Index(*states)  # type: ignore[arg-type]
    metrics.models = models
    return metrics, models


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Scrape as Prometheus does: name and values of labels, in the order of their names, to the value."""
    answer = TestClient(Router(metrics.routes())).get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in families
        for sample in family.samples
    }


def test_requests_are_counted_by_model_outcome_and_protocol() -> None:
    metrics, _ = made(CATS)
    for protocol, refusal in (("http", None), ("http", None), ("grpc", None), ("http", Overloaded("full"))):
        metrics.request(Answered("cats", "1", protocol, 1, refusal, 0.02))  # type: ignore[arg-type]
    found = samples(metrics)
    assert found["toolkit_requests_total", "cats", "ok", "http"] == 2
    assert found["toolkit_requests_total", "cats", "ok", "grpc"] == 1
    assert found["toolkit_requests_total", "cats", "overloaded", "http"] == 1
    # The refusal, which is quick, does not make the server look quick.
    assert found["toolkit_request_seconds_count", "cats", "http"] == 2
    assert found["toolkit_request_seconds_sum", "cats", "http"] == pytest.approx(0.04)
    assert found["toolkit_request_seconds_bucket", "0.01", "cats", "http"] == 0
    assert found["toolkit_request_seconds_bucket", "0.025", "cats", "http"] == 2


def test_a_name_that_a_client_invents_is_no_label() -> None:
    metrics, _ = made(CATS)
    for number in range(50):
        metrics.request(Answered(f"invented{number}", "", "http", 0, UnknownModel("no"), 0.001))
        metrics.request(Answered(f"invented{number}", "", "http", 0, BadRequest("no"), 0.001))
    metrics.request(Answered("cats", "", "http", 0, BadRequest("no"), 0.001))
    counted = {key: value for key, value in samples(metrics).items() if key[0] == "toolkit_requests_total"}
    assert counted == {
        ("toolkit_requests_total", "", "unknown_model", "http"): 50,
        ("toolkit_requests_total", "", "bad_request", "http"): 50,
        ("toolkit_requests_total", "cats", "bad_request", "http"): 1,
    }


def test_a_model_that_is_not_ready_has_its_name() -> None:
    metrics, models = made()
    models.states.append(ModelState("dogs", "1", "UNAVAILABLE", "damaged"))
    metrics.request(Answered("dogs", "", "http", 1, NotReady("no"), 0.001))
    assert samples(metrics)["toolkit_requests_total", "dogs", "not_ready", "http"] == 1


def test_phases_batches_and_queue() -> None:
    metrics, _ = made(CATS)
    metrics.phases("cats", "1", {"decode": 0.2, "compute": 0.03})
    for images in (1, 3, 8):
        metrics.batch("cats", "1", images, 0.5)
    metrics.queued("cats", "1", 7)
    metrics.queued("cats", "1", 2)
    found = samples(metrics)
    assert found["toolkit_phase_seconds_sum", "cats", "decode", "1"] == pytest.approx(0.2)
    assert found["toolkit_phase_seconds_count", "cats", "compute", "1"] == 1
    assert found["toolkit_batch_images_sum", "cats", "1"] == 12
    assert found["toolkit_batch_images_bucket", "4.0", "cats", "1"] == 2
    assert found["toolkit_engine_busy_seconds_total", "cats", "1"] == pytest.approx(1.5)
    assert found["toolkit_queued_images", "cats", "1"] == 2


def test_classes_and_the_share_of_low_confidence() -> None:
    metrics, _ = made(CATS, low_confidence=0.6)
    for label, probability in (("tabby", 0.9), ("tabby", 0.59), ("tiger", 0.6)):
        metrics.predicted("cats", "1", label, probability)
    found = samples(metrics)
    assert found["toolkit_predictions_total", "tabby", "cats", "1"] == 2
    assert found["toolkit_predictions_total", "tiger", "cats", "1"] == 1
    assert found["toolkit_low_confidence_total", "cats", "1"] == 1
    assert found[("toolkit_low_confidence_threshold",)] == 0.6


def test_of_a_model_that_was_always_sure_the_share_is_zero_and_not_nothing() -> None:
    metrics, _ = made(CATS)
    metrics.predicted("cats", "1", "tabby", 0.9)
    assert samples(metrics)["toolkit_low_confidence_total", "cats", "1"] == 0


def test_of_very_many_classes_the_first_ones_have_names() -> None:
    metrics, _ = made(CATS, most_classes=3)
    for number in range(10):
        metrics.predicted("cats", "1", f"class {number}", 0.9)
    metrics.predicted("cats", "1", "class 0", 0.9)
    counted = {key[1]: value for key, value in samples(metrics).items() if key[0] == "toolkit_predictions_total"}
    assert counted == {"class 0": 2, "class 1": 1, "class 2": 1, "": 7}


def test_a_class_may_be_called_anything() -> None:
    name = 'a"b\\c\nd {猫}'
    metrics, _ = made(CATS)
    metrics.predicted("cats", "1", name, 0.9)
    assert samples(metrics)["toolkit_predictions_total", name, "cats", "1"] == 1


def test_which_versions_are_ready() -> None:
    metrics, models = made(CATS, ModelState("cats", "2", "UNAVAILABLE", "damaged"))
    found = samples(metrics)
    assert found["toolkit_model_ready", "cats", "1"] == 1
    assert found["toolkit_model_ready", "cats", "2"] == 0
    models.states = [ModelState("cats", "2", "READY")]
    found = samples(metrics)
    assert found["toolkit_model_ready", "cats", "2"] == 1
    assert ("toolkit_model_ready", "cats", "1") not in found


def test_a_version_that_is_gone_is_shown_once_more_and_then_forgotten() -> None:
    metrics, models = made(CATS, ModelState("cats", "2", "READY"))
    for version in ("1", "2"):
        metrics.batch("cats", version, 4, 0.5)
        metrics.predicted("cats", version, "tabby", 0.9)
    models.states = [ModelState("cats", "2", "READY")]
    assert samples(metrics)["toolkit_batch_images_sum", "cats", "1"] == 4
    found = samples(metrics)
    assert [key for key in found if key[0].startswith("toolkit_") and key[-1] == "1"] == []
    assert found["toolkit_batch_images_sum", "cats", "2"] == 4
    # It comes back, with a count that starts anew, as after a restart.
    models.states = [CATS]
    metrics.batch("cats", "1", 1, 0.5)
    assert samples(metrics)["toolkit_batch_images_sum", "cats", "1"] == 1


def test_memory_and_processor_time_of_the_process_stand_there() -> None:
    found = samples(made()[0])
    assert found[("process_cpu_seconds_total",)] > 0
    assert found[("process_resident_memory_bytes",)] > 1e6


def test_openmetrics_where_it_is_asked_for() -> None:
    client = TestClient(Router(made(CATS)[0].routes()))
    answer = client.get("/metrics", headers={"accept": "application/openmetrics-text;version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")


def test_two_servers_in_a_process_count_apart() -> None:
    first, second = made(CATS)[0], made(CATS)[0]
    first.batch("cats", "1", 4, 0.5)
    assert ("toolkit_batch_images_sum", "cats", "1") not in samples(second)


def test_the_documentation_names_every_metric_with_its_labels() -> None:
    table = {cells[0].strip("`"): cells[1] for cells in rows(text_of("docs/operations.md")) if cells[0] != "metric"}
    expected = {}
    for metric in made()[0].registry.collect():
        if metric.name.startswith("toolkit_"):
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            expected[name] = metric
    del expected["toolkit_low_confidence_threshold"]  # in a sentence
    assert {name for name in table if name.startswith("toolkit_")} == set(expected)
    metrics, _ = made(CATS)
    metrics.request(Answered("cats", "1", "http", 1, None, 0.02))
    metrics.phases("cats", "1", {"queue": 0.2})
    metrics.batch("cats", "1", 1, 0.5)
    metrics.queued("cats", "1", 7)
    metrics.predicted("cats", "1", "tabby", 0.9)
    samples(metrics)
    for metric in metrics.registry.collect():
        for sample in metric.samples:
            if metric.name.startswith("toolkit_") and metric.name != "toolkit_low_confidence_threshold":
                name = f"{metric.name}_total" if metric.type == "counter" else metric.name
                assert set(re.findall(r"`(\w+)`", table[name])) == set(sample.labels) - {"le"}, name
