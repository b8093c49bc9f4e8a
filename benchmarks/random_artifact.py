"""An ONNX file of a network with random weights, as toolkit exports it: speed does not depend on the weights."""

from __future__ import annotations

from pathlib import Path

LABELS = tuple(f"class {index}" for index in range(10))
GOLDEN = 3
"""Golden samples of a bundle."""


def write_onnx(backbone: str, size: int, path: Path) -> None:
    """Write the file.

    Args:
        backbone: as of toolkit.
        size: side of the images, in pixels.
        path: where to.
    """
    # Here, because processes that are measured import the benchmark that imports this.
    import torch

    from toolkit.backbones import create_backbone
    from toolkit.backbones.deployable import Deployable
    from toolkit.formats.base import ExportRequest
    from toolkit.formats.onnx import OnnxFormat

    made = create_backbone(backbone, weights="none", classes=len(LABELS), image_size=size, seed=0)
    deployable = Deployable(made.model, made.normalization).eval()
    sample = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    OnnxFormat().export(deployable, sample, path, ExportRequest("images", ("logits", "probabilities"), {}), None)


def write_bundle(backbone: str, size: int, folder: Path, decode: str = "full") -> Path:
    """Write a bundle of such a file and return the path of the file in it.

    Its golden samples are noise, and say what the file itself returned when it was made.

    Args:
        backbone: as of toolkit.
        size: side of the images, in pixels.
        folder: the bundle, which is made.
        decode: ``full`` or ``reduced``, see ``toolkit.preprocess.DECODE_RULES``.
    """
    import numpy as np

    from toolkit import provenance
    from toolkit.bundle.content import Content
    from toolkit.bundle.manifest import (
        ArtifactRecord,
        InputContract,
        Manifest,
        Normalization,
        Origin,
        OutputContract,
    )
    from toolkit.bundle.writer import file_record, new_bundle, write_golden, write_manifest
    from toolkit.formats.onnx import OnnxSession
    from toolkit.preprocess import DECODE_RULES, Preprocessing

    name = "model.onnx"
    with new_bundle(folder) as making:
        write_onnx(backbone, size, making / name)
        written = file_record(making / name)
        images = np.random.default_rng(0).integers(0, 256, (GOLDEN, size, size, 3), dtype=np.uint8)
        outputs = OnnxSession(Content.of(making / name), "cpu", 1).run(images)
        sources = [f"noise {index}" for index in range(GOLDEN)]
        golden = write_golden(making, images, outputs, sources, [None] * GOLDEN, LABELS)
        artifact = ArtifactRecord(
            format="onnx",
            precision="float32",
            file=name,
            sha256=written.sha256,
            size_bytes=written.size_bytes,
            opset=None,
            ir_version=None,
            producer="a benchmark",
        )
        manifest = Manifest(
            name="random",
            labels=LABELS,
            preprocessing=Preprocessing.model_validate(
                {
                    "height": size,
                    "width": size,
                    "resize": "squash",
                    "interpolation": "bilinear",
                    "decode": DECODE_RULES[decode],
                }
            ),
            input=InputContract(
                name="images",
                dtype="uint8",
                shape=("N", size, size, 3),
                normalization=Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
                normalization_in_graph=True,
            ),
            outputs=tuple(
                OutputContract(name=output, shape=("N", len(LABELS)), meaning=output)
                for output in ("logits", "probabilities")
            ),
            artifacts=(artifact,),
            files=golden,
            evaluation=None,
            origin=Origin(
                run="random",
                recipe='name = "random"\n',
                backbone=backbone,
                weights="none",
                model_sha256="0" * 64,
                data="none",
                data_fingerprints={},
                provenance=provenance.collect(),
            ),
        )
        write_manifest(making, manifest)
    return folder / name
