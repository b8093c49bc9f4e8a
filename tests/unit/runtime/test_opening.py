from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from toolkit.bundle import Bundle
from toolkit.bundle.writer import write_manifest
from toolkit.decoding_limits import MAX_PIXELS
from toolkit.errors import BundleError, ToolkitError
from toolkit.formats.onnx import OnnxFormat
from toolkit.runtime.opening import Opening, opened

FIRST = Opening(Path(), None, "cpu", 1, None, False, MAX_PIXELS, None)


def again(bundle: Path) -> Opening:
    """How to open what was opened once."""
    made = opened(replace(FIRST, path=bundle))
    return replace(FIRST, path=bundle).of(made.bundle, made.artifact)


def test_it_opens_what_it_is_told(colour_bundle: Path) -> None:
    made = opened(replace(FIRST, path=colour_bundle.parent, threads=2, spinning=True))
    assert (made.bundle.path, made.artifact.format) == (colour_bundle, "onnx")
    (session,) = made.sessions
    assert (session.threads, session.spinning, made.tuned) == (2, True, None)


def test_threads_do_not_spin_unless_asked_to(colour_bundle: Path) -> None:
    assert opened(replace(FIRST, path=colour_bundle)).sessions[0].spinning is False


def test_the_same_is_opened_again_from_any_folder(
    colour_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(colour_bundle.parent)
    opening = again(Path(colour_bundle.name))
    monkeypatch.chdir(tmp_path)
    assert opening.path == colour_bundle.resolve()
    assert opened(opening).artifact.format == "onnx"


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_that_moves_on_does_not_change_what_is_opened(colour_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(colour_bundle.parent)
    opening = again(tmp_path / "latest")
    (tmp_path / "latest").unlink()
    assert opened(opening).bundle.path == colour_bundle.resolve()


def test_another_bundle_in_its_place_is_refused(colour_bundle: Path) -> None:
    opening = again(colour_bundle)
    write_manifest(colour_bundle, Bundle.open(colour_bundle).manifest.model_copy(update={"name": "another"}))
    with pytest.raises(BundleError, match=r"is not the one that this predictor was loaded from.*Call toolkit\.load"):
        opened(opening)


def test_a_bundle_that_is_gone_is_said(colour_bundle: Path) -> None:
    opening = again(colour_bundle)
    colour_bundle.rename(colour_bundle.with_name("moved"))
    with pytest.raises(BundleError, match="there is no"):
        opened(opening)


def test_an_engine_that_cannot_be_told_to_spin(colour_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxFormat, "spins", False)
    with pytest.raises(ToolkitError, match=r"the 'onnx' artifact cannot be told.*OMP_WAIT_POLICY=PASSIVE"):
        opened(replace(FIRST, path=colour_bundle, spinning=False))
    opened(replace(FIRST, path=colour_bundle))
