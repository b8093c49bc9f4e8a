from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from toolkit.bundle import Bundle
from toolkit.deploy.triton import Wanted, described
from toolkit.deploy.triton_config import Deployed
from toolkit.deploy.triton_readme import readme


@pytest.fixture
def model(colour_bundle: Path) -> Deployed:
    return described(Bundle.open(colour_bundle), Wanted())


def test_it_says_how_to_serve_check_and_ask(model: Deployed) -> None:
    text = readme(model)
    for part in (
        "# `colours` for NVIDIA Triton",
        "tritonserver --model-repository=/models",
        "python check.py localhost:8001",
        "Input `images`: UINT8 [N, 8, 8, 3], RGB, row by row. N is at most 8.",
        "Send the pixels as they are",
        "Output `probabilities`: FP32 [N, 3], the probabilities.",
        "Resize to 8 x 8 (height x width), each side on its own, with the bilinear filter",
        "reads opset 18 and IR version 9",
        "are a default: nothing was measured on cpu",
        "1 call at the same time, on cpu.",
    ):
        assert part in text
    assert "--gpus" not in text


def test_a_gpu_is_given_to_the_container(model: Deployed) -> None:
    text = readme(replace(model, device="cuda"))
    assert "docker run --rm --gpus all -p" in text
    assert "Threads of one call" not in text


def test_what_another_engine_must_be_is_said(torchscript_bundle: Path) -> None:
    text = readme(described(Bundle.open(torchscript_bundle), Wanted(artifact="torchscript")))
    assert "Its PyTorch is not older than the one that wrote the file (test)." in text
    assert "Input `INPUT__0`" in text


def test_openvino_may_compute_in_bfloat16(openvino_bundle: Path) -> None:
    text = readme(described(Bundle.open(openvino_bundle), Wanted(artifact="openvino")))
    assert "the backend computes in bfloat16, and has no parameter against it" in text
    assert "N is any number of images." in text
    assert "puts no requests together" in text


def test_one_image_a_call_is_said(tuned_bundle: Path) -> None:
    bundle = Bundle.open(tuned_bundle)
    assert "One image a call: requests share none." in readme(described(bundle, Wanted(purpose="latency")))
    assert "Threads of one call: 1." in readme(described(bundle, Wanted()))
