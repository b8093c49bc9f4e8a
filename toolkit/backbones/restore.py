"""The fine-tuned network of a run, rebuilt from its files."""

from __future__ import annotations

from toolkit.backbones.create import build_architecture
from toolkit.backbones.deployable import Deployable
from toolkit.backbones.weights import load_weights
from toolkit.run_folder import FinishedRun


def load_deployable(run: FinishedRun, takes_images: bool = True) -> Deployable:
    """Rebuild a run's network with its fine-tuned weights, on the CPU in inference mode.

    Args:
        run: the run.
        takes_images: whether the network takes uint8 images or a normalised tensor.

    Raises:
        RunError: ``model.safetensors`` is missing or is not the file that ``run.json`` describes.
    """
    run.require_own_weights()
    record = run.record
    model = build_architecture(record.backbone, len(record.labels), record.preprocessing.height)
    load_weights(model, run.folder.model_file)
    return Deployable(model, record.normalization, takes_images, record.flip_test)
