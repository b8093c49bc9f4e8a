"""A plain Lightning loop, as its documentation of ``BackboneFinetuning`` has it.

The head of two layers at 0.001 (Adam), the backbone frozen for one epoch, then trained at a tenth of that rate, which
doubles every epoch until it is the head's: the callback's defaults but for the epoch, so that this loop is as long as
fastai's. Images and batches are those of Lightning's example of fine-tuning: resized, flipped at random, 32 at a time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import timm
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import BackboneFinetuning
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.finetuners.side import MODEL, Answers, Marks, Task, run_side

BATCH_SIZE = 32
HEAD_RATE = 1e-3
HEAD_WIDTH = 512
FROZEN_EPOCHS = 1


class FineTuned(LightningModule):  # type: ignore[misc]  # its types are not looked at
    """A backbone and a head."""

    def __init__(self, weights: Path, classes: int) -> None:
        super().__init__()
        backbone: Any = timm.create_model(
            MODEL, pretrained=True, num_classes=0, pretrained_cfg_overlay={"file": str(weights)}
        )
        self.backbone = backbone
        self.head = nn.Sequential(
            nn.Linear(backbone.num_features, HEAD_WIDTH), nn.ReLU(), nn.Linear(HEAD_WIDTH, classes)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits ``[n, C]`` of float32 ``[n, 3, H, W]``."""
        logits: torch.Tensor = self.head(self.backbone(images))
        return logits

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        """Return the loss of a batch."""
        images, targets = batch
        return cross_entropy(self(images), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return an optimiser of the head, to which the callback adds the backbone."""
        return torch.optim.Adam(self.head.parameters(), lr=HEAD_RATE)


class Keep(Callback):  # type: ignore[misc]  # as above
    """Marks the end of every epoch."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Keep the weights."""
        self.marks.add(lambda file: torch.save(pl_module.state_dict(), file))


class Images(Dataset[torch.Tensor]):
    """Image files without labels."""

    def __init__(self, files: Sequence[Path], transform: Any) -> None:
        self._files = files
        self._transform = transform

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self._files[index]) as image:
            pixels: torch.Tensor = self._transform(image.convert("RGB"))
        return pixels


def transform_of(model: FineTuned, image_size: int, *, training: bool) -> Any:
    """Return what makes a tensor of an image."""
    backbone: Any = model.backbone
    return transforms.Compose(
        [
            transforms.Resize((image_size, image_size)),
            *([transforms.RandomHorizontalFlip()] if training else []),
            transforms.ToTensor(),
            transforms.Normalize(backbone.pretrained_cfg["mean"], backbone.pretrained_cfg["std"]),
        ]
    )


def train(task: Task, marks: Marks) -> dict[str, str]:
    """Fine-tune."""
    seed_everything(task.seed)
    torch.set_num_threads(task.threads)
    images = ImageFolder(task.data / "train")
    model = FineTuned(task.weights, len(images.classes))
    images.transform = transform_of(model, task.image_size, training=True)
    epochs = FROZEN_EPOCHS + task.epochs
    trainer = Trainer(
        max_epochs=epochs,
        callbacks=[BackboneFinetuning(unfreeze_backbone_at_epoch=FROZEN_EPOCHS), Keep(marks)],
        default_root_dir=task.output,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(images, batch_size=BATCH_SIZE, shuffle=True, num_workers=task.threads))
    return {
        "did": f"BackboneFinetuning(unfreeze_backbone_at_epoch={FROZEN_EPOCHS}), {epochs} epochs at {task.image_size} "
        f"px, Adam at {HEAD_RATE:g}, batches of {BATCH_SIZE}, workers: {task.threads}",
        "versions": f"lightning {version('lightning')}, torch {version('torch')}, timm {version('timm')}",
    }


def answer(task: Task, files: Sequence[Path], kept: Sequence[Path]) -> Answers:
    """Predict with the weights of each epoch."""
    torch.set_num_threads(task.threads)
    classes = ImageFolder(task.data / "train").classes
    model = FineTuned(task.weights, len(classes)).eval()
    images = Images(files, transform_of(model, task.image_size, training=False))
    logits = []
    with torch.no_grad():
        for weights in kept:
            model.load_state_dict(torch.load(weights, weights_only=True))
            batches = DataLoader(images, batch_size=BATCH_SIZE, num_workers=task.threads)
            logits.append(torch.cat([model(batch) for batch in batches]).numpy())
    return Answers(tuple(classes), tuple(logits))


if __name__ == "__main__":
    run_side(sys.argv[1:], train, answer)
