"""The random ResNet-18 that both sides can start from."""

import sys

from safetensors.torch import load_file

from benchmarks.harness.child import run_child
from benchmarks.harness.textbook import RANDOM_WEIGHTS, weights_description


def test_random_weights_have_the_statistics_of_images_and_say_so(images, tmp_path):
    path = tmp_path / "resnet18.safetensors"
    options = ["--data", str(images), "--output", str(path), "--image-size", "32", "--images", "4"]
    run_child([sys.executable, str(RANDOM_WEIGHTS), *options])
    weights = load_file(path)
    assert weights["bn1.running_mean"].abs().max() > 0
    assert weights_description(path).startswith("random (")
    assert "statistics of 4 training images at 32 px (resnet18.safetensors, SHA-256 " in weights_description(path)
