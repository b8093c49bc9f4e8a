import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from toolkit.backbones import load_weights, save_weights
from toolkit.backbones.weights import load_by_order, load_state, read_checkpoint
from toolkit.errors import BackboneError, FileWriteError


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def same(first: nn.Module, second: nn.Module) -> bool:
    theirs = second.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in first.state_dict().items())


def test_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    model, other = small(), small()
    model[1].running_mean.fill_(3.0)
    save_weights(model.to(memory_format=torch.channels_last), tmp_path / "new" / "model.safetensors")
    assert not same(model, other)
    load_weights(other, tmp_path / "new" / "model.safetensors")
    assert same(model, other)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.safetensors"]


def test_shared_tensors_are_kept_under_both_names(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    save_weights(model, tmp_path / "model.safetensors")
    assert set(load_file(tmp_path / "model.safetensors")) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    other[1].weight = other[0].weight
    load_weights(other, tmp_path / "model.safetensors")
    assert same(model, other)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileWriteError):
        save_weights(small(), tmp_path / "file" / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("0.weight"), "0.weight is missing"),
        (lambda state: state.update({"extra": torch.zeros(1)}), "extra is not a tensor of the model"),
        (lambda state: state.update({"2.weight": torch.zeros(9, 4)}), r"2.weight is \[9, 4\], the model's is \[2, 4\]"),
    ],
)
def test_weights_that_do_not_fit_name_the_tensor(tmp_path: Path, change: object, message: str) -> None:
    state = small().state_dict()
    change(state)  # type: ignore[operator]  # a lambda
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(BackboneError, match=message):
        load_weights(small(), tmp_path / "model.safetensors")


def test_only_the_first_few_problems_are_named() -> None:
    with pytest.raises(BackboneError, match=r"and 4 more\)"):
        load_state(small(), {}, ignore=(), origin="nothing")


def test_the_head_is_left_out() -> None:
    model, state = small(), small().state_dict()
    head = model[2].weight.clone()
    state["2.weight"] = torch.zeros(1000, 4)
    load_state(model, state, ignore=("2",), origin="here")
    assert torch.equal(model[2].weight, head)
    assert torch.equal(model[0].weight, state["0.weight"])


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "module."])
def test_checkpoints_are_unwrapped(tmp_path: Path, suffix: str, wrap: str) -> None:
    state = dict(small().state_dict())
    content = {"module.": {f"module.{name}": tensor for name, tensor in state.items()}, "plain": state}.get(
        wrap, {wrap: state, "epoch": 3}
    )
    torch.save(content, tmp_path / f"model{suffix}")
    assert set(read_checkpoint(tmp_path / f"model{suffix}")) == set(state)


def test_batchnorm_without_its_counter_is_accepted() -> None:
    state = {name: tensor for name, tensor in small().state_dict().items() if "num_batches" not in name}
    load_state(small(), state, ignore=(), origin="an old checkpoint")


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
    ],
)
def test_a_checkpoint_without_a_state_dict(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(BackboneError, match=message):
        read_checkpoint(tmp_path / "model.pth")


def test_a_missing_file_and_a_wrong_suffix(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"there is no weights file .*model.pth"):
        read_checkpoint(tmp_path / "model.pth")
    with pytest.raises(
        BackboneError, match=r"'imagenet' are not usable: give 'default', 'none', or a file ending in .safetensors"
    ):
        read_checkpoint(Path("imagenet"))
    with pytest.raises(BackboneError, match=r"cannot read the weights .*missing.safetensors: No such file"):
        load_weights(small(), tmp_path / "missing.safetensors")


def test_loading_by_order_checks_shapes_and_kinds() -> None:
    model = small()
    state = {
        f"layer{position}.{name.rpartition('.')[2]}": torch.full_like(tensor, 2)
        for position, (name, tensor) in enumerate(model.state_dict().items())
    }
    load_by_order(model, state, ignore=(), origin="here")
    assert all((tensor == 2).all() for tensor in model.state_dict().values())
    with pytest.raises(BackboneError, match="holds 8 tensors, Sequential has 9"):
        load_by_order(model, dict(list(state.items())[1:]), ignore=(), origin="here")
    swapped = [*list(state.items())[1::-1], *list(state.items())[2:]]
    with pytest.raises(BackboneError, match=r"layer1.bias \[4\] stands where 0.weight \[4, 3, 3, 3\] is expected"):
        load_by_order(model, dict(swapped), ignore=(), origin="here")
