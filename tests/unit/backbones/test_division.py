import pytest
import timm
import torch
from torch import nn

from toolkit.backbones.division import divide
from toolkit.backbones.meta import meta_model
from toolkit.backbones.registry import source
from toolkit.backbones.surgery import find_blocks, find_head

STAGES = ["layer1", "layer2", "layer3", "layer4"]
TORCHVISION = {
    "resnet18": ["stem", *STAGES],
    "alexnet": ["features.0", "features.3", "features.6-10", "classifier.1", "classifier.4"],
    "vgg16": [
        "features.0-2",
        "features.5-7",
        "features.10-14",
        "features.17-21",
        "features.24-28",
        "classifier.0",
        "classifier.3",
    ],
    "vgg11_bn": [
        "features.0-1",
        "features.4-5",
        "features.8-12",
        "features.15-19",
        "features.22-26",
        "classifier.0",
        "classifier.3",
    ],
    "densenet121": ["stem", *(f"features.denseblock{n}" for n in (1, 2, 3, 4))],
    "efficientnet_b0": [f"features.{n}" for n in range(9)],
    "mobilenet_v3_small": [*(f"features.{n}" for n in range(13)), "classifier.0"],
    "mnasnet0_5": ["layers.0-7", *(f"layers.{n}" for n in range(8, 14)), "layers.14-15"],
    "shufflenet_v2_x0_5": ["conv1", "stage2", "stage3", "stage4", "conv5"],
    "regnet_y_400mf": ["stem", *(f"trunk_output.block{n}" for n in (1, 2, 3, 4))],
    "convnext_tiny": ["features.0", "features.1", "features.3", "features.5", "features.7"],
    "swin_t": ["features.0", "features.1", "features.3", "features.5", "features.7"],
    "vit_b_16": ["stem", *(f"encoder.layers.encoder_layer_{n}" for n in range(12))],
    "maxvit_t": ["stem", *(f"blocks.{n}" for n in range(4)), "classifier.3"],
    "inception_v3": [
        "stem",
        "Conv2d_3b_1x1+Conv2d_4a_3x3",
        *(f"Mixed_{n}" for n in ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"]),
    ],
    "googlenet": [
        "conv1",
        "conv2+conv3",
        *(f"inception{n}" for n in ["3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"]),
    ],
    "squeezenet1_0": [f"features.{n}" for n in (0, 3, 4, 5, 7, 8, 9, 10, 12)],
}
TIMM = {
    "tf_efficientnet_lite0": ["stem", *(f"blocks.{n}" for n in range(7))],
    "resnet18": ["stem", *STAGES],
    "vit_tiny_patch16_224": ["stem", *(f"blocks.{n}" for n in range(12))],
    "convnext_atto": ["stem", *(f"stages.{n}" for n in range(4))],
    "mobilenetv3_small_050": ["stem", *(f"blocks.{n}" for n in range(6)), "conv_head"],
    "eva02_tiny_patch14_224": ["stem", *(f"blocks.{n}" for n in range(12))],
}


def on_meta(prefix: str, name: str) -> nn.Module:
    models = source(prefix)
    return meta_model(models, name, 7, models.defaults(name).image_size)


def times_covered(model: nn.Module, head: tuple[str, ...]) -> set[int]:
    counts = {name: 0 for name, _ in (*model.named_parameters(), *model.named_buffers())}
    for block in find_blocks(model, head):
        for path in block.modules:
            module = model.get_submodule(path)
            for name, _ in (*module.named_parameters(path), *module.named_buffers(path)):
                counts[name] += 1
        for name in block.parameters:
            counts[name] += 1
    in_head = [name for name in counts if name.startswith(tuple(f"{layer}." for layer in head))]
    assert in_head
    assert all(counts.pop(name) == 0 for name in in_head)
    return set(counts.values())


@pytest.mark.parametrize(
    ("prefix", "name", "expected"),
    [
        *(("torchvision", name, blocks) for name, blocks in TORCHVISION.items()),
        *(("timm", name, blocks) for name, blocks in TIMM.items()),
    ],
)
def test_blocks_are_those_that_a_practitioner_expects(prefix: str, name: str, expected: list[str]) -> None:
    model = on_meta(prefix, name)
    head = find_head(model)
    assert [block.name for block in find_blocks(model, head)] == expected
    assert times_covered(model, head) == {1}


def test_what_joins_a_block() -> None:
    by_name = {}
    for name in ("densenet121", "swin_t", "convnext_tiny", "vit_b_16", "efficientnet_b0", "vgg16"):
        model = on_meta("torchvision", name)
        by_name[name] = {block.name: block for block in find_blocks(model, find_head(model))}
    assert by_name["densenet121"]["features.denseblock3"].modules == ("features.denseblock3", "features.transition3")
    assert by_name["densenet121"]["features.denseblock4"].modules == ("features.denseblock4", "features.norm5")
    assert by_name["swin_t"]["features.7"].modules == ("features.6", "features.7", "norm")
    assert by_name["convnext_tiny"]["features.7"].modules == ("features.6", "features.7", "classifier.0")
    assert by_name["vit_b_16"]["stem"].parameters == ("class_token", "encoder.pos_embedding")
    assert "encoder.ln" in by_name["vit_b_16"]["encoder.layers.encoder_layer_11"].modules
    assert by_name["efficientnet_b0"]["features.8"].modules == (
        "features.8",
        "classifier.0",
    )  # dropout acts when what precedes it is trained
    assert by_name["vgg16"]["classifier.3"].modules == ("classifier.3", "classifier.5")


def test_a_network_that_nobody_knows_is_divided_too() -> None:
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
        nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    assert [block.name for block in divide(model, ("4",))] == ["0", "2"]


def test_a_timm_model_with_two_heads() -> None:
    with torch.device("meta"):
        model = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=7)
    assert find_head(model) == ("head", "head_dist")
    assert times_covered(model, ("head", "head_dist")) == {1}
