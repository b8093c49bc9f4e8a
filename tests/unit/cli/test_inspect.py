from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
