from __future__ import annotations

import faulthandler
import gc
import os
import threading
import warnings
import weakref
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from toolkit.errors import DeviceError
from toolkit.runtime.processes import ProcessSession, ProcessThreads, call_engine

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


class Opened(SimpleNamespace):
    """A session that says when it is destroyed."""

    def __init__(self, device: str = "cpu") -> None:
        super().__init__(device=device, process=os.getpid())

    def __del__(self) -> None:
        if os.getpid() != self.process:
            os._exit(13)


def in_fork(work: Callable[[], object]) -> int:
    """Run something in a forked process; its exit code is 0 if that returned something true."""
    with warnings.catch_warnings():
        # Of Python 3.12 and later: the process has threads when it is forked.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process == 0:
        code = 70
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_in_its_own_process_it_is_the_session() -> None:
    opened = Opened()
    session = ProcessSession(opened, Opened)
    assert session.get() is opened
    assert session.get() is opened


def test_whoever_drops_it_destroys_the_session() -> None:
    opened = Opened()
    gone = weakref.ref(opened)
    session = ProcessSession(opened, Opened)
    del opened, session
    gc.collect()
    assert gone() is None


@needs_fork
def test_in_a_forked_process_it_is_opened_again_once() -> None:
    session = ProcessSession(Opened(), Opened)

    def work() -> bool:
        return session.get().process == os.getpid() and session.get() is session.get()

    assert in_fork(work) == 0
    assert session.get().process == os.getpid()


@needs_fork
def test_the_session_of_the_parent_is_not_destroyed_in_the_fork() -> None:
    session = ProcessSession(Opened(), Opened)

    def work() -> bool:
        nonlocal session
        del session
        gc.collect()
        return True

    assert in_fork(work) == 0


@needs_fork
def test_a_fork_of_a_fork() -> None:
    session = ProcessSession(Opened(), Opened)

    def work() -> bool:
        return session.get() is not None and in_fork(lambda: session.get().process == os.getpid()) == 0

    assert in_fork(work) == 0


@needs_fork
def test_a_lock_that_was_held_when_the_process_was_forked_does_not_stop_it() -> None:
    session = ProcessSession(Opened(), Opened)
    with session._opening:
        assert in_fork(lambda: session.get().process == os.getpid()) == 0


@needs_fork
def test_a_gpu_cannot_be_used_after_a_fork() -> None:
    session = ProcessSession(Opened("cuda"), Opened)

    def work() -> bool:
        with pytest.raises(DeviceError, match=r"was forked .* open on cuda.*call toolkit\.load in each worker"):
            session.get()
        return True

    assert in_fork(work) == 0


@needs_fork
def test_the_thread_that_went_through_a_fork_calls_no_engine() -> None:
    def engine() -> int:
        return threading.get_ident()

    def other_thread() -> int:
        called: list[int] = []
        thread = threading.Thread(target=lambda: called.append(call_engine(engine) - threading.get_ident()))
        thread.start()
        thread.join()
        return called[0]

    assert call_engine(engine) == threading.get_ident()
    assert in_fork(lambda: call_engine(engine) != threading.get_ident() and other_thread() == 0) == 0


@needs_fork
def test_what_an_engine_raises_after_a_fork_arrives() -> None:
    def work() -> bool:
        with pytest.raises(ZeroDivisionError):
            call_engine(lambda: 1 / 0)
        return True

    assert in_fork(work) == 0


@needs_fork
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_are_started_anew_in_a_fork_in_the_middle_of_the_work(threads: int) -> None:
    with ProcessThreads(threads, "test") as pool:
        assert pool.map(str, range(9)) == list("012345678")

        def work() -> bool:
            faulthandler.dump_traceback_later(30, exit=True)
            with pool:
                return pool.map(str, range(9)) == list("012345678")

        assert in_fork(work) == 0
        assert pool.map(str, [9]) == ["9"]


@needs_fork
def test_a_fork_does_not_end_threads_that_it_does_not_have() -> None:
    with ProcessThreads(2, "test") as pool:
        pool.map(str, range(9))

        def work() -> bool:
            faulthandler.dump_traceback_later(30, exit=True)
            pool.__exit__(None, None, None)
            return True

        assert in_fork(work) == 0
