"""What is wrong with a command's arguments is said before anything heavy is imported.

The commands run as forks of a process that has imported nothing heavy.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import NOTHING_HEAVY, Command, Commands
from pointed_at import write_whole_run

from toolkit.recipe import Recipe

HEAVY = {"torch", "torchvision", "timm", "onnxruntime", "onnx", "sklearn", "matplotlib", "openvino"}
MOST_CPU_SECONDS = 0.5

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a process is forked")


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    shared = Commands(NOTHING_HEAVY)
    yield shared
    shared.close()


Refuse = Callable[..., str]


@pytest.fixture
def refuse(commands: Commands, here: Path) -> Refuse:
    """Return what runs a command here, asserts that it is refused at once, and gives the sentence."""

    def call(*arguments: object) -> str:
        done = commands.run(here, *map(str, arguments))
        assert done.returncode == 2, done.stderr
        # 'verify' says in its first line what it compares with, before it opens anything.
        assert done.stdout == "" or (arguments[0] == "verify" and done.stdout.count("\n") == 1)
        assert "Traceback" not in done.stderr
        assert commands.modules, "the command did not end by itself"
        assert sorted(HEAVY & commands.modules) == []
        assert commands.cpu_seconds < MOST_CPU_SECONDS
        return done.stderr

    return call


MISTAKES = {
    "finetune --data nope": "there is none at that path",
    "finetune --data nope --data-root x --quiet": "there is none at that path",
    "finetune --recipe nope": "no recipe 'nope': give one of auto, cifar10",
    "finetune --recipe typo.toml": "stage1.epoch: no such field; fields here are backbone_lr, epochs",
    "finetune --recipe cut.toml": "is not valid TOML",
    "finetune --recipe types.toml": "stage1.epochs: Input should be a valid integer",
    "finetune --recipe format.toml": "there is no format 'onxx'; formats here are torchscript",
    "finetune --recipe data.toml": "there is none at that path",
    "finetune --recipe .": "cannot read the recipe .: it is a folder",
    "finetune --stage1-epochs many": "stage1.epochs: Input should be a valid integer",
    "finetune --stage1-epoch 3": "--stage1-epoch",
    "finetune --stage1-optimizer sdg": "Input should be 'sgd'",
    "finetune --backbone foo:bar": "the name starts with one of torchvision:, timm:",
    "finetune --data digits --backbone foo:bar": "the name starts with one of torchvision:, timm:",
    "finetune --weights nope.pth": "the weights 'nope.pth' are not usable: it does not exist",
    "finetune --data digits --weights .": "the weights '.' are not usable: it is no regular file",
    "finetune --data digits --formats onx": "there is no format 'onx'",
    "finetune --data digits --train-limit 0": "greater than or equal to 1",
    "finetune --run a/b": "'a/b' cannot name a run",
    "finetune --run tiny": "there is a finished run 'tiny' in artifacts already",
    "finetune --time-budget soon": "'soon' is no length of time",
    "finetune --resume": "there is no unfinished run in artifacts",
    "finetune --resume --run tiny": "there is nothing to go on with. Next comes 'toolkit export --run tiny'",
    "finetune --resume --run nope": "there is no run 'nope'",
    "finetune --resume --recipe digits": "--resume goes on with a run's own recipe",
    "finetune --data photo.png": "photo.png is not a folder: give a folder, and sort the images into",
    "finetune --data empty": "empty has no images",
    "finetune --data flat": "has no class folders: its 1 images lie directly in it",
    "finetune --data digits --artifacts photo.png": "photo.png is no folder. Give --artifacts another folder",
    "finetune --data digits --artifacts photo.png/runs": "photo.png is no folder. Give --artifacts another folder",
    "finetune --data digits --stage1-head-lr inf": "stage1.head_lr: Input should be a finite number",
    "finetune --data digits --checkpoint-minutes nan": "train.checkpoint_minutes: Input should be",
    "finetune --data digits --threads 100000": "train.threads: Input should be less than or equal to 1024",
    "finetune digits": "A folder of images is given as: --data digits",
    "export --formats foo": "there is no format 'foo'",
    "export --input pixels": "export.input: Input should be 'images' or 'tensor'",
    "export --opset 99": "less than or equal to 30",
    "export --opset x": "Invalid value for '--opset'",
    "export --profile narrow": "Input should be 'wide' or 'newest'",
    "export --run nope": "there is no nope. Give the folder that 'toolkit export' wrote, or a run; runs in artif",
    "export nope": "runs in artifacts: tiny",
    "export BUNDLE": "is a bundle, and export makes bundles of runs: give the run that it is from",
    "verify nope": "runs in artifacts: tiny",
    "verify --run nope": "runs in artifacts: tiny",
    "verify BUNDLE --run tiny": "are not the same: give one of them",
    "run --data nope": "there is none at that path",
    "run --recipe nope": "no recipe 'nope': give one of auto, cifar10",
    "run --stage1-epochs many": "stage1.epochs: Input should be a valid integer",
    "run --device gpu": "train.device: there is no device 'gpu': give auto, cpu, cuda, cuda:N",
    "run --batch-sizes 0": "is not a list of sizes",
    "run --formats onxx --recipe digits": "there is no format 'onxx'; formats here are torchscript",
    "run --resume --run nope": "there is no run 'nope' in artifacts; runs there: tiny",
    "run --resume --seed 3": "--resume goes on with a run's own recipe",
    "run --resume --time-budget 3m": "--resume goes on with a run's own recipe",
    "run --run tiny --recipe digits": "there is a finished run 'tiny' in artifacts already",
    "compare tiny": "",
    "compare tiny nope": "there is no nope. Give the folder that 'toolkit export' wrote, or a run",
    "compare nope BUNDLE": "there is no nope. Give the folder that 'toolkit export' wrote, or a run",
    "compare tiny BUNDLE --fail-over lots": "is no loss that can be allowed",
    "push": "Missing argument",
    "push nope there.tar": "there is no nope. Give the folder that 'toolkit export' wrote, or a run",
    "push tiny nothing://there/it.tar": "nothing",
    "pull": "Missing argument",
    "pull nope.tar again": "nope.tar cannot be read: there is no such file or folder",
    "pull photo.png again": "photo.png",
    "verify --device cuda:x": "'cuda:x' is not one of cpu, cuda, cuda:N",
    "verify --device gpu": "'gpu' is not one of cpu, cuda",
    "verify --tolerance logits": "'logits' is not NAME=VALUE",
    "verify --tolerance atol=1": "a tolerance has no atol",
    "verify --tolerance logits_relative=-1": "cannot be -1.0",
    "verify BUNDLE --images 3": "--images draws from the test images of a run",
    "verify BUNDLE --full": "--full draws from the test images of a run",
    "verify --against BUNDLE --full": "--full draws from the test images of a run",
    "verify --full --images 3": "give one of them",
    "verify --max-pixels 5": "--max-pixels limits the images of --data, and none are given",
    "verify BUNDLE --against BUNDLE --max-pixels 5": "--max-pixels limits the images of --data, and none are given",
    "verify BUNDLE --output photo.png": "photo.png is no folder. Give --output another folder",
    "verify BUNDLE --output photo.png/new": "photo.png is no folder. Give --output another folder",
    "verify --images 0": "Invalid value for '--images'",
    "verify --against nope": "there is no nope",
    "verify --data photos": "--data gives images for --against",
    "verify BUNDLE --bisect": "--bisect needs what is right",
    "verify BUNDLE --verify-key nope.pem": "nope.pem",
    "verify BUNDLE --against BUNDLE --data nope": "--data nope is no folder: give one of images",
    "bench nope": "runs in artifacts: tiny",
    "bench BUNDLE": "is a bundle, and bench compares it with PyTorch",
    "bench --batch-sizes 0": "is not a list of sizes",
    "bench --batch-sizes 1,1000000": "whole numbers of 1 to 65536",
    "bench --device gpu": "'gpu' is not one of auto, cpu, cuda",
    "bench --rounds 1": "Invalid value for '--rounds'",
    "report nope": "runs in artifacts: tiny",
    "report BUNDLE": "is a bundle, and a report is made of the records of its run",
    "predict": "Missing argument",
    "predict BUNDLE": "give images after",
    "predict photo.png": "photo.png alone is not enough: give a run or a bundle before the images",
    "predict nope photo.png": "there is no nope",
    "predict photo.png photo.png": "photo.png is a file, a bundle is a folder",
    "predict BUNDLE nope.png": "there is no nope.png: give image files",
    "predict BUNDLE empty": "holds no image files",
    "predict --run tiny nope.png": "there is no nope.png: give image files",
    "predict BUNDLE photo.png --json --csv": "exclude each other",
    "predict BUNDLE photo.png --artifact torchscrip": "has no 'torchscrip' artifact; it has onnx",
    "predict BUNDLE photo.png --device gpu": "'gpu' is not one of cpu, cuda",
    "predict BUNDLE photo.png --threads 100000": "Invalid value for '--threads'",
    "predict BUNDLE photo.png --batch-size 0": "Invalid value for '--batch-size'",
    "predict BUNDLE photo.png --verify-key nope.pem": "nope.pem",
    "selftest nope": "there is no nope",
    "selftest --device gpu": "'gpu' is not one of cpu, cuda",
    "selftest empty": "is neither a run (it has no recipe.toml, which 'toolkit finetune' writes) nor a bundle",
    "inspect nope": "there is no nope",
    "inspect artifacts": "artifacts holds runs and is none: give one of them, tiny",
    "inspect photo.png": "photo.png is a file, a bundle is a folder",
    "card nope": "there is no nope",
    "card --intended-use nope.md": "nope.md cannot be read as UTF-8 text",
    "pack nope": "there is no nope",
    "pack --sign nope.pem": "nope.pem",
    "sign": "Missing option '--key'",
    "sign nope --key ours.pem": "there is no nope",
    "sign BUNDLE --key nope.pem": "nope.pem",
    "unpack": "Missing argument",
    "unpack nope.tar": "nope.tar",
    "unpack photo.png": "photo.png",
    "unpack BUNDLE": "release is a folder: give a file that 'toolkit pack' wrote",
    "batch": "Missing argument",
    "batch BUNDLE empty": "Missing option '--out'",
    "batch nope empty --out x": "there is no nope",
    "batch BUNDLE nope --out x": "nope",
    "batch BUNDLE empty --out x --top 0": "Invalid value for '--top'",
    "batch BUNDLE empty --out x --engine spark": "'spark' is not one of here, ray",
    "serve nope": "there is no nope",
    "serve BUNDLE --port 70000": "Invalid value for '--port'",
    "serve BUNDLE BUNDLE": "two models are called 'colours': tell them apart with NAME=BUNDLE",
    "serve a/b=nowhere": "there is no a/b=nowhere",
    "serve BUNDLE --queue 0": "Invalid value for '--queue'",
    "serve BUNDLE --device gpu": "'gpu' is not one of cpu, cuda",
    "serve BUNDLE --ssl-keyfile nope.pem": "--ssl-certfile and --ssl-keyfile go together",
    "serve BUNDLE --ssl-keyfile nope.pem --ssl-certfile nope.pem": "nope.pem and nope.pem cannot be used for TLS",
    "serve BUNDLE --api-key-file nope.txt": "the file of API keys nope.txt cannot be read",
    "deploy": "say for which server: toolkit deploy triton, toolkit deploy kserve or toolkit deploy docker.",
    "deploy podman BUNDLE": "No such command 'podman'",
    "deploy triton BUNDLE": "Missing option '--out'",
    "deploy triton nope --out x": "there is no nope",
    "deploy triton BUNDLE --out x --device gpu": "'gpu' is not one of cpu, cuda",
    "deploy triton BUNDLE --out x --tuned speed": "'speed' is not one of latency, throughput",
    "deploy kserve BUNDLE --out x": "Missing option '--storage-uri'",
    "deploy kserve BUNDLE --out x --storage-uri s3://b/m --label team": "'team' is not KEY=VALUE",
    "deploy docker BUNDLE": "Missing option '--out'",
    "deploy docker BUNDLE --out x --wheel photo.png": "photo.png is no wheel of toolkit",
    "keygen": "Missing argument",
    "recipes nope": "no recipe 'nope'",
    "cache nope": "nope",
    "runs nope": "No such command 'nope'",
    "runs delete": "Missing argument",
    "runs delete nope": "nope is no run in artifacts; runs there: ",
    "runs delete tiny/bundle": "tiny/bundle does not lie in artifacts (--artifacts names another folder)",
    "runs delete latest": "'latest' only points to the newest run: give its name",
    "runs delete tiny": "there is no terminal to ask on: give --yes to delete without being asked.",
    "runs --json delete tiny": "give --artifacts after 'delete', and no --json.",
    "predcit": "No such command",
}


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory, colour_bundle_once: Path) -> Path:
    """A folder with a whole run, a bundle without its run, and files of every kind; only read."""
    folder = tmp_path_factory.mktemp("furnished")
    write_whole_run(folder / "artifacts", colour_bundle_once)
    shutil.copytree(colour_bundle_once, folder / "release")
    (folder / "empty").mkdir()
    (folder / "flat").mkdir()
    (folder / "flat" / "a.png").write_bytes(b"no picture")
    (folder / "photo.png").write_bytes(b"no picture")
    plain = Recipe().override({"data.source": "digits"}).to_toml()
    for name, text in {
        "typo": plain.replace("epochs", "epoch", 1),
        "cut": plain[:-40] + "= [",
        "types": plain.replace("epochs = ", "epochs = 'many' # "),
        "format": plain.replace('"onnx"', '"onxx"'),
        "data": plain.replace('"digits"', '"photos"'),
    }.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_said_before_anything_heavy_is_imported(
    refuse: Refuse, here: Path, furnished: Path, line: str
) -> None:
    for entry in furnished.iterdir():
        os.symlink(entry, here / entry.name)
    words = ["release" if word == "BUNDLE" else word for word in line.split()]
    assert MISTAKES[line] in " ".join(refuse(*words).split())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("finetune --data digits", "artifacts: Permission denied. Give --artifacts another folder"),
        (
            "finetune --data digits --artifacts new",
            "Name another folder for what is kept between runs with TOOLKIT_CACHE",
        ),
        ("export", "tiny: Permission denied. The bundle is made in the run: copy it to where you may write"),
        ("verify", "tiny: Permission denied. The verdicts are written into the run"),
        ("bench", "tiny: Permission denied. The figures are written into the run"),
        ("verify release --output out", "out: Permission denied. Give --output another folder"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_work(
    commands: Commands, here: Path, furnished: Path, line: str, words: str
) -> None:
    shutil.copytree(furnished, here, symlinks=True, dirs_exist_ok=True)
    # Whoever runs the tests may be root, who may write everywhere.
    refuse = """
import tempfile
made = tempfile.mkstemp
def mkstemp(*arguments, dir=None, **options):
    if str(dir) != "." or "output" in sys.argv_of_test:
        raise PermissionError(13, "Permission denied", str(dir))
    return made(*arguments, dir=dir, **options)
tempfile.mkstemp = mkstemp
"""
    before = f"import sys\nsys.argv_of_test = {line!r}\n" + refuse
    commands.start(Command(here, tuple(line.split()), {"TOOLKIT_CACHE": str(here / "empty")}, before))
    done = commands.wait()
    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())
    assert sorted(HEAVY & commands.modules) == []


def test_every_command_with_arguments_is_in_the_table() -> None:
    from toolkit.cli.main import COMMANDS

    # The others take none that can be wrong, or have to ask PyTorch: 'backbones PATTERN'.
    assert set(COMMANDS) - {line.split()[0] for line in MISTAKES} == {"backbones", "formats", "doctor"}
