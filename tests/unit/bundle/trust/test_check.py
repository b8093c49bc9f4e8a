"""One test per way in which a folder or a manifest is refused, and the file or field that the message names."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper

import toolkit
from tests.bundles import rewrite_golden
from toolkit.bundle import Bundle
from toolkit.bundle.trust.check import LARGEST_MANIFEST
from toolkit.bundle.writer import file_record
from toolkit.errors import BundleError, IntegrityError, ToolkitError

Change = Callable[[dict[str, Any]], None]


def edit(bundle: Path, change: Change) -> None:
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def record_again(bundle: Path, name: str) -> None:
    """Make the manifest agree with a file that a test has changed, as an attacker would who can write both."""
    record = file_record(bundle / name).model_dump()

    def change(manifest: dict[str, Any]) -> None:
        entries = [artifact for artifact in manifest["artifacts"] if artifact["file"] == name]
        for entry in entries:
            entry.update(record)
        if not entries:
            manifest["files"][name] = record

    edit(bundle, change)


ADDED = {
    "a file": lambda folder: (folder / "extra.bin").write_bytes(b"x"),
    "a hidden file": lambda folder: (folder / ".extra.bin").write_bytes(b"x"),
    "a file in golden": lambda folder: (folder / "golden" / "extra.bin").write_bytes(b"x"),
    "a manifest in golden": lambda folder: (folder / "golden" / "manifest.json").write_bytes(b"x"),
    "an empty folder": lambda folder: (folder / "extra.bin").mkdir(),
    "a folder with a file": lambda folder: (
        (folder / "extra.bin").mkdir(),
        (folder / "extra.bin" / "x").write_bytes(b"x"),
    ),
    "a link": lambda folder: (folder / "extra.bin").symlink_to(folder / "model.onnx"),
    "a dangling link": lambda folder: (folder / "extra.bin").symlink_to("nowhere"),
    "a pipe": lambda folder: os.mkfifo(folder / "extra.bin"),
}


@pytest.mark.parametrize("add", ADDED.values(), ids=ADDED.keys())
def test_what_the_manifest_does_not_list_is_refused(colour_bundle: Path, add: Callable[[Path], object]) -> None:
    add(colour_bundle)
    with pytest.raises(IntegrityError, match=r"(extra\.bin|golden/manifest\.json) is not listed in the manifest"):
        Bundle.open(colour_bundle)


def test_a_name_that_cannot_be_printed_is_still_named(colour_bundle: Path) -> None:
    (colour_bundle / "two\nlines").write_bytes(b"x")
    with pytest.raises(IntegrityError, match=r"two\\nlines' is not listed"):
        Bundle.open(colour_bundle)


@pytest.mark.parametrize(
    "name", ["model.onnx", "golden", "golden/000.bin", "MODEL_CARD.md", "README.md", "manifest.json"]
)
def test_a_link_is_refused_although_it_leads_to_the_very_file(colour_bundle: Path, tmp_path: Path, name: str) -> None:
    (colour_bundle / name).rename(tmp_path / "outside")
    (colour_bundle / name).symlink_to(tmp_path / "outside")
    with pytest.raises(IntegrityError, match=rf"{name} is a symbolic link"):
        Bundle.open(colour_bundle)


def test_a_folder_that_is_reached_by_a_link_opens(colour_bundle: Path, tmp_path: Path) -> None:
    """As services have it: current -> release-7. The link is the user's own and outside the bundle."""
    (tmp_path / "current").symlink_to(colour_bundle, target_is_directory=True)
    assert Bundle.open(tmp_path / "current").manifest.name == "colours"


@pytest.mark.parametrize("name", ["model.onnx", "golden/000.bin", "manifest.json", "manifest.json.sig"])
@pytest.mark.parametrize(("kind", "said"), [("pipe", "a device, pipe or socket"), ("folder", "a folder")])
def test_what_is_no_regular_file_is_refused_without_reading_it(
    colour_bundle: Path, name: str, kind: str, said: str
) -> None:
    path = colour_bundle / name
    path.unlink(missing_ok=True)
    (os.mkfifo if kind == "pipe" else os.mkdir)(path)
    with pytest.raises(IntegrityError, match=rf"{name} is {said}"):
        Bundle.open(colour_bundle)


@pytest.mark.skipif(not Path("/dev/zero").exists() or os.geteuid() != 0, reason="only root may make devices")
def test_a_device_is_refused(colour_bundle: Path) -> None:
    (colour_bundle / "golden" / "000.bin").unlink()
    try:
        os.mknod(colour_bundle / "golden" / "000.bin", 0o020644, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("this container may not make devices")
    with pytest.raises(IntegrityError, match=r"000\.bin is a device"):
        Bundle.open(colour_bundle)


def twice(manifest: dict[str, Any]) -> None:
    manifest["files"]["model.onnx"] = manifest["files"]["golden/000.bin"]


def two_of_a_format(manifest: dict[str, Any]) -> None:
    manifest["artifacts"].append({**manifest["artifacts"][0], "file": "other.onnx"})


def renamed(name: str) -> Change:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][name] = manifest["files"].pop("golden/000.bin")

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (twice, "'model.onnx' twice"),
        (renamed("MODEL.onnx"), "'MODEL.onnx' and 'model.onnx', which are the same name"),
        (renamed("golden/Expected.json"), "the same name on Windows and macOS"),
        (renamed("golden"), "'golden' as a"),
        (renamed("manifest.json"), "'manifest.json' as a file, which is a file of the bundle itself"),
        (renamed("manifest.json.sig"), "'manifest.json.sig' as a file, which is a file of the bundle itself"),
        (renamed("nul.bin"), "'nul.bin', which is a device on Windows"),
        (renamed("golden/000.bin "), "ends in a dot or a space"),
        (renamed("golden/\ud800"), r"a text holds the character U\+D800, which could change what a terminal shows"),
        (renamed("../000.bin"), "is not a path inside the bundle"),
        (renamed("golden/../000.bin"), "is not a path inside the bundle"),
    ],
)
def test_names_in_the_manifest_that_are_refused(colour_bundle: Path, change: Change, said: str) -> None:
    edit(colour_bundle, change)
    with pytest.raises((IntegrityError, BundleError), match=said):
        Bundle.open(colour_bundle)


def put(*path: str | int, value: object) -> Change:
    def change(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (put("artifacts", 0, "size_bytes", value=-1), "artifacts.0.size_bytes"),
        (put("artifacts", 0, "size_bytes", value=10**30), "artifacts.0.size_bytes"),
        (put("artifacts", 0, "sha256", value="f00"), "artifacts.0.sha256"),
        (put("artifacts", 0, "sha256", value="F" * 64), "artifacts.0.sha256"),
        (put("files", "golden/000.bin", "sha256", value=None), "files.golden/000.bin.sha256"),
        (put("artifacts", value={}), "artifacts"),
        (put("labels", value=[]), "labels"),
        (put("input", "normalization", "mean", value=["NaN", 0, 0]), "input.normalization.mean.0"),
        (put("input", "normalization", "std", value=[0.0, 1, 1]), "input.normalization.std.0"),
        (put("preprocessing", "height", value=0), "preprocessing.height"),
        (put("surprise", value=1), "surprise"),
    ],
)
def test_a_manifest_that_makes_no_sense_names_the_field(colour_bundle: Path, change: Change, field: str) -> None:
    edit(colour_bundle, change)
    with pytest.raises(BundleError, match=rf"manifest\.json is malformed at {field}"):
        Bundle.open(colour_bundle)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"schema_version": 2, "schema_version": 1}', "the key 'schema_version' stands twice"),
        (b'{"schema_version": 2, "name": NaN}', "NaN is no JSON number"),
        (b"[" * 50_000 + b"]" * 50_000, "nested too deeply"),
        (b"\xff\xfe", "can't decode"),
        (b"[]", "no schema version, so it is not the manifest of a bundle"),
        (b"7", "no schema version"),
        (b'{"schema_version": true}', "schema version True"),
        (b'{"schema_version": "2"}', "schema version '2'"),
    ],
)
def test_json_that_is_no_manifest_says_why(colour_bundle: Path, content: bytes, said: str) -> None:
    (colour_bundle / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=rf"manifest\.json .*{said}"):
        Bundle.open(colour_bundle)


def test_a_huge_manifest_is_not_read(colour_bundle: Path) -> None:
    with (colour_bundle / "manifest.json").open("r+b") as file:
        file.truncate(LARGEST_MANIFEST + 1)
    with pytest.raises(IntegrityError, match=rf"manifest\.json is larger than {LARGEST_MANIFEST} bytes"):
        Bundle.open(colour_bundle)


def test_a_manifest_with_random_damage_opens_or_says_why(colour_bundle: Path) -> None:
    """No damage is a traceback. What still opens has only other words in it, which nothing but a signature can tell."""
    content = (colour_bundle / "manifest.json").read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for position in random.integers(0, len(content), int(random.integers(1, 4))):
            damaged[position] = random.integers(0, 256)
        (colour_bundle / "manifest.json").write_bytes(damaged)
        try:
            opened = Bundle.open(colour_bundle)
        except ToolkitError:
            refused += 1
        else:
            assert opened.golden_images().shape == (3, 8, 8, 3)
    assert refused > 150


def keep_weights_in(bundle: Path, location: str) -> None:
    """Make model.onnx a file that reads its weights from ``location``, and the manifest agree with it."""
    model = onnx.load(bundle / "model.onnx")
    weights = next(entry for entry in model.graph.initializer if entry.name == "weights")
    external_data_helper.set_external_data(weights, location)
    (bundle.parent / "weights.bin").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    (bundle / "model.onnx").write_bytes(model.SerializeToString())
    record_again(bundle, "model.onnx")


@pytest.mark.parametrize(
    "location",
    ["../weights.bin", "/etc/passwd", "unlisted.bin", "golden/../../weights.bin", "*/_ORT_MEM_ADDR_/*", "", "."],
)
def test_an_onnx_file_that_keeps_weights_outside_is_refused(colour_bundle: Path, location: str) -> None:
    keep_weights_in(colour_bundle, location)
    with pytest.raises(IntegrityError, match=r"model\.onnx keeps weights in .*, which is no file of the bundle"):
        Bundle.open(colour_bundle)


def test_an_artifact_of_the_onnx_family_is_looked_through_whatever_its_file_is_called(colour_bundle: Path) -> None:
    keep_weights_in(colour_bundle, "/etc/passwd")
    (colour_bundle / "model.onnx").rename(colour_bundle / "model.bin")
    edit(colour_bundle, lambda manifest: manifest["artifacts"][0].update(file="model.bin"))
    with pytest.raises(IntegrityError, match=r"model\.bin keeps weights in '/etc/passwd'"):
        Bundle.open(colour_bundle)
    # A manifest that says another family gets past this check, and no further: no format opens the file.
    edit(colour_bundle, lambda manifest: manifest["artifacts"][0].update(family="other"))
    assert Bundle.open(colour_bundle).artifact().family == "other"
    with pytest.raises(BundleError, match="is of the family 'other', and that format reads 'onnx'"):
        toolkit.load(colour_bundle)


def test_an_onnx_file_that_is_no_artifact_is_looked_through_too(colour_bundle: Path) -> None:
    tensor = TensorProto(name="w", data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    model = onnx.ModelProto()
    model.graph.initializer.append(tensor)
    (colour_bundle / "golden" / "more.onnx").write_bytes(model.SerializeToString())
    record_again(colour_bundle, "golden/more.onnx")
    with pytest.raises(IntegrityError, match=r"more\.onnx keeps weights in '/etc/passwd'"):
        Bundle.open(colour_bundle)


def test_weights_in_a_listed_file_of_the_bundle_are_fine(
    colour_bundle: Path, colour_image: Callable[[str], np.ndarray]
) -> None:
    keep_weights_in(colour_bundle, "weights.bin")
    (colour_bundle.parent / "weights.bin").rename(colour_bundle / "weights.bin")
    record_again(colour_bundle, "weights.bin")
    assert toolkit.load(colour_bundle).predict([colour_image("red")])[0].label == "red"


def test_an_artifact_that_is_no_onnx_file_is_refused_before_an_engine_sees_it(colour_bundle: Path) -> None:
    (colour_bundle / "model.onnx").write_bytes(b"no model")
    record_again(colour_bundle, "model.onnx")
    with pytest.raises(BundleError, match=r"model\.onnx cannot be looked through"):
        Bundle.open(colour_bundle)


@pytest.mark.parametrize("name", ["README.md", "MODEL_CARD.md", "golden/expected.json"])
def test_a_bundle_whose_line_ends_git_has_changed_says_so(colour_bundle: Path, name: str) -> None:
    (colour_bundle / name).write_bytes((colour_bundle / name).read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(IntegrityError, match=rf"{name} has other line ends .* core\.autocrlf .* \.gitattributes"):
        Bundle.open(colour_bundle)


def test_a_file_that_nobody_listed_cannot_be_asked_for(colour_bundle: Path) -> None:
    bundle = Bundle.open(colour_bundle)
    assert bundle.file("golden/000.bin") == colour_bundle / "golden" / "000.bin"
    for name in ("manifest.json", "../outside", "golden"):
        with pytest.raises(IntegrityError, match="lists no file"):
            bundle.file(name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("cases", 0, "logits", value=["NaN", 0, 0]), "cases.0.logits.0"),
        (put("cases", 0, "logits", value=[1.0]), "has 1 logits, 3 probabilities, 3 labels"),
        (put("cases", value=[]), "cases"),
        (put("cases", 0, "logits", value=[1e39, 0, 0]), r"expected\.json is malformed at cases\.0\.logits\.0: Input"),
        (lambda golden: golden["cases"].append(golden["cases"][0]), "malformed: two of its cases are the same file"),
        (put("cases", 0, "kind", value="edge"), "malformed: its cases are not one image or more, followed by edge"),
        (put("labels", value=["red", "green", "blue"]), "have other labels or another size than its manifest"),
        (put("height", value=4), "have other labels or another size than its manifest"),
        (put("cases", 0, "file", value="../outside"), "lists no file '../outside'"),
        (put("cases", 0, "file", value="model.onnx"), "bytes, which are not 8 x 8 RGB pixels"),
    ],
)
def test_golden_samples_that_make_no_sense(colour_bundle: Path, change: Change, said: str) -> None:
    path = colour_bundle / "golden" / "expected.json"
    golden = json.loads(path.read_bytes())
    change(golden)
    path.write_text(json.dumps(golden))
    record_again(colour_bundle, "golden/expected.json")
    with pytest.raises(ToolkitError, match=said) as raised:
        Bundle.open(colour_bundle).golden_images()
    assert str(raised.value).isprintable()


def test_a_bundle_without_golden_samples_says_so(colour_bundle: Path) -> None:
    for path in (colour_bundle / "golden").iterdir():
        path.unlink()
    (colour_bundle / "golden").rmdir()
    (colour_bundle / "MODEL_CARD.md").unlink()
    kept = {path.name for path in colour_bundle.iterdir()}
    edit(
        colour_bundle,
        lambda manifest: (
            manifest.update(files={name: record for name, record in manifest["files"].items() if name in kept}) or None
        ),
    )
    with pytest.raises(BundleError, match="has no golden samples"):
        Bundle.open(colour_bundle).golden()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("labels", 0, value="x" * 1001), r"malformed at labels\.0: String should have at most 1000 characters"),
        (put("labels", 0, value="\x1b]0;owned\x07"), r"the text of 'labels' holds the character U\+001B"),
        (put("name", value="x" * 1001), r"malformed at name: String should have at most 1000 characters"),
        (put("name", value="a\u202eb"), r"the text of 'name' holds the character U\+202E"),
        (put("artifacts", 0, "producer", value="\x9b2J"), r"the text of 'producer' holds the character U\+009B"),
        (put("preprocessing", "height", value=200_000), "malformed at preprocessing.height"),
        (put("preprocessing", "width", value=2**40), "malformed at preprocessing.width"),
        (put("preprocessing", "crop_fraction", value=1e-9), "cut from an image with more than 65536 pixels a side"),
        (put("artifacts", 0, "opset", value=0), "malformed at artifacts.0.opset"),
        (put("artifacts", 0, "opset", value=10**30), "malformed at artifacts.0.opset"),
        (put("artifacts", 0, "ir_version", value=9.5), "malformed at artifacts.0.ir_version"),
        (put("artifacts", 0, "tolerance", "logits_relative", value=-1.0), "logits_relative of its tolerance is -1.0"),
        (put("artifacts", 0, "tolerance", "logits_absolute", value="Infinity"), "of its tolerance is inf"),
        (put("artifacts", 0, "tolerance", "self_relative", value="NaN"), "of its tolerance is nan"),
        (put("labels", value=["one"]), "malformed: the output logits has the shape"),
        (put("input", "shape", value=["N", 9, 9, 3]), "malformed: the input has the shape"),
        (put("input", "shape", 0, value=7), "malformed: the input has the shape"),
        (put("labels", value=["a", "b", "a"]), "malformed at labels: the label 'a' stands there twice"),
        (put("labels", value=["a", "\u00e9", "e\u0301"]), "malformed at labels: the label .* stands there twice"),
        (put("labels", 1, value="  "), "malformed at labels: the label '  ' is blank"),
        (put("outputs", value=[]), "malformed: its outputs are none, not logits and probabilities"),
        (lambda manifest: manifest["outputs"].pop(), r"malformed: its outputs are \['logits'\], not"),
        (two_of_a_format, "malformed: it has two artifacts of the format 'onnx'"),
        (put("artifacts", 0, "size_bytes", value=10**301), "the number 10{39} is too large: it has 302 digits"),
    ],
)
def test_values_that_no_bundle_has_are_a_sentence(colour_bundle: Path, change: Change, said: str) -> None:
    edit(colour_bundle, change)
    with pytest.raises(BundleError, match=said) as raised:
        Bundle.open(colour_bundle)
    assert str(raised.value).isprintable()


def test_golden_samples_are_of_bounded_size(colour_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.bundle.folder.LARGEST_GOLDEN", 100)
    with pytest.raises(BundleError, match=r"expected\.json is larger than 100 bytes"):
        Bundle.open(colour_bundle).golden()


@pytest.mark.parametrize(
    ("before", "after"),
    [('"height":8', '"height":0'), ('"red.png"', '"\\u001b[2J"'), ('"height":8', '"height":8.5')],
)
def test_golden_samples_with_other_values_than_toolkit_writes_are_a_sentence(
    colour_bundle: Path, before: str, after: str
) -> None:
    rewrite_golden(colour_bundle, lambda text: text.replace(before.replace(":", ": "), after.replace(":", ": "), 1))
    with pytest.raises(BundleError, match=r"the golden samples of .* cannot be read: "):
        Bundle.open(colour_bundle).golden()
