from __future__ import annotations

import pytest

from toolkit.bundle.trust.names import name_problem, names_problem


@pytest.mark.parametrize(
    "name", ["model.onnx", "golden/000.bin", "MODEL_CARD.md", "模型.onnx", "console.txt", "com10", "a b", ".hidden"]
)
def test_names_that_mean_the_same_everywhere(name: str) -> None:
    assert name_problem(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "../model.onnx",
        "golden/../../x",
        "golden//000.bin",
        "golden/",
        "./model.onnx",
        "golden\\000.bin",
        "C:\\x",
    ],
)
def test_paths_that_are_not_inside(name: str) -> None:
    assert name_problem(name) == "is not a path inside the bundle"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nul", "'nul', which is a device on Windows"),
        ("NUL.onnx", "'NUL.onnx', which is a device"),
        ("golden/Com1.tar.gz", "'Com1.tar.gz', which is a device"),
        ("lpt¹", "is a device"),
        ("aux .bin", "is a device"),
        ("C:model.onnx", "a character that file names cannot have everywhere"),
        ("what?.onnx", "a character"),
        ("two\nlines", "a character"),
        ("zero\0", "a character"),
        ("half\ud800", "a character"),
        ("right\u202eto-left", "a character"),
        ("model.onnx.", "ends in a dot or a space"),
        ("golden /000.bin", "ends in a dot or a space"),
        ("x" * 101, "is longer than 100 bytes"),
        ("é" * 51, "is longer than 100 bytes"),
    ],
)
def test_names_that_some_system_cannot_have(name: str, reason: str) -> None:
    assert reason in (name_problem(name) or "")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a", "b", "a"], "'a' twice"),
        (["model.onnx", "Model.ONNX"], "'Model.ONNX' and 'model.onnx', which are the same name on Windows and macOS"),
        (["golden/000.bin", "Golden/001.bin"], "'Golden' and 'golden', which are the same name"),
        (["caf\u00e9", "cafe\u0301"], "the same name on Windows and macOS"),
        (["straße", "STRASSE"], "the same name"),
        (["golden", "golden/000.bin"], "'golden' as a folder, which is a file already"),
        (["golden/000.bin", "golden"], "'golden' as a file, which is a folder already"),
        (["manifest.json"], "'manifest.json' as a file, which is a file of the bundle itself already"),
        (["MANIFEST.json"], "'MANIFEST.json' and 'manifest.json', which are the same name"),
        (["manifest.json/x"], "'manifest.json' as a folder"),
        (["fine", "../x"], "'../x', which is not a path inside the bundle"),
    ],
)
def test_names_that_cannot_stand_together(names: list[str], reason: str) -> None:
    assert reason in (names_problem(names, own=["manifest.json"]) or "")


def test_names_that_can() -> None:
    assert (
        names_problem(["model.onnx", "golden/000.bin", "golden/001.bin", "golden/more/000.bin"], own=["manifest.json"])
        is None
    )
