"""A folder for ``docker build``: its Dockerfile parsed and linted, its bundle opened."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

from tests.unit.deploy.conftest import add_openvino, add_torchscript
from toolkit import __version__
from toolkit.bundle import Bundle, read_manifest
from toolkit.bundle.writer import write_manifest
from toolkit.deploy.docker import Image, Written, deploy_docker
from toolkit.errors import BundleError, FileWriteError, IntegrityError, ToolkitError

WHEEL = f"vision_deploy_toolkit-{__version__}-py3-none-any.whl"


def deployed(bundle: Path, out: Path, **wanted: object) -> Written:
    return deploy_docker(Bundle.open(bundle), out, Image(**wanted))  # type: ignore[arg-type]


def instructions(folder: Path) -> dict[str, list[str]]:
    """Return the values of a Dockerfile by their instruction."""
    parser = DockerfileParser(fileobj=io.BytesIO((folder / "Dockerfile").read_bytes()))
    found: dict[str, list[str]] = {}
    for each in parser.structure:
        found.setdefault(each["instruction"], []).append(each["value"])
    return found


@pytest.fixture
def image(colour_bundle: Path, tmp_path: Path) -> Path:
    return deployed(colour_bundle, tmp_path / "image").folder


def test_it_has_what_docker_build_needs(image: Path, colour_bundle: Path) -> None:
    assert sorted(path.name for path in image.iterdir()) == [
        *(".dockerignore", "Dockerfile", "README.md", "bundle", "bundle.sha256", "constraints.txt"),
    ]
    assert Bundle.open(image / "bundle").manifest == Bundle.open(colour_bundle).manifest
    digest = hashlib.sha256((image / "bundle" / "manifest.json").read_bytes()).hexdigest()
    assert (image / "bundle.sha256").read_text(encoding="utf-8") == f"{digest}  bundle/manifest.json\n"
    assert digest in instructions(image)["LABEL"][0]


def test_every_instruction_is_one_of_dockers(image: Path) -> None:
    found = instructions(image)
    assert list(found) == [
        *("COMMENT", "FROM", "LABEL", "ENV", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"),
    ]
    assert found["FROM"] == [f"python:{sys.version_info.major}.{sys.version_info.minor}-slim-trixie"]


def test_hadolint_finds_nothing(image: Path) -> None:
    hadolint = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if hadolint is None:
        pytest.skip("hadolint, which the extra 'dev' brings, is not installed")
    command = [hadolint, "--failure-threshold", "style", "--format", "json", str(image / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)) == (0, [])


def test_it_serves_the_bundle_by_toolkit_serve(image: Path) -> None:
    (entry,) = instructions(image)["ENTRYPOINT"]
    command, serve, model, *options = json.loads(entry)
    assert (command, serve, model) == ("toolkit", "serve", "colours=/app/bundle")
    assert options == ["--host", "0.0.0.0", "--port", "8000", "--grpc-port", "8001"]
    assert instructions(image)["EXPOSE"] == ["8000 8001"]
    assert "bundle /app/bundle" in instructions(image)["COPY"]


def test_it_is_healthy_when_the_server_is_ready(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = instructions(image)["HEALTHCHECK"]
    command = json.loads(check.partition(" CMD ")[2])
    assert command[:2] == ["python", "-c"]
    asked = []
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: asked.append((url, timeout)))
    exec(command[2], {})
    assert asked == [("http://127.0.0.1:8000/v2/health/ready", 2)]


def test_it_does_not_run_as_root(image: Path) -> None:
    found = instructions(image)
    (user,) = found["USER"]
    assert re.fullmatch(r"[1-9]\d{4}:[1-9]\d{4}", user)  # by number, which is what runAsNonRoot of Kubernetes looks at
    assert "--uid 10001" in found["RUN"][0]
    assert user == "10001:10001"
    # Nothing that it copies is its own, and all of it may be read, whatever was allowed where it was written.
    assert not any("--chown" in copied for copied in found["COPY"])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_whoever_serves_may_read_what_another_wrote(colour_bundle: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        image = deployed(colour_bundle, tmp_path / "image").folder
    finally:
        os.umask(before)
    for path in image.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


def test_packages_are_those_that_are_installed_here(image: Path) -> None:
    (install,) = instructions(image)["RUN"]
    assert f"--constraint constraints.txt './{WHEEL}[cpu,serve]'" in install
    pins = dict(line.split("==") for line in (image / "constraints.txt").read_text(encoding="utf-8").splitlines())
    assert {"numpy", "onnxruntime", "pillow", "pydantic", "pydantic-core", "annotated-types", "typer"} <= set(pins)
    assert not {"torch", "torchvision", "timm", "onnx", "vision-deploy-toolkit"} & set(pins)
    assert pins["numpy"] == __import__("numpy").__version__
    assert pins["onnxruntime"] == __import__("onnxruntime").__version__


def test_docker_is_sent_only_what_it_copies(image: Path, tmp_path: Path) -> None:
    everything, *kept = (image / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert everything == "*"
    copied = {file for line in instructions(image)["COPY"] for file in line.split()[:-1]}
    assert {line.removeprefix("!") for line in kept} == copied == {"bundle", "constraints.txt", WHEEL}


def test_a_wheel_that_is_given_lies_there(colour_bundle: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "vision_deploy_toolkit-9.1.0-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")
    written = deployed(colour_bundle, tmp_path / "image", wheel=wheel)
    assert (written.wheel, written.has_wheel) == (wheel.name, True)
    assert (written.folder / wheel.name).read_bytes() == b"a wheel"
    assert f"./{wheel.name}[cpu,serve]" in instructions(written.folder)["RUN"][0]


def test_names_are_those_that_were_given(colour_bundle: Path, tmp_path: Path) -> None:
    base = f"registry.example:5000/python:3.12-slim@sha256:{'0' * 64}"
    found = instructions(deployed(colour_bundle, tmp_path / "image", name="Flowers", base=base).folder)
    assert found["FROM"] == [base]
    assert json.loads(found["ENTRYPOINT"][0])[2] == "Flowers=/app/bundle"


def test_openvino_brings_its_own_engine(colour_bundle: Path, tmp_path: Path) -> None:
    add_openvino(colour_bundle)
    assert deployed(colour_bundle, tmp_path / "both").artifact == "onnx"
    manifest = read_manifest(colour_bundle)
    _without(colour_bundle, "onnx")
    written = deployed(colour_bundle, tmp_path / "alone")
    assert written.artifact == "openvino"
    assert f"./{WHEEL}[openvino,serve]" in instructions(written.folder)["RUN"][0]
    pins = (written.folder / "constraints.txt").read_text(encoding="utf-8")
    assert "\nopenvino==" in pins
    assert "onnxruntime" not in pins
    assert len(manifest.artifacts) == 2


def test_what_only_pytorch_opens_is_not_deployed(colour_bundle: Path, tmp_path: Path) -> None:
    add_torchscript(colour_bundle)
    _without(colour_bundle, "onnx")
    with pytest.raises(
        BundleError, match=r"serves ONNX and OpenVINO artifacts, and .* has only torchscript: export it"
    ):
        deployed(colour_bundle, tmp_path / "image")
    assert not (tmp_path / "image").exists()


def _without(bundle: Path, format_name: str) -> None:
    """Take an artifact out of a bundle."""
    manifest = read_manifest(bundle)
    (gone,) = (artifact for artifact in manifest.artifacts if artifact.format == format_name)
    (bundle / gone.file).unlink()
    kept = tuple(artifact for artifact in manifest.artifacts if artifact is not gone)
    write_manifest(bundle, manifest.model_copy(update={"artifacts": kept}), own=True)


def test_a_signature_goes_along(colour_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="the extra 'sign' is not installed")
    from toolkit.bundle.trust.signature import make_keys
    from toolkit.bundle.writer import sign_bundle

    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    make_keys(private, public)
    sign_bundle(colour_bundle, private)
    image = deployed(colour_bundle, tmp_path / "image").folder
    assert Bundle.open(image / "bundle", public).signature is not None


def test_a_bundle_without_its_card_is_deployed(colour_bundle: Path, tmp_path: Path) -> None:
    (colour_bundle / "MODEL_CARD.md").unlink()
    image = deployed(colour_bundle, tmp_path / "image").folder
    assert Bundle.open(image / "bundle").manifest.name == "colours"


def test_a_file_that_was_changed_meanwhile_is_not_copied(colour_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(colour_bundle)
    (colour_bundle / "golden" / "001.bin").write_bytes(bytes(192))
    with pytest.raises(IntegrityError):
        deploy_docker(bundle, tmp_path / "image", Image())
    assert list(tmp_path.glob("*image*")) == []


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"name": "a b"}, "a model cannot be called 'a b' on a server"),
        ({"name": 'x"\nRUN rm -rf /'}, "a model cannot be called"),
        ({"base": "python:3.12\nRUN x"}, "is no name of an image: give one like python:3.12-slim-trixie"),
        ({"base": ""}, None),
        ({"wheel": Path("other-1.0-py3-none-any.whl")}, "other-1.0-py3-none-any.whl is no wheel of toolkit"),
        ({"wheel": Path(WHEEL)}, f"the wheel {WHEEL} cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_is_a_sentence(
    colour_bundle: Path, tmp_path: Path, wanted: dict[str, object], said: str | None
) -> None:
    if said is None:
        assert deployed(colour_bundle, tmp_path / "image", **wanted).base.startswith("python:3.")
        return
    with pytest.raises(ToolkitError, match=re.escape(said)):
        deployed(colour_bundle, tmp_path / "image", **wanted)
    assert not (tmp_path / "image").exists()


def test_only_a_folder_of_its_own_is_replaced(colour_bundle: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "Dockerfile").write_text("FROM scratch\n")
    with pytest.raises(FileWriteError, match="exists already"):
        deployed(colour_bundle, theirs)
    with pytest.raises(FileWriteError, match=r"it has no bundle\.sha256, so 'toolkit deploy' has not written it"):
        deployed(colour_bundle, theirs, overwrite=True)
    assert (theirs / "Dockerfile").read_text() == "FROM scratch\n"
    deployed(colour_bundle, tmp_path / "ours")
    assert deployed(colour_bundle, tmp_path / "ours", overwrite=True).name == "colours"
    with pytest.raises(FileWriteError, match="is inside the bundle"):
        deployed(colour_bundle, colour_bundle / "image")


def test_a_label_or_a_name_adds_no_instruction(relabelled: Callable[[tuple[str, ...]], Path], tmp_path: Path) -> None:
    bundle = relabelled(('"\\', "RUN rm", "$HOME"))
    image = deployed(bundle, tmp_path / "image").folder
    assert "rm" not in "".join(instructions(image)["RUN"]).split()
    assert Bundle.open(image / "bundle").manifest.labels == ('"\\', "RUN rm", "$HOME")
