"""What becomes of an opened artifact in a forked process (gunicorn with preload, multiprocessing with fork).

A fork takes along the memory of an engine and none of its threads. Three things follow:

- The session of the parent must not be used: it waits for threads that are not there. It is opened again, at the first
  call.
- It must not be destroyed either, for the same reason (onnxruntime, OpenVINO and TorchScript hang at the end of the
  process). It is kept for ever.
- The thread that went through the fork still has OpenMP's note of its helpers, and whatever PyTorch computes in that
  thread waits for them (https://github.com/pytorch/pytorch/issues/17199). Engines are therefore called in another one.

The threads that decode are not there either, so they too are started again where they are needed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from toolkit.errors import DeviceError, ToolkitError
from toolkit.formats.base import Session

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
        self._closed = False
        _of_this_process.add(self)

    def get(self) -> Session:
        """Return the session of this process.

        Raises:
            DeviceError: it was on a GPU when the process was forked, which CUDA does not allow.
            ToolkitError: it cannot be opened again, or was closed.
        """
        with self._opening:
            self.require_open()
            if self._session is None:
                if self._device != "cpu":
                    raise DeviceError(
                        f"this process was forked from one that had the artifact open on {self._device}, and CUDA "
                        "cannot be used after a fork: call toolkit.load in each worker, after the fork, or start the "
                        "workers by 'spawn'."
                    )
                self._session = self._open_again()
            return self._session

    def require_open(self) -> None:
        """Refuse what comes after ``close``.

        Raises:
            ToolkitError: it was closed.
        """
        if self._closed:
            raise ToolkitError("this predictor was closed: open the bundle again with toolkit.load.")

    def close(self) -> None:
        """Let go of the session; the engine frees it when the last call that is under way has returned."""
        with self._opening:
            self._closed = True
            self._session = None

    def leave_to_parent(self) -> None:
        """In a forked process: forget the session without ending it."""
        self._opening = threading.Lock()
        if self._session is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
            self._session = None


class Work(Generic[Result]):
    """Something that a thread may do in advance, and that is done by whoever wants its result where none has begun.

    So nobody waits for a thread that is busy elsewhere, that was never started, or that was left behind by a fork.

    Args:
        work: what is to be done.
    """

    def __init__(self, work: Callable[[], Result]) -> None:
        # What was taken over stays in a pool's queue until a thread comes by: without what it works on.
        self._work = [work]
        self._future: Future[Result] | None = None
        self._process = os.getpid()

    def hand_to(self, pool: ThreadPoolExecutor) -> None:
        """Have a thread do it when one is free."""
        self._future = pool.submit(_do, self._work)

    def take_over(self) -> None:
        """Do it in this thread, unless another one has begun it; what it raises is raised by ``result``."""
        handed_out = self._handed_out()
        if handed_out is not None and not handed_out.cancel():
            return
        self._future, self._process = Future(), os.getpid()
        try:
            self._future.set_result(_do(self._work))
        except Exception as error:
            self._future.set_exception(error)
        self._work.clear()

    def result(self) -> Result:
        """Return what the work gives, or raise what it raises."""
        self.take_over()
        assert self._future is not None
        return self._future.result()

    def drop(self) -> None:
        """Say that nobody wants the result any more."""
        handed_out = self._handed_out()
        if handed_out is not None and handed_out.cancel():
            self._work.clear()

    def _handed_out(self) -> Future[Result] | None:
        # The future of another process is not even asked: its lock may have been held when that one was forked.
        return self._future if self._process == os.getpid() else None


def _do(work: list[Callable[[], Result]]) -> Result:
    return work[0]()


class ProcessThreads:
    """Threads that are started when there is work for them, and anew in a process that is forked.

    Args:
        threads: how many; 0 for none, so that all work is done where its result is wanted.
        name: what their names start with.
    """

    def __init__(self, threads: int, name: str) -> None:
        self.threads = threads
        self._name = name
        self._pool: ThreadPoolExecutor | None = None
        self._starting = threading.Lock()
        _of_this_process.add(self)

    def begin(self, work: Callable[[], Result]) -> Work[Result]:
        """Have the next free thread do something."""
        with self._starting:
            if self._pool is None and self.threads:
                self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix=self._name)
            pool = self._pool
        begun = Work(work)
        if pool is not None:
            # They were ended just now, or Python ends, or the system allows no further thread.
            with contextlib.suppress(RuntimeError):
                begun.hand_to(pool)
        return begun

    def end(self) -> None:
        """End the threads of this process, when they have finished what they do; no others are started."""
        with self._starting:
            pool, self._pool, self.threads = self._pool, None, 0
        if pool is not None:
            pool.shutdown(cancel_futures=True)

    def leave_to_parent(self) -> None:
        """In a forked process: forget the threads, which are not here."""
        self._starting = threading.Lock()
        self._pool = None


class _Process:
    """What is known of this process."""

    forked_thread: int | None = None
    """The thread that went through a fork."""
    caller: ThreadPoolExecutor | None = None
    """The thread in which engines are called instead."""


_of_this_process: weakref.WeakSet[ProcessSession | ProcessThreads] = weakref.WeakSet()


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
    for held in list(_of_this_process):
        held.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_process)
