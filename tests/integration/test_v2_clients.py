"""The protocol as its own client speaks it: tritonclient over HTTP and gRPC, blocking and asynchronous.

Every way from an image to its scores ends at what the golden samples say, or at what ``Predictor`` says of a file.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as over_grpc_async
import tritonclient.http as over_http
import tritonclient.http.aio as over_http_async
from PIL import Image
from tritonclient.utils import InferenceServerException

from tests.pages import fenced
from tests.v2_models import FixedModels, PredictorModel, Remembering
from tests.v2_server import Addresses, serving
from toolkit.bundle import Bundle
from toolkit.deploy.triton import Wanted, deploy_triton
from toolkit.deploy.triton_check import check_folder
from toolkit.runtime import Predictor, load

NAME = "two colours"
"""With a blank, which has to be escaped in a URL."""


@pytest.fixture(autouse=True)
def clients_end_in_the_thread_that_made_them() -> Iterator[None]:
    """Keep the server's thread from collecting a client over HTTP: gevent's objects belong to their thread."""
    gc.disable()
    yield
    gc.collect()
    gc.enable()


@dataclass(frozen=True)
class Golden:
    """What a bundle says of its golden samples."""

    images: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray


@pytest.fixture(scope="module")
def golden(colour_bundle_once: Path) -> Golden:
    bundle = Bundle.open(colour_bundle_once)
    cases = bundle.golden().cases
    return Golden(
        bundle.golden_images(),
        np.array([case.logits for case in cases], np.float32),
        np.array([case.probabilities for case in cases], np.float32),
    )


@pytest.fixture(scope="module")
def predictor(colour_bundle_once: Path) -> Iterator[Predictor]:
    with load(colour_bundle_once, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def addresses(predictor: Predictor) -> Iterator[Addresses]:
    models = FixedModels(PredictorModel(predictor, NAME), PredictorModel(predictor, "colours"))
    with serving(models, Remembering()) as found:
        yield found


@pytest.fixture(scope="module")
def photographs() -> list[bytes]:
    """JPEG files of several sizes, none of them the model's."""
    random = np.random.default_rng(0)
    contents = []
    for height, width in ((40, 60), (9, 7), (300, 200)):
        noise = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        with io.BytesIO() as file:
            Image.fromarray(noise).resize((width, height)).save(file, "JPEG")
            contents.append(file.getvalue())
    return contents


Ask = Callable[[Addresses, np.ndarray, str], dict[str, np.ndarray]]
OUTPUTS = ("logits", "probabilities", "label")


def _inputs(module: Any, images: np.ndarray, datatype: str, **form: Any) -> list[Any]:
    tensor = module.InferInput("images", list(images.shape), datatype)
    tensor.set_data_from_numpy(images, **form)
    return [tensor]


def _arrays(result: Any) -> dict[str, np.ndarray]:
    return {name: result.as_numpy(name) for name in OUTPUTS}


def http_binary(addresses: Addresses, images: np.ndarray, datatype: str) -> dict[str, np.ndarray]:
    with over_http.InferenceServerClient(addresses.http) as client:
        return _arrays(client.infer(NAME, _inputs(over_http, images, datatype)))


def http_json(addresses: Addresses, images: np.ndarray, datatype: str) -> dict[str, np.ndarray]:
    wanted = [over_http.InferRequestedOutput(name, binary_data=False) for name in OUTPUTS]
    with over_http.InferenceServerClient(addresses.http) as client:
        return _arrays(client.infer(NAME, _inputs(over_http, images, datatype, binary_data=False), outputs=wanted))


def http_compressed(addresses: Addresses, images: np.ndarray, datatype: str) -> dict[str, np.ndarray]:
    forms = {"request_compression_algorithm": "gzip", "response_compression_algorithm": "deflate"}
    with over_http.InferenceServerClient(addresses.http) as client:
        return _arrays(client.infer(NAME, _inputs(over_http, images, datatype), **forms))


def http_of_a_version(addresses: Addresses, images: np.ndarray, datatype: str) -> dict[str, np.ndarray]:
    with over_http.InferenceServerClient(addresses.http) as client:
        return _arrays(client.infer(NAME, _inputs(over_http, images, datatype), model_version="1"))


def http_greenlets(addresses: Addresses, images: np.ndarray, datatype: str) -> dict[str, np.ndarray]:
    """One request an image, all of them under way together."""
    with over_http.InferenceServerClient(addresses.http, concurrency=3) as client:
        under_way = [
            client.async_infer(NAME, _inputs(over_http, images[at : at + 1], datatype)) for at in range(len(images))
        ]
        answers = [_arrays(each.get_result()) for each in under_way]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in OUTPUTS}


def http_async(addresses: Addresses, images: np.ndarray, datatype: str) -> dict[str, np.ndarray]:
    async def run() -> dict[str, np.ndarray]:
        async with over_http_async.InferenceServerClient(addresses.http) as client:
            return _arrays(await client.infer(NAME, _inputs(over_http, images, datatype)))

    return asyncio.run(run())


def grpc_blocking(addresses: Addresses, images: np.ndarray, datatype: str) -> dict[str, np.ndarray]:
    with over_grpc.InferenceServerClient(addresses.grpc) as client:
        return _arrays(client.infer(NAME, _inputs(over_grpc, images, datatype)))


def grpc_compressed(addresses: Addresses, images: np.ndarray, datatype: str) -> dict[str, np.ndarray]:
    with over_grpc.InferenceServerClient(addresses.grpc) as client:
        inputs = _inputs(over_grpc, images, datatype)
        return _arrays(client.infer(NAME, inputs, compression_algorithm="gzip", client_timeout=20))


def grpc_async(addresses: Addresses, images: np.ndarray, datatype: str) -> dict[str, np.ndarray]:
    async def run() -> dict[str, np.ndarray]:
        async with over_grpc_async.InferenceServerClient(addresses.grpc) as client:
            return _arrays(await client.infer(NAME, _inputs(over_grpc, images, datatype)))

    return asyncio.run(run())


BINARY_WAYS = (
    http_binary,
    http_compressed,
    http_of_a_version,
    http_greenlets,
    http_async,
    grpc_blocking,
    grpc_compressed,
    grpc_async,
)


@pytest.mark.parametrize("ask", [http_json, *BINARY_WAYS])
def test_every_way_computes_the_golden_samples(
    ask: Ask, addresses: Addresses, golden: Golden, predictor: Predictor
) -> None:
    answer = ask(addresses, golden.images, "UINT8")
    np.testing.assert_allclose(answer["logits"], golden.logits, atol=1e-5)
    np.testing.assert_allclose(answer["probabilities"], golden.probabilities, atol=1e-6)
    assert answer["logits"].dtype == np.float32
    best = [predictor.labels[index].encode() for index in golden.logits.argmax(axis=1)]
    assert [label if isinstance(label, bytes) else label.encode() for label in answer["label"]] == best


@pytest.mark.parametrize("ask", BINARY_WAYS)
def test_every_way_takes_image_files(
    ask: Ask, addresses: Addresses, photographs: list[bytes], predictor: Predictor
) -> None:
    answer = ask(addresses, np.array(photographs, np.object_), "BYTES")
    expected = predictor.predict(photographs)
    np.testing.assert_allclose(answer["logits"], [prediction.logits for prediction in expected], atol=1e-5)
    assert list(answer["label"]) == [prediction.label.encode() for prediction in expected]


def test_json_takes_image_files_in_base64(addresses: Addresses, photographs: list[bytes], predictor: Predictor) -> None:
    texts = np.array([base64.b64encode(photograph) for photograph in photographs], np.object_)
    answer = http_json(addresses, texts, "BYTES")
    expected = predictor.predict(photographs)
    np.testing.assert_allclose(answer["logits"], [prediction.logits for prediction in expected], atol=1e-5)


def test_classes_over_both(addresses: Addresses, golden: Golden) -> None:
    found = []
    for module, address in ((over_http, addresses.http), (over_grpc, addresses.grpc)):
        with module.InferenceServerClient(address) as client:
            wanted = [module.InferRequestedOutput("probabilities", class_count=2)]
            result = client.infer(NAME, _inputs(module, golden.images, "UINT8"), outputs=wanted)
            found.append(result.as_numpy("probabilities"))
    assert found[0].shape == (len(golden.images), 2)
    assert found[0].tolist() == found[1].tolist()
    value, index, label = found[0][0, 0].decode().split(":", 2)
    assert float(value) == pytest.approx(golden.probabilities[0].max(), abs=1e-6)
    assert (int(index), label) == (golden.probabilities[0].argmax(), "blue")


def test_what_the_client_asks_of_the_server_over_http(addresses: Addresses, predictor: Predictor) -> None:
    with over_http.InferenceServerClient(addresses.http) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(NAME, "1")
        assert not client.is_model_ready("none")
        assert client.get_server_metadata()["name"] == "toolkit"
        known = client.get_model_metadata(NAME)
        assert (known["name"], known["versions"], known["inputs"][0]["shape"]) == (NAME, ["1"], [-1, 8, 8, 3])
        assert known["parameters"]["labels"] == list(predictor.labels)
        assert client.get_model_config(NAME)["input"][0]["data_type"] == "TYPE_UINT8"
        index = client.get_model_repository_index()
        assert index[0] == {"name": NAME, "version": "1", "state": "READY", "reason": ""}
        (stats,) = client.get_inference_statistics(NAME)["model_stats"]
        assert stats["name"] == NAME
        with pytest.raises(InferenceServerException, match="not loaded and unloaded over the network"):
            client.load_model(NAME)


def test_what_the_client_asks_of_the_server_over_grpc(addresses: Addresses, predictor: Predictor) -> None:
    with over_grpc.InferenceServerClient(addresses.grpc) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(NAME)
        assert client.get_server_metadata().name == "toolkit"
        assert list(client.get_model_metadata(NAME).inputs[0].shape) == [-1, 8, 8, 3]
        config = client.get_model_config(NAME).config
        assert json.loads(config.parameters["labels"].string_value) == list(predictor.labels)
        index = client.get_model_repository_index().models
        assert [(each.name, each.state) for each in index] == [(NAME, "READY"), ("colours", "READY")]
        assert client.get_inference_statistics(NAME).model_stats[0].name == NAME
        with pytest.raises(InferenceServerException, match=r"INVALID_ARGUMENT.* not loaded and unloaded"):
            client.unload_model(NAME)


def test_refusals_are_the_same_over_both(addresses: Addresses) -> None:
    wrong = np.zeros((1, 9, 9, 3), np.uint8)
    said = []
    for module, address in ((over_http, addresses.http), (over_grpc, addresses.grpc)):
        with (
            module.InferenceServerClient(address) as client,
            pytest.raises(InferenceServerException) as caught,
        ):
            client.infer(NAME, _inputs(module, wrong, "UINT8"))
        said.append((caught.value.status(), caught.value.message()))
    sentence = "the input 'images' has the shape [1, 9, 9, 3]; as UINT8 it is [n, 8, 8, 3], n of at least 1."
    assert said == [("400", sentence), ("StatusCode.INVALID_ARGUMENT", sentence)]


def test_the_check_that_is_deployed_for_triton_passes_here_too(
    addresses: Addresses, colour_bundle_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = deploy_triton(Bundle.open(colour_bundle_once), tmp_path, Wanted(name="colours"))
    assert check_folder(folder, addresses.grpc) == 0, capsys.readouterr()


def test_one_bad_image_is_named(addresses: Addresses, photographs: list[bytes]) -> None:
    images = np.array([photographs[0], b"no image"], np.object_)
    with (
        over_http.InferenceServerClient(addresses.http) as client,
        pytest.raises(InferenceServerException, match=r"^\[422\] image 2 of 2: "),
    ):
        client.infer(NAME, _inputs(over_http, images, "BYTES"))


@pytest.mark.parametrize(("module", "port"), [("http", "8000"), ("grpc", "8001")])
def test_the_program_of_the_documentation(  # noqa: PLR0913 - fixtures
    module: str,
    port: str,
    addresses: Addresses,
    photographs: list[bytes],
    predictor: Predictor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "photo.jpg").write_bytes(photographs[0])
    monkeypatch.chdir(tmp_path)
    program = fenced("docs/protocol.md", "ask.py").replace('"flowers"', repr(NAME))
    if module == "grpc":
        program = program.replace("tritonclient.http as", "tritonclient.grpc as").replace(":8000", ":8001")
    exec(program.replace(f"localhost:{port}", getattr(addresses, module)), {})
    (prediction,) = predictor.predict([photographs[0]])
    label, probability = capsys.readouterr().out.split()
    assert label == prediction.label
    assert float(probability) == pytest.approx(prediction.probability, abs=1e-5)


def test_curl_sends_a_photograph(
    addresses: Addresses, photographs: list[bytes], tmp_path: Path, predictor: Predictor
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(photographs[0])
    size = len(photographs[0]) + 4
    header = json.dumps(
        {
            "inputs": [{"name": "images", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": size}}],
            "outputs": [{"name": "label"}],
        }
    ).encode()
    body = tmp_path / "body"
    body.write_bytes(header + len(photographs[0]).to_bytes(4, "little") + photographs[0])
    done = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "20"),
            *("--header", f"Inference-Header-Content-Length: {len(header)}", "--data-binary", f"@{body}"),
            f"http://{addresses.http}/v2/models/two%20colours/infer",
        ],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outputs"][0]["data"] == [predictor.predict(photographs[0])[0].label]
