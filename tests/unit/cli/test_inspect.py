from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from toolkit.bundle import read_manifest
from toolkit.bundle.writer import write_manifest
from toolkit.preprocess import DECODE_RULES

Run = Callable[..., tuple[int, str, str]]


def test_inspect_tells_a_person(run: Run, colour_bundle: Path) -> None:
    code, out, _ = run("inspect", colour_bundle)
    assert code == 0
    for part in (
        "3: blue, green, red",
        "squash to 8 x 8, bilinear",
        "uint8 [N, 8, 8, 3]",
        "not verified yet",
        "match their SHA-256",
    ):
        assert part in out


def test_inspect_prints_the_manifest_as_it_is(run: Run, colour_bundle: Path) -> None:
    _, out, _ = run("inspect", colour_bundle, "--json")
    assert out == (colour_bundle / "manifest.json").read_text()


def test_inspect_refuses_a_damaged_bundle(run: Run, colour_bundle: Path) -> None:
    model = colour_bundle / "model.onnx"
    model.write_bytes(model.read_bytes()[:-5])
    code, _, err = run("inspect", colour_bundle)
    assert code == 2
    assert "model.onnx has" in err


def test_inspect_says_that_large_jpegs_are_decoded_at_a_reduced_size(run: Run, colour_bundle: Path) -> None:
    assert "reduced size" not in run("inspect", colour_bundle)[1]
    manifest = read_manifest(colour_bundle)
    preprocessing = manifest.preprocessing.model_copy(update={"decode": DECODE_RULES["reduced"]})
    write_manifest(colour_bundle, manifest.model_copy(update={"preprocessing": preprocessing}))
    assert "squash to 8 x 8, bilinear, large JPEGs decoded at a reduced size" in " ".join(
        run("inspect", colour_bundle)[1].split()
    )
