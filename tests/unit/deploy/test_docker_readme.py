from __future__ import annotations

from pathlib import Path

from toolkit.deploy.docker import Written
from toolkit.deploy.docker_readme import readme

WHEEL = "vision_deploy_toolkit-1.0-py3-none-any.whl"


def written(has_wheel: bool) -> Written:
    return Written(Path("image"), "Flowers", "onnx", "python:3.12-slim-trixie", WHEEL, has_wheel)


def test_it_says_how_to_build_run_and_stop() -> None:
    text = readme(written(True))
    assert text.startswith("# `Flowers` in a container\n")
    assert "docker build --tag flowers ." in text  # names of images are small letters
    assert "-p 8000:8000 -p 8001:8001 flowers\n" in text
    assert "docker stop --time 40" in text
    assert "`FROM python:3.12-slim-trixie`" in text


def test_it_says_where_the_wheel_is_from() -> None:
    with_it, without = readme(written(True)), readme(written(False))
    assert f"Toolkit itself is installed from `{WHEEL}`." in with_it
    assert "pip wheel" not in with_it
    assert f"`{WHEEL}`, which must lie beside the Dockerfile" in without
    assert "pip wheel --no-deps --wheel-dir . PATH/TO/THE/CLONE" in without
