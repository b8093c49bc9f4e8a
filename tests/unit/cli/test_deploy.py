from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from pointed_at import write_whole_run
from triton_model import TritonModel

from toolkit import __version__

Run = Callable[..., tuple[int, str, str]]
URI = ("--storage-uri", "s3://bucket/models")


def test_a_model_repository_is_written_and_said(run: Run, colour_bundle: Path, here: Path) -> None:
    code, out, err = run("deploy", "triton", colour_bundle, "--out", "models", "--version", 2)
    assert (code, err) == (0, "")
    what, setting, wrote, check = out.splitlines()
    assert what == (
        "colours, version 2: onnx in Triton's onnxruntime backend on cpu, up to 8 images a call, 1 instance"
    )
    assert setting.startswith("  batches, instances and threads: a default: nothing was measured on cpu")
    assert wrote == (
        f"wrote models/colours; next: tritonserver --model-repository={here / 'models'}, and when it runs:"
    )
    assert check == "python models/colours/check.py localhost:8001"
    assert TritonModel(here / "models" / "colours").version == 2


def test_a_run_stands_for_its_bundle(run: Run, colour_bundle: Path, here: Path) -> None:
    write_whole_run(here / "artifacts", colour_bundle)
    assert run("deploy", "triton", "--out", "a")[0] == 0
    assert run("deploy", "triton", "tiny", "--out", "b", "--artifact", "onnx")[0] == 0
    assert run("deploy", "triton", "artifacts/tiny", "-o", "c", "--name", "d", "--tuned", "latency")[0] == 0
    assert TritonModel(here / "c" / "d").config.max_batch_size == 1


def test_a_service_is_written_and_said(run: Run, colour_bundle: Path, here: Path) -> None:
    code, out, err = run("deploy", "kserve", colour_bundle, *URI, "--out", "service", "--label", "team=a=b", "--cpu", 2)
    assert (code, out) == (2, "")
    assert "is no label of Kubernetes" in err
    code, out, err = run("deploy", "kserve", colour_bundle, *URI, "--out", "service", "--label", "team=vision")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == (
        "wrote service; next: copy what is in service/models to s3://bucket/models, then kubectl apply -f "
        "service/inferenceservice.yaml"
    )
    resource = yaml.safe_load((here / "service" / "inferenceservice.yaml").read_text(encoding="utf-8"))
    assert resource["metadata"]["labels"]["team"] == "vision"


def test_an_image_is_written_and_said(run: Run, colour_bundle: Path, here: Path) -> None:
    code, out, err = run("deploy", "docker", colour_bundle, "--out", "image", "--base", "python:3.12-slim-trixie")
    assert (code, err) == (0, "")
    wheel = f"vision_deploy_toolkit-{__version__}-py3-none-any.whl"
    assert out.splitlines() == [
        "colours: the onnx artifact behind toolkit serve, on python:3.12-slim-trixie",
        f"  it lacks {wheel}; in a clone of toolkit: pip wheel --no-deps --wheel-dir image .",
        "wrote image; next: docker build --tag colours image",
    ]
    (here / wheel).write_bytes(b"a wheel")
    code, out, err = run("deploy", "docker", colour_bundle, "--out", "image", "--overwrite", "--wheel", wheel)
    assert (code, err, len(out.splitlines())) == (0, "", 2)
    assert (here / "image" / wheel).read_bytes() == b"a wheel"


def test_what_is_there_is_replaced_if_asked(run: Run, colour_bundle: Path, here: Path) -> None:
    for server, further in (("triton", ()), ("kserve", URI), ("docker", ())):
        assert run("deploy", server, colour_bundle, "--out", server, *further)[0] == 0
        code, out, err = run("deploy", server, colour_bundle, "--out", server, *further)
        assert (code, out) == (2, "")
        assert "exists already: choose another folder with --out, or replace it with --overwrite." in err
        assert run("deploy", server, colour_bundle, "--out", server, *further, "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "say for which server: toolkit deploy triton, toolkit deploy kserve or toolkit deploy docker."),
        (("podman",), "No such command 'podman'"),
        (("docker", "BUNDLE"), "Missing option '--out'"),
        (("docker", "BUNDLE", "--out", "x", "--base", "a b"), "--base 'a b' is no name of an image"),
        (("docker", "BUNDLE", "--out", "x", "--wheel", "x.whl"), "x.whl is no wheel of toolkit"),
        (("triton", "BUNDLE"), "Missing option '--out'"),
        (("kserve", "BUNDLE", "--out", "x"), "Missing option '--storage-uri'"),
        (("kserve", "BUNDLE", "--out", "x", *URI, "--label", "team"), "--label 'team' is not KEY=VALUE"),
        (("triton", "BUNDLE", "--out", "x", "--tuned", "speed"), "'speed' is not one of latency, throughput"),
        (("triton", "BUNDLE", "--out", "x", "--device", "gpu"), "'gpu' is not one of cpu, cuda"),
        (("triton", "nope", "--out", "x"), "there is no nope"),
        (("triton", "BUNDLE", "--out", "x", "--artifact", "pt2"), "has no 'pt2' artifact; it has onnx"),
        (("triton", "BUNDLE", "--out", "x", "--verify-key", "nope.pem"), "nope.pem"),
    ],
)
def test_bad_input_is_a_sentence_and_writes_nothing(
    run: Run, colour_bundle: Path, here: Path, arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = run("deploy", *(str(colour_bundle) if word == "BUNDLE" else word for word in arguments))
    assert (code, out) == (2, "")
    assert said in " ".join(err.split())
    assert list(here.iterdir()) == []
