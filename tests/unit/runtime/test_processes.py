from __future__ import annotations

import faulthandler
import gc
import os
import signal
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from toolkit.errors import DeviceError, ToolkitError
from toolkit.runtime.processes import ProcessSession, ProcessThreads, Work, call_engine

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
    # What other tests left behind ends here: a server of grpc waits for threads that a fork does not have.
    gc.collect()
    with warnings.catch_warnings():
        # Of Python 3.12 and later: the process has threads when it is forked.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process == 0:
        code = 70
        signal.alarm(60)  # ends it
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


@pytest.fixture
def threads() -> Iterator[ProcessThreads]:
    pool = ProcessThreads(1, "test")
    yield pool
    pool.end()


@pytest.fixture
def busy(threads: ProcessThreads) -> Iterator[Work[str]]:
    """The one thread is busy until the test ends."""
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> str:
        begun.set()
        return "done" if go_on.wait(60) else "never told to go on"

    work = threads.begin(wait)
    assert begun.wait(60)
    yield work
    go_on.set()
    assert work.result() == "done"


def named_test() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("test_")]


def test_threads_are_started_when_there_is_work_and_end_when_told() -> None:
    pool = ProcessThreads(2, "test")
    assert named_test() == []
    assert pool.begin(lambda: threading.current_thread().name).result() in ("test_0", threading.current_thread().name)
    assert 1 <= len(named_test()) <= 2
    pool.end()
    pool.end()
    assert named_test() == []


def test_threads_that_are_dropped_end() -> None:
    pool = ProcessThreads(2, "test")
    pool.begin(str).result()
    started = named_test()
    del pool
    gc.collect()
    for thread in started:
        thread.join(60)
    assert named_test() == []


@pytest.mark.parametrize("end", [True, False])
def test_without_threads_it_is_done_by_who_asks(end: bool) -> None:
    pool = ProcessThreads(1 if end else 0, "test")
    if end:
        pool.end()
    assert pool.begin(threading.get_ident).result() == threading.get_ident()
    assert named_test() == []


def test_what_no_thread_has_begun_is_done_by_who_asks(threads: ProcessThreads, busy: Work[str]) -> None:
    assert threads.begin(threading.get_ident).result() == threading.get_ident()


def test_what_is_done_in_advance_is_done_once(threads: ProcessThreads, busy: Work[str]) -> None:
    done: list[int] = []
    work = threads.begin(lambda: done.append(1))
    work.take_over()
    work.take_over()
    work.result()
    assert done == [1]


def test_an_error_waits_for_who_asks(threads: ProcessThreads, busy: Work[str]) -> None:
    work = threads.begin(lambda: 1 / 0)
    work.take_over()
    with pytest.raises(ZeroDivisionError):
        work.result()


def test_what_was_dropped_is_not_begun() -> None:
    pool, go_on, done = ProcessThreads(1, "test"), threading.Event(), list[int]()
    first = pool.begin(lambda: go_on.wait(60))
    dropped = pool.begin(lambda: done.append(1))
    dropped.drop()
    go_on.set()
    assert first.result() is True
    pool.end()
    assert done == []


def test_nobody_waits_for_work_that_the_end_of_the_threads_has_cancelled() -> None:
    pool, go_on = ProcessThreads(1, "test"), threading.Event()
    pool.begin(lambda: go_on.wait(60))
    waiting = pool.begin(lambda: "done")
    ending = threading.Thread(target=pool.end)
    ending.start()
    go_on.set()
    ending.join(60)
    assert waiting.result() == "done"


@needs_fork
def test_threads_are_started_anew_in_a_fork_and_work_that_was_begun_is_done_again() -> None:
    pool, begun, go_on = ProcessThreads(1, "test"), threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        go_on.wait(60)
        return "done"

    running, waiting = pool.begin(work), pool.begin(os.getpid)
    assert begun.wait(60)

    def child() -> bool:
        faulthandler.dump_traceback_later(30, exit=True)
        go_on.set()
        running.drop()
        started = pool.begin(lambda: "in the fork").result() == "in the fork"
        return started and running.result() == "done" and waiting.result() == os.getpid()

    assert in_fork(child) == 0
    go_on.set()
    assert (running.result(), waiting.result()) == ("done", os.getpid())
    pool.end()


@needs_fork
def test_a_fork_does_not_end_threads_that_it_does_not_have(threads: ProcessThreads) -> None:
    threads.begin(str).result()

    def work() -> bool:
        faulthandler.dump_traceback_later(30, exit=True)
        threads.end()
        return True

    assert in_fork(work) == 0


def test_a_session_that_was_closed_is_gone_and_says_so() -> None:
    opened = Opened()
    gone = weakref.ref(opened)
    session = ProcessSession(opened, Opened)
    del opened
    session.close()
    session.close()
    assert gone() is None
    with pytest.raises(ToolkitError, match=r"this predictor was closed: open the bundle again with toolkit\.load"):
        session.get()


@needs_fork
def test_what_was_closed_stays_closed_in_a_fork() -> None:
    session = ProcessSession(Opened(), Opened)
    session.close()

    def work() -> bool:
        with pytest.raises(ToolkitError, match="was closed"):
            session.get()
        return True

    assert in_fork(work) == 0
