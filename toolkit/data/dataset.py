"""Labelled images divided into splits, whatever they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toolkit.decoding_limits import MAX_PIXELS
from toolkit.pixel_depth import ValueRange, joined
from toolkit.preprocess import ImageSource, Part, Preprocessing, examine, prepare_batch, prepare_parts
from toolkit.run_folder import DataSummary, DuplicateSummary, SkippedFile, SplitSummary

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """One split, in a fixed order.

    Attributes:
        name: ``train``, ``validation`` or ``test``.
        sources: one image each, decoded only when it is loaded.
        targets: int64 ``[n]``, indices into the labels of the data set.
        names: path relative to the root with forward slashes, or e.g. ``test/00012``.
        fingerprint: SHA-256 over the ordered image contents and labels, 64 hexadecimal digits.
        values: the range of values in the images, by kind of pixels; None where nobody has looked.
        max_pixels: that an image may have (see ``toolkit.preprocess.decode``).
        digests: SHA-256 of each image's content; empty where the source does not tell.
    """

    name: str
    sources: Sequence[ImageSource]
    targets: npt.NDArray[np.int64]
    names: tuple[str, ...]
    fingerprint: str
    digests: tuple[bytes, ...] = ()
    max_pixels: int = MAX_PIXELS
    values: tuple[ValueRange, ...] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def load(
        self, indices: Sequence[int] | npt.NDArray[np.int64], preprocessing: Preprocessing
    ) -> npt.NDArray[np.uint8]:
        """Decode some images and bring them to the model's size.

        Returns:
            uint8 ``[len(indices), H, W, 3]`` RGB.

        Raises:
            ImageError: a file has gone or changed since it was scanned.
        """
        return prepare_batch([self.sources[int(index)] for index in indices], preprocessing, self.max_pixels)

    def load_parts(
        self,
        indices: Sequence[int] | npt.NDArray[np.int64],
        preprocessing: Preprocessing,
        parts: Sequence[Sequence[Part]],
    ) -> npt.NDArray[np.uint8]:
        """Decode each image once and bring parts of it to the model's size.

        Args:
            indices: of the images.
            preprocessing: how images become the model's input.
            parts: of each image, as many of each.

        Returns:
            uint8 ``[parts of an image, len(indices), H, W, 3]`` RGB.

        Raises:
            ImageError: a file has gone or changed since it was scanned.
        """
        loaded = [
            prepare_parts(self.sources[int(index)], preprocessing, wanted, self.max_pixels)
            for index, wanted in zip(indices, parts, strict=True)
        ]
        return np.stack(loaded, axis=1)

    def value_ranges(self) -> tuple[ValueRange, ...]:
        """Return the range of values in the images, by kind of pixels; where nobody has looked, each is decoded."""
        if self.values is not None:
            return self.values
        found = (examine(source, self.max_pixels, any_depth=True).values for source in self.sources)
        return joined(values for values in found if values is not None)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images.

    Attributes:
        source: the data source's name, or the absolute path that it read.
        labels: class names in the order of their indices.
        splits: the splits that were asked for, by name.
        skipped: files of these splits that were left out.
    """

    source: str
    labels: tuple[str, ...]
    splits: Mapping[str, Split]
    skipped: tuple[SkippedFile, ...] = ()

    def split(self, name: str) -> Split:
        """Return a split that was asked for.

        Raises:
            KeyError: it was not.
        """
        return self.splits[name]

    def per_class(self, name: str) -> tuple[int, ...]:
        """Return how many images of each class a split has."""
        return tuple(int(count) for count in np.bincount(self.split(name).targets, minlength=len(self.labels)))

    def summary(self, duplicates: DuplicateSummary | None = None) -> DataSummary:
        """Describe the data for the run's record.

        Args:
            duplicates: what was found out about pictures that are there more than once.
        """
        return DataSummary(
            source=self.source,
            splits={
                name: SplitSummary(
                    images=len(split),
                    per_class=self.per_class(name),
                    fingerprint=split.fingerprint,
                )
                for name, split in self.splits.items()
            },
            skipped=self.skipped,
            duplicates=duplicates,
        )


def fingerprint(digests: Iterable[bytes], labels: Iterable[str]) -> str:
    """Hash the digests of the images and their labels, in order, to 64 hexadecimal digits."""
    whole = hashlib.sha256()
    for digest, label in zip(digests, labels, strict=True):
        whole.update(digest)
        whole.update(hashlib.sha256(label.encode()).digest())
    return whole.hexdigest()


def digests_of_arrays(images: npt.NDArray[np.uint8]) -> list[bytes]:
    """Return the SHA-256 of each picture of uint8 ``[n, h, w]`` or ``[n, h, w, 3]``."""
    shape = repr(images.shape[1:]).encode()
    return [hashlib.sha256(shape + image.tobytes()).digest() for image in images]


def split_of_arrays(
    name: str,
    images: npt.NDArray[np.uint8],
    targets: npt.NDArray[np.int64],
    names: tuple[str, ...],
    labels: tuple[str, ...],
    digests: Sequence[bytes] | None = None,
) -> Split:
    """Make a split of pictures in memory.

    Args:
        name: of the split.
        images: uint8 ``[n, h, w]`` or ``[n, h, w, 3]``.
        targets: int64 ``[n]``.
        names: of the images.
        labels: class names.
        digests: what ``digests_of_arrays`` returns of these images, where it is known.
    """
    digests = tuple(digests_of_arrays(images) if digests is None else digests)
    whole = fingerprint(digests, (labels[target] for target in targets))
    return Split(name, list(images), targets, names, whole, digests)
