"""The protocol over HTTP: every path, every form of a tensor, every refusal; and requests that nobody thought of."""

from __future__ import annotations

import base64
import gzip
import json
import threading
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.asgi import Answer, ask
from tests.conftest import LABELS, colour_outputs
from tests.fuzzing import FUZZ
from tests.v2_models import ColourModel, FixedModels, Remembering
from toolkit.serving.guard import Gate, Guard
from toolkit.serving.interface import Limits
from toolkit.serving.refusals import FAULT, Overloaded
from toolkit.serving.routing import Router
from toolkit.serving.v2 import http
from toolkit.serving.v2.http import HEADER_LENGTH, ROOT, no_such, routes
from toolkit.serving.v2.json_messages import parse_request
from toolkit.serving.v2.messages import InferRequest

INFER = "/v2/models/colours/infer"
LIMITS = Limits(body_bytes=100_000, images=3)
BELOW = {ROOT: no_such}


@pytest.fixture
def app(models: FixedModels, observer: Remembering) -> Router:
    return Router(routes(models, LIMITS, observer, observer), BELOW)


def infer(app: Router, request: dict[str, Any], behind: bytes = b"", path: str = INFER, **headers: str) -> Answer:
    document = json.dumps(request).encode()
    length = {HEADER_LENGTH: str(len(document))} if behind else {}
    return ask(app, "POST", path, document + behind, {**length, **headers})


def binary_input(pixels: np.ndarray) -> dict[str, Any]:
    return {
        "name": "images",
        "shape": list(pixels.shape),
        "datatype": "UINT8",
        "parameters": {"binary_data_size": pixels.nbytes},
    }


def json_output(answer: Answer, name: str) -> np.ndarray:
    (output,) = (each for each in answer.json["outputs"] if each["name"] == name)
    return np.array(output["data"]).reshape(output["shape"])


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_the_server_says_its_name(app: Router, path: str) -> None:
    answer = ask(app, "GET", path)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json["name"] == "toolkit"
    assert "statistics" in answer.json["extensions"]


def test_it_lives(app: Router) -> None:
    assert (ask(app, "GET", "/v2/health/live").status, ask(app, "GET", "/v2/health/live").json) == (200, {"live": True})


def test_it_is_ready_when_every_model_is(app: Router, model: ColourModel, observer: Remembering) -> None:
    not_ready = ask(app, "GET", "/v2/health/ready")
    assert (not_ready.status, not_ready.json) == (503, {"ready": False})
    app = Router(routes(FixedModels(model), LIMITS, observer), BELOW)
    ready = ask(app, "GET", "/v2/health/ready")
    assert (ready.status, ready.json) == (200, {"ready": True})


def test_the_metadata_of_a_model_and_of_a_version(app: Router) -> None:
    for path in ("/v2/models/colours", "/v2/models/colours/versions/0"):
        known = ask(app, "GET", path).json
        assert (known["name"], known["versions"]) == ("colours", ["0", "1"])
        assert known["parameters"]["labels"] == list(LABELS)


def test_the_configuration_of_a_model(app: Router) -> None:
    assert ask(app, "GET", "/v2/models/colours/config").json["max_batch_size"] == 3


def test_a_model_that_is_ready(app: Router) -> None:
    assert ask(app, "GET", "/v2/models/colours/versions/1/ready").json == {"name": "colours", "ready": True}


def test_a_model_that_is_not_ready_is_refused_with_its_reason(app: Router) -> None:
    answer = ask(app, "GET", "/v2/models/broken/ready")
    assert (answer.status, answer.headers["retry-after"]) == (503, "3")
    assert answer.json == {"error": "broken is not ready: its golden samples differ"}


@pytest.mark.parametrize("path", ["", "/ready", "/config", "/stats", "/versions/1", "/versions/1/stats"])
def test_a_model_that_there_is_not_is_refused(app: Router, path: str) -> None:
    answer = ask(app, "GET", f"/v2/models/none{path}")
    assert answer.status == 404
    assert answer.json["error"].startswith("there is no model 'none'")


def test_the_index_lists_models(app: Router) -> None:
    names = [[each["name"] for each in ask(app, "POST", "/v2/repository/index", body).json] for body in (b"", b"{}")]
    assert names == [["colours", "colours", "broken"]] * 2
    assert len(ask(app, "POST", "/v2/repository/index", b'{"ready": true}').json) == 2


def test_an_index_of_something_else_is_refused(app: Router) -> None:
    answer = ask(app, "POST", "/v2/repository/index", b'{"ready": "yes"}')
    assert (answer.status, answer.json["error"][:17]) == (400, "'ready' is 'yes';")


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_no_client_loads_models(app: Router, verb: str) -> None:
    answer = ask(app, "POST", f"/v2/repository/models/colours/{verb}")
    assert (answer.status, "not loaded and unloaded" in answer.json["error"]) == (400, True)


def test_statistics_count_what_was_answered(app: Router, pixels: np.ndarray) -> None:
    infer(app, {"inputs": [binary_input(pixels)]}, pixels.tobytes())
    for path in ("/v2/models/stats", "/v2/models/colours/stats", "/v2/models/colours/versions/1/stats"):
        (stats,) = (each for each in ask(app, "GET", path).json["model_stats"] if each["version"] == "1")
        assert (stats["name"], stats["inference_count"]) == ("colours", 3)


def test_numbers_in_json_are_answered_in_json(app: Router, pixels: np.ndarray) -> None:
    tensor = {"name": "images", "shape": [3, 8, 8, 3], "datatype": "UINT8", "data": pixels.tolist()}
    answer = infer(app, {"id": "7", "inputs": [tensor]})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert HEADER_LENGTH not in answer.headers
    assert (answer.json["model_name"], answer.json["model_version"], answer.json["id"]) == ("colours", "1", "7")
    for name, expected in colour_outputs(pixels).items():
        assert np.array_equal(json_output(answer, name).astype(np.float32), expected)
    assert json_output(answer, "label").tolist() == ["blue", "green", "red"]


def test_much_json_is_parsed_where_it_stops_nobody_else(
    app: Router, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[bool] = []

    def parse(body: bytes, length: int | None) -> InferRequest:
        threads.append(threading.current_thread() is threading.main_thread())
        return parse_request(body, length)

    monkeypatch.setattr(http, "parse_request", parse)
    tensor = {"name": "images", "shape": [3, 8, 8, 3], "datatype": "UINT8", "data": pixels.tolist()}
    for blanks in (0, 300_000):
        document = json.dumps({"inputs": [tensor]}).encode() + b" " * blanks
        assert json_output(ask(app, "POST", INFER, document), "label").tolist() == ["blue", "green", "red"]
    assert threads == [True, False]


def test_binary_pixels_reach_the_engine_as_a_view_of_the_body(
    app: Router, model: ColourModel, pixels: np.ndarray
) -> None:
    outputs = [{"name": "logits", "parameters": {"binary_data": True}}]
    answer = infer(app, {"inputs": [binary_input(pixels)], "outputs": outputs}, pixels.tobytes())
    (seen,) = model.seen
    assert np.array_equal(seen, pixels)
    assert not seen.flags.owndata
    assert not seen.flags.writeable
    length = int(answer.headers[HEADER_LENGTH])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert json.loads(answer.body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 36}
    assert answer.body[length:] == colour_outputs(pixels)["logits"].tobytes()


def test_image_files_in_both_forms_are_answered_as_their_pixels(
    app: Router, pixels: np.ndarray, files: list[bytes]
) -> None:
    binary = b"".join(len(file).to_bytes(4, "little") + file for file in files)
    tensor = {"name": "images", "shape": [3], "datatype": "BYTES"}
    behind = infer(app, {"inputs": [{**tensor, "parameters": {"binary_data_size": len(binary)}}]}, binary)
    within = infer(app, {"inputs": [{**tensor, "data": [base64.b64encode(file).decode() for file in files]}]})
    for answer in (behind, within):
        assert np.array_equal(json_output(answer, "logits").astype(np.float32), colour_outputs(pixels)["logits"])


def test_a_version_is_asked_by_its_name(app: Router, pixels: np.ndarray) -> None:
    request = {"inputs": [binary_input(pixels)]}
    answer = infer(app, request, pixels.tobytes(), "/v2/models/colours/versions/0/infer")
    assert answer.json["model_version"] == "0"


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_body_may_be_compressed(app: Router, pixels: np.ndarray, encoding: str, compress: Any) -> None:
    document = json.dumps({"inputs": [binary_input(pixels)]}).encode()
    headers = {HEADER_LENGTH: str(len(document)), "content-encoding": encoding}
    answer = ask(app, "POST", INFER, compress(document + pixels.tobytes()), headers)
    assert json_output(answer, "label").tolist() == ["blue", "green", "red"]


@pytest.mark.parametrize(
    ("body", "encoding", "status", "message"),
    [
        (gzip.compress(bytes(100_001)), "gzip", 413, "more than 100000 bytes once it is decompressed"),
        (gzip.compress(bytes(10**8)), "gzip", 413, "more than 100000 bytes once it is decompressed"),
        (b"{}", "gzip", 400, "the body is not what its Content-Encoding says, gzip"),
        (gzip.compress(b"{}")[:-1], "gzip", 400, "not one whole stream of gzip"),
        (gzip.compress(b"{}") * 2, "gzip", 400, "not one whole stream of gzip"),
        (b"{}", "br", 400, "the Content-Encoding 'br' is not known; gzip and deflate are"),
    ],
)
def test_what_is_not_compressed_well_is_refused(
    app: Router, body: bytes, encoding: str, status: int, message: str
) -> None:
    answer = ask(app, "POST", INFER, body, {"content-encoding": encoding})
    assert (answer.status, message in answer.json["error"]) == (status, True)


@pytest.mark.parametrize("length", ["", "-1", "1.5", "²", "9" * 5000, "two"])
def test_a_length_that_is_none_is_refused(app: Router, length: str) -> None:
    answer = ask(app, "POST", INFER, b"{}", {HEADER_LENGTH: length})
    assert (answer.status, answer.json["error"][:34]) == (400, "Inference-Header-Content-Length is")


def test_half_a_body_is_a_bad_request_and_no_bug(app: Router, observer: Remembering) -> None:
    class HungUp:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            pieces = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

            async def receive_half() -> Any:
                return next(pieces)

            await app(scope, receive_half, send)

    assert ask(HungUp(), "POST", INFER).status == 400
    (told,) = observer.answered
    assert str(told.refusal) == "the connection was closed before the whole request was here."


def test_an_unreadable_image_is_refused(app: Router, files: list[bytes]) -> None:
    data = [base64.b64encode(content).decode() for content in (files[0], b"none")]
    answer = infer(app, {"inputs": [{"name": "images", "shape": [2], "datatype": "BYTES", "data": data}]})
    assert (answer.status, answer.json["error"][:13]) == (422, "image 2 of 2:")


def test_a_full_queue_says_when_to_come_back(app: Router, model: ColourModel, pixels: np.ndarray) -> None:
    async def full() -> None:
        raise Overloaded("the queue is full", retry_after=1.2)

    model.before = full
    answer = infer(app, {"inputs": [binary_input(pixels)]}, pixels.tobytes())
    assert (answer.status, answer.headers["retry-after"], answer.json) == (503, "2", {"error": "the queue is full"})


@pytest.mark.parametrize("path", ["/v2/health", "/v2/nothing", "/v2/models", "/v2/models/a/b/c/d", "/v2/logging"])
def test_what_is_no_request_of_the_protocol_is_answered_with_its_error(app: Router, path: str) -> None:
    answer = ask(app, "GET", path)
    assert (answer.status, answer.json) == (404, {"error": f"GET '{path}' is no request of the protocol."})


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", INFER, {"POST"}), ("POST", "/v2/health/live", {"GET", "HEAD"}), ("DELETE", "/v2", {"GET", "HEAD"})],
)
def test_another_method_is_answered_with_those_that_are_taken(
    app: Router, method: str, path: str, allowed: set[str]
) -> None:
    answer = ask(app, method, path)
    assert answer.status == 405
    assert set(answer.headers["allow"].split(", ")) == allowed
    assert answer.json["error"].startswith(f"{method} '{path}' is not taken here: ")


def test_a_bug_is_raised_for_the_log_and_not_told(manifest: Any, observer: Remembering) -> None:
    class Broken(FixedModels):
        def index(self) -> Any:
            raise KeyError("/secret/path")

    router = Router(routes(Broken(ColourModel(manifest)), LIMITS, observer), BELOW)
    app = Guard(router, LIMITS, Gate(LIMITS), None, frozenset())
    answers: list[Answer] = []

    async def remember(scope: Any, receive: Any, send: Any) -> None:
        sent: list[Any] = []

        async def keep(message: Any) -> None:
            sent.append(message)

        try:
            await app(scope, receive, keep)
        finally:
            answers.append(Answer(sent[0]["status"], {}, sent[1]["body"]))

    with pytest.raises(KeyError):
        ask(remember, "POST", "/v2/repository/index")
    assert (answers[0].status, answers[0].json) == (500, {"error": FAULT})


TEXTS = st.sampled_from(["images", "UINT8", "BYTES", "logits", "label", "", "\ud800", "x" * 300, "\x1b[2J"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | TEXTS
    | st.sampled_from([0, 1, 3, 8, 192, 255]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def mostly(right: Any) -> st.SearchStrategy[Any]:
    """The right value more often than another one, so that what stands behind it is tried too."""
    return st.just(right) | st.just(right) | st.just(right) | VALUES


PARAMETERS = st.dictionaries(
    st.sampled_from(["binary_data_size", "binary_data_output", "binary_data", "classification", "timeout", "other"]),
    VALUES | st.sampled_from([0, 192, True, False, 2]),
    max_size=2,
)
INPUTS = st.fixed_dictionaries(
    {},
    optional={
        "name": mostly("images"),
        "datatype": mostly("UINT8") | st.just("BYTES"),
        "shape": mostly([1, 8, 8, 3]) | st.just([1]),
        "data": mostly([0] * 192) | st.just(["AAAA"]),
        "parameters": st.just({"binary_data_size": 192}) | PARAMETERS,
    },
)
REQUESTS = st.fixed_dictionaries(
    {"inputs": st.lists(INPUTS, max_size=2) | VALUES},
    optional={
        "id": mostly("7"),
        "parameters": PARAMETERS | VALUES,
        "outputs": st.lists(
            st.fixed_dictionaries({"name": mostly("logits")}, optional={"parameters": PARAMETERS | VALUES}), max_size=2
        )
        | VALUES,
    },
)
PROPER = {"error"}


def require_proper(answer: Answer) -> None:
    """A refusal in the form of the protocol, in text that every client can read; or an answer."""
    assert answer.status in (200, 400, 404, 413, 422), answer.body
    if answer.status != 200:
        assert set(answer.json) == PROPER
        text = answer.json["error"]
        text.encode()
        assert text.isprintable()
        assert 10 < len(text) < 600
        assert "Traceback" not in text


@FUZZ
@given(request=REQUESTS, behind=st.sampled_from([b"", b"a", bytes(192), b"\x02\0\0\0ab"]), cut=st.integers(-3, 3))
def test_fuzz_requests_are_answered_or_refused(manifest: Any, request: dict[str, Any], behind: bytes, cut: int) -> None:
    observer = Remembering()
    app = Router(routes(FixedModels(ColourModel(manifest)), LIMITS, observer), BELOW)
    document = json.dumps(request).encode()
    headers = {HEADER_LENGTH: str(len(document) + min(cut, 0))} if behind or cut > 0 else {}
    require_proper(ask(app, "POST", INFER, document + behind, headers))
    assert len(observer.answered) == 1


@FUZZ
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "\x7f"]),
    path=st.text(st.sampled_from("abc/%é\x00. ?#"), max_size=12),
    body=st.binary(max_size=30),
    headers=st.dictionaries(
        st.sampled_from([HEADER_LENGTH, "content-encoding", "content-type"]),
        st.sampled_from(["", "0", "2", "gzip", "deflate", "\xff", "application/json"]),
    ),
)
def test_fuzz_any_path_is_answered_or_refused(
    manifest: Any, method: str, path: str, body: bytes, headers: dict[str, str]
) -> None:
    app = Router(routes(FixedModels(ColourModel(manifest)), LIMITS, Remembering()), BELOW)
    answer = ask(app, method, f"/v2/{path}", body, headers)
    assert answer.status in (200, 400, 404, 405)
    if answer.status >= 400 and method != "HEAD":
        assert set(answer.json) == PROPER
