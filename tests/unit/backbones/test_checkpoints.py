from __future__ import annotations

import argparse
import datetime
import enum
import functools
import io
import os
import pathlib
import pickle
import tarfile
import types
import warnings
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from toolkit.backbones import load_weights
from toolkit.backbones.checkpoints import read_checkpoint
from toolkit.errors import BackboneError


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def state() -> dict[str, torch.Tensor]:
    return dict(small().state_dict())


NAMES = tuple(state())


def under(prefix: str, tensors: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in (tensors or state()).items()}


@pytest.mark.parametrize("suffix", [".pth", ".pth.tar", ".ckpt", ".bin", ""])
@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "module."])
def test_checkpoints_are_unwrapped(tmp_path: Path, suffix: str, wrap: str) -> None:
    state = dict(small().state_dict())
    content = {"module.": {f"module.{name}": tensor for name, tensor in state.items()}, "plain": state}.get(
        wrap, {wrap: state, "epoch": 3}
    )
    torch.save(content, tmp_path / f"model{suffix}")
    assert set(read_checkpoint(tmp_path / f"model{suffix}").tensors) == set(state)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('ran')",))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(BackboneError, match=r"evil.pth is refused: reading it would run code \(.*exec"):
        read_checkpoint(tmp_path / "evil.pth")
    torch.save(small(), tmp_path / "module.pth")
    with pytest.raises(BackboneError, match=r"refused.*Save only the state dict"):
        read_checkpoint(tmp_path / "module.pth")


@pytest.mark.parametrize(
    "content", [b"", b"hello, world", b"PK\x03\x04broken", b"\x80\x02}", pickle.dumps({"a": 1})[:-3]]
)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_a_file_that_is_no_checkpoint(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(BackboneError, match=f"model{suffix} is not a "):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "weight": torch.zeros(1)}, "'epoch' is int, not a tensor"),
        ([1, 2], "holds list, not a state dict"),
        ({}, "not a state dict"),
        ({b"0.weight": torch.zeros(1)}, r"its names are bytes \(b'0.weight'\), not text"),
        ({0: torch.zeros(1), 1: torch.zeros(1)}, r"its names are int \(0\), not text"),
    ],
)
def test_a_checkpoint_without_a_state_dict(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(BackboneError, match=message):
        read_checkpoint(tmp_path / "model.pth")


def test_a_missing_file_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"weights '.*model.pth' are not usable: it does not exist"):
        read_checkpoint(tmp_path / "model.pth")
    with pytest.raises(BackboneError, match=r"'imagenet' are not usable: it does not exist. Give 'default', 'none'"):
        read_checkpoint(Path("imagenet"))
    with pytest.raises(BackboneError, match=r"are not usable: it is no regular file"):
        read_checkpoint(tmp_path)
    with pytest.raises(BackboneError, match=r"cannot read the weights .*missing.safetensors: No such file"):
        load_weights(small(), tmp_path / "missing.safetensors")


class Colour(enum.Enum):
    RED = 1


class Settings(dict[str, object]):
    """A configuration as ``easydict`` and its kin make them."""


HARMLESS = {
    "args": argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("runs")),
    "best": np.float64(0.7),
    "curve": np.arange(3.0),
    "when": datetime.datetime(2026, 1, 2),
    "colour": Colour.RED,
    "space": types.SimpleNamespace(a=1),
    "norm": functools.partial(dict, a=1),
    "seen": {1, 2},
    "shape": torch.Size([2, 3]),
    "dtype": torch.float16,
    "nothing": None,
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("key", HARMLESS)
def test_what_is_no_tensor_is_skipped_and_never_looked_up(
    tmp_path: Path, key: str, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(
        {key: HARMLESS[key], "state_dict": state(), "epoch": 3},
        tmp_path / "last.ckpt",
        _use_new_zipfile_serialization=zipped,
    )
    monkeypatch.setattr(Colour, "_missing_", None)
    checkpoint = read_checkpoint(tmp_path / "last.ckpt", NAMES)
    assert set(checkpoint.tensors) == set(NAMES)
    assert checkpoint.found == "state_dict"


def test_dictionaries_of_other_classes_beside_numbers_of_numpy(tmp_path: Path) -> None:
    metrics = defaultdict(list, {"loss": [np.float32(0.5)]})
    content = {
        "metrics": metrics,
        "cfg": Settings(lr=np.float64(0.1)),
        "args": argparse.Namespace(a=1),
        "model": state(),
    }
    torch.save(content, tmp_path / "x.bin")
    checkpoint = read_checkpoint(tmp_path / "x.bin", NAMES)
    assert set(checkpoint.tensors) == set(NAMES)
    (note,) = checkpoint.notes
    assert "left out what is no tensor (" in note
    assert "argparse.Namespace" in note
    assert note.endswith("nothing of it was run")


class Touches:
    """Makes a file where it is read."""

    def __init__(self, path: Path, how: object) -> None:
        self.path, self.how = path, how

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return self.how, (str(self.path),)


@pytest.mark.parametrize("how", [os.mkdir, os.system, exec, eval, open, pathlib.Path.mkdir, getattr, io.open_code])
def test_nothing_runs_even_beside_a_state_dict(tmp_path: Path, how: object) -> None:
    target = tmp_path / "made"
    torch.save({"state_dict": state(), "extra": Touches(target, how)}, tmp_path / "evil.pth")
    with pytest.raises(BackboneError, match=r"refused: reading it would run code|is not a PyTorch checkpoint"):
        read_checkpoint(tmp_path / "evil.pth", NAMES)
    assert not target.exists()


def run_me(path: str) -> None:
    Path(path).write_text("ran")


def test_a_function_of_somebodys_script_is_skipped_and_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": state(), "extra": Touches(tmp_path / "made", run_me)}, tmp_path / "own.pth")
    assert set(read_checkpoint(tmp_path / "own.pth", NAMES).tensors) == set(NAMES)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"state_dict": under("a."), "state_dict_ema": state()}, "state_dict_ema"),
        (
            {"model": state(), "model_ema": state(), "optimizer": {"state": {0: {"exp_avg": torch.zeros(1)}}}},
            "model_ema",
        ),
        ({"params": state(), "params_ema": state()}, "params_ema"),
        ({"ema_state_dict": {"module": state()}, "state_dict": state()}, "ema_state_dict.module"),
        ({"state_dict_ema": None, "state_dict": state()}, "state_dict"),
        ({"teacher": under("backbone."), "student": under("backbone.")}, "teacher"),
        ({"checkpoint": {"model": state()}, "epoch": 1}, "checkpoint.model"),
        ({"G": state(), "D": {"other.weight": torch.zeros(3)}}, "G"),
        ({"whatever": state(), "epoch": 1}, "whatever"),
    ],
)
def test_of_several_state_dicts_the_averaged_one_else_the_fitting_one(
    tmp_path: Path, content: dict[str, object], found: str
) -> None:
    torch.save(content, tmp_path / "x.pth.tar")
    checkpoint = read_checkpoint(tmp_path / "x.pth.tar", NAMES)
    assert checkpoint.found == found
    assert set(checkpoint.tensors) == set(NAMES)
    averaged = "ema" in found or found == "teacher"
    assert checkpoint.averaged == averaged
    assert any(f"the averaged ones ({found})" in note for note in checkpoint.notes) == averaged


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "model.",
        "_orig_mod.",
        "net.",
        "backbone.",
        "encoder.",
        "module._orig_mod.model.",
        "model.net.encoder.",
        "module.encoder_q.",
        "my_own_wrapper.",
    ],
)
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_prefixes_are_taken_off_and_said(tmp_path: Path, prefix: str, suffix: str) -> None:
    path = tmp_path / f"model.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(under(prefix), path)
    checkpoint = read_checkpoint(path, NAMES)
    assert set(checkpoint.tensors) == set(NAMES)
    assert checkpoint.notes == (f"weights: the prefix {prefix!r} is taken off the names",)


def test_what_stands_beside_the_prefix_is_left_out_and_said(tmp_path: Path) -> None:
    torch.save({"state_dict": {**under("model."), "loss.weight": torch.ones(2)}}, tmp_path / "x.ckpt")
    checkpoint = read_checkpoint(tmp_path / "x.ckpt", NAMES)
    assert set(checkpoint.tensors) == set(NAMES)
    assert checkpoint.notes[-1] == "weights: left out what has another prefix (loss.weight)"


def test_of_two_networks_under_prefixes_the_averaged_one(tmp_path: Path) -> None:
    average = {name: tensor + 1 for name, tensor in state().items()}
    torch.save({"state_dict": {**under("model."), **under("ema_model.module.", average)}}, tmp_path / "x.ckpt")
    tensors = read_checkpoint(tmp_path / "x.ckpt", NAMES).tensors
    assert torch.equal(tensors["1.num_batches_tracked"], torch.tensor(1))


def test_a_name_of_the_network_itself_is_no_prefix(tmp_path: Path) -> None:
    torch.save(under("encoder."), tmp_path / "x.pth")
    checkpoint = read_checkpoint(tmp_path / "x.pth", tuple(under("encoder.")))
    assert set(checkpoint.tensors) == set(under("encoder."))
    assert checkpoint.notes == ()


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors", "model.bin", "model"])
def test_the_content_says_what_a_file_is(tmp_path: Path, name: str) -> None:
    save_file(state(), tmp_path / name)
    assert set(read_checkpoint(tmp_path / name).tensors) == set(NAMES)
    torch.save(state(), tmp_path / name)
    assert set(read_checkpoint(tmp_path / name).tensors) == set(NAMES)
    torch.save(OrderedDict(state()), tmp_path / name, _use_new_zipfile_serialization=False)
    assert set(read_checkpoint(tmp_path / name).tensors) == set(NAMES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"hyper_parameters": {"lr": 1.0}, "epoch": 3}, "it has hyper_parameters, epoch"),
        ({"a": {"x": torch.zeros(1)}, "b": {"y": torch.zeros(1)}}, r"several state dicts \(a, b\)"),
        ({"cfg": argparse.Namespace(a=1), "net": small()}, r"refused: .*it has cfg, net"),
    ],
)
def test_where_nothing_is_found_the_keys_at_hand_are_listed(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(BackboneError, match=message):
        read_checkpoint(tmp_path / "x.pt", NAMES)


def test_other_files_that_hold_weights_are_named(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(BackboneError, match="it is a TorchScript file"):
        read_checkpoint(tmp_path / "script.pt")
    torch.save(state(), tmp_path / "inner.pth")
    with tarfile.open(tmp_path / "model.pth.tar", "w") as archive:
        archive.add(tmp_path / "inner.pth", "inner.pth")
    with pytest.raises(BackboneError, match="it is a tar archive"):
        read_checkpoint(tmp_path / "model.pth.tar")
    with tarfile.open(tmp_path / "oldest.pth.tar", "w") as archive:
        for name in ("pickle", "storages", "tensors", "sys_info"):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(BackboneError, match=r"it is in the format of PyTorch before 0\.2"):
        read_checkpoint(tmp_path / "oldest.pth.tar")
    np.savez(tmp_path / "model.npz", a=np.zeros(2))
    with pytest.raises(BackboneError, match="it holds arrays of numpy; save them as tensors by name"):
        read_checkpoint(tmp_path / "model.npz")
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("model.pth", b"")
    with pytest.raises(BackboneError, match="it is a ZIP archive"):
        read_checkpoint(tmp_path / "model.zip")


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
            "the pointer of Git LFS.*git lfs pull",
        ),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "a web page, as a download that failed leaves it"),
        (b"\x89HDF\r\n\x1a\n" + bytes(90), "an HDF5 file, as Keras writes it"),
        (b"\x1f\x8b\x08" + bytes(90), "compressed with gzip"),
        (b"\x93NUMPY" + bytes(90), "one array of numpy"),
        (b"GGUF" + bytes(90), "a GGUF file of quantized weights"),
    ],
)
def test_what_stands_in_the_place_of_weights_is_named(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BackboneError, match=rf"{name} is not a PyTorch checkpoint: .*{reason}"):
        read_checkpoint(tmp_path / name)
