"""The walk over what is installed, on distributions that are made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.deploy.pinned import pinned
from toolkit.distribution import DISTRIBUTION
from toolkit.errors import MissingDependencyError

Installed = dict[str, tuple[str, list[str]]]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Return what makes these, name to version and requirements, the only packages there are."""

    def make(packages: Installed) -> None:
        for name, (version, required) in packages.items():
            info = tmp_path / f"{name.replace('-', '_')}-{version.partition('+')[0]}.dist-info"
            info.mkdir()
            lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
            lines += [f"Requires-Dist: {each}" for each in required]
            (info / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
        monkeypatch.setattr("sys.path", [str(tmp_path)])

    return make


def test_what_is_needed_is_followed(install: object) -> None:
    install(  # type: ignore[operator]
        {
            DISTRIBUTION: (
                "1.0",
                [
                    "numpy>=1.26",
                    "typer (>=0.15)",
                    "onnxruntime>=1.20; extra == 'cpu'",
                    'grpcio[protobuf]>=1; (sys_platform != "win32") and extra == "serve"',
                    "torch>=2; extra == 'train'",
                    "nowhere>=1",
                ],
            ),
            "numpy": ("2.4.6", []),
            "typer": ("0.29.2", ["Rich_Extra.Name>=1", "click!=8.0,>=7; python_version >= '3.8'"]),
            "rich-extra-name": ("3.0", ["typer"]),  # in a circle
            "click": ("8.5.1", ["colorama; platform_system == 'Windows'"]),
            "onnxruntime-gpu": ("1.31.1+cu13", ["numpy", "gpu-things; extra == 'cuda'"]),
            "grpcio": ("1.85.3", ["protobuf>=6; extra == 'protobuf'", "other; extra == 'other'"]),
            "protobuf": ("7.36.2", []),
            "other": ("1", []),
            "gpu-things": ("1", []),
            "torch": ("2.14.1", []),
        }
    )
    assert pinned(["cpu", "serve"]) == {
        "click": "8.5.1",
        "grpcio": "1.85.3",
        "numpy": "2.4.6",
        "onnxruntime": "1.31.1",
        "protobuf": "7.36.2",
        "rich-extra-name": "3.0",
        "typer": "0.29.2",
    }
    assert list(pinned([])) == ["click", "numpy", "rich-extra-name", "typer"]


def test_an_extra_that_there_is_not_brings_nothing(install: object) -> None:
    install({DISTRIBUTION: ("1.0", ["numpy"]), "numpy": ("2.4.6", [])})  # type: ignore[operator]
    assert pinned(["cpu", "nope"]) == {"numpy": "2.4.6"}


def test_without_an_installation_it_says_so(install: object) -> None:
    install({"numpy": ("2.4.6", [])})  # type: ignore[operator]
    with pytest.raises(MissingDependencyError, match="toolkit is not installed as a package here: pip install"):
        pinned(["cpu"])
