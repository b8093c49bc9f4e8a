import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from toolkit.backbones import Backbone, apply_modes, create_backbone, select_blocks, set_trainable
from toolkit.backbones.surgery import find_head, has_linear_head, head_layer, replace_head, watching_head
from toolkit.errors import BackboneError


def make(name: str, image_size: int = 32, classes: int = 3) -> Backbone:
    return create_backbone(name, weights="none", classes=classes, image_size=image_size, seed=0)


@pytest.fixture(scope="module")
def shared_resnet() -> Backbone:
    return make("resnet18")


@pytest.fixture
def resnet(shared_resnet: Backbone) -> Backbone:
    return copy.deepcopy(shared_resnet)


def in_training_mode(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if module.training and next(module.children(), None) is None}


def trainable(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def step(backbone: Backbone, image_size: int = 32) -> None:
    torch.manual_seed(1)
    parameters = [parameter for parameter in backbone.model.parameters() if parameter.requires_grad]
    loss = nn.functional.cross_entropy(
        backbone.model(torch.randn(4, 3, image_size, image_size)), torch.tensor([0, 1, 2, 0])
    )
    loss.backward()
    torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1).step()


def changed(before: dict[str, torch.Tensor], backbone: Backbone) -> set[str]:
    return {name for name, tensor in backbone.model.state_dict().items() if not torch.equal(tensor, before[name])}


def state(backbone: Backbone) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("resnet18", "fc", nn.Linear),
        ("squeezenet1_0", "classifier.1", nn.Conv2d),
        ("mobilenet_v3_small", "classifier.3", nn.Linear),
    ],
)
def test_the_head_is_the_last_layer(name: str, head: str, kind: type[nn.Module]) -> None:
    backbone = make(name, classes=5)
    assert backbone.head == (head,)
    assert type(backbone.model.get_submodule(head)) is kind
    with torch.inference_mode():
        assert backbone.model(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


def test_the_new_head_depends_on_the_seed_alone_and_starts_as_pytorch_starts_it() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(16, 9, bias=False))
    generator = torch.get_rng_state()
    replace_head(model, ("1",), 4, seed=7)
    first = model[1].weight.clone()
    torch.rand(3)
    replace_head(model, ("1",), 4, seed=7)
    assert torch.equal(model[1].weight, first)
    assert model[1].bias is None
    assert first.abs().max() <= 16**-0.5
    replace_head(model, ("1",), 4, seed=8)
    assert not torch.equal(model[1].weight, first)
    torch.rand(3, generator=None)
    torch.set_rng_state(generator)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    replace_head(model, ("1",), 4, seed=8)
    assert torch.equal(torch.rand(1), expected)  # the caller's generator is left alone


@pytest.mark.parametrize("model", [nn.Sequential(nn.Flatten()), nn.Sequential()])
def test_a_network_without_a_last_layer_has_no_head(model: nn.Module) -> None:
    with pytest.raises(BackboneError, match="no linear or convolutional layer"):
        find_head(model)


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 4, kernel_size=3), nn.Embedding(2, 2)])
def test_a_head_of_another_kind_is_refused(layer: nn.Module) -> None:
    with pytest.raises(BackboneError, match=f"head made of {type(layer).__name__} cannot be replaced"):
        replace_head(nn.Sequential(layer), ("0",), 2, seed=0)


def test_the_head_alone_is_trained(resnet: Backbone) -> None:
    before = state(resnet)
    parts = set_trainable(resnet, 0)
    assert parts.backbone == []
    assert parts.names == ("fc",)
    assert trainable(resnet.model) == {"fc.weight", "fc.bias"}
    assert in_training_mode(resnet.model) == {"fc"}
    step(resnet)
    assert changed(before, resnet) == {"fc.weight", "fc.bias"}


def test_the_last_block_is_trained_and_statistics_stay(resnet: Backbone) -> None:
    before = state(resnet)
    parts = set_trainable(resnet, 1)
    assert parts.names == ("layer4", "fc")
    assert {id(parameter) for parameter in parts.backbone} == {
        id(parameter) for parameter in resnet.model.layer4.parameters()
    }
    assert in_training_mode(resnet.model) == {
        *(
            "layer4.0.conv1",
            "layer4.0.conv2",
            "layer4.0.relu",
            "layer4.0.downsample.0",
            "layer4.1.conv1",
            "layer4.1.conv2",
            "layer4.1.relu",
            "fc",
        )
    }
    step(resnet)
    moved = changed(before, resnet)
    assert {name.split(".")[0] for name in moved} == {"layer4", "fc"}
    assert not any("running" in name or "batches" in name for name in moved)
    assert {"layer4.0.bn1.weight", "layer4.1.conv2.weight", "fc.weight"} <= moved


def test_train_bn_moves_statistics_of_the_chosen_blocks_only(resnet: Backbone) -> None:
    before = state(resnet)
    set_trainable(resnet, ["layer3"], train_bn=True)
    step(resnet)
    moving = {name.split(".")[0] for name in changed(before, resnet) if "running" in name}
    assert moving == {"layer3"}


def test_stages_can_follow_each_other_in_any_order(resnet: Backbone) -> None:
    set_trainable(resnet, 5, train_bn=True)
    step(resnet)
    set_trainable(resnet, 1)
    before = state(resnet)
    assert all(
        parameter.grad is None
        for name, parameter in resnet.model.named_parameters()
        if not name.startswith(("layer4", "fc"))
    )
    assert trainable(resnet.model) == {
        name for name, _ in resnet.model.named_parameters() if name.startswith(("layer4", "fc"))
    }
    first = in_training_mode(resnet.model)
    set_trainable(resnet, 1)
    assert in_training_mode(resnet.model) == first
    step(resnet)
    assert {name.split(".")[0] for name in changed(before, resnet)} == {"layer4", "fc"}


def test_modes_come_back_after_an_evaluation(resnet: Backbone) -> None:
    parts = set_trainable(resnet, 2, train_bn=True)
    before = in_training_mode(resnet.model)
    assert "layer3.0.bn1" in before
    resnet.model.eval()
    apply_modes(resnet, parts)
    assert in_training_mode(resnet.model) == before
    resnet.model.train()
    apply_modes(resnet, parts)
    assert in_training_mode(resnet.model) == before


def test_a_part_of_a_block_can_be_named(resnet: Backbone) -> None:
    parts = set_trainable(resnet, ["layer4.1", "stem", "layer4.1"])
    assert parts.names == ("layer4.1", "stem", "fc")
    assert {name.rpartition(".")[0] for name in trainable(resnet.model)} == {
        *("conv1", "bn1", "layer4.1.conv1", "layer4.1.bn1", "layer4.1.conv2", "layer4.1.bn2", "fc")
    }


def test_overlapping_names_give_each_parameter_once(resnet: Backbone) -> None:
    parts = set_trainable(resnet, ["layer4", "layer4.1", "fc"])
    assert len({id(parameter) for parameter in [*parts.head, *parts.backbone]}) == len(parts.head) + len(parts.backbone)
    assert len(parts.head) == 2


def test_a_block_name_means_the_block_with_what_joins_it() -> None:
    backbone = make("timm:tf_efficientnet_lite0", image_size=32)
    parts = set_trainable(backbone, ["blocks.6"])
    assert {"conv_head.weight", "bn2.weight", "classifier.weight"} <= trainable(backbone.model)
    assert not any(name.endswith("bn2") for name in in_training_mode(backbone.model))  # timm's BatchNormAct2d
    assert parts.names == ("blocks.6", "classifier")


def test_loose_parameters_are_trained_with_their_block() -> None:
    backbone = make("vit_b_16", image_size=32)
    set_trainable(backbone, ["stem"])
    assert trainable(backbone.model) == {
        *(
            "class_token",
            "encoder.pos_embedding",
            "conv_proj.weight",
            "conv_proj.bias",
            "heads.head.weight",
            "heads.head.bias",
        )
    }
    set_trainable(backbone, 1)
    assert "class_token" not in trainable(backbone.model)


def test_dropout_acts_where_it_belongs_to_a_trained_block() -> None:
    backbone = make("mobilenet_v3_small")
    set_trainable(backbone, 0)
    assert not backbone.model.classifier[2].training
    set_trainable(backbone, 1)
    assert backbone.model.classifier[2].training


def test_more_blocks_than_there_are(resnet: Backbone) -> None:
    with pytest.raises(
        BackboneError,
        match=r"cannot unfreeze 6 blocks: torchvision:resnet18 has 5 \(stem, layer1, layer2, layer3, layer4\)",
    ):
        select_blocks(resnet, 6)
    with pytest.raises(BackboneError, match="Give 0 to 5"):
        select_blocks(resnet, -1)


def test_select_blocks_by_count(resnet: Backbone) -> None:
    assert [block.name for block in select_blocks(resnet, 2)] == ["layer3", "layer4"]
    assert select_blocks(resnet, 0) == ()
    assert select_blocks(resnet, 5) == resnet.blocks


def test_an_unknown_block_names_the_valid_ones(resnet: Backbone) -> None:
    with pytest.raises(
        BackboneError, match=r"no block or module 'layer5'.*Close names: layer[1-4].*blocks are stem, layer1"
    ):
        select_blocks(resnet, ["layer5"])
    with pytest.raises(BackboneError, match="no block or module ''"):
        select_blocks(resnet, [""])


def test_a_module_without_parameters_is_refused(resnet: Backbone) -> None:
    with pytest.raises(BackboneError, match="'relu' of torchvision:resnet18 has no parameters to train"):
        set_trainable(resnet, ["relu"])


@pytest.mark.parametrize(
    ("name", "linear"),
    [
        ("resnet18", True),
        ("timm:test_efficientnet", True),
        ("mobilenet_v3_small", True),  # a hidden layer before it is of the backbone
        ("timm:test_vit", True),
        ("squeezenet1_1", False),  # a convolution, then ReLU and the mean over positions
    ],
)
def test_whether_the_scores_are_one_linear_function_of_one_vector(name: str, linear: bool) -> None:
    backbone = make(name, 64 if name == "squeezenet1_1" else 32)
    before = {key: tensor.clone() for key, tensor in backbone.model.state_dict().items()}
    assert has_linear_head(backbone) is linear
    assert all(torch.equal(tensor, before[key]) for key, tensor in backbone.model.state_dict().items())
    assert not head_layer(backbone)._forward_hooks


def test_what_goes_into_the_head_and_comes_out_is_noted(resnet: Backbone) -> None:
    resnet.model.eval()
    with torch.no_grad(), watching_head(resnet) as calls:
        logits = resnet.model(torch.rand(2, 3, 32, 32))
        resnet.model(torch.rand(1, 3, 32, 32))
    shapes = [(tuple(taken.shape), tuple(given.shape)) for taken, given in calls]
    assert shapes == [((2, 512), (2, 3)), ((1, 512), (1, 3))]
    assert torch.equal(calls[0][1], logits)
    torch.testing.assert_close(head_layer(resnet)(calls[0][0]), logits)


def test_two_heads_are_not_one_linear_function(resnet: Backbone) -> None:
    assert not has_linear_head(replace(resnet, head=("fc", "fc")))
