"""The textbook way to fine-tune a ResNet-18, as tutorials write it: the baseline. It uses nothing of toolkit."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
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
BATCH_SIZE = 100
HEAD_RATE = 0.001
BACKBONE_RATE = 0.0001
MOMENTUM = 0.9


class Clock:
    """Seconds since it was made, without the time that was spent on the test images."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.testing = 0.0

    def seconds(self) -> float:
        """Return the seconds so far."""
        return time.perf_counter() - self.began - self.testing


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/<class>/ and test/<class>/")
    parser.add_argument(
        "--weights", type=Path, help="state dict of a ResNet-18, .safetensors or .pth (default: random by --seed)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs1", type=int, default=10, help="epochs of the head alone")
    parser.add_argument("--epochs2", type=int, default=10, help="epochs of layer4 and the head")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's own choice)")
    parser.add_argument(
        "--evaluate",
        choices=("each", "end"),
        default="end",
        help="look at the test images after each epoch, or at the end only",
    )
    parser.add_argument(
        "--time-log",
        type=Path,
        metavar="FILE",
        help="write one JSON line per epoch; its seconds leave out the test images",
    )
    options = parser.parse_args()
    if min(options.epochs1, options.epochs2) < 0 or options.epochs1 + options.epochs2 == 0:
        parser.error("--epochs1 and --epochs2 must be 0 or more, and not both 0")
    return options


def loaders(options: argparse.Namespace) -> tuple[DataLoader[Any], DataLoader[Any], int, int]:
    """Return the loaders of the training and the test images, the number of training images, and of classes."""
    size = options.image_size
    transform = transforms.Compose(
        [transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    )
    train = datasets.ImageFolder(options.data / "train", transform)
    test = datasets.ImageFolder(options.data / "test", transform)
    return (
        DataLoader(train, batch_size=options.batch_size, shuffle=True, num_workers=WORKERS),
        DataLoader(test, batch_size=options.batch_size, shuffle=False, num_workers=WORKERS),
        len(train),
        len(train.classes),
    )


def make_model(weights: Path | None, classes: int) -> Any:
    """Return a ResNet-18 with a new head, everything else frozen."""
    model = models.resnet18(weights=None)
    if weights is not None:
        is_safe = weights.suffix == ".safetensors"
        model.load_state_dict(
            load_file(weights) if is_safe else torch.load(weights, map_location="cpu", weights_only=True)
        )
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.fc = nn.Linear(model.fc.in_features, classes)
    return model


def train_stage(
    model: nn.Module,
    loader: DataLoader[Any],
    optimizer: torch.optim.Optimizer,
    epochs: int,
    device: torch.device,
    after_epoch: Callable[[int], None],
) -> None:
    """Train for some epochs.

    All of the model is in training mode, so that the statistics of its frozen BatchNorm layers move, too.
    """
    criterion = nn.CrossEntropyLoss()
    for epoch in range(1, epochs + 1):
        model.train()
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
        print(f"epoch {epoch}/{epochs}: loss {total / images:.4f}", flush=True)
        after_epoch(epoch)


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
    """Train the head, then layer4 with it, test, and print the result as JSON on the last line."""
    clock = Clock()
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train, test, images, classes = loaders(options)
    model = make_model(options.weights, classes).to(device)
    log: list[dict[str, Any]] = []
    tested = (0.0, 0)

    def after_epoch(stage: int, epoch: int) -> None:
        nonlocal tested
        entry: dict[str, Any] = {"epoch": epoch, "stage": stage, "seconds": clock.seconds()}
        is_last = len(log) + 1 == options.epochs1 + options.epochs2
        if is_last or options.evaluate == "each":
            began = time.perf_counter()
            tested = test_accuracy(model, test, device)
            clock.testing += time.perf_counter() - began
            entry["test_accuracy"] = tested[0]
        log.append(entry)
        if options.time_log:
            options.time_log.write_text("".join(f"{json.dumps(line)}\n" for line in log), encoding="utf-8")

    began1 = clock.seconds()
    optimizer = torch.optim.SGD(model.fc.parameters(), lr=HEAD_RATE, momentum=MOMENTUM)
    train_stage(model, train, optimizer, options.epochs1, device, lambda epoch: after_epoch(1, epoch))

    began2 = clock.seconds()
    for parameter in model.layer4.parameters():
        parameter.requires_grad = True
    groups = [
        {"params": model.layer4.parameters(), "lr": BACKBONE_RATE},
        {"params": model.fc.parameters(), "lr": HEAD_RATE},
    ]
    train_stage(
        model,
        train,
        torch.optim.SGD(groups, momentum=MOMENTUM),
        options.epochs2,
        device,
        lambda epoch: after_epoch(2, epoch),
    )
    ended = clock.seconds()

    result = {
        "accuracy": tested[0],
        "train_images": images,
        "test_images": tested[1],
        "seconds_stage1": began2 - began1,
        "seconds_stage2": ended - began2,
        "seconds_testing": clock.testing,
        "seconds": ended + clock.testing,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
