"""Pushing a bundle to a place that others reach, and pulling it from there: one archive, at any URL of fsspec.

https://filesystem-spec.readthedocs.io/en/latest/api.html#other-known-implementations

What is pushed is the archive of ``toolkit pack``. What is pulled takes the road of ``toolkit unpack``: nothing appears
that was not checked. Credentials come from where each file system looks for its own, or from the URL; they are neither
printed nor kept.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast
from urllib.parse import unquote

from toolkit.bundle import Bundle
from toolkit.bundle.trust.archive import PIECE, SUFFIX, pack, unpack
from toolkit.bundle.trust.names import name_problem
from toolkit.dependencies import import_optional, is_installed
from toolkit.distribution import install_hint, pip_install
from toolkit.errors import (
    BundleError,
    FileWriteError,
    IntegrityError,
    MissingDependencyError,
    RemoteError,
    ToolkitError,
    first_line,
    raise_interruption,
    require_count,
)
from toolkit.files import open_regular, sha256_file
from toolkit.printable import printable, public_url, without_credentials
from toolkit.progress import Bar, Reporter, Silent
from toolkit.results import Record
from toolkit.run_folder import RunFolder

LARGEST_ARCHIVE = 16 * 2**30
"""Bytes that are pulled at most, unless somebody says how many: whoever serves a file may never stop."""
WHOLE_OR_NOTHING = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "hf"})
"""Stores in which a file appears once all of it is there. A name beside it would need the right to delete, which those
who may push need not have."""
SHORTEST_SECRET = 3
"""Characters up to which a part of a URL says nothing, and would be found in any sentence."""
HTTP = frozenset({"http", "https"})
CONNECT_SECONDS, SILENT_SECONDS = 30, 60
"""How long a web server may take to be reached, and to send nothing."""
NOT_FOUND = 404
NO_SUCH_FILE = (NOT_FOUND, 410)
READ_ONLY = frozenset({"http", "https", "data", "zip", "tar", "github", "git", "gist", "reference"})
_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "adlfs"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    **dict.fromkeys(("http", "https"), "aiohttp requests"),
    "smb": "smbprotocol",
    "hf": "huggingface_hub",
}
"""What fsspec needs beside itself; of others its own message says it."""


class Pushed(Record):
    """An archive that was pushed."""

    url: str
    """Without credentials; of a local file the absolute path."""
    sha256: str
    size_bytes: int
    manifest_sha256: str
    """Of the bundle's ``manifest.json``: another one is another bundle."""
    created: str
    """ISO 8601, UTC."""


class PushedArchives(Record):
    """``pushed.json`` in the run folder: where its bundles were pushed, the newest at the end."""

    pushed: tuple[Pushed, ...] = ()


class _Place(NamedTuple):
    """A file of a file system."""

    system: Any
    path: str
    url: str
    """Without credentials, for sentences and records."""
    given: str
    """With them, if they stand in the URL."""

    @property
    def protocols(self) -> set[str]:
        known = self.system.protocol
        return {known} if isinstance(known, str) else set(known)

    @property
    def is_local(self) -> bool:
        return "file" in self.protocols

    def named(self, name: str) -> _Place:
        return self._replace(path=f"{self.path.rstrip('/')}/{name}", url=f"{self.url.rstrip('/')}/{name}")


def push(path: str | Path, url: str, *, overwrite: bool = False, reporter: Reporter | None = None) -> Pushed:
    """Pack a bundle and write the archive to a URL.

    The archive appears there when all of it was written: under another name first, which is moved, or at once in
    stores where a file appears when it is whole (S3, Google Cloud Storage, Azure). On a file system of fsspec that can
    only copy, moving takes as long as copying does. Of a bundle in the folder of its run, ``pushed.json`` in that
    folder says where it went.

    Args:
        path: the bundle's folder, or a run folder that has one.
        url: of the file to write, or of a folder (it exists, or ends in ``/``), in which the archive is called after
            the bundle.
        overwrite: replace a file that is there.
        reporter: shows a bar in bytes.

    Returns:
        What was written, and its SHA-256.

    Raises:
        BundleError: there is no bundle, or it is not what its manifest says.
        FileWriteError: there is a file already, or a local one cannot be written.
        RemoteError: the URL cannot be written to.
        MissingDependencyError: fsspec, or what it needs for this URL, is not installed.
    """
    bundle = Bundle.open(path)
    name = f"{bundle.manifest.name}{SUFFIX}"
    with _in_one_sentence(url, "written to"):
        place = _place(url)
        if place.protocols & READ_ONLY:
            raise RemoteError(f"{place.url} can be pulled from and not pushed to: give the URL of a store.")
        if url.endswith(("/", os.sep)) or place.system.isdir(place.path):
            if name_problem(name) is not None or "/" in name:
                raise RemoteError(
                    f"the bundle's name {name!r} cannot name a file: give the URL of one, not of a folder."
                )
            place = place.named(name)
        if not overwrite and place.system.exists(place.path):
            raise FileWriteError(f"{place.url} exists already: choose another name, or replace it with --overwrite.")
        if place.is_local:
            written = pack(bundle.path, Path(place.path))
            digest, size = sha256_file(written), written.stat().st_size
        else:
            digest, size = _upload(bundle, place, reporter or Silent())
    pushed = Pushed(
        url=str(Path(place.path).absolute()) if place.is_local else place.url,
        sha256=digest,
        size_bytes=size,
        manifest_sha256=hashlib.sha256(bundle.manifest_bytes).hexdigest(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if (run := run_of_bundle(bundle.path)) is not None:
        others = (other for other in pushed_archives(run) if other.url != pushed.url)
        PushedArchives(pushed=(*others, pushed)).save(run.pushed_file)
    return pushed


def pull(
    url: str,
    folder: Path | None = None,
    *,
    sha256: str | None = None,
    verify_key: str | Path | None = None,
    max_bytes: int = LARGEST_ARCHIVE,
    reporter: Reporter | None = None,
) -> Path:
    """Fetch an archive that ``push`` wrote, check it and make a bundle of it.

    The folder appears when all of it was checked, see ``toolkit.bundle.trust.archive.unpack``.

    Args:
        url: of the archive, or of a folder that holds one.
        folder: to make; the name of the file without ``.tar``, in the current folder, by default.
        sha256: what the archive must hash to, as ``push`` said.
        verify_key: PEM file of the public key that must have signed the bundle.
        max_bytes: of the archive; more are not fetched.
        reporter: shows a bar in bytes.

    Returns:
        The bundle's folder.

    Raises:
        RemoteError: the URL cannot be read, or there is more than ``max_bytes``.
        IntegrityError: the archive has another SHA-256, or is not what its manifest says.
        BundleError: see ``unpack``; SignatureError too.
        FileWriteError: the folder exists, or cannot be written.
        MissingDependencyError: fsspec, or what it needs for this URL, is not installed.
    """
    require_count("max_bytes", max_bytes)
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise RemoteError(
            f"{printable(sha256)!r} is no SHA-256: give the 64 hexadecimal digits that 'toolkit push' printed."
        )
    with _in_one_sentence(url, "read"):
        place = _archive_at(_place(url, **_how_to_read(url)))
    name = place.path.rpartition("/")[2]
    if folder is None and not (name.endswith(SUFFIX) and name != SUFFIX and name_problem(name) is None):
        raise FileWriteError(f"{place.url} does not end in {SUFFIX}: name the folder to make.")
    target = Path(name.removesuffix(SUFFIX)) if folder is None else folder
    if os.path.lexists(target):
        raise FileWriteError(f"{printable(target)} exists already: choose another folder, or remove it.")
    with _scratch_beside(target) as scratch:
        archive = scratch / f"archive{SUFFIX}"
        digest = _download(place, archive, max_bytes, reporter or Silent())
        if sha256 is not None and digest != sha256.lower():
            raise IntegrityError(f"{place.url} has the SHA-256 {digest}, not {sha256.lower()}: it is another file.")
        try:
            return unpack(archive, target, verify_key)
        except BundleError as error:
            raise type(error)(str(error).replace(str(archive), place.url)) from None


def pushed_archives(run: RunFolder) -> tuple[Pushed, ...]:
    """Return where the bundles of a run were pushed, the newest at the end.

    Raises:
        RunError: ``pushed.json`` is malformed.
    """
    if not run.pushed_file.exists():
        return ()
    return PushedArchives.load(run.pushed_file, "toolkit push").pushed


def run_of_bundle(bundle: Path) -> RunFolder | None:
    """Return the run in whose folder a bundle lies; None of one that was copied from there."""
    run = RunFolder(bundle.resolve().parent)
    return run if run.bundle == bundle.resolve() and run.record_file.exists() else None


def _how_to_read(url: str) -> dict[str, Any]:
    """Return options for a web server: a pull of any length, but no silence. aiohttp ends every request after 300 s."""
    if url.partition("://")[0].lower() not in HTTP or not is_installed("aiohttp"):
        return {}
    aiohttp = import_optional("aiohttp", "aiohttp is not installed")
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS)
    return {"client_kwargs": {"timeout": timeout}}


def _place(url: str, **options: Any) -> _Place:
    fsspec = import_optional("fsspec", f"push and pull need fsspec, which is not installed: {install_hint('remote')}")
    if not url or "\0" in url:
        raise RemoteError(f"{url!r} is no URL: give one like s3://bucket/model.tar, or a path.")
    system, path = fsspec.core.url_to_fs(url, **options)
    return _Place(system, path, public_url(url), url)


def _archive_at(place: _Place) -> _Place:
    """Return the archive itself, of a folder the one that it holds."""
    # A web server tells a folder only by sending what it holds: to ask that of an archive is to fetch all of it.
    is_file = place.protocols & HTTP and not place.path.endswith("/")
    if is_file or not place.system.isdir(place.path):
        return place
    names = sorted(str(entry).rstrip("/").rpartition("/")[2] for entry in place.system.ls(place.path, detail=False))
    archives = [name for name in names if name.endswith(SUFFIX)]
    if len(archives) != 1:
        found = (
            f"holds {len(archives)} archives ({', '.join(map(printable, archives[:10]))})"
            if archives
            else "holds no archive"
        )
        raise RemoteError(f"{place.url} is a folder that {found}: give the URL of an archive.")
    return place.named(archives[0])


def _upload(bundle: Bundle, place: _Place, reporter: Reporter) -> tuple[str, int]:
    """Write the archive, and leave nothing but a whole one; return its SHA-256 and its size in bytes."""
    system = place.system
    folder, _, name = place.path.rpartition("/")
    direct = bool(place.protocols & WHOLE_OR_NOTHING)
    written = place.path if direct else f"{folder}/.{name}.{os.urandom(4).hex()}.part"
    with tempfile.TemporaryDirectory(prefix="toolkit-push-") as scratch:
        archive = pack(bundle.path, Path(scratch) / f"archive{SUFFIX}")
        digest, size = sha256_file(archive), archive.stat().st_size
        was_there = direct and system.exists(place.path)
        try:
            if not direct and folder:
                system.makedirs(folder, exist_ok=True)
            with reporter.bar(f"push {printable(name)}", size, "B") as bar:
                system.put_file(str(archive), written, callback=_told(bar))
            _require_all_of_it(place, written, size)
            if not direct:
                system.mv(written, place.path)
        except BaseException:
            if not was_there:
                with suppress(Exception):  # of what is being said to have failed
                    system.rm_file(written)
            raise
    return digest, size


def _told(bar: Bar) -> Any:
    """Return what tells a bar how many bytes fsspec has written."""
    told = 0

    def tell(size: int | None, value: int) -> None:
        nonlocal told
        bar.advance(value - told)
        told = value

    return import_optional("fsspec.callbacks", "fsspec is not installed").Callback(hooks={"bar": tell})


def _require_all_of_it(place: _Place, written: str, size: int) -> None:
    there = place.system.info(written).get("size")
    if there not in (size, None):
        raise RemoteError(f"{place.url} has {there} bytes after {size} were written: push again.")


def _download(place: _Place, archive: Path, most: int, reporter: Reporter) -> str:
    """Write a file of at most so many bytes and return its SHA-256."""
    digest, count = hashlib.sha256(), 0
    too_large = RemoteError(f"{place.url} has more than {most} bytes, which is the limit: raise it with --max-bytes.")
    with _in_one_sentence(place.given, "read"):
        size = place.system.info(place.path).get("size") or 0
        if size > most:
            raise too_large
        with (
            _opened(place) as source,
            _new_file(archive) as target,
            reporter.bar(f"pull {printable(archive.name)}", size, "B") as bar,
        ):
            while piece := source.read(PIECE):
                count += len(piece)
                if count > most:
                    raise too_large
                digest.update(piece)
                _write(target, piece, archive)
                bar.advance(len(piece))
        if size and count != size:
            raise RemoteError(f"{place.url} ended after {count} of {size} bytes: pull again.")
    return digest.hexdigest()


def _opened(place: _Place) -> BinaryIO:
    if place.is_local:
        return open_regular(place.path)
    # From the first byte to the last, with block_size=0 in one request: many web servers know no other, the one of
    # Python's http.server for instance, and fsspec refuses to read pieces of what they send.
    in_one = {"block_size": 0} if place.protocols & HTTP else {}
    return cast(BinaryIO, place.system.open(place.path, "rb", **in_one))


def _new_file(path: Path) -> io.FileIO:
    try:
        return path.open("xb", buffering=0)  # so that a full disk is noticed where something is written, not at the end
    except OSError as error:
        raise _unwritable(path, error) from error


def _write(file: io.FileIO, piece: bytes, path: Path) -> None:
    left = memoryview(piece)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> FileWriteError:
    reason = error.strerror or error
    return FileWriteError(
        f"cannot write {printable(path)}: {reason}. Free some space or choose a folder you may write to."
    )


@contextmanager
def _scratch_beside(target: Path) -> Iterator[Path]:
    """Yield an empty folder on the disk that ``target`` will be on, and remove it with what is in it."""
    made = [folder for folder in target.absolute().parents if not folder.exists()]
    scratch = target.absolute().parent / f".{target.name}.{os.urandom(4).hex()}.part"
    try:
        try:
            scratch.mkdir(parents=True)
        except OSError as error:
            raise _unwritable(target, error) from error
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        for folder in made:
            with suppress(OSError):  # the bundle is in it
                folder.rmdir()


@contextmanager
def _in_one_sentence(url: str, done: str) -> Iterator[None]:
    """Raise what a file system raises as one sentence without credentials; the error behind it may hold some."""
    try:
        yield
    except ToolkitError:
        raise
    except Exception as error:  # code of another package, which may raise anything
        raise_interruption(error)
        scheme = url.partition("://")[0].lower()
        # fsspec says of whatever a web server refuses that there is no such file; the answer itself stands behind that.
        if getattr(error.__cause__, "status", NOT_FOUND) not in NO_SUCH_FILE:
            error = cast(Exception, error.__cause__)
        said = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        reason = _without(url, said).rstrip(".: ")
        if isinstance(error, ImportError):
            package = _PACKAGES.get(scheme)
            how = f": {pip_install(package)}" if package else ""
            raise MissingDependencyError(
                f"{public_url(url)} needs a package that cannot be imported ({reason}){how}."
            ) from None
        if isinstance(error, FileNotFoundError):
            raise RemoteError(f"{public_url(url)} cannot be {done}: there is no such file or folder.") from None
        raise RemoteError(f"{public_url(url)} cannot be {done}: {reason}.") from None


def _without(url: str, text: str) -> str:
    """Return a message of somebody else without what a URL holds beside the place."""
    shown = public_url(url)
    text = text.replace(url, shown)
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, "***")
    return without_credentials(text)


def _secrets(url: str) -> set[str]:
    """Return the name, password or token and the parts of the query of a URL, as they are and decoded."""
    secrets: set[str] = set()
    for part in url.split("::"):
        place = public_url(part).partition("://")[2]
        if place:
            before, _, after = part.partition("://")[2].partition(place)
            user, _, password = before.removesuffix("@").partition(":")
            secrets |= {before.removesuffix("@"), password or user, *re.split("[?&=#]", after)}
    return {secret for secret in secrets | set(map(unquote, secrets)) if len(secret) > SHORTEST_SECRET}
