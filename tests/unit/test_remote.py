"""Bundles that are pushed and pulled: to files, to fsspec's memory, and to file systems that fail half-way."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from toolkit import remote
from toolkit.bundle import Bundle
from toolkit.bundle.trust.archive import pack
from toolkit.bundle.trust.signature import make_keys
from toolkit.bundle.writer import sign_bundle
from toolkit.errors import (
    BundleError,
    FileWriteError,
    IntegrityError,
    MissingDependencyError,
    RemoteError,
    SignatureError,
    ToolkitError,
)
from toolkit.files import sha256_file
from toolkit.remote import pull, push, pushed_archives
from toolkit.run_folder import RunFolder

fsspec = pytest.importorskip("fsspec", reason="the extra 'remote' is not installed")


def clear(system: Any) -> None:
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    clear(system)
    yield system
    clear(system)


class Web(BaseHTTPRequestHandler):
    """A web server that knows no pieces of files, as most small ones do."""

    served: bytes = b""
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(self.served[: len(self.served) // 2] if "/cut" in self.path else self.served)

    def _answer(self, body: bytes) -> None:
        self.asked.append(f"{self.command} {self.headers.get('Authorization')}")
        if "/none" in self.path or "/broken" in self.path:
            self.send_error(404 if "/none" in self.path else 500)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.served)))
        self.end_headers()
        with suppress(ConnectionError):  # who asked has gone
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(
    colour_bundle: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Where a web server answers; any path ending in a name without a meaning of its own is the archive."""
    pytest.importorskip("aiohttp", reason="aiohttp, with which fsspec reads from web servers, is not installed")
    monkeypatch.setattr(Web, "served", pack(colour_bundle, tmp_path_factory.mktemp("web") / "packed.tar").read_bytes())
    monkeypatch.setattr(Web, "asked", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


class TestFromAWebServer:
    def test_one_that_sends_whole_files_only(self, web: str, tmp_path: Path) -> None:
        digest = hashlib.sha256(Web.served).hexdigest()
        made = pull(f"http://{web}/model.tar?token=abcdef", tmp_path / "made", sha256=digest)
        assert Bundle.open(made).manifest.artifacts
        assert [asked.partition(" ")[0] for asked in Web.asked].count("GET") == 1

    def test_no_time_limit_but_one_on_silence(self) -> None:
        pytest.importorskip("aiohttp", reason="aiohttp, with which fsspec reads from web servers, is not installed")
        timeout = remote._how_to_read("HTTPS://host/a.tar")["client_kwargs"]["timeout"]
        assert (timeout.total, timeout.sock_connect, timeout.sock_read) == (None, 30, 60)
        assert remote._how_to_read("s3://models/a.tar") == {}

    @pytest.mark.parametrize(
        ("path", "said"),
        [
            ("cut.tar", "cannot be read: "),
            ("none.tar", "cannot be read: there is no such file or folder."),
            ("broken.tar", "500, message='Internal Server Error'"),
        ],
    )
    def test_what_fails_leaves_nothing_and_names_no_password(
        self, web: str, tmp_path: Path, path: str, said: str
    ) -> None:
        with pytest.raises(RemoteError) as raised:
            pull(f"http://bob:hunter22@{web}/{path}?token=abcdef", tmp_path / "made")
        sentence = str(raised.value)
        assert sentence.startswith(f"http://{web}/{path} ")
        assert said in sentence
        assert not sentence.endswith("..")
        assert "hunter22" not in sentence
        assert "abcdef" not in sentence
        assert [left for left in tmp_path.iterdir() if "made" in left.name] == []


@pytest.fixture
def away() -> Iterator[type]:
    """A file system of fsspec that a test breaks: files in memory, at ``away://``."""
    from fsspec.implementations.memory import MemoryFileSystem

    class Away(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
        protocol = "away"
        store: dict[str, Any] = {}  # noqa: RUF012  # as in its base
        pseudo_dirs = [""]  # noqa: RUF012

        @classmethod
        def _strip_protocol(cls, path: Any) -> Any:
            return super()._strip_protocol(str(path).replace("away://", "memory://"))

    fsspec.register_implementation("away", Away, clobber=True)
    yield Away
    Away.clear_instance_cache()
    sys.modules["fsspec.registry"]._registry.pop("away")  # type: ignore[attr-defined]  # the name is taken in its package


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def archive(colour_bundle: Path, tmp_path: Path) -> bytes:
    return pack(colour_bundle, tmp_path / "packed.tar").read_bytes()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestThereAndBack:
    def test_in_memory(self, memory: Any, colour_bundle: Path, archive: bytes, here: Path) -> None:
        pushed = push(colour_bundle, "memory://models/v1/")
        assert pushed.url == "memory://models/v1/colours.tar"
        assert memory.find("/") == ["/models/v1/colours.tar"]
        assert memory.cat("/models/v1/colours.tar") == archive
        assert (pushed.sha256, pushed.size_bytes) == (hashlib.sha256(archive).hexdigest(), len(archive))
        assert pull("memory://models/v1/colours.tar", sha256=pushed.sha256) == Path("colours")
        assert Bundle.open(here / "colours").manifest == Bundle.open(colour_bundle).manifest
        assert names(here) == ["colours"]

    @pytest.mark.parametrize("scheme", ["", "file://"])
    def test_in_a_file(self, colour_bundle: Path, archive: bytes, here: Path, scheme: str) -> None:
        pushed = push(colour_bundle, f"{scheme}{here}/deep/down/model.tar")
        assert (here / "deep" / "down" / "model.tar").read_bytes() == archive
        assert pushed.url == str(here / "deep" / "down" / "model.tar")
        assert pull(f"{scheme}{here}/deep/down/model.tar", here / "there" / "it") == here / "there" / "it"
        assert Bundle.open(here / "there" / "it").manifest == Bundle.open(colour_bundle).manifest
        assert names(here / "there") == ["it"]
        assert names(here / "deep" / "down") == ["model.tar"]

    def test_a_folder_that_exists_gets_the_archive_and_gives_it(self, colour_bundle: Path, here: Path) -> None:
        (here / "models").mkdir()
        push(colour_bundle, "models")
        assert names(here / "models") == ["colours.tar"]
        assert pull("models") == Path("colours")
        shutil.copy("models/colours.tar", "models/other.tar")
        with pytest.raises(RemoteError, match=r"models is a folder that holds 2 archives \(colours\.tar, other\.tar\)"):
            pull("models", here / "again")
        with pytest.raises(RemoteError, match="colours is a folder that holds no archive: give the URL of an archive"):
            pull("colours", here / "again")

    def test_a_signature_is_asked_for(self, memory: Any, colour_bundle: Path, here: Path) -> None:
        pytest.importorskip("cryptography", reason="the extra 'sign' is not installed")
        make_keys(here / "private.pem", here / "public.pem")
        push(colour_bundle, "memory://plain.tar")
        with pytest.raises(SignatureError, match=r"^memory://plain\.tar is not signed"):
            pull("memory://plain.tar", verify_key=here / "public.pem")
        sign_bundle(colour_bundle, here / "private.pem")
        push(colour_bundle, "memory://signed.tar")
        assert Bundle.open(pull("memory://signed.tar", verify_key="public.pem"), here / "public.pem").signature


class TestPush:
    def test_what_is_there_stays_unless_it_is_to_be_replaced(self, memory: Any, colour_bundle: Path) -> None:
        memory.pipe("/a.tar", b"precious")
        with pytest.raises(FileWriteError, match=r"memory://a\.tar exists already: choose another name, or replace it"):
            push(colour_bundle, "memory://a.tar")
        assert memory.cat("/a.tar") == b"precious"
        push(colour_bundle, "memory://a.tar", overwrite=True)
        assert memory.find("/") == ["/a.tar"]
        assert memory.cat("/a.tar") != b"precious"

    def test_the_run_knows_where_its_bundle_went(self, memory: Any, colour_bundle: Path, here: Path) -> None:
        run = RunFolder(here / "run")
        shutil.copytree(colour_bundle, run.bundle)
        run.record_file.write_text("{}")
        first = push(run.path, "memory://me:secret@host/a.tar")
        second = push(run.bundle, "memory://b.tar")
        push(run.bundle, "memory://b.tar", overwrite=True)
        assert [pushed.url for pushed in pushed_archives(run)] == ["memory://host/a.tar", "memory://b.tar"]
        assert pushed_archives(run)[0] == first
        assert second.manifest_sha256 == sha256_file(run.bundle / "manifest.json")
        assert "secret" not in run.pushed_file.read_text()

    def test_a_bundle_alone_gets_no_record(self, memory: Any, colour_bundle: Path) -> None:
        before = names(colour_bundle.parent)
        push(colour_bundle, "memory://a.tar")
        assert names(colour_bundle.parent) == before

    @pytest.mark.parametrize("stop", [RuntimeError("the line is down"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
    @pytest.mark.parametrize(
        ("method", "direct"),
        [("put_file", False), ("mv", False), ("info", False), ("put_file", True), ("info", True)],
    )
    def test_what_is_interrupted_leaves_nothing(
        self,
        away: Any,
        colour_bundle: Path,
        monkeypatch: pytest.MonkeyPatch,
        stop: BaseException,
        method: str,
        direct: bool,
    ) -> None:
        if direct:
            monkeypatch.setattr(remote, "WHOLE_OR_NOTHING", {"away"})
        real = getattr(away, method)

        def half(self: Any, *arguments: Any, **options: Any) -> Any:
            if method == "put_file":
                self.pipe(arguments[1], Path(arguments[0]).read_bytes()[:100])
            if method == "info" and not self.store:  # whether there is anything is asked by it too
                return real(self, *arguments, **options)
            raise stop

        monkeypatch.setattr(away, method, half)
        with pytest.raises(RemoteError if isinstance(stop, Exception) else KeyboardInterrupt):
            push(colour_bundle, "away://models/a.tar")
        assert away.store == {}

    def test_what_arrives_short_is_noticed_and_removed(
        self, away: Any, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(away, "put_file", lambda self, local, there, **_: self.pipe(there, b"short"))
        with pytest.raises(RemoteError, match=r"^away://a\.tar has 5 bytes after \d+ were written: push again\.$"):
            push(colour_bundle, "away://a.tar")
        assert away.store == {}

    def test_an_interrupted_replacement_leaves_the_old_one(
        self, away: Any, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        push(colour_bundle, "away://a.tar")
        before = dict(away.store)

        def broken(self: Any, *_: Any, **__: Any) -> None:
            raise RuntimeError("the line is down")

        monkeypatch.setattr(away, "put_file", broken)
        with pytest.raises(RemoteError, match=r"away://a\.tar cannot be written to: RuntimeError: the line is down"):
            push(colour_bundle, "away://a.tar", overwrite=True)
        assert away.store == before

    @pytest.mark.parametrize("url", ["https://host/a.tar", "data://a.tar"])
    def test_what_can_only_be_read_is_refused(
        self, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch, url: str
    ) -> None:
        scheme = url.partition(":")[0]
        system = type("ReadOnly", (), {"protocol": (scheme,)})()
        monkeypatch.setattr("fsspec.core.url_to_fs", lambda url: (system, url))
        with pytest.raises(RemoteError, match="can be pulled from and not pushed to: give the URL of a store"):
            push(colour_bundle, url)

    def test_a_damaged_bundle_goes_nowhere(self, memory: Any, colour_bundle: Path) -> None:
        (colour_bundle / "golden" / "000.bin").write_bytes(bytes(192))
        with pytest.raises(IntegrityError):
            push(colour_bundle, "memory://a.tar")
        assert memory.find("/") == []


class TestPull:
    def test_another_file_is_refused_before_it_is_parsed(
        self, memory: Any, archive: bytes, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        memory.pipe("/a.tar", archive)
        monkeypatch.setattr(remote, "unpack", lambda *_: pytest.fail("parsed"))
        with pytest.raises(IntegrityError, match=r"^memory://a\.tar has the SHA-256 .*: it is another file"):
            pull("memory://a.tar", sha256="0" * 64)
        assert names(here) == []

    @pytest.mark.parametrize("digest", ["", "abc", "z" * 64])
    def test_what_is_no_digest_is_refused(self, digest: str) -> None:
        with pytest.raises(RemoteError, match="is no SHA-256: give the 64 hexadecimal digits"):
            pull("memory://a.tar", sha256=digest)

    def test_a_digest_in_capitals_is_one_too(self, memory: Any, archive: bytes, here: Path) -> None:
        memory.pipe("/a.tar", archive)
        assert pull("memory://a.tar", sha256=hashlib.sha256(archive).hexdigest().upper())

    def test_no_more_is_fetched_than_is_allowed(self, memory: Any, archive: bytes, here: Path) -> None:
        memory.pipe("/a.tar", archive)
        with pytest.raises(RemoteError, match=f"has more than {len(archive) - 1} bytes, which is the limit: raise it"):
            pull("memory://a.tar", max_bytes=len(archive) - 1)
        assert pull("memory://a.tar", max_bytes=len(archive))

    def test_a_server_that_says_nothing_of_the_size_and_never_stops(
        self, away: Any, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Endless:
            def __enter__(self) -> Endless:
                return self

            def __exit__(self, *_: object) -> None: ...

            def read(self, count: int) -> bytes:
                return bytes(count)

        monkeypatch.setattr(away, "info", lambda self, path, **_: {"size": None, "type": "file", "name": path})
        monkeypatch.setattr(away, "open", lambda self, path, mode: Endless())
        with pytest.raises(RemoteError, match="has more than 5000000 bytes"):
            pull("away://a.tar", max_bytes=5_000_000)
        assert names(here) == []

    def test_what_ends_too_soon_is_said(
        self, away: Any, archive: bytes, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        away().pipe("/a.tar", archive)
        size = len(archive) + 7
        monkeypatch.setattr(away, "info", lambda self, path, **_: {"size": size, "type": "file", "name": path})
        with pytest.raises(RemoteError, match=rf"a\.tar ended after {len(archive)} of {size} bytes: pull again"):
            pull("away://a.tar")
        assert names(here) == []

    @pytest.mark.parametrize("content", [b"<html>not found</html>", b"", bytes(2048)])
    def test_what_is_no_archive_names_the_url(self, memory: Any, here: Path, content: bytes) -> None:
        memory.pipe("/a.tar", content)
        with pytest.raises(BundleError, match=r"^memory://a\.tar "):
            pull("memory://a.tar")
        assert names(here) == []

    def test_a_changed_byte_is_noticed(self, memory: Any, archive: bytes, here: Path) -> None:
        memory.pipe("/a.tar", archive[:-5000] + b"x" + archive[-4999:])
        with pytest.raises(IntegrityError, match=r"memory://a\.tar"):
            pull("memory://a.tar", Path("deep/there"))
        assert names(here) == []

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
    def test_a_full_disk_is_not_a_fault_of_the_server(
        self, memory: Any, archive: bytes, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        memory.pipe("/a.tar", archive)
        monkeypatch.setattr(remote, "_new_file", lambda path: Path("/dev/full").open("wb", buffering=0))  # noqa: SIM115 - pull closes it
        with pytest.raises(FileWriteError, match=r"^cannot write .*archive\.tar: No space left on device\. Free some"):
            pull("memory://a.tar")
        assert list(here.iterdir()) == []

    def test_a_folder_that_exists_is_left_alone(self, memory: Any, archive: bytes, here: Path) -> None:
        memory.pipe("/a.tar", archive)
        (here / "a").mkdir()
        with pytest.raises(FileWriteError, match="a exists already: choose another folder, or remove it"):
            pull("memory://a.tar")
        memory.pipe("/b.bin", archive)
        with pytest.raises(FileWriteError, match=r"b\.bin does not end in \.tar: name the folder to make"):
            pull("memory://b.bin")

    @pytest.mark.parametrize(
        ("url", "reason"), [("nowhere.tar", "there is no such file or folder"), ("/dev/zero", "it is a device")]
    )
    def test_what_cannot_be_read_is_said(self, here: Path, url: str, reason: str) -> None:
        with pytest.raises(RemoteError, match=rf"^{url} cannot be read: {reason}\.$"):
            pull(url, Path("there"))
        assert names(here) == []


class TestSentences:
    @pytest.mark.parametrize("done", [lambda url, here: push(here, url), lambda url, here: pull(url, Path("x"))])
    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("away://me:ge/he@im@host/a.tar", "away://host/a.tar"),
            ("away://tok3n-of-mine@host/a.tar", "away://host/a.tar"),
            ("away://host/a.tar?sig=geheim&x=1", "away://host/a.tar"),
            ("away://me:ge%20heim@host/a b.tar", "away://host/a b.tar"),
        ],
    )
    def test_no_credentials_are_printed(
        self, monkeypatch: pytest.MonkeyPatch, colour_bundle: Path, done: Any, url: str, shown: str
    ) -> None:
        def refuse(given: str) -> None:
            secrets = "ge/he@im", "tok3n-of-mine", "geheim", "ge%20heim", "ge heim"
            raise PermissionError(f"no entry with {given}: {', '.join(secret for secret in secrets if secret in SAID)}")

        SAID = url + url.replace("%20", " ")  # noqa: N806
        monkeypatch.setattr("fsspec.core.url_to_fs", refuse)
        with pytest.raises(RemoteError) as raised:
            done(url, colour_bundle)
        said = str(raised.value)
        assert said.startswith(f"{shown} cannot be ")
        assert f"no entry with {shown}: ***" in said
        assert not any(secret in said for secret in ("geheim", "he@im", "tok3n", "ge heim", "ge%20heim"))
        assert raised.value.__suppress_context__

    def test_a_missing_package_is_named(self, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(url: str) -> None:
            raise ImportError("Install s3fs to access S3")

        monkeypatch.setattr("fsspec.core.url_to_fs", missing)
        with pytest.raises(MissingDependencyError) as raised:
            push(colour_bundle, "s3://key:secret@bucket/a.tar")
        assert str(raised.value) == (
            "s3://bucket/a.tar needs a package that cannot be imported (ImportError: Install s3fs to access S3): "
            "pip install s3fs."
        )

    def test_without_fsspec(self, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "fsspec", None)
        with pytest.raises(MissingDependencyError, match=r"push and pull need fsspec, .*: pip install 'vision-deploy"):
            push(colour_bundle, "memory://a.tar")

    @pytest.mark.parametrize("url", ["nonsense://host/a.tar", "a\0b", ""])
    def test_what_is_no_url(self, colour_bundle: Path, url: str) -> None:
        with pytest.raises(ToolkitError) as raised:
            push(colour_bundle, url)
        assert len(str(raised.value).splitlines()) == 1
