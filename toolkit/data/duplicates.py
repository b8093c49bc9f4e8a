"""Images that are in a data set more than once: in two splits, under two classes, or merely twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from toolkit.data.dataset import SPLITS, Dataset
from toolkit.data.near_duplicates import near_pairs
from toolkit.progress import Reporter
from toolkit.run_folder import DuplicateGroup, DuplicateImage, DuplicateSummary

SHOWN = 5
"""Groups that a line names."""
RECORDED = 1000
"""Groups that the run's record names."""


class Place(NamedTuple):
    """Where an image is."""

    split: str
    position: int


Group = tuple[Place, ...]
"""The places of one picture, two or more, in the order of the splits."""


@dataclass(frozen=True, eq=False)
class Leaked:
    """The images of one split that are also in an earlier one.

    Attributes:
        mask: bool ``[n]``.
        seen_in: the earlier splits.
        near: how many of them are not the same byte for byte.
    """

    mask: npt.NDArray[np.bool_]
    seen_in: tuple[str, ...]
    near: int


@dataclass(frozen=True, eq=False)
class Duplicates:
    """The pictures that a data set has more than once.

    Attributes:
        dataset: the images.
        exact: groups of equal contents.
        near: groups of the same picture in different contents, with the places of each content; None where they were
            not looked for.
    """

    dataset: Dataset
    exact: tuple[Group, ...]
    near: tuple[Group, ...] | None

    @property
    def groups(self) -> tuple[Group, ...]:
        """All of them; what is in two splits or two classes comes first."""
        every = (*self.exact, *(self.near or ()))
        return tuple(sorted(every, key=lambda group: not (len(_splits(group)) > 1 or len(self._labels(group)) > 1)))

    def leaked(self, split: str) -> Leaked:
        """Return which images of a split are in a split before it too: train, validation, test."""
        exact, every = _seen_before(self.exact, split), _seen_before(self.groups, split)
        mask = np.zeros(len(self.dataset.split(split)), np.bool_)
        mask[list(every)] = True
        where = {name for names in every.values() for name in names}
        return Leaked(mask, tuple(name for name in SPLITS if name in where), len(every.keys() - exact.keys()))

    def summary(self) -> DuplicateSummary:
        """Describe them for the run's record."""
        return DuplicateSummary(
            copies=sum(len(group) - 1 for group in self.exact),
            near_copies=None if self.near is None else sum(self._contents(group) - 1 for group in self.near),
            two_classes=len(self._in_two_classes()),
            leaked={name: int(self.leaked(name).mask.sum()) for name in self.dataset.splits},
            groups=tuple(
                DuplicateGroup(exact=self._contents(group) == 1, images=tuple(map(self._image, group)))
                for group in self.groups[:RECORDED]
            ),
        )

    def lines(self) -> list[str]:
        """Say them to a person, a line per kind."""
        said = []
        for name, split in self.dataset.splits.items():
            leaked = self.leaked(name)
            if leaking := int(leaked.mask.sum()):
                near = f" ({leaked.near} of them re-encoded, resized or cropped)" if leaked.near else ""
                across = [group for group in self.groups if name in _splits(group)[1:]]
                said.append(
                    f"{leaking} of {len(split)} {name} images {'is' if leaking == 1 else 'are'} also in "
                    f"{' and '.join(leaked.seen_in)}{near}, so that the accuracy on them says little: "
                    f"{self._shown(across, name)}"
                )
        if mixed := self._in_two_classes():
            count = "1 picture is" if len(mixed) == 1 else f"{len(mixed)} pictures are"
            said.append(f"{count} in two classes, so that one label is wrong: {self._shown(mixed)}")
        within = sum(len(group) - 1 for group in self.exact if len(_splits(group)) == 1)
        if within:
            copies = "1 image is a copy" if within == 1 else f"{within} images are copies"
            said.append(f"{copies} of another one in the same split")
        return said

    def _in_two_classes(self) -> list[Group]:
        return [group for group in self.groups if len(self._labels(group)) > 1]

    def _labels(self, group: Group) -> set[int]:
        return {int(self.dataset.split(place.split).targets[place.position]) for place in group}

    def _contents(self, group: Group) -> int:
        return len({_content(self.dataset, place) for place in group})

    def _image(self, place: Place) -> DuplicateImage:
        split = self.dataset.split(place.split)
        return DuplicateImage(
            split=place.split,
            name=split.names[place.position],
            label=self.dataset.labels[split.targets[place.position]],
        )

    def _shown(self, groups: Sequence[Group], split: str | None = None) -> str:
        """Name two images of some groups: the first, and one of a given split or else of another class."""
        named = []
        for group in groups[:SHOWN]:
            first, *others = map(self._image, group)
            other = max(others, key=lambda image: image.split == split if split else image.label != first.label)
            named.append(f"{first.name} ({first.label}) = {other.name} ({other.label})")
        return "; ".join(named) + (f"; and {len(groups) - SHOWN} more, in run.json" if len(groups) > SHOWN else "")


def find_duplicates(dataset: Dataset, *, near: bool, reporter: Reporter, workers: int = 1) -> Duplicates:
    """Find the pictures that a data set has more than once.

    Equal contents are found by the digests that loading took. The same picture in another encoding or size, or slightly
    cropped, is looked for on request: every image is decoded again.

    Args:
        dataset: with all its splits.
        near: whether to look for the same picture in different contents.
        reporter: where progress goes.
        workers: decoding threads.

    Raises:
        MissingDependencyError: ImageHash is not installed, and ``near`` asks for it.
        ImageError: an image has gone or changed since it was scanned.
    """
    places: dict[bytes, list[Place]] = {}
    for name in (name for name in SPLITS if name in dataset.splits):
        for index in range(len(dataset.split(name))):
            places.setdefault(_content(dataset, Place(name, index)), []).append(Place(name, index))
    contents = list(places.values())
    exact = tuple(tuple(group) for group in contents if len(group) > 1)
    if not near:
        return Duplicates(dataset, exact, None)
    sources = [dataset.split(group[0].split).sources[group[0].position] for group in contents]
    clusters = _joined(near_pairs(sources, reporter, workers))
    order = {name: position for position, name in enumerate(SPLITS)}
    return Duplicates(
        dataset,
        exact,
        tuple(
            tuple(
                sorted(
                    (place for content in cluster for place in contents[content]),
                    key=lambda place: (order[place.split], place.position),
                )
            )
            for cluster in clusters
        ),
    )


def _content(dataset: Dataset, place: Place) -> bytes:
    """Return what equal contents share; where the source does not tell, each image is like no other."""
    digests = dataset.split(place.split).digests
    return digests[place.position] if digests else repr(place).encode()


def _splits(group: Group) -> tuple[str, ...]:
    return tuple(dict.fromkeys(place.split for place in group))


def _seen_before(groups: Iterable[Group], split: str) -> dict[int, set[str]]:
    """Return the indices of a split's images that are in earlier splits too, and in which."""
    earlier = SPLITS[: SPLITS.index(split)]
    seen: dict[int, set[str]] = {}
    for group in groups:
        before = {place.split for place in group if place.split in earlier}
        for place in group:
            if before and place.split == split:
                seen.setdefault(place.position, set()).update(before)
    return seen


def _joined(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Join pairs that share a member, each group ascending."""
    group_of: dict[int, list[int]] = {}
    for first, second in pairs:
        one, other = group_of.setdefault(first, [first]), group_of.setdefault(second, [second])
        if one is not other:
            one += other
            group_of.update(dict.fromkeys(other, one))
    return sorted(sorted(group) for group in {id(group): group for group in group_of.values()}.values())
