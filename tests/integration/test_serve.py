"""``toolkit serve`` as people start it and ask it: the real command, curl, a browser's TLS, signals.

How it holds under load stands in ``test_serve_load.py``.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from bundles import change_weights
from PIL import Image

pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the server is ended by signals"),
]

SECONDS = 60
"""More than anything takes on a busy machine."""
KEY = "0123456789abcdef0123456789abcdef"
SAID = re.compile(
    r"^serving (?P<names>.+) at (?P<scheme>https?)://127\.0\.0\.1:(?P<port>\d+), gRPC at 127\.0\.0\.1:(?P<grpc>\d+)$",
    re.MULTILINE,
)
NO_TORCH = "import sys; sys.modules['torch'] = None; from toolkit.cli.main import main; main(sys.argv[1:])"
"""The command in a process in which importing PyTorch is an error."""


@dataclass
class Server:
    """A server that runs."""

    process: subprocess.Popen[bytes]
    output: Path
    port: int
    grpc_port: int
    url: str

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)

    def get(self, path: str) -> tuple[int, bytes]:
        connection = self.connect()
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@contextmanager
def serving(folder: Path, *arguments: object) -> Iterator[Server]:
    """Start the command and wait until it says where it is."""
    folder.mkdir(exist_ok=True)
    output, errors = folder / "stdout.txt", folder / "stderr.txt"
    words = [sys.executable, "-c", NO_TORCH, "serve", *map(str, arguments), "--port", "0", "--grpc-port", "0"]
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            words, cwd=folder, stdout=out, stderr=err, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    try:
        until = time.monotonic() + SECONDS
        while (found := SAID.search(output.read_text())) is None:
            assert process.poll() is None, errors.read_text()
            assert time.monotonic() < until, errors.read_text()
            time.sleep(0.02)
        port = int(found["port"])
        yield Server(process, output, port, int(found["grpc"]), f"{found['scheme']}://127.0.0.1:{port}")
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    assert "Traceback" not in errors.read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, colour_bundle_once: Path) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), colour_bundle_once, "--max-images", "8") as made:
        yield made


@pytest.fixture
def photos(tmp_path: Path, colour_image: Callable[[str], np.ndarray]) -> Path:
    for label in ("red", "green", "blue"):
        Image.fromarray(colour_image(label)).save(tmp_path / f"{label}.png")
    Image.fromarray(colour_image("green")).resize((400, 300)).save(tmp_path / "large.jpg")
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "large.jpg").read_bytes()[:100])
    return tmp_path


def curl(*arguments: object) -> tuple[int, bytes]:
    """Return status and body of what curl gets."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", str(SECONDS), "-w", "\n%{http_code}", *map(str, arguments)],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


def over_grpc(server: Server, photo: Path, headers: dict[str, str] | None = None, **options: object) -> str:
    """Return the label of a photo, or the status of the refusal."""
    triton = pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")
    files = np.array([photo.read_bytes()], dtype=np.object_)
    images = triton.InferInput("images", [1], "BYTES")
    images.set_data_from_numpy(files)
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}", **options) as client:
        try:
            answer = client.infer("colours", [images], headers=headers, client_timeout=SECONDS)
        except triton.InferenceServerException as error:
            return str(error.status()).removeprefix("StatusCode.")
    return answer.as_numpy("label")[0].decode()


def test_a_client_of_triton_asks_over_grpc(server: Server, photos: Path) -> None:
    assert over_grpc(server, photos / "large.jpg") == "green"
    assert over_grpc(server, photos / "broken.jpg") == "INVALID_ARGUMENT"


def test_curl_sends_a_photo_and_gets_its_label(server: Server, photos: Path) -> None:
    status, body = curl(
        "--data-binary", f"@{photos / 'large.jpg'}", "-H", "Content-Type: image/jpeg", f"{server.url}/predict"
    )
    assert status == 200, body
    assert json.loads(body)["predictions"][0]["label"] == "green"


def test_curl_sends_several_and_one_bad_image_fails_alone(server: Server, photos: Path) -> None:
    files = [word for name in ("red.png", "broken.jpg", "blue.png") for word in ("-F", f"file=@{photos / name}")]
    status, body = curl(*files, f"{server.url}/predict?top=2")
    assert status == 200, body
    red, broken, blue = json.loads(body)["predictions"]
    assert (red["file"], red["label"], len(red["top"])) == ("red.png", "red", 2)
    assert (blue["file"], blue["label"]) == ("blue.png", "blue")
    assert (broken["file"], broken["status"]) == ("broken.jpg", 422)
    assert curl("-F", f"file=@{photos / 'broken.jpg'}", f"{server.url}/predict")[0] == 422


def test_what_it_says_is_what_the_predict_command_says(server: Server, photos: Path, colour_bundle_once: Path) -> None:
    import toolkit

    for name in ("red.png", "large.jpg"):
        _, body = curl("--data-binary", f"@{photos / name}", "-H", "Content-Type: image/png", f"{server.url}/predict")
        (said,) = json.loads(body)["predictions"]
        (expected,) = toolkit.load(colour_bundle_once).predict([photos / name])
        assert said["label"] == expected.label
        assert said["probability"] == pytest.approx(expected.probability, abs=1e-6)


def test_a_body_in_chunks_of_unknown_length_is_taken(server: Server, photos: Path) -> None:
    words = ["-H", "Transfer-Encoding: chunked", "-H", "Content-Type: image/png", "-H", "Expect: 100-continue"]
    status, body = curl("--data-binary", f"@{photos / 'red.png'}", *words, f"{server.url}/predict")
    assert status == 200, body


def test_the_description_is_exact(server: Server, photos: Path) -> None:
    """schemathesis asks for everything that the description allows, and for much that it does not."""
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st
    from schemathesis import GenerationMode

    images = st.sampled_from([(photos / name).read_bytes() for name in ("red.png", "large.jpg", "blue.png")])
    for media_type in ("image/*", "application/octet-stream"):
        schemathesis.openapi.media_type(media_type, images)
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    asked: list[int] = []
    limits = settings(
        derandomize=True, deadline=None, max_examples=40, suppress_health_check=list(HealthCheck), database=None
    )
    for operation in (schema["/predict"]["POST"], schema["/openapi.json"]["GET"]):
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            if mode is GenerationMode.NEGATIVE and operation.path == "/openapi.json":
                continue  # there is nothing to get wrong

            @limits
            @given(case=operation.as_strategy(mode))
            def ask(case: schemathesis.Case) -> None:
                response = case.call()
                excluded = []
                if case.media_type == "multipart/form-data":  # whose bytes are made up, and no image
                    excluded.append(schemathesis.checks.positive_data_acceptance)
                if response.status_code == 413:  # too many files: a refusal that this check does not know
                    excluded.append(schemathesis.checks.negative_data_rejection)
                case.validate_response(response, excluded_checks=excluded)
                asked.append(response.status_code)

            ask()
    assert {200, 400, 404} <= set(asked)
    assert 500 not in asked
    # Whether made-up files get as far as the decoder is left to chance; this one does.
    broken = schema["/predict"]["POST"].Case(media_type="application/octet-stream", body=b"no image")
    response = broken.call()
    broken.validate_response(response, excluded_checks=[schemathesis.checks.positive_data_acceptance])
    assert response.status_code == 422


def test_what_is_no_http_ends_in_a_sentence_or_a_closed_connection(server: Server) -> None:
    for said in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\0" * 100, b"PREDICT /predict HTTP/9.9\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65536)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 400"), answer
    assert server.get("/v2/health/ready")[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_what_was_taken_is_answered_before_it_ends(
    tmp_path: Path, colour_bundle_once: Path, photos: Path, number: signal.Signals
) -> None:
    content = (photos / "red.png").read_bytes()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(content)}\r\n\r\n"
    with serving(tmp_path / "server", colour_bundle_once) as server:
        idle = server.connect()
        idle.request("GET", "/v2/health/ready")
        assert idle.getresponse().read() == b'{"ready":true}'
        with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as taken:
            taken.sendall(head.encode() + content[:10])
            time.sleep(0.2)
            server.process.send_signal(number)
            until = time.monotonic() + SECONDS
            while (ready := server.get("/v2/health/ready"))[0] == 200:
                assert time.monotonic() < until
                time.sleep(0.01)
            assert ready == (503, b'{"ready":false}')
            idle.request("POST", "/predict", content, {"Content-Type": "image/png"})
            refused = idle.getresponse()
            assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
            assert refused.headers["Connection"] == "close"
            assert json.loads(refused.read()) == {"error": "this server is ending."}
            assert server.process.poll() is None
            taken.sendall(content[10:])
            answer = b""
            while piece := taken.recv(65536):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"label":"red"' in answer
        assert b"connection: close" in answer.lower()
        assert server.process.wait(SECONDS) == 0


def test_ready_turns_false_while_requests_are_still_taken(
    tmp_path: Path, colour_bundle_once: Path, photos: Path
) -> None:
    with serving(tmp_path / "server", colour_bundle_once, "--shutdown-delay", "2") as server:
        server.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + SECONDS
        while server.get("/v2/health/ready")[0] == 200:
            assert time.monotonic() < until
        url = f"{server.url}/predict"
        assert curl("--data-binary", f"@{photos / 'red.png'}", "-H", "Content-Type: image/png", url)[0] == 200
        assert server.process.wait(SECONDS) == 0


def test_what_does_not_come_in_time_is_exit_code_1_and_a_second_signal_waits_for_nothing(
    tmp_path: Path, colour_bundle_once: Path
) -> None:
    for drain, signals in (("0.2", 1), ("600", 2)):
        with (
            serving(tmp_path / "server", colour_bundle_once, "--drain", drain) as server,
            socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as taken,
        ):
            taken.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\n")
            time.sleep(0.2)
            for _ in range(signals):
                server.process.send_signal(signal.SIGTERM)
                time.sleep(0.2)
            begun = time.monotonic()
            assert b" 503 " in taken.recv(65536)
            assert server.process.wait(SECONDS) == 1
            assert time.monotonic() - begun < SECONDS / 2


def test_keys_are_asked_for_and_everything_else_is_as_before(
    tmp_path: Path, colour_bundle_once: Path, photos: Path
) -> None:
    (tmp_path / "keys").write_text(f"# of the shop\n{KEY}\n")
    with serving(tmp_path / "server", colour_bundle_once, "--api-key-file", tmp_path / "keys") as server:
        photo = ["--data-binary", f"@{photos / 'red.png'}", "-H", "Content-Type: image/png", f"{server.url}/predict"]
        assert curl(*photo)[0] == 401
        assert curl(*photo, "-H", f"Authorization: Bearer {KEY[:-1]}")[0] == 401
        assert curl(*photo, "-H", f"Authorization: Bearer {KEY}")[0] == 200
        assert curl(*photo, "-H", f"X-API-Key: {KEY}")[0] == 200
        assert server.get("/v2/health/ready")[0] == 200
        assert server.get("/openapi.json")[0] == 401
        assert over_grpc(server, photos / "red.png") == "UNAUTHENTICATED"
        assert over_grpc(server, photos / "red.png", headers={"authorization": f"Bearer {KEY}"}) == "red"
        assert server.end() == 0
    said = (tmp_path / "server" / "stderr.txt").read_text() + server.output.read_text()
    assert KEY[:8] not in said


def test_tls_is_spoken_with_the_certificate_that_is_given(
    tmp_path: Path, colour_bundle_once: Path, photos: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here to make a certificate")
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out cert.pem -days 2"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(["openssl", *words.split(), *name], cwd=tmp_path, check=True, capture_output=True)
    tls = ("--ssl-certfile", tmp_path / "cert.pem", "--ssl-keyfile", tmp_path / "key.pem")
    with serving(tmp_path / "server", colour_bundle_once, *tls) as server:
        assert server.url.startswith("https://")
        photo = ["--data-binary", f"@{photos / 'red.png'}", "-H", "Content-Type: image/png", f"{server.url}/predict"]
        assert curl("--cacert", tmp_path / "cert.pem", *photo)[0] == 200
        assert over_grpc(server, photos / "red.png", ssl=True, root_certificates=str(tmp_path / "cert.pem")) == "red"
        assert over_grpc(server, photos / "red.png") == "UNAVAILABLE"
        with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", server.port)) as plain:
            ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")
        assert server.end() == 0


def test_limits_are_those_that_were_given(tmp_path: Path, colour_bundle_once: Path, photos: Path) -> None:
    limits = ("--max-body", "5000", "--max-images", "2", "--max-pixels", "100")
    with serving(tmp_path / "server", colour_bundle_once, *limits) as server:
        url, kind = f"{server.url}/predict", ("-H", "Content-Type: image/png")
        (photos / "big").write_bytes(b"x" * 5001)
        assert curl("--data-binary", f"@{photos / 'red.png'}", *kind, url)[0] == 200
        status, body = curl("--data-binary", f"@{photos / 'big'}", *kind, url)
        assert (status, json.loads(body)["error"]) == (
            413,
            "the request has more than 5000 bytes, the most that is taken here.",
        )
        status, body = curl("--data-binary", f"@{photos / 'big'}", *kind, "-H", "Transfer-Encoding: chunked", url)
        assert status == 413, body
        content = io.BytesIO()
        Image.new("RGB", (11, 10)).save(content, "PNG")
        (photos / "pixels.png").write_bytes(content.getvalue())
        status, body = curl("--data-binary", f"@{photos / 'pixels.png'}", *kind, url)
        assert status == 413
        assert "11 x 10 pixels, more than 100 pixels" in json.loads(body)["error"]
        several = [word for _ in range(3) for word in ("-F", f"file=@{photos / 'red.png'}")]
        assert curl(*several, url)[0] == 413
        assert curl(*several[:4], url)[0] == 200


def test_several_models_and_versions_side_by_side(tmp_path: Path, colour_bundle_once: Path, photos: Path) -> None:
    for version in ("1", "2"):
        shutil.copytree(colour_bundle_once, tmp_path / "versions" / version)
    change_weights(shutil.copytree(colour_bundle_once, tmp_path / "versions" / "3"), lambda weights: weights * 3)
    with serving(tmp_path / "server", f"one={colour_bundle_once}", tmp_path / "versions") as server:
        url, photo = (
            f"{server.url}/predict",
            ("--data-binary", f"@{photos / 'red.png'}", "-H", "Content-Type: image/png"),
        )
        assert curl(*photo, url)[0] == 400
        assert json.loads(curl(*photo, f"{url}?model=one")[1])["version"] == "1"
        said = json.loads(curl(*photo, f"{url}?model=versions")[1])
        assert (said["model"], said["version"]) == ("versions", "2"), "the newest is bad"
        assert curl(*photo, f"{url}?model=versions&version=3")[0] == 503
        assert curl(*photo, f"{url}?model=versions&version=9")[0] == 404
        assert server.get("/v2/health/ready")[0] == 200
        assert server.end() == 0


def test_a_bundle_that_does_not_pass_is_no_server(tmp_path: Path, colour_bundle_once: Path) -> None:
    bad = shutil.copytree(colour_bundle_once, tmp_path / "bad")
    change_weights(bad, lambda weights: weights * 3)
    done = subprocess.run(
        [sys.executable, "-m", "toolkit", "serve", str(bad), "--port", "0", "--no-grpc"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "does not compute its golden samples on this machine" in done.stderr
    assert "Traceback" not in done.stderr
