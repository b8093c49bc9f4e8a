"""Fetching a file from a server that serves well, breaks, lies or hangs. All servers are on 127.0.0.1."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path

import platformdirs
import pytest

from toolkit import download
from toolkit.download import Digest, cache_folder, fetch, probe
from toolkit.errors import DownloadError, FileWriteError
from toolkit.progress import Bar, Silent

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()
Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """A server whose GET answers are a script; the last one repeats."""

    def __init__(self, *answers: Answer) -> None:
        self.methods: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.methods.append("GET")
                answers[min(outer.methods.count("GET"), len(answers)) - 1](self)

            def do_HEAD(self) -> None:
                outer.methods.append("HEAD")
                answers[0](self)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/model.bin"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def send(content: bytes, length: int | None) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        if length is not None:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)

    return answer


def status(code: int) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


good = send(CONTENT, len(CONTENT))
half = send(CONTENT[: len(CONTENT) // 2], len(CONTENT))


def dropped(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


class Heard:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bars: list[tuple[str, int, str]] = []
        self.steps: list[int] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    @contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Bar]:
        self.bars.append((description, total, unit))
        yield self

    def advance(self, steps: int = 1, **fields: str) -> None:
        self.steps.append(steps)


class Naps:
    """A clock's sleep that takes no time."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def get(url: str, target: Path, **changes: object) -> Path:
    arguments: dict[str, object] = {
        "digest": Digest("sha256", SHA256),
        "reporter": Silent(),
        "sleep": Naps(),
        **changes,
    }
    return fetch(url, target, **arguments)  # type: ignore[arg-type]  # the arguments of fetch, with defaults for these tests


def only(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestFetch:
    def test_whole_file_with_a_bar_in_bytes(self, tmp_path: Path) -> None:
        heard = Heard()
        with Server(good) as server:
            assert get(server.url, tmp_path / "deep" / "model.bin", reporter=heard) == tmp_path / "deep" / "model.bin"
        assert (tmp_path / "deep" / "model.bin").read_bytes() == CONTENT
        assert heard.bars == [("downloading model.bin", len(CONTENT), "B")]
        assert sum(heard.steps) == len(CONTENT)
        assert heard.lines == []

    def test_without_content_length_the_digest_decides(self, tmp_path: Path) -> None:
        with Server(send(CONTENT, None)) as server:
            get(server.url, tmp_path / "model.bin")
        assert (tmp_path / "model.bin").read_bytes() == CONTENT

    @pytest.mark.parametrize(
        "digest", [Digest("md5", hashlib.md5(CONTENT).hexdigest()), Digest("sha256", SHA256[:8].upper())]
    )
    def test_md5_and_the_first_digits_of_a_digest(self, tmp_path: Path, digest: Digest) -> None:
        with Server(good) as server:
            get(server.url, tmp_path / "model.bin", digest=digest)
        assert (tmp_path / "model.bin").read_bytes() == CONTENT

    def test_a_right_file_needs_no_network(self, tmp_path: Path) -> None:
        (tmp_path / "model.bin").write_bytes(CONTENT)
        with Server(status(500)) as server:
            get(server.url, tmp_path / "model.bin")
        assert server.methods == []

    def test_a_wrong_file_is_replaced_and_said(self, tmp_path: Path) -> None:
        (tmp_path / "model.bin").write_bytes(b"old")
        heard = Heard()
        with Server(good) as server:
            get(server.url, tmp_path / "model.bin", reporter=heard)
        assert (tmp_path / "model.bin").read_bytes() == CONTENT
        assert "downloading it again" in heard.lines[0]

    @pytest.mark.parametrize(
        "broken", [half, dropped, status(503), status(429), send(b"x" * len(CONTENT), len(CONTENT))]
    )
    def test_breaks_twice_then_works(self, tmp_path: Path, broken: Answer) -> None:
        naps, heard = Naps(), Heard()
        with Server(broken, broken, good) as server:
            get(server.url, tmp_path / "model.bin", sleep=naps, reporter=heard)
        assert (tmp_path / "model.bin").read_bytes() == CONTENT
        assert only(tmp_path) == ["model.bin"]
        assert naps.seconds == [1.0, 2.0]
        assert "attempt 2 of 3" in heard.lines[0]
        assert len(heard.lines) == 2

    @pytest.mark.parametrize(
        ("broken", "reason"),
        [
            (half, rf"broke after {len(CONTENT) // 2} of {len(CONTENT)} bytes"),
            (dropped, "closed connection|reset"),
            (status(503), "503 Service Unavailable"),
            (
                send(b"x" * 10, 10),
                f"sha256 digest of what arrived is {hashlib.sha256(b'x' * 10).hexdigest()}, expected {SHA256}",
            ),
            (send(CONTENT[:-1], None), "digest of what arrived"),
        ],
    )
    def test_always_breaks(self, tmp_path: Path, broken: Answer, reason: str) -> None:
        with Server(broken) as server, pytest.raises(DownloadError, match=reason) as caught:
            get(server.url, tmp_path / "model.bin")
        assert server.methods == ["GET"] * 3
        assert only(tmp_path) == []
        assert server.url in str(caught.value)
        assert "3 attempts" in str(caught.value)
        assert f"put it at {tmp_path / 'model.bin'}" in str(caught.value)

    def test_an_old_file_outlives_a_failed_download(self, tmp_path: Path) -> None:
        (tmp_path / "model.bin").write_bytes(b"old")
        with Server(half) as server, pytest.raises(DownloadError):
            get(server.url, tmp_path / "model.bin")
        assert (tmp_path / "model.bin").read_bytes() == b"old"

    def test_not_found_is_not_asked_for_again(self, tmp_path: Path) -> None:
        with Server(status(404)) as server, pytest.raises(DownloadError, match="404 Not Found"):
            get(server.url, tmp_path / "model.bin")
        assert server.methods == ["GET"]

    def test_advice_of_the_caller(self, tmp_path: Path) -> None:
        with Server(status(404)) as server, pytest.raises(DownloadError, match=r"Ask Ada\.$"):
            get(server.url, tmp_path / "model.bin", by_hand="Ask Ada.")

    def test_nobody_listens(self, tmp_path: Path) -> None:
        with pytest.raises(DownloadError, match="refused"):
            get(f"http://127.0.0.1:{free_port()}/model.bin", tmp_path / "model.bin")

    def test_an_address_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(DownloadError, match="unknown url type"):
            get("model.bin", tmp_path / "model.bin")

    def test_a_server_that_goes_silent_half_way(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(download, "_SOCKET_TIMEOUT_SECONDS", 0.2)
        release = threading.Event()

        def silent(handler: BaseHTTPRequestHandler) -> None:
            half(handler)
            handler.wfile.flush()
            release.wait(10)

        with Server(silent) as server:
            with pytest.raises(DownloadError, match=r"broke after \d+ bytes \(no answer in time\)"):
                get(server.url, tmp_path / "model.bin", attempts=1)
            release.set()
        assert only(tmp_path) == []

    def test_a_folder_that_cannot_be_written_is_not_a_broken_download(self, tmp_path: Path) -> None:
        (tmp_path / "model.bin" / "in the way").mkdir(parents=True)
        with Server(good) as server, pytest.raises(FileWriteError):
            get(server.url, tmp_path / "model.bin")
        assert server.methods == ["GET"]


def free_port() -> int:
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        return int(probe_socket.getsockname()[1])


class TestProbe:
    def test_a_host_that_answers(self) -> None:
        with Server(good) as server:
            assert probe(server.url) is None
        assert server.methods == ["HEAD"]

    def test_a_host_without_the_file(self) -> None:
        with Server(status(404)) as server:
            assert probe(server.url) == "the server answered 404 Not Found"

    def test_nobody_listens(self) -> None:
        assert "refused" in (probe(f"http://127.0.0.1:{free_port()}/") or "")

    def test_a_host_that_hangs(self) -> None:
        release, ended = threading.Event(), threading.Event()

        def hang(_: object) -> None:
            release.wait(60)
            ended.set()

        with Server(hang) as server:
            assert probe(server.url, timeout=0.2) in ("no answer within 0.2 s", "no answer in time")
            assert not ended.is_set()
            release.set()

    def test_a_name_look_up_that_hangs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        release, ended = threading.Event(), threading.Event()

        def hang(*_: object, **__: object) -> None:
            release.wait(60)
            ended.set()
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", hang)
        assert probe("http://host.invalid/", timeout=0.2) == "no answer within 0.2 s"
        assert not ended.is_set()
        release.set()


class TestDigest:
    @pytest.mark.parametrize("digits", ["", "abc", "g" * 32, "a" * 33])
    def test_what_is_no_digest(self, digits: str) -> None:
        with pytest.raises(ValueError, match="is no md5 digest"):
            Digest("md5", digits)

    def test_a_missing_file_has_none(self, tmp_path: Path) -> None:
        assert not Digest("sha256", SHA256).matches(tmp_path / "gone")


class TestCacheFolder:
    def test_chosen_by_the_environment(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path))
        assert cache_folder() == tmp_path

    @pytest.mark.parametrize(
        ("platform", "variable", "expected"),
        [
            ("unix.Unix", "XDG_CACHE_HOME", "base/toolkit"),
            ("unix.Unix", None, "home/.cache/toolkit"),
            ("macos.MacOS", None, "home/Library/Caches/toolkit"),
            ("windows.Windows", None, "home/AppData/Local/toolkit"),
        ],
    )
    def test_of_the_platform(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, variable: str | None, expected: str
    ) -> None:
        for name in ("TOOLKIT_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        if variable is not None:
            monkeypatch.setenv(variable, str(tmp_path / "base"))
        # Windows itself is asked where it is; elsewhere nobody can answer.
        monkeypatch.setattr("platformdirs.windows.get_win_folder", lambda name: str(tmp_path / "home/AppData/Local"))
        module, _, kind = platform.partition(".")
        monkeypatch.setattr(platformdirs, "PlatformDirs", getattr(import_module(f"platformdirs.{module}"), kind))
        assert cache_folder() == tmp_path / expected
