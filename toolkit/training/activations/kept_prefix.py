"""Exported prefixes that are kept: what one run has exported, the next one of the same frozen part does not.

One is kept only after the parts of its network were found to compute what the whole computes, and after the engine had
opened it: that it is there is that verdict too.

It is our own file in our own folder, and yet is taken only if it is the one that was written (its SHA-256 is in the
index, which is compared with what is asked for) and points to no other file. Whatever is wrong with it, it is removed
and made again: nothing here ever ends a run. Which prefixes are kept is listed by
``toolkit.training.activations.catalogue``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from pydantic import ValidationError

from toolkit.bundle.trust.external_data import external_locations
from toolkit.errors import ToolkitError
from toolkit.files import read_regular
from toolkit.training.activations.catalogue import (
    INDEX_NAME,
    PREFIX_FORMAT_VERSION,
    SPARE_BYTES,
    PrefixIndex,
    PrefixKey,
    free_bytes,
)
from toolkit.training.activations.cleaning import discard_abandoned, part_folder, remove

MODEL_NAME = "prefix.onnx"

_logger = logging.getLogger(__name__)


class _DamagedError(Exception):
    """What is kept is not what was written; the message says what is wrong with it."""


class KeptPrefix:
    """The place of one exported prefix.

    Attributes:
        model: the ONNX file that is kept there; None if there is none that can be used.
    """

    def __init__(self, root: Path, key: PrefixKey) -> None:
        """Look whether it is there, and check it.

        Args:
            root: where exported prefixes are.
            key: what it must be.
        """
        self._root = root
        self._key = key
        self._folder = root / key.digest()
        self.model = self._read()

    def _read(self) -> bytes | None:
        if not os.path.lexists(self._folder):
            return None
        try:
            model = self._checked()
        except _DamagedError as damaged:
            self.discard(str(damaged))
            return None
        # When it was last used. In a folder that others share and may not write, the date stays.
        with contextlib.suppress(OSError):
            os.utime(self._folder / INDEX_NAME)
        return model

    def _checked(self) -> bytes:
        try:
            index = PrefixIndex.from_json(read_regular(self._folder / INDEX_NAME))
            model = read_regular(self._folder / MODEL_NAME)
            if (index.format, index.key) != (PREFIX_FORMAT_VERSION, self._key):
                raise _DamagedError("its index describes another one")
            if sha256(model).hexdigest() != index.sha256:
                raise _DamagedError(f"{MODEL_NAME} is not the file that was written")
            if next(external_locations(model), None) is not None:
                raise _DamagedError(f"{MODEL_NAME} points to other files")
        except OSError as error:
            raise _DamagedError(f"{error.filename or self._folder} cannot be read ({error.strerror})") from error
        except ValueError as error:  # pydantic's ValidationError is one
            what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise _DamagedError(f"a file of it cannot be understood ({what})") from error
        return model

    def keep(self, model: bytes) -> None:
        """Put an exported prefix here that the engine has opened, unless one is there.

        Where it cannot be written, nothing is lost but the time of the next run.
        """
        part = part_folder(self._folder)
        try:
            discard_abandoned(self._root)
            if len(model) + SPARE_BYTES > free_bytes(self._root):
                _logger.debug("the exported prefix is not kept: the disk of %s is nearly full", self._root)
                return
            part.mkdir(parents=True)
            with (part / MODEL_NAME).open("xb") as file:
                file.write(model)
                file.flush()
                os.fsync(file.fileno())
            PrefixIndex(
                format=PREFIX_FORMAT_VERSION,
                key=self._key,
                created=datetime.now(UTC).replace(microsecond=0),
                sha256=sha256(model).hexdigest(),
            ).save(part / INDEX_NAME)
            # Where another process has put it there meanwhile, this fails and that one stays.
            part.rename(self._folder)
        except (OSError, ToolkitError) as error:
            _logger.debug("the exported prefix is not kept in %s: %s", self._folder, error)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def discard(self, reason: str) -> None:
        """Remove what is here, because it cannot be used."""
        self.model = None
        _logger.debug("the exported prefix in %s is made again: %s", self._folder, reason)
        with contextlib.suppress(ToolkitError):  # in a folder of somebody else it stays
            remove(self._folder)
