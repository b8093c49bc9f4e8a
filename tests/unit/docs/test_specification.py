"""The reader on the page of the specification, which knows nothing of toolkit, over good and broken bundles."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pages import ROOT, fenced

from toolkit.bundle import Bundle
from toolkit.errors import BundleError

GOOD = ("colours: 3 labels, 1 artifacts\n", 0)


def read(folder: Path) -> tuple[str, int]:
    """Run the program of the page where toolkit cannot be imported."""
    blocked = "import sys; sys.modules['toolkit'] = None\n" + fenced("docs/bundle.md", "check_bundle.py")
    done = subprocess.run([sys.executable, "-c", blocked, str(folder)], capture_output=True, text=True, check=False)
    return done.stdout or done.stderr, done.returncode


def rename(folder: Path, name: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"][name] = manifest["files"].pop("README.md")
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def duplicate_key(folder: Path) -> None:
    text = (folder / "manifest.json").read_text(encoding="utf-8")
    (folder / "manifest.json").write_text('{"name": "other", ' + text.lstrip()[1:], encoding="utf-8")


def link(folder: Path) -> None:
    (folder / "README.md").rename(folder.parent / "elsewhere")
    (folder / "README.md").symlink_to(folder.parent / "elsewhere")


def other_version(folder: Path) -> None:
    text = (folder / "manifest.json").read_text(encoding="utf-8")
    (folder / "manifest.json").write_text(text.replace('"schema_version": 3', '"schema_version": 4'), encoding="utf-8")


BREAKS: dict[str, Callable[[Path], object]] = {
    "a changed file": lambda folder: (folder / "golden/000.bin").write_bytes(bytes(8 * 8 * 3)),
    "a cut file": lambda folder: (folder / "golden/000.bin").write_bytes(b""),
    "a missing file": lambda folder: (folder / "golden/000.bin").unlink(),
    "an added file": lambda folder: (folder / "golden/more.bin").write_bytes(b"more"),
    "an added folder": lambda folder: (folder / "more").mkdir(),
    "a link": link,
    "a key that stands twice": duplicate_key,
    "an unknown version": other_version,
    "a name that leads out": lambda folder: rename(folder, "../README.md"),
    "a name with a backslash": lambda folder: rename(folder, "a\\b"),
    "a device of Windows": lambda folder: rename(folder, "aux.txt"),
    "a name that ends in a dot": lambda folder: rename(folder, "a./b"),
    "a name that is too long": lambda folder: rename(folder, "a" * 101),
    "a name that differs in case": lambda folder: rename(folder, "MODEL.onnx"),
    "a file that is a folder": lambda folder: rename(folder, "golden"),
    "the manifest itself": lambda folder: rename(folder, "manifest.json"),
}


def test_a_good_bundle_passes(colour_bundle: Path) -> None:
    assert read(colour_bundle) == GOOD
    (colour_bundle / "MODEL_CARD.md").unlink()
    assert read(colour_bundle) == GOOD


def test_an_old_bundle_passes() -> None:
    assert read(ROOT / "tests" / "assets" / "bundles" / "version-1")[1] == 0


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_bundle_is_refused_by_the_page_and_by_toolkit(colour_bundle: Path, name: str) -> None:
    BREAKS[name](colour_bundle)
    said, code = read(colour_bundle)
    assert code == 1, said
    with pytest.raises(BundleError):
        Bundle.open(colour_bundle)
