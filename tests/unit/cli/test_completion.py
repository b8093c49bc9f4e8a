from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.cli.completion import complete_format, complete_formats, complete_recipe, complete_tracker
from toolkit.errors import ToolkitError

PROGRAM = """
import atexit, sys
heavy = ("torch", "onnxruntime", "timm", "rich")
atexit.register(lambda: print("imported", *(name for name in heavy if name in sys.modules), file=sys.stderr))
from toolkit.cli.main import main
main([])
"""


def completed(folder: Path, *words: str) -> list[str]:
    """Ask as bash does, and assert that nothing heavy was imported for it."""
    environment = {
        "_TOOLKIT_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(("toolkit", *words)),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.split() == ["imported"], done.stderr
    return done.stdout.split()


@pytest.mark.skipif(sys.platform == "win32", reason="bash is asked for")
def test_commands_options_runs_formats_and_recipes_are_completed(tmp_path: Path) -> None:
    (tmp_path / "artifacts" / "mine").mkdir(parents=True)
    (tmp_path / "artifacts" / "mine" / "recipe.toml").touch()
    assert completed(tmp_path, "fin") == ["finetune"]
    assert completed(tmp_path, "finetune", "--backb") == ["--backbone"]
    assert completed(tmp_path, "export", "") == ["mine", "latest"]
    assert completed(tmp_path, "export", "--run", "m") == ["mine"]
    assert completed(tmp_path, "export", "--formats", "onnx,torch") == ["onnx,torchscript"]
    assert completed(tmp_path, "run", "--recipe", "dig") == ["digits"]
    assert completed(tmp_path, "bench", "--track", "m") == ["mlflow"]


def test_a_format_is_listed_once() -> None:
    assert "onnx,onnx" not in complete_formats("onnx,on")
    assert "onnx,onnx-int8" in complete_formats("onnx,on")
    assert complete_format("torchs") == ["torchscript"]
    assert complete_recipe("a") == ["auto"]
    assert complete_tracker("tensor") == ["tensorboard"]


def test_a_broken_package_says_nothing_into_a_line_that_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ToolkitError("the tracker 'x' of a-package cannot be loaded")

    for listed in ("formats.registry.formats", "trackers.registry.trackers"):
        monkeypatch.setattr(f"toolkit.{listed}", broken)
    assert complete_formats("onnx,") == complete_format("") == complete_tracker("") == []
