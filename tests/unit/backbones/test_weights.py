from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from toolkit.backbones import load_weights, save_weights
from toolkit.backbones.weights import load_by_order, load_state
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


def test_a_full_disk_is_said_as_of_every_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(FileWriteError, match=r"^cannot write .*model\.safetensors: No space left on device\. Free"):
        save_weights(small(), tmp_path / "model.safetensors")


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


def test_batchnorm_without_its_counter_is_accepted() -> None:
    state = {name: tensor for name, tensor in small().state_dict().items() if "num_batches" not in name}
    load_state(small(), state, ignore=(), origin="an old checkpoint")


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


def damage(name: str, value: float, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    state = {
        key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in small().state_dict().items()
    }
    state[name].view(-1)[0] = value
    return state


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (damage("0.weight", float("nan")), r"0.weight has 108 values, of which 1 is not a number or infinite"),
        (damage("0.bias", float("-inf"), torch.float16), r"0.bias has 4 values, of which 1 is not a number"),
        (damage("1.weight", float("inf"), torch.bfloat16), r"1.weight has 4 values, of which 1 is not a number"),
        (damage("2.weight", 1e300, torch.float64), r"2.weight has 8 values, of which 1 is not a number"),
        (damage("1.running_mean", float("nan")), r"1.running_mean has 4 values, of which 1 is"),
        (damage("1.running_var", -1.0), r"1.running_var has negative values, and is a variance"),
        (
            {**small().state_dict(), "2.bias": torch.zeros(2, dtype=torch.complex64)},
            r"2.bias is no plain tensor of num",
        ),
        (
            {**small().state_dict(), "0.weight": torch.ones(4, 3, 3, 3, dtype=torch.int8)},
            r"0.weight holds integers \(int8\), as quantized weights do without their scales",
        ),
        ({**small().state_dict(), "2.bias": torch.zeros(2).to_sparse()}, r"2.bias is no plain tensor of n"),
    ],
)
def test_what_no_trained_network_holds_is_refused_by_its_name(state: dict[str, torch.Tensor], message: str) -> None:
    model = small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(BackboneError, match=rf"the weights in here cannot be used: {message}.*take another checkpoint"):
        load_state(model, state, ignore=(), origin="here")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_what_is_left_out_may_hold_anything() -> None:
    load_state(small(), damage("2.weight", float("nan")), ignore=("2",), origin="here")
    load_state(small(), damage("1.num_batches_tracked", 7), ignore=(), origin="here")
