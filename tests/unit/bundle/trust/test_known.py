from __future__ import annotations

import multiprocessing
import os
import shutil
from pathlib import Path

import pytest

from toolkit.bundle import Bundle
from toolkit.bundle.recording import record_intended_use
from toolkit.bundle.trust import known
from toolkit.bundle.trust.archive import pack, unpack
from toolkit.bundle.trust.known import is_known, remember, state_folder
from toolkit.bundle.writer import write_manifest


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOOLKIT_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def own_bundle(colour_bundle: Path, state: Path) -> Path:
    """Return a bundle that this user has exported."""
    write_manifest(colour_bundle, Bundle.open(colour_bundle).manifest, own=True)
    return colour_bundle


def test_what_was_remembered_is_known_and_nothing_else(state: Path) -> None:
    assert not is_known(b"{}")
    assert remember(b"{}")
    assert is_known(b"{}")
    assert not is_known(b"{ }")
    assert [path.read_bytes() for path in (state / "bundles").iterdir()] == [b""]
    assert (state / "bundles").stat().st_mode & 0o777 == 0o700


def test_the_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TOOLKIT_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder() == tmp_path / "toolkit"
    monkeypatch.setenv("TOOLKIT_STATE", "~/elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_folder() == tmp_path / "elsewhere"


def test_without_a_home_nothing_is_remembered_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    # What platformdirs gives where neither the environment nor the system knows a home.
    monkeypatch.setattr(known, "state_folder", lambda: Path("~/.local/state/toolkit"))
    assert not remember(b"{}")
    assert not is_known(b"{}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "link", "written by others", "of another user"])
def test_a_folder_that_is_not_this_users_alone_says_nothing(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    remember(b"{}")
    folder = state / "bundles"
    if kind == "written by others":
        folder.chmod(0o770)
    elif kind == "of another user":
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    else:
        folder.rename(tmp_path / "away")
        if kind == "file":
            folder.write_bytes(b"")
        else:
            folder.symlink_to(tmp_path / "away")
    assert not is_known(b"{}")
    assert not remember(b"{ }")


def test_an_entry_that_is_no_plain_file_says_nothing(state: Path) -> None:
    remember(b"{}")
    (entry,) = (state / "bundles").iterdir()
    entry.rename(entry.with_name("away"))
    entry.symlink_to("away")
    assert not is_known(b"{}")


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_that_cannot_be_written_makes_nothing_fail(state: Path) -> None:
    state.mkdir(mode=0o500)
    assert not remember(b"{}")
    assert not is_known(b"{}")


def test_a_full_disk_makes_nothing_fail(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "touch", full)
    assert not remember(b"{}")
    assert not is_known(b"{}")


def test_the_oldest_are_forgotten_first(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "MOST_KNOWN", 3)
    for number in range(5):
        content = b"%d" % number
        remember(content)
        os.utime(state / "bundles" / known._name(content), (number, number))
    assert [is_known(b"%d" % number) for number in range(5)] == [False, False, True, True, True]


def _remember_many(first: int) -> None:
    for number in range(first, first + 50):
        assert remember(b"%d" % number)


def test_two_processes_may_remember_at_once(state: Path) -> None:
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_remember_many, args=(first,)) for first in (0, 25)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert all(is_known(b"%d" % number) for number in range(75))


def test_an_own_bundle_stays_so_where_it_is_moved_and_copied(own_bundle: Path, tmp_path: Path) -> None:
    assert Bundle.open(own_bundle).trusted
    shutil.copytree(own_bundle, tmp_path / "copy")
    assert Bundle.open(tmp_path / "copy").trusted
    own_bundle.rename(tmp_path / "moved")
    assert Bundle.open(tmp_path / "moved").trusted
    packed = pack(tmp_path / "moved", tmp_path / "packed.tar")
    assert Bundle.open(unpack(packed, tmp_path / "unpacked")).trusted


def test_an_own_bundle_stays_so_when_its_manifest_is_rewritten(own_bundle: Path) -> None:
    record_intended_use(own_bundle, "Tiles.")
    assert Bundle.open(own_bundle).manifest.intended_use == "Tiles."
    assert Bundle.open(own_bundle).trusted


def test_a_strangers_bundle_does_not_become_own_when_its_manifest_is_rewritten(colour_bundle: Path) -> None:
    record_intended_use(colour_bundle, "Tiles.")
    assert not Bundle.open(colour_bundle).trusted
    assert Bundle.open(colour_bundle, allow_code=True).trusted


def test_an_own_bundle_that_somebody_edits_is_a_strangers(own_bundle: Path) -> None:
    manifest = own_bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"colours"', '"colour"', 1))
    assert not Bundle.open(own_bundle).trusted
