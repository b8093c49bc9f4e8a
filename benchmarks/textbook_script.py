"""The textbook way to fine-tune a ResNet-18, as tutorials write it: the baseline. It uses nothing of toolkit."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
WORKERS = 2


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/<class>/ and test/<class>/")
    parser.add_argument("--weights", type=Path, help="safetensors file of a ResNet-18 (default: random by --seed)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs1", type=int, default=10, help="epochs of the head alone")
    parser.add_argument("--epochs2", type=int, default=10, help="epochs of layer4 and the head")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's own choice)")
    return parser.parse_args()


def loaders(options: argparse.Namespace) -> tuple[DataLoader[Any], DataLoader[Any], int]:
    """Return the loaders of the training and the test images, and the number of classes."""
    size = options.image_size
    transform = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    train = datasets.ImageFolder(options.data / "train", transform)
    test = datasets.ImageFolder(options.data / "test", transform)
    return (
        DataLoader(train, batch_size=options.batch_size, shuffle=True, num_workers=WORKERS),
        DataLoader(test, batch_size=options.batch_size, shuffle=False, num_workers=WORKERS),
        len(train.classes),
    )


def train_stage(model: nn.Module, loader: DataLoader[Any], optimizer: torch.optim.Optimizer, epochs: int, device: torch.device) -> float:
    """Train for some epochs and return the seconds that took."""
    began = time.perf_counter()
    criterion = nn.CrossEntropyLoss()
    model.train()
    for epoch in range(epochs):
        total = 0.0
        images = 0
        for inputs, targets in loader:
            inputs, targets = inputs.to(device), targets.to(device)
            optimizer.zero_grad()
            loss = criterion(model(inputs), targets)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(targets)
            images += len(targets)
        print(f"epoch {epoch + 1}/{epochs}: loss {total / images:.4f}", flush=True)
    return time.perf_counter() - began


def test_accuracy(model: nn.Module, loader: DataLoader[Any], device: torch.device) -> tuple[float, int]:
    """Return the accuracy on the test images, and how many there are."""
    right = 0
    images = 0
    model.eval()
    with torch.no_grad():
        for inputs, targets in loader:
            predicted = model(inputs.to(device)).argmax(dim=1).cpu()
            right += int((predicted == targets).sum())
            images += len(targets)
    return right / images, images


def main() -> None:
    """Train the head, then layer4 with it, test once, and print the result as JSON on the last line."""
    began = time.perf_counter()
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train, test, classes = loaders(options)

    model = models.resnet18(weights=None)
    if options.weights:
        model.load_state_dict(load_file(options.weights))
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.fc = nn.Linear(model.fc.in_features, classes)
    model.to(device)

    optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.001, momentum=0.9)
    seconds_stage1 = train_stage(model, train, optimizer, options.epochs1, device)

    for parameter in model.layer4.parameters():
        parameter.requires_grad = True
    groups = [{"params": model.layer4.parameters(), "lr": 0.0001}, {"params": model.fc.parameters(), "lr": 0.001}]
    seconds_stage2 = train_stage(model, train, torch.optim.SGD(groups, momentum=0.9), options.epochs2, device)

    accuracy, images = test_accuracy(model, test, device)
    result = {
        "accuracy": accuracy,
        "test_images": images,
        "seconds_stage1": seconds_stage1,
        "seconds_stage2": seconds_stage2,
        "seconds": time.perf_counter() - began,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
