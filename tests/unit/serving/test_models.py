from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.bundles import change_weights
from tests.unit.serving.conftest import ONE_BY_ONE, Noted, finish
from toolkit.errors import BundleError, ToolkitError
from toolkit.runtime import Prediction
from toolkit.serving.hosted import Hosted
from toolkit.serving.interface import Limits, ModelState, Served
from toolkit.serving.models import ModelSet, name_of, versions_in
from toolkit.serving.refusals import NotReady, UnknownModel

Png = Callable[[str], bytes]


@pytest.fixture
def models(noted: Noted) -> ModelSet:
    Image.init()  # the first image of a process loads all that reads any, which is no part of a request's time here
    return ModelSet(ONE_BY_ONE, Limits(seconds=0.1), noted)


@pytest.fixture
def bad(colour_bundle: Path) -> Path:
    """A bundle that does not pass its golden samples."""
    change_weights(colour_bundle, lambda weights: weights * 3)
    return colour_bundle


def test_a_version_is_there_once_it_was_added(models: ModelSet, colour_bundle_once: Path, png: Png) -> None:
    async def work() -> None:
        models.expect("colours")
        assert not models.ready
        with pytest.raises(NotReady, match="no version of colours is ready") as refused:
            models.get("colours")
        assert refused.value.retry_after
        assert await models.add("colours", "1", colour_bundle_once) == ModelState("colours", "1", "READY")
        assert models.ready
        model = models.get("colours")
        assert (model.name, model.version, model.path) == ("colours", "1", colour_bundle_once)
        assert models.get("colours", "1") is model
        (outcome,) = await model.classify([png("green")])
        assert isinstance(outcome, Prediction)
        assert outcome.label == "green"
        models.taking = False
        assert not models.ready
        assert models.get("colours") is model, "what was taken is still answered"
        await models.close()

    finish(work())


def test_the_newest_version_answers_by_number_not_by_spelling(models: ModelSet, colour_bundle_once: Path) -> None:
    async def work() -> None:
        for version in ("9", "10", "2"):
            await models.add("colours", version, colour_bundle_once)
        assert models.get("colours").version == "10"
        assert models.get("colours", "2").version == "2"
        assert [state.version for state in models.index()] == ["2", "9", "10"]
        await models.close()

    finish(work())


def test_what_there_is_not_is_said(models: ModelSet, colour_bundle_once: Path) -> None:
    async def work() -> None:
        with pytest.raises(UnknownModel, match=r"^there is no model 'nope' here\.$"):
            models.get("nope")
        await models.add("colours", "1", colour_bundle_once)
        with pytest.raises(UnknownModel, match=r"^there is no model 'no\\npe' here: there is colours\.$"):
            models.get("no\npe")
        for version in ("2", "", "x", "1 "):
            with pytest.raises(UnknownModel, match=f"^there is no version '{version}' of colours here"):
                models.get("colours", version)
        await models.close()

    finish(work())


def test_a_bad_version_never_becomes_ready_and_says_why(
    models: ModelSet, colour_bundle_once: Path, bad: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        await models.add("colours", "1", colour_bundle_once)
        state = await models.add("colours", "2", bad)
        assert (state.version, state.state) == ("2", "UNAVAILABLE")
        assert "does not compute its golden samples" in state.reason
        assert models.index()[1] == replace(state, reason=state.reason.replace(str(bad), "version 2"))
        assert models.get("colours").version == "1"
        assert models.ready
        with pytest.raises(NotReady, match="version 2 of colours is not ready"):
            models.get("colours", "2")
        await models.remove("colours", "2")
        assert [one.version for one in models.index()] == ["1"]
        await models.close()

    finish(work())
    assert "colours version 2 is not served: " in caplog.text


def test_the_index_says_what_is_wrong_and_not_where_bundles_lie(
    models: ModelSet, colour_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (colour_bundle / "model.onnx").write_bytes(b"x" * (colour_bundle / "model.onnx").stat().st_size)

    async def work() -> None:
        await models.add("colours", "1", colour_bundle)
        await models.add("colours", "2", colour_bundle / "nothing")
        first, second = (state.reason for state in models.index())
        assert first.startswith("model.onnx is not the file that the manifest describes")
        assert second.startswith("there is no version 2.")
        await models.close()

    asyncio.run(work())
    assert str(colour_bundle / "model.onnx") in caplog.text  # whoever runs the server reads where


def test_what_is_no_bundle_at_all_is_a_bad_version_too(models: ModelSet, tmp_path: Path) -> None:
    async def work() -> None:
        state = await models.add("colours", "1", tmp_path)
        assert state.state == "UNAVAILABLE"
        assert str(tmp_path) in state.reason
        assert not models.ready

    finish(work())


def test_an_engine_that_raises_anything_is_a_reason_too(
    models: ModelSet, colour_bundle_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise MemoryError("of the GPU")

    monkeypatch.setattr("toolkit.serving.models.open_engines", broken)
    state = finish(models.add("colours", "1", colour_bundle_once))
    assert state.reason.endswith("could not be opened: MemoryError: of the GPU")


def test_a_version_that_is_no_number_is_refused(models: ModelSet, colour_bundle_once: Path) -> None:
    for version in ("0", "01", "-1", "1.0", "", "one"):
        with pytest.raises(ToolkitError, match="is no version: versions are whole numbers"):
            finish(models.add("colours", version, colour_bundle_once))


@pytest.mark.parametrize("replaced", [False, True], ids=["a newer one", "the same number"])
def test_one_version_takes_the_place_of_another_without_a_lost_request(
    models: ModelSet, colour_bundle_once: Path, png: Png, replaced: bool
) -> None:
    async def work() -> None:
        await models.add("colours", "1", colour_bundle_once)
        old = models.get("colours")
        stop = asyncio.Event()
        answered: list[object] = []

        async def client() -> None:
            while not stop.is_set():
                model = models.get("colours")
                await asyncio.sleep(0.01)  # its body is read
                answered.extend(await model.classify([png("red")]))

        clients = [asyncio.create_task(client()) for _ in range(8)]
        await asyncio.sleep(0.05)
        await models.add("colours", "1" if replaced else "2", colour_bundle_once)
        await models.remove("colours", "nope")
        if not replaced:
            await models.remove("colours", "1")
            assert [state.state for state in models.index()] == ["UNLOADING", "READY"]
        assert models.get("colours") is not old
        count = len(answered)
        while len(answered) < count + 20 or not old._closed:
            await asyncio.sleep(0.01)
        stop.set()
        await asyncio.gather(*clients)
        assert all(isinstance(one, Prediction) and one.label == "red" for one in answered)
        assert [state.version for state in models.index()] == ["1" if replaced else "2"]
        await models.close()

    finish(work())


def test_a_request_that_has_got_a_version_may_still_use_it(
    models: ModelSet, colour_bundle_once: Path, png: Png
) -> None:
    async def work() -> None:
        await models.add("colours", "1", colour_bundle_once)
        model: Hosted = models.get("colours")
        await models.remove("colours", "1")
        with pytest.raises(UnknownModel if not models._models["colours"] else NotReady):
            models.get("colours")
        (outcome,) = await model.classify([png("blue")])
        assert isinstance(outcome, Prediction)
        await models.close()
        assert model._closed

    finish(work())


class TestNames:
    def test_a_bundle_has_a_name_of_its_own(self, colour_bundle_once: Path) -> None:
        assert name_of(Served(colour_bundle_once)) == "colours"
        assert name_of(Served(colour_bundle_once, "mine")) == "mine"

    def test_a_folder_of_versions_has_its_own(self, colour_bundle_once: Path, tmp_path: Path) -> None:
        shutil.copytree(colour_bundle_once, tmp_path / "flowers" / "3")
        assert name_of(Served(tmp_path / "flowers")) == "flowers"

    @pytest.mark.parametrize("name", ["", "a/b", "a b", ".a", "ä", "a\n", "x" * 200])
    def test_a_name_that_cannot_stand_in_a_path_is_refused(self, colour_bundle_once: Path, name: str) -> None:
        with pytest.raises(ToolkitError, match=r"a model cannot be called .* on a server: say NAME="):
            name_of(Served(colour_bundle_once, name))

    def test_where_there_is_no_bundle_there_is_no_name(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(BundleError):
            name_of(Served(tmp_path))


class TestVersions:
    def test_they_are_sorted_by_number(self, tmp_path: Path) -> None:
        for name in ("10", "9", "latest", "01", "0", "x1"):
            (tmp_path / name).mkdir()
        (tmp_path / "11").touch()
        found = versions_in(tmp_path)
        assert found is not None
        assert list(found) == ["9", "10"]

    def test_an_empty_folder_has_none_yet(self, tmp_path: Path) -> None:
        assert versions_in(tmp_path) == {}

    def test_a_bundle_and_anything_else_are_no_such_folder(self, colour_bundle_once: Path, tmp_path: Path) -> None:
        assert versions_in(colour_bundle_once) is None
        assert versions_in(tmp_path / "nope") is None
        (tmp_path / "photos").mkdir()
        assert versions_in(tmp_path) is None
