"""What a person should look at after a run: mistakes, labels that are probably wrong, thumbnails of both."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from toolkit.compare.metrics import calibration_bins, softmax
from toolkit.data.batches import load_ahead
from toolkit.data.duplicates import Place
from toolkit.errors import FileWriteError, ImageError
from toolkit.files import sync_files
from toolkit.preprocess import decode
from toolkit.results import ConfusedPair, LabelIssues, Review, ReviewedImage
from toolkit.run_folder import RunFolder
from toolkit.training.label_check import LabelCheck
from toolkit.training.setting import Setting

MOST_MISTAKES = 300
MOST_PAIRS = 300
THUMBNAIL_SIDE = 96
"""Pixels of the longer side at most; a smaller picture stays as it is."""
THUMBNAIL_BYTES = 1_200_000
"""Of all thumbnails together: they go into the report, which is to stay a page that can be sent."""
JPEG_QUALITY = 85


def write_review(setting: Setting, logits: npt.NDArray[np.float32], check: LabelCheck, run: RunFolder) -> Review:
    """Write ``review.json`` and the thumbnails beside it.

    Args:
        setting: the run.
        logits: of the test images, float32 ``[n, C]``, with the weights that were kept.
        check: what the look at the labels found.
        run: where to write.

    Raises:
        FileWriteError: the disk is full, or the folder cannot be written.
    """
    dataset, test = setting.dataset, setting.dataset.split("test")
    probabilities = softmax(logits)
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != test.targets)
    pairs = np.stack([test.targets[wrong], predicted[wrong]], axis=1)
    kept = wrong[_worth_keeping(probabilities[wrong].max(axis=1), pairs)]
    counted, counts = np.unique(pairs, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_PAIRS]
    places = tuple(Place("test", int(index)) for index in kept)
    thumbnails = _write_thumbnails(setting, list(dict.fromkeys([*check.places, *places])), run)
    review = Review(
        mistakes=tuple(
            ReviewedImage(
                split="test",
                name=test.names[index],
                label=dataset.labels[test.targets[index]],
                predicted=dataset.labels[predicted[index]],
                probability=float(probabilities[index].max()),
                label_probability=float(probabilities[index, test.targets[index]]),
                thumbnail=thumbnails.get(Place("test", int(index))),
            )
            for index in kept
        ),
        mistakes_in_all=len(wrong),
        pairs=tuple(
            ConfusedPair(
                label=dataset.labels[counted[row][0]],
                predicted=dataset.labels[counted[row][1]],
                count=int(counts[row]),
            )
            for row in order
        ),
        calibration=calibration_bins(probabilities, test.targets),
        label_issues=_with_thumbnails(check, thumbnails),
        not_looked=check.not_looked,
        class_images={
            "train": dataset.per_class("train"),
            "validation": dataset.per_class("validation"),
            "test": dataset.per_class("test"),
        },
    )
    review.save(run.review_file)
    return review


def _worth_keeping(confidence: npt.NDArray[np.float64], pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return which mistakes are kept, the most confident first; the most confident one of each pair before others.

    Args:
        confidence: ``[n]``.
        pairs: label and prediction of each, ``[n, 2]``.
    """
    order = np.argsort(-confidence, kind="stable")
    _, first, counts = np.unique(pairs[order], axis=0, return_index=True, return_counts=True)
    of_each_pair = order[first[np.argsort(-counts, kind="stable")]]
    kept = np.array(list(dict.fromkeys([*of_each_pair.tolist(), *order.tolist()]))[:MOST_MISTAKES], np.int64)
    return kept[np.argsort(-confidence[kept], kind="stable")]


def _with_thumbnails(check: LabelCheck, thumbnails: dict[Place, str]) -> LabelIssues | None:
    if check.issues is None:
        return None
    suspects = tuple(
        suspect.model_copy(update={"thumbnail": thumbnails.get(place)})
        for suspect, place in zip(check.issues.suspects, check.places, strict=True)
    )
    return check.issues.model_copy(update={"suspects": suspects})


def _write_thumbnails(setting: Setting, places: Sequence[Place], run: RunFolder) -> dict[Place, str]:
    """Write thumbnails, as many as there is room for, the first ones first; return their paths below the run's folder.

    They are written beside their folder and moved into place together: it holds all or none.
    """
    building = run.path / f".{run.thumbnails.name}.{os.urandom(4).hex()}.part"
    written: dict[Place, str] = {}
    try:
        building.mkdir(parents=True)
        room = THUMBNAIL_BYTES
        contents = load_ahead(
            lambda place: _thumbnail(setting, place), places, workers=setting.threads, prefetch=2 * setting.threads
        )
        with setting.reporter.bar("thumbnails", len(places), "img") as bar:
            for place, content in zip(places, contents, strict=True):
                bar.advance(1)
                if content is not None and len(content) <= room:
                    name = f"{place.split}-{place.position:05d}.jpg"
                    (building / name).write_bytes(content)
                    written[place] = f"{run.thumbnails.name}/{name}"
                    room -= len(content)
        sync_files(building)
        shutil.rmtree(run.thumbnails, ignore_errors=True)  # of a run that was killed before it was complete
        building.rename(run.thumbnails)
    except OSError as error:
        raise FileWriteError(
            f"cannot write {run.thumbnails}: {error.strerror or error}. Free some space, and go on with "
            f"'{run.resume_command()}'."
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return written


def _thumbnail(setting: Setting, place: Place) -> bytes | None:
    """Return a small JPEG of an image; None where it cannot be read any more, for which no run is lost."""
    split = setting.dataset.split(place.split)
    try:
        pixels = decode(split.sources[place.position], split.max_pixels, sixteen_bit=setting.preprocessing.sixteen_bit)
    except ImageError:
        return None
    return small_jpeg(pixels)


def small_jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return a JPEG of uint8 ``[h, w, 3]`` whose longer side has at most ``THUMBNAIL_SIDE`` pixels."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return file.getvalue()
