"""Each record of a run and of a bundle empty, cut and of wrong types, before each command that reads it.

The commands run as forks of a process that has imported nothing heavy, and import nothing heavy before they say it.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import NOTHING_HEAVY, Commands, Done
from daily import daily
from pointed_at import write_whole_run

HEAVY = {"torch", "torchvision", "timm", "onnxruntime"}
BUNDLE_COMMANDS = ("inspect", "selftest", "card", "pack", "verify artifacts/tiny/bundle", "predict tiny photo.png")
READ_BY = {
    "recipe.toml": ("export", "verify", "bench", "report"),
    "run.json": ("export", "verify", "bench", "report"),
    "evaluation.json": ("report",),
    "history.csv": ("report",),
    "verify/parity.json": ("report",),
    "bench/bench.json": ("report",),
    "bundle/manifest.json": (*BUNDLE_COMMANDS, "bench", "sign --key ours.pem"),
    "bundle/golden/expected.json": ("selftest", "verify artifacts/tiny/bundle"),
}
"""File to the commands that read it before they do anything that takes long."""


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def wrong_types(content: bytes) -> bytes:
    """Turn every number into a list, and a value of the top level into an object."""
    if content.lstrip()[:1] != b"{":
        return content.replace(b"seed = 0", b"seed = [0]").replace(b"1,1,2.0", b"one,1,[]")
    return json.dumps(_twisted(json.loads(content))).encode()


def _twisted(value: object) -> object:
    if isinstance(value, dict):
        return {name: _twisted(inner) for name, inner in value.items()}
    return [value] if isinstance(value, int | float) else value


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": cut,
    "wrong types": wrong_types,
    "another kind": lambda content: b"[1, 2]",
    "null": lambda content: b"null",
    "not UTF-8": lambda content: b"\xff\xfe" + content,
    "binary": lambda content: bytes(range(256)),
    "too deep": lambda content: b"[" * 100_000,
}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a process is forked")


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    shared = Commands(NOTHING_HEAVY)
    yield shared
    shared.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, colour_bundle_once: Path) -> Path:
    """The folder above ``artifacts``."""
    folder = tmp_path_factory.mktemp("whole")
    write_whole_run(folder / "artifacts", colour_bundle_once)
    (folder / "photo.png").write_bytes(b"no picture")
    return folder


def require_sentence(done: Done, commands: Commands) -> None:
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("toolkit: ")
    assert len(done.stderr) < 2000
    assert sorted(HEAVY & commands.modules) == []


@pytest.mark.parametrize("damage", daily(DAMAGES, "empty", "cut", "wrong types"))
@pytest.mark.parametrize(("record", "line"), [(record, line) for record, lines in READ_BY.items() for line in lines])
def test_a_damaged_record_is_one_sentence(
    commands: Commands, whole: Path, here: Path, record: str, line: str, damage: str
) -> None:
    shutil.copytree(whole, here, symlinks=True, dirs_exist_ok=True)
    target = here / "artifacts" / "tiny" / record
    target.write_bytes(DAMAGES[damage](target.read_bytes()))
    done = commands.run(here, *line.split())
    require_sentence(done, commands)
    assert target.name in done.stderr or "golden" in done.stderr


@pytest.mark.exhaustive
@pytest.mark.parametrize(("record", "line"), [(record, line) for record, lines in READ_BY.items() for line in lines])
def test_a_record_that_is_a_folder_is_one_sentence(
    commands: Commands, whole: Path, here: Path, record: str, line: str
) -> None:
    shutil.copytree(whole, here, symlinks=True, dirs_exist_ok=True)
    target = here / "artifacts" / "tiny" / record
    target.unlink()
    target.mkdir()
    require_sentence(commands.run(here, *line.split()), commands)


@pytest.mark.parametrize("damage", daily(DAMAGES, "empty", "cut", "wrong types"))
def test_a_damaged_recipe_of_an_interrupted_run(commands: Commands, whole: Path, here: Path, damage: str) -> None:
    recipe = here / "artifacts" / "half" / "recipe.toml"
    recipe.parent.mkdir(parents=True)
    content = DAMAGES[damage]((whole / "artifacts" / "tiny" / "recipe.toml").read_bytes())
    recipe.write_bytes(content)
    done = commands.run(here, "finetune", "--resume")
    require_sentence(done, commands)
    assert "recipe.toml" in done.stderr
