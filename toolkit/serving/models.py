"""The models that a server has: which versions there are, which is ready, and how one takes the place of another."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolkit.bundle import read_manifest
from toolkit.bundle.folder import find_bundle
from toolkit.errors import ToolkitError, first_line
from toolkit.printable import printable
from toolkit.serving.hosted import Engines, Hosted, Opening, open_engines
from toolkit.serving.interface import Limits, ModelState, Observer, Served
from toolkit.serving.refusals import NotReady, UnknownModel

logger = logging.getLogger(__name__)

FIRST_VERSION = "1"
"""Of a bundle that lies in no folder of versions."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_LONGEST_SHOWN = 100
_POLL_SECONDS = 0.05
_RETRY_SECONDS = 5.0
"""After which a model that is not ready may be."""


def name_of(served: Served) -> str:
    """Return what a model is called: as somebody says, or as its bundle or its folder of versions is called.

    Raises:
        ToolkitError: that cannot stand in the path of a request.
        BundleError: there is no bundle.
    """
    name = served.name
    if name is None:
        inside = versions_in(served.path)
        name = served.path.resolve().name if inside is not None else read_manifest(find_bundle(served.path)).name
    if _NAME.fullmatch(name) is None:
        raise ToolkitError(
            f"a model cannot be called {printable(name)!r} on a server: say NAME={printable(served.path)} with a name "
            "of letters, digits, '.', '_' and '-'."
        )
    return name


def versions_in(folder: Path) -> dict[str, Path] | None:
    """Return the versions in a folder of them, by their names, the newest last; None where it is no such folder.

    Args:
        folder: holds ``1/``, ``2/`` and so on, or nothing yet.
    """
    if not folder.is_dir() or (folder / "manifest.json").exists():
        return None
    entries = list(folder.iterdir())
    found = sorted((entry for entry in entries if _VERSION.fullmatch(entry.name) and entry.is_dir()), key=_number)
    return {entry.name: entry for entry in found} if found or not entries else None


@dataclass
class _Version:
    """A version of a model, ready or not."""

    state: Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]
    hosted: Hosted | None = None
    reason: str = ""


class ModelSet:
    """A ``toolkit.serving.interface.Models``. Used in one event loop; what blocks is done in threads.

    Attributes:
        taking: whether the server takes requests; ``ready`` is false where it does not.
    """

    def __init__(self, opening: Opening, limits: Limits, observer: Observer) -> None:
        self.taking = True
        self._opening = opening
        self._limits = limits
        self._observer = observer
        self._models: dict[str, dict[str, _Version]] = {}
        self._turn: asyncio.Lock | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    def expect(self, name: str) -> None:
        """Say that a model will be served: the server is not ready before it is."""
        self._models.setdefault(name, {})

    async def add(self, name: str, version: str, path: Path) -> ModelState:
        """Open a version, run its golden samples, and have it answer if it is the newest one.

        Where a version of this number is ready already, the new one takes its place without a request being lost. One
        that does not pass never becomes ready, and leaves what is there as it is.

        Args:
            name: of the model.
            version: a whole number.
            path: of its bundle.

        Returns:
            What became of it: ``READY``, or ``UNAVAILABLE`` with the reason.
        """
        if _VERSION.fullmatch(version) is None:
            raise ToolkitError(f"{printable(version)!r} is no version: versions are whole numbers, 1, 2 and so on.")
        if self._turn is None:
            self._turn = asyncio.Lock()
        versions = self._models.setdefault(name, {})
        if version not in versions or versions[version].hosted is None:
            versions[version] = _Version("LOADING")
        async with self._turn:  # one after the other: each is measured
            opened = await asyncio.to_thread(self._open, path)
        if isinstance(opened, str):
            logger.error("%s version %s is not served: %s", name, version, opened)
            if versions[version].hosted is None:
                versions[version] = _Version("UNAVAILABLE", reason=_without_place(opened, path, version))
            return ModelState(name, version, "UNAVAILABLE", opened)
        hosted = Hosted(name, version, opened, self._limits, self._observer)
        before = versions.get(version)
        versions[version] = _Version("READY", hosted)
        logger.info("%s version %s is ready: %s", name, version, opened.setting.why)
        if before is not None and before.hosted is not None:
            self._retire(before.hosted)
        return ModelState(name, version, "READY")

    async def remove(self, name: str, version: str) -> None:
        """Take a version out: no new request gets it; it is closed once none can have it any more.

        That is later than this returns, by the time that a request may take. A version that is not there is none.
        """
        entry = self._models.get(name, {}).get(version)
        if entry is None:
            return
        if entry.hosted is None:
            del self._models[name][version]
            return
        hosted = entry.hosted
        leaving = self._models[name][version] = _Version("UNLOADING")
        logger.info("%s version %s is taken out", name, version)
        self._retire(hosted).add_done_callback(lambda _: self._forget(name, version, leaving))

    def get(self, name: str, version: str | None = None) -> Hosted:
        """Return a model that is ready; see ``toolkit.serving.interface.Models``."""
        versions = self._models.get(name)
        if versions is None:
            raise UnknownModel(f"there is no model {_shown(name)} here{self._said()}")
        if version is None:
            ready = {int(number): entry.hosted for number, entry in versions.items() if entry.hosted is not None}
            if not ready:
                raise NotReady(f"no version of {name} is ready.", retry_after=_RETRY_SECONDS)
            return ready[max(ready)]
        entry = versions.get(version)
        if entry is None:
            raise UnknownModel(f"there is no version {_shown(version)} of {name} here.")
        if entry.hosted is None:
            raise NotReady(f"version {version} of {name} is not ready.", retry_after=_RETRY_SECONDS)
        return entry.hosted

    def index(self) -> Sequence[ModelState]:
        """Return every version of every model, ready or not."""
        return [
            ModelState(name, version, entry.state, entry.reason)
            for name, versions in sorted(self._models.items())
            for version, entry in sorted(versions.items(), key=lambda one: int(one[0]))
        ]

    @property
    def names(self) -> list[str]:
        """The models, by name."""
        return sorted(self._models)

    @property
    def ready(self) -> bool:
        """Whether every model has a version that is ready, and the server takes requests."""
        return self.taking and all(
            any(entry.hosted is not None for entry in versions.values()) for versions in self._models.values()
        )

    async def close(self) -> None:
        """Close every version: what was begun is finished."""
        retiring = list(self._retiring)
        for task in retiring:
            task.cancel()
        await asyncio.gather(*retiring, return_exceptions=True)
        hosted = [entry.hosted for versions in self._models.values() for entry in versions.values() if entry.hosted]
        self._models = {name: {} for name in self._models}
        for one in hosted:
            await asyncio.to_thread(one.close)

    def _open(self, path: Path) -> Engines | str:
        """Return a bundle, opened; or one sentence on why it is not."""
        try:
            return open_engines(path, self._opening, self._limits.pixels)
        except ToolkitError as error:
            return str(error)
        except Exception as error:  # an engine may raise anything
            logger.exception("%s could not be opened", path)
            return f"{printable(path)} could not be opened: {first_line(error)}"

    def _retire(self, hosted: Hosted) -> asyncio.Task[None]:
        task = asyncio.create_task(self._close_later(hosted))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        return task

    async def _close_later(self, hosted: Hosted) -> None:
        """Close a version that no request can get any more.

        A request that has got it, and still reads its body, will use it before its time is up.
        """
        try:
            await asyncio.sleep(self._limits.seconds)
            while hosted.images:
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            await asyncio.to_thread(hosted.close)
        logger.info("%s version %s is closed", hosted.name, hosted.version)

    def _forget(self, name: str, version: str, leaving: _Version) -> None:
        if self._models.get(name, {}).get(version) is leaving:
            del self._models[name][version]

    def _said(self) -> str:
        return f": there {'is' if len(self._models) == 1 else 'are'} {', '.join(self.names)}." if self._models else "."


def _shown(text: str) -> str:
    """Return what somebody has asked for, as a sentence may quote it."""
    return f"'{printable(text[:_LONGEST_SHOWN])}'"


def _number(path: Path) -> int:
    return int(path.name)


def _without_place(reason: str, path: Path, version: str) -> str:
    """Return a reason for the index, which clients read: where bundles lie on this machine is nobody's business."""
    for place in (path.absolute(), path):
        reason = reason.replace(f"{printable(place)}{os.sep}", "").replace(printable(place), f"version {version}")
    return reason
