from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from toolkit.runtime import load
from toolkit.serving.interface import ModelState, Served
from toolkit.serving.watch import Watcher, Watching, watch


class Versions:
    """Models that note what is asked of them; a bundle is opened as it would be, and its golden samples run."""

    def __init__(self) -> None:
        self.states: dict[str, ModelState] = {}
        self.calls: list[str] = []
        self.error: Exception | None = None

    async def add(self, name: str, version: str, path: Path) -> ModelState:
        self.calls.append(f"add {version}")
        if self.error is not None:
            raise self.error
        try:
            with load(path, threads=1) as predictor:
                reason = "; ".join(predictor.selftest().failures)
        except Exception as error:
            reason = str(error)
        self.states[version] = ModelState(name, version, "UNAVAILABLE" if reason else "READY", reason)
        return self.states[version]

    async def remove(self, name: str, version: str) -> None:
        self.calls.append(f"remove {version}")
        if self.error is not None:
            raise self.error
        del self.states[version]

    def index(self) -> Sequence[ModelState]:
        return list(self.states.values())

    @property
    def ready(self) -> list[str]:
        return [version for version, state in self.states.items() if state.state == "READY"]


class Folder:
    """A folder of versions with its watcher."""

    def __init__(self, path: Path, bundle: Path, watching: Watching) -> None:
        self.path, self.bundle = path, bundle
        self.models = Versions()
        self.path.mkdir()
        self.watcher = Watcher(self.models, Served(self.path, "cats"), watching)

    def put(self, version: str) -> Path:
        return Path(shutil.copytree(self.bundle, self.path / version))

    def look(self, times: int = 2) -> list[str]:
        """Look so often, and return what was asked of the models meanwhile."""
        before = len(self.models.calls)

        async def looks() -> None:
            for _ in range(times):
                await self.watcher.look()

        asyncio.run(looks())
        return self.models.calls[before:]


@pytest.fixture
def folder(tmp_path: Path, colour_bundle_once: Path) -> Folder:
    return Folder(tmp_path / "versions", colour_bundle_once, Watching(seconds=1, patience=5))


def test_a_version_is_taken_when_two_looks_saw_the_same(folder: Folder) -> None:
    assert folder.look(3) == []
    folder.put("1")
    assert folder.look(1) == []
    assert folder.look(1) == ["add 1"]
    assert folder.look(5) == []
    assert folder.models.ready == ["1"]


def test_the_old_one_goes_after_the_new_one_serves(folder: Folder) -> None:
    folder.put("1")
    folder.look()
    folder.put("2")
    assert folder.look() == ["add 2", "remove 1"]
    assert folder.models.ready == ["2"]
    assert folder.look(5) == []


def test_ten_is_newer_than_nine(folder: Folder) -> None:
    for version in ("9", "10"):
        folder.put(version)
    assert folder.look(5) == ["add 10"]


def test_versions_that_serve_when_the_watch_begins_are_taken_as_they_are(folder: Folder) -> None:
    for version in ("1", "2"):
        folder.put(version)
        folder.models.states[version] = ModelState("cats", version, "READY")
    folder.models.states["3"] = ModelState("dogs", "3", "READY")  # another model's
    assert folder.look(5) == ["remove 1"]


def test_a_bad_version_never_serves_and_is_tried_once(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    folder.put("1")
    folder.look()
    (folder.put("2") / "model.onnx").write_bytes(b"x" * (folder.bundle / "model.onnx").stat().st_size)
    assert folder.look(9) == ["add 2"]
    assert folder.models.ready == ["1"]
    assert folder.models.states["2"].state == "UNAVAILABLE"
    assert "SHA-256" in folder.models.states["2"].reason
    assert caplog.records == []  # the models say it, who know the reason


def test_a_bad_version_that_is_repaired_is_tried_again(folder: Folder) -> None:
    folder.put("1")
    folder.look()
    broken = folder.put("2") / "model.onnx"
    broken.write_bytes(b"x" * broken.stat().st_size)
    folder.look(5)
    shutil.copy2(folder.bundle / "model.onnx", broken)
    assert folder.look() == ["add 2", "remove 1"]


def test_a_bad_version_that_is_deleted_leaves_the_index(folder: Folder) -> None:
    folder.put("1")
    folder.look()
    broken = folder.put("2") / "model.onnx"
    broken.write_bytes(b"x" * broken.stat().st_size)
    folder.look()
    shutil.rmtree(folder.path / "2")
    assert folder.look() == ["remove 2"]
    assert list(folder.models.states) == ["1"]


def test_a_good_version_beside_a_bad_newer_one_is_taken(folder: Folder) -> None:
    broken = folder.put("2") / "model.onnx"
    broken.write_bytes(b"x" * broken.stat().st_size)
    folder.put("1")
    assert folder.look(5) == ["add 2", "add 1"]
    assert folder.models.ready == ["1"]


@pytest.mark.parametrize("missing", ["model.onnx", "manifest.json", "golden/expected.json"])
def test_a_version_that_is_still_copied_is_waited_for(
    folder: Folder, missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder.put("1")
    folder.look()
    (folder.put("2") / missing).unlink()
    assert folder.look(4) == []
    assert len([record for record in caplog.records if "not complete yet" in record.message]) == 1
    shutil.copy2(folder.bundle / missing, folder.path / "2" / missing)
    assert folder.look() == ["add 2", "remove 1"]


def test_a_file_that_still_grows_is_waited_for(folder: Folder) -> None:
    content = (folder.bundle / "model.onnx").read_bytes()
    growing = folder.put("1") / "model.onnx"
    for size in range(1, len(content), len(content) // 4):
        growing.write_bytes(content[:size])
        assert folder.look(2) == []
    growing.write_bytes(content)
    assert folder.look() == ["add 1"]


def test_a_copy_that_never_ends_is_a_bad_version_at_last(folder: Folder) -> None:
    folder.put("1")
    folder.look()
    (folder.put("2") / "model.onnx").unlink()
    assert folder.look(5) == []
    assert folder.look(3) == ["add 2"]
    assert "lacks model.onnx" in folder.models.states["2"].reason
    assert folder.look(9) == []


def test_deleting_the_newest_version_goes_back_to_the_one_before(folder: Folder) -> None:
    folder.put("1")
    folder.look()
    folder.put("2")
    folder.look()
    shutil.rmtree(folder.path / "2")
    assert folder.look() == ["add 1", "remove 2"]


def test_a_folder_that_is_emptied_or_lost_leaves_what_serves(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    folder.put("1")
    folder.look()
    shutil.rmtree(folder.path / "1")
    assert folder.look(3) == []
    folder.path.rmdir()
    assert folder.look(3) == []
    assert folder.models.ready == ["1"]
    said = [record.message for record in caplog.records]
    assert len(said) == 2  # each once
    assert "holds no version any more" in said[0]
    assert "cannot be read" in said[1]
    folder.path.mkdir()
    folder.put("2")
    assert folder.look() == ["add 2", "remove 1"]


def test_a_version_that_is_changed_in_place_goes_on_as_it_was(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    folder.put("1")
    folder.look()
    (folder.path / "1" / "model.onnx").write_bytes(b"another")
    assert folder.look(4) == []
    assert folder.models.ready == ["1"]
    (record,) = caplog.records
    assert "version 1 of cats has changed since it was opened" in record.message


def test_what_is_no_version_is_said_once(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("v2", "02", ".3.new", "1.5", "0", "-1"):
        folder.put(name)
    (folder.path / "notes").mkdir()
    (folder.path / "4").write_text("a file")
    assert folder.look(4) == []
    said = [record.message for record in caplog.records]
    assert len(said) == 5  # of v2, 02, 1.5, 0 and -1
    assert all("is no version: folders of versions are called 1, 2, 3 and so on." in sentence for sentence in said)


def test_a_run_folder_and_a_link_to_a_folder_are_versions(folder: Folder, tmp_path: Path) -> None:
    (folder.path / "1").mkdir()
    shutil.copytree(folder.bundle, folder.path / "1" / "bundle")
    assert folder.look() == ["add 1"]
    elsewhere = shutil.copytree(folder.bundle, tmp_path / "elsewhere")
    os.symlink(elsewhere, folder.path / "2", target_is_directory=True)
    assert folder.look() == ["add 2", "remove 1"]


def test_several_versions_side_by_side(tmp_path: Path, colour_bundle_once: Path) -> None:
    folder = Folder(tmp_path / "versions", colour_bundle_once, Watching(keep=2))
    for version in ("1", "2", "3"):
        folder.put(version)
    assert folder.look(5) == ["add 3", "add 2"]
    folder.put("4")
    assert folder.look(5) == ["add 4", "remove 2"]


@pytest.mark.parametrize("moment", ["add", "remove"])
def test_whatever_the_models_raise_the_watch_goes_on(
    folder: Folder, moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder.put("1")
    folder.look()
    folder.put("2")
    if moment == "add":
        folder.models.error = RuntimeError("no memory")
        assert folder.look(5) == ["add 2"]
        (record,) = caplog.records
        assert (record.levelno, "no memory" in str(record.exc_info)) == (logging.ERROR, True)
        assert folder.models.ready == ["1"]
    else:
        folder.look(1)
        folder.models.states["2"] = ModelState("cats", "2", "READY")
        folder.models.error = RuntimeError("cannot")
        assert folder.look(3) == ["remove 1"] * 3
        assert len(caplog.records) == 1
        folder.models.error = None
        assert folder.look(1) == ["remove 1"]


def test_a_fault_of_the_watch_is_said_once_and_ends_nothing(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder.put("1")
    with monkeypatch.context() as patch:
        patch.setattr(folder.models, "index", lambda: 1 / 0)
        assert folder.look(3) == []
    assert [record.exc_info is not None for record in caplog.records] == [True]
    assert folder.look(3) == ["add 1"]


def test_without_a_name_the_model_is_called_as_the_folder(tmp_path: Path, colour_bundle_once: Path) -> None:
    shutil.copytree(colour_bundle_once, tmp_path / "pets" / "1")
    models = Versions()

    async def until(reached: Callable[[], bool]) -> None:
        task = asyncio.create_task(watch(models, Served(tmp_path / "pets"), Watching(seconds=0.01)))
        async with asyncio.timeout(20):
            while not reached():
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(until(lambda: bool(models.ready)))
    assert models.states["1"].name == "pets"
