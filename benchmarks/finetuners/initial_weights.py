"""The ImageNet weights that all sides start from, from their pip package into a file under timm's names."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.finetuners.side import MODEL
from toolkit.backbones import create_backbone, save_weights

IMAGENET_CLASSES = 1000


def write(path: Path) -> str:
    """Write the file; return where the weights come from.

    The head in it is random: no side takes it.
    """
    backbone = create_backbone(f"timm:{MODEL}", weights="default", classes=IMAGENET_CLASSES, image_size=None, seed=0)
    save_weights(backbone.model, path)
    return backbone.weights


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="the .safetensors file to write")
    print(write(parser.parse_args().output))
