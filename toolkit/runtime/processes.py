"""What becomes of an opened artifact in a forked process (gunicorn with preload, multiprocessing with fork).

A fork takes along the memory of an engine and none of its threads. Three things follow:

- The session of the parent must not be used: it waits for threads that are not there. It is opened again, at the first
  call.
- It must not be destroyed either, for the same reason (onnxruntime, OpenVINO and TorchScript hang at the end of the
  process). It is kept for ever.
- The thread that went through the fork still has OpenMP's note of its helpers, and whatever PyTorch computes in that
  thread waits for them (https://github.com/pytorch/pytorch/issues/17199). Engines are therefore called in another one.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from toolkit.errors import DeviceError
from toolkit.formats.base import Session

Item = TypeVar("Item")
Result = TypeVar("Result")


class ProcessSession:
    """A session, opened again in each process that is forked from the one that opened it.

    Args:
        session: the artifact, opened in this process.
        open_again: opens it in another one.
    """

    def __init__(self, session: Session, open_again: Callable[[], Session]) -> None:
        self._session: Session | None = session
        self._device = session.device
        self._open_again = open_again
        self._opening = threading.Lock()
        _sessions.add(self)

    def get(self) -> Session:
        """Return the session of this process.

        Raises:
            DeviceError: it was on a GPU when the process was forked, which CUDA does not allow.
            ToolkitError: it cannot be opened again.
        """
        with self._opening:
            if self._session is None:
                if self._device != "cpu":
                    raise DeviceError(
                        f"this process was forked from one that had the artifact open on {self._device}, and CUDA "
                        "cannot be used after a fork: call toolkit.load in each worker, after the fork, or start the "
                        "workers by 'spawn'."
                    )
                self._session = self._open_again()
            return self._session

    def leave_to_parent(self) -> None:
        """In a forked process: forget the session without ending it."""
        self._opening = threading.Lock()
        if self._session is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
            self._session = None


class ProcessThreads:
    """Threads for the block of a ``with``, started anew in a process that is forked inside it.

    Args:
        threads: how many.
        name: what their names start with.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._threads = threads
        self._name = name
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix=self._name)

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Do the work for all items and return what it gives, in their order; one alone is done in this thread."""
        items = list(items)
        if len(items) == 1:  # starting a thread takes longer than decoding a small image
            return [work(items[0])]
        if os.getpid() != self._process:  # a fork has the pool, which takes its threads for idle, and none of them
            self._start()
        return list(self._pool.map(work, items))

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the threads of this process."""
        if os.getpid() == self._process:
            self._pool.shutdown()


class _Process:
    """What is known of this process."""

    forked_thread: int | None = None
    """The thread that went through a fork."""
    caller: ThreadPoolExecutor | None = None
    """The thread in which engines are called instead."""


_sessions: weakref.WeakSet[ProcessSession] = weakref.WeakSet()


def call_engine(work: Callable[[], Result]) -> Result:
    """Run what calls an engine, in this thread or, where it went through a fork, in another one."""
    if threading.get_ident() != _Process.forked_thread:
        return work()
    if _Process.caller is None:
        _Process.caller = ThreadPoolExecutor(1, thread_name_prefix="toolkit-after-fork")
    return _Process.caller.submit(work).result()


def _in_forked_process() -> None:
    _Process.forked_thread = threading.get_ident()
    _Process.caller = None
    for session in list(_sessions):
        session.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_process)
