"""A folder of versions is watched: a new one is taken once it is there completely, and the old one is let go.

A version is a folder whose name is a whole number, ``1/``, ``2/`` and so on, which holds a bundle. The newest that
passes its golden samples serves. One that does not is said once, in the log and in the index of the models, and is
tried again when its files have changed. Whatever happens to the folder, what serves goes on until another version can.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from toolkit.bundle import read_manifest
from toolkit.bundle.folder import find_bundle
from toolkit.bundle.manifest import MODEL_CARD_NAME
from toolkit.bundle.trust.check import listed_files
from toolkit.errors import BundleError
from toolkit.printable import printable
from toolkit.serving.interface import ModelState, Served

_logger = logging.getLogger(__name__)
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
MOST_FILES = 10_000
"""Files below a version that are looked at; a bundle has some dozens."""

Fingerprint: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""Of each file: path, bytes, time of change in nanoseconds, inode."""


class Changing(Protocol):
    """Models of which versions come and go."""

    async def add(self, name: str, version: str, path: Path) -> ModelState:
        """Check, open and self-test a version, and take requests with it once that is done.

        Returns:
            What became of it: ``READY``, or ``UNAVAILABLE`` with the reason, which the log and the index say too.
        """

    async def remove(self, name: str, version: str) -> None:
        """Give a version no further request, and close it when those that it has are answered."""

    def index(self) -> Sequence[ModelState]:
        """Return every version, ready or not."""


@dataclass(frozen=True)
class Watching:
    """How a folder is watched.

    Attributes:
        seconds: between two looks. A version is taken when it is complete and two looks saw the same.
        patience: seconds after which one that is not complete, and no longer changes, is called a bad one.
        keep: how many of the newest good versions serve side by side.
    """

    seconds: float = 1.0
    patience: float = 30.0
    keep: int = 1


@dataclass
class _Seen:
    """What earlier looks saw of a version."""

    fingerprint: Fingerprint
    looks: int = 1
    """That saw this, one after the other."""
    bad: bool = False
    """Whether this very content was refused."""


@dataclass
class _State:
    seen: dict[str, _Seen] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)


async def watch(models: Changing, served: Served, watching: Watching | None = None) -> None:
    """Watch a folder of versions until it is cancelled.

    Versions that are ready already, because they were opened when the server started, are taken as they are.

    Args:
        models: where versions are added and removed.
        served: the folder, and the name of the model: by default that of the folder.
        watching: how; once a second by default.
    """
    watcher = Watcher(models, served, watching or Watching())
    while True:
        await watcher.look()
        await asyncio.sleep(watcher.watching.seconds)


class Watcher:
    """One folder; ``look`` is called again and again.

    Attributes:
        watching: how often, and how patiently.
    """

    def __init__(self, models: Changing, served: Served, watching: Watching) -> None:
        self.watching = watching
        self._models = models
        self._folder = served.path
        self._name = served.name or served.path.resolve().name
        self._state = _State()
        self._first = True

    async def look(self) -> None:
        """Look once, and do what there is to do. Raises nothing but a cancellation."""
        try:
            await self._look()
        except Exception:  # a fault of this file must not end a server that works
            self._say_once("fault", f"{printable(self._folder)} could not be looked at.", exc_info=True)

    async def _look(self) -> None:
        try:
            found = await asyncio.to_thread(_versions, self._folder)
        except OSError as error:
            self._say_once(
                "folder", f"{printable(self._folder)} cannot be read: {error.strerror or error}. What serves goes on."
            )
            return
        self._state.said.discard("folder")
        for strange in found.strange:
            self._say_once(
                f"strange {strange}",
                f"{printable(self._folder / strange)} is no version: folders of versions are called 1, 2, 3 and so on.",
            )
        self._compare(found.fingerprints)
        await self._take(found)

    def _compare(self, fingerprints: Mapping[str, Fingerprint]) -> None:
        """Hold what is there against what the last look saw."""
        ready, failed = self._in_state("READY"), self._in_state("UNAVAILABLE")
        for version, fingerprint in fingerprints.items():
            before = self._state.seen.get(version)
            if before is not None and before.fingerprint == fingerprint:
                before.looks += 1
                continue
            self._state.seen[version] = _Seen(fingerprint)
            if self._first:
                # Opened at the start of the server, which has said what became of it.
                self._state.seen[version].bad = version in failed
            elif before is not None and version in ready:
                _logger.warning(
                    "version %s of %s has changed since it was opened, and goes on as it was: give what is new a "
                    "number of its own.",
                    version,
                    self._name,
                )
        for version in self._state.seen.keys() - fingerprints.keys():
            del self._state.seen[version]
            self._state.said.discard(f"lacking {version}")
        self._first = False

    async def _take(self, found: _Found) -> None:
        """Take the newest versions that are good, and let go of all others as soon as one of these serves."""
        for version in self._in_state("UNAVAILABLE") - found.paths.keys():
            await self._remove(version)  # from the index
        kept: list[str] = []
        for version in sorted(found.paths, key=int, reverse=True):
            if len(kept) == self.watching.keep:
                break
            if version in self._in_state("READY") or await self._serves(version, found.paths[version]):
                kept.append(version)
        if not kept:
            if not found.paths and self._in_state("READY"):
                self._say_once("empty", f"{printable(self._folder)} holds no version any more. What serves goes on.")
            return
        self._state.said.discard("empty")
        for version in sorted(self._in_state("READY") - set(kept), key=_number):
            await self._remove(version)

    async def _serves(self, version: str, path: Path) -> bool:
        """Add a version if it is there completely and was not tried yet; return whether it serves now."""
        seen = self._state.seen[version]
        if seen.bad or seen.looks < 2:
            return False
        lacking = await asyncio.to_thread(_lacking, path)
        if lacking is not None and (seen.looks - 1) * self.watching.seconds < self.watching.patience:
            self._say_once(f"lacking {version}", f"version {version} of {self._name} is not complete yet: {lacking}.")
            return False
        self._state.said.discard(f"lacking {version}")
        try:
            state = (await self._models.add(self._name, version, path)).state
        except Exception:  # whatever it is, the versions that serve go on
            _logger.exception("version %s of %s does not serve.", version, self._name)
            state = "UNAVAILABLE"
        seen.bad = state != "READY"
        return not seen.bad

    async def _remove(self, version: str) -> None:
        try:
            await self._models.remove(self._name, version)
        except Exception:  # of an engine that is closed; the next look tries again
            self._say_once(f"remove {version}", f"version {version} of {self._name} cannot be closed.", exc_info=True)

    def _in_state(self, state: str) -> set[str]:
        return {each.version for each in self._models.index() if each.name == self._name and each.state == state}

    def _say_once(self, about: str, sentence: str, *, exc_info: bool = False) -> None:
        if about not in self._state.said:
            self._state.said.add(about)
            _logger.warning("%s", sentence, exc_info=exc_info)


@dataclass(frozen=True)
class _Found:
    """What is in the folder.

    Attributes:
        paths: of the versions.
        fingerprints: of the same.
        strange: names of folders that hold a bundle and are no version.
    """

    paths: dict[str, Path]
    fingerprints: dict[str, Fingerprint]
    strange: tuple[str, ...]


def _versions(folder: Path) -> _Found:
    paths: dict[str, Path] = {}
    strange: list[str] = []
    for entry in sorted(os.listdir(folder)):
        path = folder / entry
        if not path.is_dir():
            continue
        if _VERSION.fullmatch(entry):
            paths[entry] = path
        elif not entry.startswith(".") and _is_bundle(path):
            strange.append(entry)
    return _Found(paths, {version: tuple(_files(path)) for version, path in paths.items()}, tuple(strange))


def _files(folder: Path) -> Iterator[tuple[str, int, int, int]]:
    count = 0
    for inside, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            count += 1
            if count > MOST_FILES:
                return
            path = os.path.join(inside, name)
            try:
                status = os.stat(path)
            except OSError:  # gone meanwhile, or a link that leads nowhere: the next look sees another folder
                yield path, -1, 0, 0
            else:
                yield path, status.st_size, status.st_mtime_ns, status.st_ino


def _is_bundle(folder: Path) -> bool:
    try:
        find_bundle(folder)
    except BundleError:
        return False
    return True


def _lacking(path: Path) -> str | None:
    """Say what a version lacks of the files that its manifest lists, in one phrase; None if it is complete.

    Files that are there are not read: what is wrong with them is said when the bundle is opened.
    """
    try:
        folder = find_bundle(path)
        manifest = read_manifest(folder)
        listed = listed_files(manifest, folder)
    except (BundleError, OSError):
        return "it has no manifest that can be read yet"
    for name, record in listed.items():
        try:
            size = (folder / name).stat().st_size
        except OSError:
            if name == MODEL_CARD_NAME:  # which a bundle may lack, see toolkit.bundle.trust.check
                continue
            return f"{printable(name)} is missing"
        if size < record.size_bytes:
            return f"{printable(name)} has {size} of {record.size_bytes} bytes"
    return None


def _number(version: str) -> int:
    return int(version) if version.isdecimal() else 0
