from __future__ import annotations

from functools import partial

import tiny_training
import torch
from tiny_training import TinyNetwork
from torch import nn

from toolkit.files import sha256_file
from toolkit.training.activations.digests import code, settings, sha256_of, weights


def test_parts_do_not_run_into_each_other() -> None:
    assert sha256_of(["ab", "c"]) != sha256_of(["a", "bc"])
    assert sha256_of(["ab"]) == sha256_of([b"ab"])


def test_every_weight_and_buffer_counts() -> None:
    network = TinyNetwork()
    before = sha256_of(weights(network))
    assert sha256_of(weights(network)) == before
    with torch.no_grad():
        network.get_buffer("stem.1.running_mean")[2] += 1e-6
    assert sha256_of(weights(network)) != before


def test_settings_tell_apart_what_weights_do_not() -> None:
    strided, plain = nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(3, 4, 3)
    plain.load_state_dict(strided.state_dict())
    assert sha256_of(weights(strided)) == sha256_of(weights(plain))
    assert list(settings(strided)) != list(settings(plain))
    assert list(settings(nn.BatchNorm2d(4, eps=1e-5))) != list(settings(nn.BatchNorm2d(4, eps=1e-3)))
    assert list(settings(nn.ReLU())) != list(settings(nn.GELU()))


def test_settings_are_the_same_in_every_process_and_mode() -> None:
    network = TinyNetwork()
    network.activation, network.pool = nn.functional.relu, partial(nn.functional.avg_pool2d, kernel_size=2)
    before = list(settings(network))
    assert "torch.nn.functional.relu" in before[0]
    assert " at 0x" not in "".join(before)
    assert list(settings(network.train())) == before == list(settings(network.eval()))


def test_code_is_that_of_the_files_of_its_classes() -> None:
    lines = dict(line.split(" ", 1) for line in code(TinyNetwork()))
    assert lines[TinyNetwork.__module__] == sha256_file(tiny_training.__file__)
    assert lines["torch.nn.modules.conv"] == sha256_file(nn.modules.conv.__file__)
    assert lines["builtins"] == ""
