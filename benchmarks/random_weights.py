"""A ResNet-18 that both sides of a comparison can start from where no pretrained one is at hand.

The weights are random. The BatchNorm statistics are those of real images: without them a frozen layer would normalise
with mean 0 and variance 1, which are statistics of nothing, and a script that leaves BatchNorm in training mode would
win by that alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, models, transforms

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
BATCH_SIZE = 64


def make(train: Path, image_size: int, images: int, seed: int) -> nn.Module:
    """Return the network in inference mode.

    Args:
        train: folder of class folders.
        image_size: side in pixels.
        images: how many the statistics are taken from, drawn by ``seed``.
        seed: of the weights, too.
    """
    torch.manual_seed(seed)
    model: nn.Module = models.resnet18(weights=None)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean over all batches
    transform = transforms.Compose(
        [transforms.Resize((image_size, image_size)), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    )
    whole = datasets.ImageFolder(train, transform)
    drawn = torch.randperm(len(whole))[:images].tolist()
    with torch.no_grad():
        for inputs, _ in DataLoader(Subset(whole, drawn), batch_size=BATCH_SIZE, drop_last=len(drawn) > BATCH_SIZE):
            model(inputs)
    model.eval()
    return model


def main() -> None:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(
        description="Write a random ResNet-18 whose BatchNorm statistics are those of real images."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train/<class>/")
    parser.add_argument("--output", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--images", type=int, default=512, help="the statistics are taken from so many training images")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = make(options.data / "train", options.image_size, options.images, options.seed)
    description = (
        f"random (torchvision's initialisation after torch.manual_seed({options.seed})), not pretrained, "
        f"with BatchNorm statistics of {options.images} training images at {options.image_size} px"
    )
    save_file(model.state_dict(), options.output, metadata={"description": description})


if __name__ == "__main__":
    main()
