"""The fine-tuned network of a run, rebuilt from its files."""

from __future__ import annotations

from toolkit.backbones.create import build_architecture
from toolkit.backbones.deployable import Deployable
from toolkit.backbones.weights import load_weights
from toolkit.errors import RunError
from toolkit.files import sha256_file
from toolkit.runs import RunFolder, RunRecord


def load_deployable(run: RunFolder, record: RunRecord, takes_images: bool = True) -> Deployable:
    """Rebuild a run's network with its fine-tuned weights, on the CPU in inference mode.

    Args:
        run: the run.
        record: its ``run.json``.
        takes_images: whether the network takes uint8 images or a normalised tensor.

    Raises:
        RunError: ``model.safetensors`` is missing or is not the file that ``run.json`` describes.
    """
    if not run.model_file.is_file():
        raise RunError(f"{run.model_file} is missing: run 'toolkit finetune' again.")
    if sha256_file(run.model_file) != record.model_sha256:
        raise RunError(
            f"{run.model_file} is not the file that {run.record_file.name} describes: run 'toolkit finetune' again."
        )
    model = build_architecture(record.backbone, len(record.labels), record.preprocessing.height)
    load_weights(model, run.model_file)
    return Deployable(model, record.normalization, takes_images)
