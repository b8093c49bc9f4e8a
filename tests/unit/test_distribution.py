"""One name to install by, wherever a person is told to: in messages, in documents, and in every bundle that ships."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolkit.distribution import DISTRIBUTION, NO_ONNXRUNTIME, install_hint, pip_install

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
STRAY = re.compile(
    r"(?<![\w-])toolkit\[\w"  # an extra of somebody else's package
    r"|pip install [^\n`#]*?(?<![\w./-])toolkit(?![\w/.-])"
    r"|dependencies = \[[^\]]*[\"']toolkit[\"'\[<>=~! ]"
)
EXTRA = re.compile(rf"{re.escape(DISTRIBUTION)}\[([\w,-]+)\]")


def documents() -> Iterator[Path]:
    """Everything that tells a person or an installer what to install, but for what an older version has written."""
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/**/*.md", "examples/**/*.md", ".github/**/*.*"):
        yield from ROOT.glob(pattern)
    yield from ROOT.glob("tests/assets/*/pyproject.toml")


def sources() -> list[Path]:
    return sorted((ROOT / "toolkit").rglob("*.py"))


def test_it_is_the_name_of_the_project() -> None:
    assert PROJECT["name"] == DISTRIBUTION


def test_what_a_person_types() -> None:
    assert pip_install("onnx") == "pip install onnx"
    assert install_hint() == "pip install vision-deploy-toolkit"
    assert install_hint("sign") == "pip install 'vision-deploy-toolkit[sign]'"
    assert NO_ONNXRUNTIME == (
        "onnxruntime is not installed: pip install 'vision-deploy-toolkit[cpu]' (or 'vision-deploy-toolkit[gpu]')"
    )


@pytest.mark.parametrize(
    ("text", "stray"),
    [
        ("pip install toolkit", True),
        ("`pip install 'toolkit[cpu]'`", True),
        ("a service installs `toolkit[gpu]`", True),
        ("pip install --upgrade toolkit and the engine", True),
        ('dependencies = ["toolkit"]', True),
        ('dependencies = ["numpy", "toolkit>=0.2"]', True),
        ("pip install 'vision-deploy-toolkit[cpu]'", False),
        ("pip install vision-deploy-toolkit  # the command is toolkit", False),
        ("`pip install onnx`, then toolkit verify", False),
        ("pip install ./toolkit/dist/x.whl", False),
        ('dependencies = ["vision-deploy-toolkit"]', False),
    ],
)
def test_a_stray_name_is_seen(text: str, stray: bool) -> None:
    assert bool(STRAY.search(text)) is stray


def test_no_source_spells_out_how_to_install() -> None:
    strays = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sources()
        for line in path.read_text(encoding="utf-8").splitlines()
        if STRAY.search(line) or ("pip install" in line and path.name != "distribution.py")
    ]
    assert strays == []


def test_every_extra_that_a_message_names_exists() -> None:
    calls = [call for path in sources() for call in re.findall(r"install_hint\(([^)*]*)\)", path.read_text("utf-8"))]
    named = {extra for call in calls for extra in re.findall(r"['\"]([\w-]+)['\"]", call)}
    assert {"cpu", "gpu", "train", "sign", "openvino"} <= named
    assert named <= PROJECT["optional-dependencies"].keys()


def test_documents_name_the_distribution_and_extras_that_exist() -> None:
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in documents()}
    assert {"README.md", "CHANGELOG.md", "tests/assets/example_format/pyproject.toml"} <= texts.keys()
    assert [name for name, text in texts.items() if STRAY.search(text)] == []
    named = {extra for text in texts.values() for extras in EXTRA.findall(text) for extra in extras.split(",")}
    assert named <= PROJECT["optional-dependencies"].keys()


def test_a_bundle_names_it(colour_bundle: Path) -> None:
    texts = {path.name: path.read_bytes().decode("utf-8", "replace") for path in colour_bundle.rglob("*.*")}
    assert install_hint("cpu") in texts["MODEL_CARD.md"]
    assert [name for name, text in texts.items() if STRAY.search(text)] == []
