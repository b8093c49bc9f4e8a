"""The protocol over gRPC, on a socket, asked with the generated stub and with bytes that no stub would send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tests.conftest import LABELS, colour_outputs
from tests.fuzzing import FUZZ
from tests.v2_models import ColourModel, FixedModels, Remembering
from tests.v2_server import serving
from toolkit.bundle import Manifest
from toolkit.errors import ToolkitError
from toolkit.serving.guard import Gate
from toolkit.serving.interface import Limits, ModelState
from toolkit.serving.refusals import FAULT, Overloaded, Unauthorized
from toolkit.serving.v2 import grpc_server

Input = pb.ModelInferRequest.InferInputTensor
Output = pb.ModelInferRequest.InferRequestedOutputTensor
LIMITS = Limits(body_bytes=100_000, images=300, drain_seconds=5)


@dataclass(repr=False)
class Side:
    """A server and its client, and what tests change about them."""

    model: ColourModel
    observer: Remembering
    gate: Gate = field(default_factory=lambda: Gate(LIMITS))
    key: str = ""
    asked_with: list[Mapping[str, Any]] = field(default_factory=list)
    channel: Any = None

    @property
    def stub(self) -> Any:
        return service_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    def authorize(self, metadata: Mapping[str, Any]) -> Unauthorized | None:
        self.asked_with.append(metadata)
        return None if metadata.get("x-api-key", "") == self.key else Unauthorized("the key is not known.")


@pytest.fixture(scope="module")
def running(manifest: Manifest) -> Iterator[Side]:
    side = Side(ColourModel(manifest), Remembering())
    models = FixedModels(
        ColourModel(manifest, version="0"),
        side.model,
        not_ready=[ModelState("broken", "1", "UNAVAILABLE", "its golden samples differ")],
    )
    terms = {"authorize": side.authorize, "gate": side.gate}
    with (
        serving(models, side.observer, LIMITS, **terms) as addresses,
        grpc.insecure_channel(addresses.grpc, [("grpc.max_send_message_length", -1)]) as channel,
    ):
        side.channel = channel
        yield side


@pytest.fixture
def side(running: Side) -> Iterator[Side]:
    running.observer.answered.clear()
    yield running
    running.model.before, running.gate.open, running.key = None, True, ""
    assert running.gate.inside == 0


def pixel_request(pixels: np.ndarray, **fields: Any) -> Any:
    tensor = Input(name="images", datatype="UINT8", shape=pixels.shape)
    return pb.ModelInferRequest(
        **{"model_name": "colours", "inputs": [tensor], "raw_input_contents": [pixels.tobytes()], **fields}
    )


def refused(call: Any, request: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=20)
    return caught.value


def test_the_server_lives_and_is_ready_when_every_model_is(side: Side) -> None:
    assert side.stub.ServerLive(pb.ServerLiveRequest()).live
    assert not side.stub.ServerReady(pb.ServerReadyRequest()).ready


def test_readiness_of_models(side: Side) -> None:
    ready = {name: side.stub.ModelReady(pb.ModelReadyRequest(name=name)).ready for name in ("colours", "broken")}
    assert ready == {"colours": True, "broken": False}
    assert refused(side.stub.ModelReady, pb.ModelReadyRequest(name="none")).code() == grpc.StatusCode.NOT_FOUND


def test_metadata(side: Side) -> None:
    assert side.stub.ServerMetadata(pb.ServerMetadataRequest()).name == "toolkit"
    known = side.stub.ModelMetadata(pb.ModelMetadataRequest(name="colours"))
    assert list(known.versions) == ["0", "1"]
    assert [(each.name, each.datatype, list(each.shape)) for each in (*known.inputs, *known.outputs)] == [
        ("images", "UINT8", [-1, 8, 8, 3]),
        ("logits", "FP32", [-1, 3]),
        ("probabilities", "FP32", [-1, 3]),
        ("label", "BYTES", [-1]),
    ]


def test_the_configuration_has_the_labels(side: Side) -> None:
    config = side.stub.ModelConfig(pb.ModelConfigRequest(name="colours", version="0")).config
    assert config.max_batch_size == 300
    assert json.loads(config.parameters["labels"].string_value) == list(LABELS)


def test_index_and_statistics(side: Side, pixels: np.ndarray) -> None:
    side.stub.ModelInfer(pixel_request(pixels))
    index = side.stub.RepositoryIndex(pb.RepositoryIndexRequest()).models
    assert [(each.name, each.version, each.state) for each in index][-1] == ("broken", "1", "UNAVAILABLE")
    assert len(side.stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True)).models) == 2
    stats = side.stub.ModelStatistics(pb.ModelStatisticsRequest(name="colours", version="1")).model_stats
    assert [(each.version, each.inference_count, each.batch_stats[0].compute_infer.ns) for each in stats] == [
        ("1", 3, 4)
    ]


def test_raw_pixels_are_answered_raw(side: Side, pixels: np.ndarray) -> None:
    answer = side.stub.ModelInfer(pixel_request(pixels, id="7"))
    assert (answer.model_version, answer.id) == ("1", "7")
    assert answer.raw_output_contents[0] == colour_outputs(pixels)["logits"].tobytes()
    (told,) = side.observer.answered
    assert (told.model, told.version, told.protocol, told.images) == ("colours", "1", "grpc", 3)


def test_typed_pixels_are_answered_typed(side: Side, pixels: np.ndarray) -> None:
    contents = pb.InferTensorContents(uint_contents=pixels.ravel().tolist())
    tensor = Input(name="images", datatype="UINT8", shape=pixels.shape, contents=contents)
    answer = side.stub.ModelInfer(pb.ModelInferRequest(model_name="colours", inputs=[tensor]))
    logits = np.array(answer.outputs[0].contents.fp32_contents, np.float32)
    assert np.array_equal(logits, colour_outputs(pixels)["logits"].ravel())


@pytest.mark.parametrize("raw", [True, False])
def test_image_files_are_answered_as_their_pixels(side: Side, files: list[bytes], raw: bool) -> None:
    tensor = Input(name="images", datatype="BYTES", shape=[3])
    request = pb.ModelInferRequest(model_name="colours", inputs=[tensor], outputs=[Output(name="label")])
    if raw:
        request.raw_input_contents.append(b"".join(len(file).to_bytes(4, "little") + file for file in files))
        assert side.stub.ModelInfer(request).raw_output_contents[0] == b"\4\0\0\0blue\5\0\0\0green\3\0\0\0red"
    else:
        request.inputs[0].contents.bytes_contents.extend(files)
        assert list(side.stub.ModelInfer(request).outputs[0].contents.bytes_contents) == [b"blue", b"green", b"red"]


@pytest.mark.parametrize(
    ("fields", "code", "details"),
    [
        ({"model_name": "none"}, "NOT_FOUND", "there is no model 'none'"),
        ({"model_name": "broken"}, "UNAVAILABLE", "broken is not ready: its golden samples differ"),
        ({"model_version": "9"}, "NOT_FOUND", "there is no model 'colours' with the version '9'"),
        ({"inputs": []}, "INVALID_ARGUMENT", "has 1 raw_input_contents for 0 inputs"),
        ({"raw_input_contents": [b"a"]}, "INVALID_ARGUMENT", "has 1 bytes of data"),
        ({"outputs": [Output(name="é" * 5000)]}, "INVALID_ARGUMENT", "there is no output 'éé"),
        (
            {"inputs": [Input(name="images", datatype="UINT8", shape=[301, 8, 8, 3])]},
            "RESOURCE_EXHAUSTED",
            "has 301 images",
        ),
    ],
)
def test_refusals_have_their_code(
    side: Side, pixels: np.ndarray, fields: dict[str, Any], code: str, details: str
) -> None:
    error = refused(side.stub.ModelInfer, pixel_request(pixels, **fields))
    assert (error.code().name, details in error.details()) == (code, True)


def test_a_full_queue_says_when_to_come_back(side: Side, pixels: np.ndarray) -> None:
    async def full() -> None:
        raise Overloaded("the queue is full", retry_after=1.2)

    side.model.before = full
    error = refused(side.stub.ModelInfer, pixel_request(pixels))
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    metadata = dict(error.trailing_metadata())
    assert (metadata["retry-after"], metadata["grpc-retry-pushback-ms"]) == ("2", "1200")


def test_a_bug_is_logged_and_not_told(side: Side, pixels: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    async def bug() -> None:
        raise KeyError("/secret/path")

    side.model.before = bug
    with caplog.at_level(logging.ERROR):
        error = refused(side.stub.ModelInfer, pixel_request(pixels))
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, FAULT)
    assert "/secret/path" in caplog.text


def test_a_message_of_more_bytes_than_the_server_takes_is_refused(side: Side) -> None:
    error = refused(side.stub.ModelInfer, pixel_request(np.zeros((1, 1000, 1000, 3), np.uint8)))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_as_many_bytes_as_the_server_takes_are_taken(side: Side) -> None:
    most = np.zeros((LIMITS.body_bytes // 192, 8, 8, 3), np.uint8)
    error = refused(side.stub.ModelInfer, pixel_request(most))
    assert "has 520 images; the server takes 300" in error.details()


def test_who_has_no_key_may_ask_whether_the_server_lives_and_nothing_else(side: Side, pixels: np.ndarray) -> None:
    side.key = "secret"
    assert side.stub.ServerLive(pb.ServerLiveRequest()).live
    side.stub.ServerReady(pb.ServerReadyRequest())
    for call, request in (
        (side.stub.ModelInfer, pixel_request(pixels)),
        (side.stub.ModelMetadata, pb.ModelMetadataRequest(name="colours")),
        (side.stub.RepositoryIndex, pb.RepositoryIndexRequest()),
    ):
        error = refused(call, request)
        assert (error.code(), error.details()) == (grpc.StatusCode.UNAUTHENTICATED, "the key is not known.")
    answer = side.stub.ModelInfer(pixel_request(pixels), metadata=[("x-api-key", "secret")])
    assert answer.model_name == "colours"


def test_a_server_that_ends_takes_no_requests(side: Side, pixels: np.ndarray) -> None:
    side.gate.open = False
    error = refused(side.stub.ModelInfer, pixel_request(pixels))
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "this server is ending.")
    assert side.stub.ServerLive(pb.ServerLiveRequest()).live


def test_messages_that_wait_fill_no_more_than_the_memory_for_them(side: Side, pixels: np.ndarray) -> None:
    request = pixel_request(pixels)
    held = 16 * LIMITS.body_bytes - request.ByteSize()
    side.gate.hold(held)
    try:
        side.stub.ModelInfer(request)
        side.gate.hold(1)
        held += 1
        error = refused(side.stub.ModelInfer, request)
    finally:
        side.gate.hold(-held)
    assert (error.code(), "fill the memory" in error.details()) == (grpc.StatusCode.UNAVAILABLE, True)


def test_the_id_of_a_request_comes_back(side: Side, pixels: np.ndarray) -> None:
    asked = [("x-request-id", "mine-7")]
    _, call = side.stub.ModelInfer.with_call(pixel_request(pixels), metadata=asked)
    assert dict(call.trailing_metadata())["x-request-id"] == "mine-7"
    with pytest.raises(grpc.RpcError) as caught:
        side.stub.ModelInfer(pixel_request(pixels, model_name="none"), metadata=asked)
    assert dict(caught.value.trailing_metadata())["x-request-id"] == "mine-7"


def test_a_client_that_gives_up_leaves_nothing_behind(
    side: Side, pixels: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    async def slow() -> None:
        await asyncio.sleep(60)

    side.model.before = slow
    answer = side.stub.ModelInfer.future(pixel_request(pixels), timeout=0.1)
    assert isinstance(answer.exception(), grpc.RpcError)
    assert answer.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    until = time.monotonic() + 20
    while side.gate.inside and time.monotonic() < until:
        time.sleep(0.01)
    assert side.gate.inside == 0
    assert (side.observer.answered, caplog.records) == ([], [])


def test_the_common_health_check_is_answered(side: Side) -> None:
    health = side.channel.unary_unary("/grpc.health.v1.Health/Check")
    assert health(b"") == b"\x08\x02"


def test_what_the_server_does_not_do_is_unimplemented(side: Side) -> None:
    error = refused(side.stub.SystemSharedMemoryStatus, pb.SystemSharedMemoryStatusRequest())
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("verb", ["Load", "Unload"])
def test_no_client_loads_models(side: Side, verb: str) -> None:
    request = getattr(pb, f"RepositoryModel{verb}Request")(model_name="colours")
    assert refused(getattr(side.stub, f"RepositoryModel{verb}"), request).code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", ["ModelInfer", "ModelMetadata", "RepositoryIndex"])
def test_what_is_no_message_is_refused_and_not_logged(
    side: Side, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    call = side.channel.unary_unary(f"/{grpc_server.SERVICE}/{method}")
    error = refused(call, b"\xff\xff")
    assert (error.code().name, error.details()) == (
        "INVALID_ARGUMENT",
        f"the message is no {method}Request of the protocol.",
    )
    assert caplog.records == []


REFUSALS = {"INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED"}


NAMES = st.sampled_from(["images", "logits", "label", "", "é\n"])
CONTENTS = st.dictionaries(
    st.sampled_from(["uint_contents", "int_contents", "uint64_contents"]),
    st.sampled_from([[], [0] * 192, [2**31 - 1], [1]]),
    max_size=2,
)
SHAPES = st.sampled_from([[1, 8, 8, 3], [1, 8, 8, 3], [1], [], [0], [-1, 8, 8, 3], [2**62], [1, 3, 8, 8]])
INPUTS = st.fixed_dictionaries(
    {
        "name": st.just("images") | NAMES,
        "datatype": st.sampled_from(["UINT8", "UINT8", "BYTES", "FP32", ""]),
        "shape": SHAPES,
        "contents": CONTENTS,
    }
)
REQUESTS = st.fixed_dictionaries(
    {
        "model_name": st.sampled_from(["colours", "colours", "colours", "broken", "", "é"]),
        "inputs": st.lists(INPUTS, max_size=2),
        "outputs": st.lists(st.fixed_dictionaries({"name": NAMES}), max_size=2),
        "raw_input_contents": st.lists(st.sampled_from([b"", bytes(192), b"\1\0\0\0a"]), max_size=2),
        "parameters": st.just({}) | st.fixed_dictionaries({"timeout": st.integers(-1, 10**12)}),
    }
)


@FUZZ
@given(fields=REQUESTS, place=st.floats(0, 1, exclude_max=True), byte=st.none() | st.integers(0, 255))
def test_fuzz_requests_are_answered_or_refused(
    running: Side, fields: dict[str, Any], place: float, byte: int | None
) -> None:
    """Requests of which parts are wrong, and those with a wrong byte in them."""
    fields["parameters"] = {name: {"int64_param": value} for name, value in fields["parameters"].items()}
    content = bytearray(pb.ModelInferRequest(**fields).SerializeToString())
    if byte is not None and content:
        content[int(place * len(content))] = byte
    infer = running.channel.unary_unary(f"/{grpc_server.SERVICE}/ModelInfer")
    answer = infer.future(bytes(content), timeout=20)
    if answer.exception() is None:
        pb.ModelInferResponse.FromString(answer.result())
    else:
        assert answer.code().name in REFUSALS, answer.details()
        assert answer.details().isprintable()


def test_a_port_that_is_taken_is_said_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    async def start(port: int) -> None:
        server = grpc_server.serve(FixedModels(), LIMITS, Remembering(), f"127.0.0.1:{port}")
        await server.start()

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ToolkitError, match=r"gRPC cannot be served on 127\.0\.0\.1:[0-9]+: another program"):
            asyncio.run(start(taken.getsockname()[1]))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("host", ["[::1]", "localhost", "0.0.0.0"])
def test_addresses_of_every_kind_are_taken(host: str) -> None:
    if host == "[::1]":
        with socket.socket(socket.AF_INET6) as tried:
            try:
                tried.bind(("::1", 0))
            except OSError as error:
                pytest.skip(f"this machine has no IPv6: {error}")

    async def start() -> int:
        async with grpc_server.serve(FixedModels(), LIMITS, Remembering(), f"{host}:0") as server:
            return server.port

    assert asyncio.run(start()) > 0


def test_what_was_taken_is_answered_when_the_server_stops(manifest: Manifest, pixels: np.ndarray) -> None:
    model = ColourModel(manifest)
    began, go_on = threading.Event(), threading.Event()

    async def wait() -> None:
        began.set()
        await asyncio.to_thread(go_on.wait, 20)

    model.before = wait
    with contextlib.ExitStack() as stack:
        with serving(FixedModels(model), Remembering(), LIMITS) as addresses:
            channel = stack.enter_context(grpc.insecure_channel(addresses.grpc))
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            answer = stub.ModelInfer.future(pixel_request(pixels), timeout=20)
            assert began.wait(20)
            threading.Timer(0.2, go_on.set).start()
        # The server has stopped.
        assert answer.result(timeout=1).raw_output_contents[0] == colour_outputs(pixels)["logits"].tobytes()


def test_whoever_asks_while_the_server_stops_is_told_so(manifest: Manifest, pixels: np.ndarray) -> None:
    model = ColourModel(manifest)

    async def slow() -> None:
        await asyncio.sleep(0.1)

    model.before = slow
    began, ends = threading.Barrier(9), []

    def ask_until_refused(address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            stub.ModelInfer(pixel_request(pixels), timeout=20)
            began.wait(20)
            while (answer := stub.ModelInfer.future(pixel_request(pixels), timeout=20)).exception() is None:
                pass
            ends.append((answer.code().name, answer.details()))

    with ThreadPoolExecutor(8) as threads, serving(FixedModels(model), Remembering(), LIMITS) as addresses:
        for _ in range(8):
            threads.submit(ask_until_refused, addresses.grpc)
        began.wait(20)
        time.sleep(0.05)
    # The server has stopped.
    assert ends == [("UNAVAILABLE", "this server is ending.")] * 8
