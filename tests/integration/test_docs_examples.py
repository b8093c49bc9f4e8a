"""The worked examples of the documentation: their code is taken out of the page and run."""

from __future__ import annotations

import sys
import tomllib
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pages import fenced, text_of
from PIL import Image

from toolkit.backbones import create_backbone, registry, set_trainable
from toolkit.backbones.frontier import divide_at_frontier
from toolkit.bundle import Bundle
from toolkit.cli.main import main
from toolkit.data import load_dataset
from toolkit.data import registry as data_registry
from toolkit.errors import BackboneError, DataError, UnreadableImagesError
from toolkit.finetune import optim
from toolkit.formats.registry import get_format
from toolkit.preprocess import Preprocessing
from toolkit.recipe import Recipe
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
    sees = get_format("onnx").open(bundle.file(artifact.file), "cpu", 1)
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
    monkeypatch.setattr(registry, "SOURCES", (*registry.SOURCES, "example"))
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


def a_list(folder: Path) -> Path:
    """Write twelve images of two colours and a list of them."""
    lines = []
    for number in range(12):
        colour = ("blue", "red")[number % 2]
        Image.new("RGB", (8, 8), colour).save(folder / f"{number}.png")
        lines.append(f"{number}.png\t{colour}")
    (folder / "photos.tsv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "photos.tsv"


@pytest.fixture
def list_source(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Add the data source of the page as an installed package would."""
    page = module("data-source", "example_data.py", "example_data")
    project = tomllib.loads(fenced("docs/contributing/data-source.md", "pyproject.toml"))
    (value,) = project["project"]["entry-points"]["toolkit.data"].values()
    assert value.partition(":")[0] == "example_data"
    load = lambda: getattr(page, value.partition(":")[2])  # noqa: E731
    point = types.SimpleNamespace(name="list", dist=None, value=value, load=load)
    monkeypatch.setattr(data_registry, "entry_points", lambda group: [point] if group == "toolkit.data" else [])
    data_registry.sources.cache_clear()
    yield
    data_registry.sources.cache_clear()


@pytest.mark.usefixtures("list_source")
def test_a_data_source(tmp_path: Path) -> None:
    recipe = Recipe().override({"data.source": str(a_list(tmp_path)), "data.validation_fraction": 0.2}).data
    whole = load_dataset(recipe, seed=0)
    assert whole.labels == ("blue", "red")
    assert {name: len(split) for name, split in whole.splits.items()} == {"train": 8, "validation": 2, "test": 2}
    alone = load_dataset(recipe, seed=0, splits=["test"]).split("test")
    assert alone.fingerprint == whole.split("test").fingerprint
    preprocessing = Preprocessing(height=8, width=8, resize="squash", interpolation="bilinear")
    pixels = alone.load(range(len(alone)), preprocessing)
    assert (pixels[alone.targets == 1][:, 0, 0] == (255, 0, 0)).all()


@pytest.mark.usefixtures("list_source")
def test_a_data_source_names_what_cannot_be_decoded(tmp_path: Path) -> None:
    recipe = Recipe().override({"data.source": str(a_list(tmp_path))}).data
    (tmp_path / "3.png").write_bytes(b"no image")
    with pytest.raises(UnreadableImagesError, match=r"3\.png: it is in none of the formats"):
        load_dataset(recipe, seed=0)
    (tmp_path / "photos.tsv").write_text("no tab", encoding="utf-8")
    with pytest.raises(DataError, match="not a list of paths and labels"):
        load_dataset(recipe, seed=0)


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
