"""The worked examples of the documentation: their code is taken out of the page and run.

A format, a data source and a tracker are packages under ``tests/assets``, which their pages show as they are:
``test_format_of_another_package.py``, ``test_source_of_another_package.py`` and ``test_trackers.py`` run them.
"""

from __future__ import annotations

import io
import json
import shlex
import shutil
import sys
import threading
import types
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from bundles import judge
from pages import fenced, text_of
from PIL import Image

from toolkit.backbones import asked, create_backbone, registry, set_trainable
from toolkit.backbones.frontier import divide_at_frontier
from toolkit.bundle import Bundle
from toolkit.bundle.content import Content
from toolkit.cli.main import main
from toolkit.errors import BackboneError
from toolkit.formats.registry import get_format
from toolkit.recipe import Recipe
from toolkit.training import optim
from toolkit.training_choices import LOSSES, Choice
from toolkit.verify.candidate import Checks


def module(page: str, title: str, name: str) -> types.ModuleType:
    """Make a module of a block on a page."""
    made = types.ModuleType(name)
    exec(compile(fenced(f"docs/contributing/{page}.md", title), f"{page}.md", "exec"), made.__dict__)
    return made


class Grey:
    """A session whose network sees brightness only."""

    device, engine, threads = "cpu", "test", 1

    def run(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        brightness = inputs.astype(np.float32).mean(axis=(1, 2, 3))
        logits = np.stack([brightness, -brightness], axis=1)
        return {"logits": logits, "probabilities": np.full_like(logits, 0.5)}


def test_a_check_of_verify(colour_bundle: Path, colour_image: Callable[[str], np.ndarray]) -> None:
    colour = module("check", "example_check.py", "example_check").colour
    bundle = Bundle.open(colour_bundle)
    artifact = bundle.artifact("onnx")
    sees = get_format("onnx").open(Content.of(bundle.file(artifact.file)), "cpu", 1)
    images = np.stack([colour_image("red"), colour_image("green")])
    checks = Checks()
    colour(checks, sees, bundle.manifest.input, images)
    colour(checks, Grey(), bundle.manifest.input, images)
    good, blind = checks.done
    assert (good.name, good.passed, good.failures) == ("colour", True, ())
    assert blind.failures == ("the logits stay the same when red and blue are exchanged",)


def test_a_backbone_source(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "toolkit.backbones.source_example"
    monkeypatch.setitem(sys.modules, name, module("backbone-source", "source_example.py", name))
    for place in (asked, registry):
        monkeypatch.setattr(place, "SOURCES", (*asked.SOURCES, "example"))
    backbone = create_backbone("example:tiny", weights="none", classes=5, image_size=None, seed=0)
    assert (backbone.head, backbone.image_size) == (("head",), 32)
    assert [block.name for block in backbone.blocks] == ["features.0-1", "features.4-5", "features.8-9"]
    assert registry.canonical_name("tiny") == "example:tiny"
    with pytest.raises(BackboneError, match="no published weights"):
        create_backbone("example:tiny", weights="default", classes=5, image_size=None, seed=0)
    division = divide_at_frontier(backbone, [set_trainable(backbone, 1)])
    assert [tensor.shape for tensor in division.tensors] == [(16, 8, 8)]
    with torch.inference_mode():
        assert backbone.model.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


def test_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    line = fenced("docs/contributing/loss.md", "line of the table")
    monkeypatch.setattr(optim, "FocalLoss", module("loss", "example_loss.py", "example_loss").FocalLoss, raising=False)
    for name, choice in eval(f"{{{line}}}", {"Choice": Choice}).items():
        monkeypatch.setitem(LOSSES, name, choice)
    loss = optim.make_loss(Recipe().override({"train.loss": "focal"}).train)
    targets = torch.tensor([2, 0])
    certain = 9 * torch.nn.functional.one_hot(targets, 3).float()
    uncertain = torch.zeros(2, 3, requires_grad=True)
    assert loss(certain, targets) < loss(uncertain, targets)
    assert loss(uncertain, targets).item() == pytest.approx((1 - 1 / 3) ** 2 * np.log(3))
    loss(uncertain, targets).backward()
    assert uncertain.grad is not None
    assert (uncertain.grad[torch.arange(2), targets] < 0).all()


def test_the_workflow_to_copy(colour_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = yaml.safe_load(text_of(".github/workflows/parity-example.yml"))["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    (tmp_path / "repository" / "model").mkdir(parents=True)
    colour_bundle.rename(tmp_path / "repository" / "model" / "bundle")
    monkeypatch.chdir(tmp_path / "repository")
    calls = [command.split()[1:] for command in commands if command.startswith("toolkit ")]
    assert [call[0] for call in calls] == ["selftest", "verify"]
    for call in calls:
        with pytest.raises(SystemExit) as ended:
            main(call)
        assert ended.value.code == 0
    assert sorted(path.name for path in Path("parity").iterdir()) == ["junit.xml", "parity.json"]


def test_the_workflow_that_compares(colour_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = yaml.safe_load(text_of(".github/workflows/compare-example.yml"))["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    judge(colour_bundle)
    here = tmp_path / "repository"
    for place in ("model", "before/model"):
        shutil.copytree(colour_bundle, here / place / "bundle")
    monkeypatch.chdir(here)
    monkeypatch.setattr("toolkit.comparison.together.ROUNDS", 9)
    calls = [shlex.split(command)[1:] for command in commands if command.startswith("toolkit ")]
    assert [call[0] for call in calls] == ["verify", "compare"]
    for call in calls:
        with pytest.raises(SystemExit) as ended:
            main(call)
        assert not ended.value.code
    assert sorted(path.name for path in Path("compare").iterdir()) == ["junit.xml", "summary.md"]
    shown = next(command for command in commands if "GITHUB_STEP_SUMMARY" in command)
    assert Path(shown.split()[1]).read_text(encoding="utf-8").startswith("### toolkit compare: passed\n")
    uploaded = next(step["with"]["path"] for step in job["steps"] if "upload-artifact" in step.get("uses", ""))
    assert all(Path(folder).is_dir() for folder in uploaded.split())


def test_a_service(colour_bundle: Path, colour_image: Callable[[str], np.ndarray]) -> None:
    page = fenced("docs/shipping.md", "service.py")
    made: dict[str, Any] = {"__name__": "service"}
    exec(compile(page, "service.py", "exec"), made)
    picture = io.BytesIO()
    Image.fromarray(colour_image("red")).save(picture, "PNG")
    server = made["service"](str(colour_bundle), 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        with urllib.request.urlopen(url, picture.getvalue(), timeout=30) as answer:
            assert json.load(answer)["label"] == "red"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(url, b"no image", timeout=30)
        with refused.value as answer:
            assert answer.code == 422
            assert json.load(answer)["error"].startswith("the image given as bytes cannot be read as an image: ")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
