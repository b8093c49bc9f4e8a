from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from toolkit.bundle.content import Content
from toolkit.errors import DeviceError, ExportError, MissingDependencyError
from toolkit.formats.base import Exported, ExportRequest, Facts
from toolkit.formats.torch_session import (
    ModuleSession,
    TorchFormat,
    call_on_device,
    check_device,
    device_name,
    full_float32,
    require_any_batch,
    torch_is_missing,
    torch_threads,
    uses_tf32,
)

REQUEST = ExportRequest("images", ("logits", "probabilities"), {"toolkit.run": "test"})
SAMPLE = torch.zeros(2, 3)


def both(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x, x.softmax(dim=1)


class InMemory(TorchFormat):
    """Writes nothing: what is opened is a function, and the metadata are those that the test gives."""

    name, family, suffix, saver = "memory", "memory", ".memory", "memory.save"
    portability = "same-machine"

    def __init__(self, module: Callable[..., Any] = both, stored: Mapping[str, str] = REQUEST.metadata) -> None:
        self._module, self._stored = module, stored
        self.saved: list[tuple[Path, Mapping[str, str]]] = []

    def save(self, deployable: nn.Module, sample: torch.Tensor, path: Path, metadata: Mapping[str, str]) -> None:
        self.saved.append((path, metadata))
        path.write_bytes(b"")

    def facts(self, path: Path) -> Facts:
        return Facts(producer="memory", metadata=self._stored)

    def open(self, content: Content, device: str, threads: int) -> ModuleSession:
        return ModuleSession(self._module, "memory", device, threads)


def test_what_was_saved_is_checked_and_says_where_it_can_be_used(tmp_path: Path) -> None:
    form = InMemory()
    assert form.export(nn.Identity(), SAMPLE, tmp_path / "model", REQUEST, None) == Exported(portability="same-machine")
    assert form.saved == [(tmp_path / "model", REQUEST.metadata)]
    assert (form.precision, form.engine, form.carries_code, form.unavailable()) == ("float32", "torch", True, None)


def test_metadata_that_were_not_stored_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"^memory\.save did not store the metadata that was asked for\.$"):
        InMemory(stored={}).export(nn.Identity(), SAMPLE, tmp_path / "model", REQUEST, None)


def test_a_batch_size_that_is_fixed_is_an_error(tmp_path: Path) -> None:
    def fixed(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return both(x[:1].expand(2, -1))

    with pytest.raises(ExportError, match=r"for a batch of 1 instead of .*: its batch size is fixed"):
        InMemory(fixed).export(nn.Identity(), SAMPLE, tmp_path / "model", REQUEST, None)


def test_outputs_of_another_type_are_an_error() -> None:
    session = ModuleSession(lambda x: (x.double(), x), "memory", "cpu", 1)
    with pytest.raises(ExportError, match="float64"):
        require_any_batch(session, SAMPLE, REQUEST)


def test_a_call_uses_its_threads_and_leaves_those_of_the_process() -> None:
    seen: list[int] = []

    def count(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(torch.get_num_threads())
        if len(seen) > 1:
            raise RuntimeError("broken")
        return both(x)

    before = torch.get_num_threads()
    session = ModuleSession(count, "memory", "cpu", before + 1)
    outputs = session.run(np.zeros((2, 3), np.float32))
    assert (seen, torch.get_num_threads()) == ([before + 1], before)
    assert {name: value.shape for name, value in outputs.items()} == {"logits": (2, 3), "probabilities": (2, 3)}
    with pytest.raises(RuntimeError, match="broken"):
        session.run(np.zeros((2, 3), np.float32))
    assert torch.get_num_threads() == before


def test_threads_are_put_back_even_after_an_error() -> None:
    before = torch.get_num_threads()
    inside = []

    def fail() -> None:
        with torch_threads(before + 1):
            inside.append(torch.get_num_threads())
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert (inside, torch.get_num_threads()) == ([before + 1], before)


def test_a_block_inside_another_ends_with_the_threads_of_the_outer_one() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        with torch_threads(before + 2):
            assert torch.get_num_threads() == before + 2
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_blocks_that_overlap_in_two_threads_leave_the_threads_of_the_process() -> None:
    before = torch.get_num_threads()
    first_in, second_in, seen = threading.Event(), threading.Event(), {}

    def first() -> None:
        with torch_threads(before + 1):
            first_in.set()
            assert second_in.wait(10)
            seen["first"] = torch.get_num_threads()

    def second() -> None:
        assert first_in.wait(10)
        with torch_threads(before + 2):
            second_in.set()
            one.join()
            seen["second"] = torch.get_num_threads()

    one, two = threading.Thread(target=first), threading.Thread(target=second)
    one.start()
    two.start()
    two.join()
    later = threading.Thread(target=lambda: seen.update(later=torch.get_num_threads()))
    later.start()
    later.join()
    assert seen == {"first": before + 1, "second": before + 2, "later": before}
    assert torch.get_num_threads() == before


def test_a_session_says_what_it_is() -> None:
    session = ModuleSession(both, "memory", "cpu", 3)
    assert (session.device, session.threads, session.engine) == ("cpu", 3, f"torch {torch.__version__} (memory)")


def test_a_device_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_device("it", "cpu")
    with pytest.raises(DeviceError, match="cannot run on 'tpu'"):
        check_device("it", "tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="no CUDA device"):
        check_device("it", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_device("it", "cuda")


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch_is_missing() is None
    monkeypatch.setitem(sys.modules, "torch", None)
    missing = torch_is_missing()
    assert missing is not None
    assert "torch is not installed" in missing
    with pytest.raises(MissingDependencyError, match="it needs torch"):
        check_device("it", "cpu")


class Event:
    """A CUDA event on a machine without CUDA: each is recorded a millisecond and a half after the one before."""

    log: ClassVar[list[str]] = []

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.log.append("event")

    def elapsed_time(self, last: Event) -> float:
        self.log.append("read")
        return 1.5


@pytest.mark.parametrize("asked", ["cuda", "cuda:1"])
def test_a_call_on_the_device_is_between_two_events_and_waits(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    log: list[str] = []
    moved = torch.zeros(2, 3)

    def module(batch: torch.Tensor) -> None:
        assert batch is moved
        assert torch.is_inference_mode_enabled()
        log.append("call")

    monkeypatch.setattr(Event, "log", log)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: log.append(f"wait for {device}"))
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext(log.append(f"on {device}")))
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device: moved if device == asked else self)
    call = call_on_device(module, np.zeros((2, 3), np.float32), asked, 1)
    assert log == []
    assert call() == 0.0015
    assert log == [f"on {asked}", "event", "call", "event", f"wait for {asked}", "read"]


def test_tf32_is_what_the_process_has_set() -> None:
    assert uses_tf32("cpu") is None
    with full_float32():
        assert uses_tf32("cuda") is uses_tf32("cuda:1") is False
        torch.backends.cudnn.allow_tf32 = True
        assert uses_tf32("cuda") is True
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = True
        assert uses_tf32("cuda") is True


def test_the_name_of_the_card_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", {"cuda": "Example GPU", "cuda:1": "Another GPU"}.__getitem__)
    named = [device_name(device) for device in ("cpu", "cuda", "cuda:1")]
    assert named == ["cpu", "cuda: Example GPU", "cuda:1: Another GPU"]
