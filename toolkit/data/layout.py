"""How a folder of images is laid out: which of its folders are splits, which are classes, and what is neither."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
import numpy.typing as npt

from toolkit.errors import DataError, ImageError
from toolkit.preprocess import IMAGE_SUFFIXES, is_image, left_by_a_system, list_folder, list_images, not_images
from toolkit.printable import printable

LAYOUTS = "sort the images into train/<class>/ (with val/<class>/ and test/<class>/ if you have them), or into <class>/"
SPLIT_WORDS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "validation": ("val", "valid", "validation", "validate", "validating", "dev", "devel", "development"),
    "test": ("test", "testing", "tst", "eval", "evaluation"),
}
"""Words for the splits, in lower case."""

_FILLERS = frozenset({"set", "sets", "data", "dataset", "split", "images", "image", "imgs", "img"})
_PICTURES = ("images", "image", "imgs", "jpegimages")
_ANSWERS = ("labels", "annotations", "masks", "mask", "segmentations", "bboxes")
_TABLES = (".csv", ".tsv")
_SHOWN = 5

Choice = Literal["auto", "splits", "classes"]


@dataclass(frozen=True)
class Pool:
    """The images of one split as the source has it, by class; both in the order of their names.

    Attributes:
        where: what a sentence calls it, e.g. the path of its folder.
        short: the same in short, e.g. ``test/``.
        classes: image files by class.
    """

    where: str
    short: str
    classes: Mapping[str, list[Path]]

    def paths(self) -> list[Path]:
        """Return all images, class by class."""
        return [path for members in self.classes.values() for path in members]

    def targets(self) -> npt.NDArray[np.int64]:
        """Return the class of each of them, int64 ``[n]``."""
        return np.repeat(np.arange(len(self.classes)), [len(members) for members in self.classes.values()])


@dataclass(frozen=True)
class Layout:
    """What was found.

    Attributes:
        pools: ``train``, and ``validation`` and ``test`` where there are such.
        lines: what is used in another way than it may seem, or not at all; for people.
    """

    pools: Mapping[str, Pool]
    lines: list[str] = field(default_factory=list)


def split_of(name: str) -> str | None:
    """Return the split that a word names, whatever its case and with fillers like ``set``; None if it names none."""
    split, rest = _split_and_rest(name)
    return None if rest else split


def find_layout(root: Path, choice: Choice) -> Layout:
    """Tell splits from classes in a folder of images, and list what they hold.

    Args:
        root: the folder.
        choice: ``auto`` looks at names and content and refuses what can be read in two ways; ``splits`` and ``classes``
            say what the folders in it are.

    Raises:
        DataError: the folder is not at least two classes of images, the same in each split, or it is not clear what its
            folders are.
    """
    try:
        lines: list[str] = []
        folder = _unwrapped(root, lines)
        pools = {name: _pool(inner, folder, choice, lines) for name, inner in _splits(folder, choice, lines).items()}
    except (OSError, ImageError) as error:
        raise DataError(f"{printable(root)} cannot be listed: {error}") from error
    return Layout(checked(str(root), pools, lines), lines)


def has_folders(root: Path) -> bool:
    """Tell whether there is a folder in a folder, or it cannot be listed."""
    try:
        with os.scandir(root) as entries:
            return any(entry.is_dir() for entry in entries)
    except OSError:
        return True


def checked(source: str, pools: Mapping[str, Pool], lines: list[str]) -> dict[str, Pool]:
    """Check classes against each other, and bring those of all splits into the order of training.

    Args:
        source: what a sentence calls the source.
        pools: ``train``, and those that the source has beside it.
        lines: where things that are odd but allowed are added.

    Raises:
        DataError: the splits have other classes, a class has no images, there is only one, or two have names that
            cannot be told apart.
    """
    for pool in pools.values():
        _require_distinct(pool)
    train = pools["train"]
    pools = {name: _in_order_of(train, pool) for name, pool in pools.items()}
    if differences := [line for pool in pools.values() for line in _difference(train, pool)]:
        raise DataError(f"the splits of {source} do not have the same classes: {'; '.join(differences)}.")
    for pool in pools.values():
        if empty := [printable(name) for name, members in pool.classes.items() if not members]:
            raise DataError(f"{in_words(empty)} of {pool.where} has no images: add some, or remove the folder.")
    if len(train.classes) == 1:
        raise DataError(
            f"{train.where} has one class only, {next(iter(train.classes))!r}: a classifier needs two or more."
        )
    if alike := _alike(train.classes, str.casefold):
        lines.append(f"the classes {' and '.join(map(repr, alike))} of {train.where} differ only in case")
    elif alike := _alike(train.classes, _looks):
        spelt = " and ".join(ascii(name) for name in alike)
        lines.append(
            f"the classes {spelt} of {train.where} look alike: they differ only in blanks, in case, or in characters "
            "that are not seen or have another form"
        )
    return pools


def in_words(names: Sequence[str]) -> str:
    """Return ``class 'a'``, or ``classes 'a', 'b'``."""
    return ("class " if len(names) == 1 else "classes ") + ", ".join(repr(name) for name in names)


def _split_and_rest(name: str) -> tuple[str | None, tuple[str, ...]]:
    """Return the one split that a name speaks of, and what else it says; ``seg_train`` is train and seg."""
    words = re.findall(r"[^\W\d_]+|\d+", name.casefold())
    found = [(split, word) for word in words for split in SPLIT_WORDS if _without_filler(word) in SPLIT_WORDS[split]]
    if len(found) != 1:
        return None, ()
    (split, own) = found[0]
    return split, tuple(word for word in words if word != own and word not in _FILLERS)


def _without_filler(word: str) -> str:
    return next((word.removesuffix(filler) for filler in ("dataset", "set", "data") if word.endswith(filler)), word)


def _splits(folder: Path, choice: Choice, lines: list[str]) -> dict[str, Path]:
    """Return the folder of each split; the folder itself as ``train`` where its folders are classes."""
    folders = _folders(folder)
    found = {} if choice == "classes" else _named_splits(folders, folder)
    if not found:
        if choice == "splits":
            raise DataError(f"{folder} has no train/, so its folders cannot be splits: {LAYOUTS}.")
        return {"train": folder}
    beside = [entry for entry in folders if entry not in found.values()]
    with_images = [entry for entry in beside if list_images(entry)] if choice == "auto" else []
    if "train" not in found:
        _refuse_without_train(folder, found, with_images)
    if with_images and len(found) == 1:
        _refuse_unclear(folder, found["train"], with_images)
    unused = [_described(entry) for entry in beside]
    unused += [printable(entry.name) for entry in _entries(folder) if not entry.is_dir()]
    if unused:
        names = ", ".join(f"{path.name}/" for path in found.values())
        lines.append(f"{folder} is divided by its folders {names}; not used beside them: {_cut(unused)}")
    return found


def _named_splits(folders: Sequence[Path], root: Path) -> dict[str, Path]:
    """Return the folders that are named like splits, all in the same way: train and test, or seg_train and seg_test."""
    groups: dict[tuple[str, ...], dict[str, list[Path]]] = {}
    for entry in folders:
        split, rest = _split_and_rest(entry.name)
        if split is not None:
            groups.setdefault(rest, {}).setdefault(split, []).append(entry)
    plain = groups.pop((), None)
    pairs = [group for group in groups.values() if "train" in group and len(group) > 1]
    if plain is None and len(pairs) > 1:
        names = _cut([f"{path.name}/" for group in pairs for paths in group.values() for path in paths])
        raise DataError(f"{root} has several sets of splits ({names}): give the folder of one, or keep one of them.")
    group = plain if plain is not None else pairs[0] if pairs else {}
    for split in SPLIT_WORDS:
        if len(group.get(split, ())) > 1:
            names = " and ".join(f"{path.name}/" for path in sorted(group[split], key=_as_listed))
            raise DataError(f"{root} has {names}: keep one of them as the {_full(split)} split.")
    return {split: group[split][0] for split in SPLIT_WORDS if split in group}


def _as_listed(path: Path) -> tuple[int, str]:
    words = [word for group in SPLIT_WORDS.values() for word in group]
    name = path.name.casefold()
    return (words.index(name) if name in words else len(words), path.name)


def _full(split: str) -> str:
    return "training" if split == "train" else split


def _refuse_without_train(folder: Path, found: Mapping[str, Path], beside: Sequence[Path]) -> NoReturn:
    others = f", and {_cut([_described(entry) for entry in beside])} beside it" if beside else ""
    lonely = next(iter(found.values())).name
    raise DataError(
        f"{folder} has {lonely}/ and no train/{others}: {LAYOUTS}. If {lonely} is a class like the others, give "
        "--layout classes."
    )


def _refuse_unclear(folder: Path, train: Path, beside: Sequence[Path]) -> NoReturn:
    raise DataError(
        f"{folder} has {train.name}/ and beside it {_cut([_described(entry) for entry in beside])}, so that "
        f"{train.name}/ could be a split or a class: give --layout classes if all of them are classes, or --layout "
        f"splits if {train.name}/ holds the classes and the others are not to be used."
    )


def _described(folder: Path) -> str:
    images = len(list_images(folder))
    return f"{printable(folder.name)}/" + (f" ({images} image{'s' if images > 1 else ''})" if images else "")


def _pool(folder: Path, root: Path, choice: Choice, lines: list[str]) -> Pool:
    """List the classes of a split, or of the whole folder where it has no splits (``folder`` is ``root`` then)."""
    if folder != root:
        folder = _unwrapped(folder, lines, inside_split=True)
    folders = _folders(folder)
    _refuse_linked_twice(folders)
    listings = {entry.name: list_folder(entry) for entry in folders}
    classes = {name: listing.images for name, listing in listings.items()}
    if choice != "classes":
        _refuse_other_tasks(folder, classes)
    others = {name: [path.name for path in listing.others] for name, listing in listings.items()}
    loose = [entry for entry in _entries(folder) if entry.is_file() and is_image(entry)]
    _require_images(folder, root, classes, others, len(loose))
    if loose:
        lines.append(f"{len(loose)} images directly in {folder} belong to no class and are left out")
    lines += _lines_on_others(folder, others)
    if hidden := [_described(entry) for entry in _hidden_folders(folder) if list_images(entry)]:
        lines.append(f"folders in {folder} whose names start with a dot are left out: {_cut(hidden)}")
    if broken := [printable(entry.name) for entry in _entries(folder) if entry.is_symlink() and not entry.exists()]:
        lines.append(f"links in {folder} that lead nowhere are left out: {_cut(broken)}")
    _look_below(folder, classes, choice, lines)
    return Pool(str(folder), f"{folder.name}/", classes)


def _require_images(
    folder: Path, root: Path, classes: Mapping[str, Sequence[Path]], others: Mapping[str, Sequence[str]], loose: int
) -> None:
    filled = [name for name, images in classes.items() if images]
    table = _table_hint(root)
    if loose and not filled:
        as_class = f" If {folder.name} is a class, give --layout classes." if folder != root else ""
        if folder != root and split_of(folder.name) != "train":
            as_class += (
                f" If nobody has labelled its images, move {folder.name}/ out of {root}: some of the training images "
                "are set aside in its place."
            )
        raise DataError(
            f"{folder} has no class folders: its {loose} images lie directly in it. To label them, {LAYOUTS}{table}."
            f"{as_class}"
        )
    if not filled:
        said = "".join(f" {line}." for line in _lines_on_others(folder, others))
        raise DataError(f"{folder} has no images (files named {', '.join(IMAGE_SUFFIXES)}): {LAYOUTS}{table}.{said}")
    if len(filled) == 1 and table:
        raise DataError(f"{folder} has one class only, {printable(filled[0])!r}: {LAYOUTS}{table}.")
    for name in classes:
        if name not in filled and (reason := not_images(printable(name), others[name])):
            raise DataError(f"class {printable(name)!r} of {folder} has no images: {reason}.")


def _lines_on_others(folder: Path, others: Mapping[str, Sequence[str]]) -> list[str]:
    lines = [
        line for name, names in others.items() if (line := not_images(printable(folder / name), names)) is not None
    ]
    more = len(lines) - _SHOWN
    return lines[:_SHOWN] + (
        [f"{more} more folders in {folder} hold files that are no images by their names"] if more > 0 else []
    )


def _look_below(folder: Path, classes: Mapping[str, Sequence[Path]], choice: Choice, lines: list[str]) -> None:
    """Say which folders are merged into a class, and refuse splits inside of classes."""
    below: dict[tuple[str, str], int] = {}
    direct = 0
    for name, images in classes.items():
        for path in images:
            first, *rest = path.relative_to(folder / name).parts
            if rest:
                below[name, first] = below.get((name, first), 0) + 1
            else:
                direct += 1
    if not below:
        return
    shown = _cut([f"{printable(f'{name}/{inner}')}/ ({count})" for (name, inner), count in below.items()])
    splits = {split_of(inner) for _, inner in below}
    if not direct and choice != "classes" and "train" in splits and None not in splits:
        raise DataError(
            f"{folder} has the splits inside of its classes ({shown}): turn them around, train/<class>/ instead of "
            "<class>/train/, or give --layout classes to have them merged and divided anew."
        )
    inner = {name: {inner for outer, inner in below if outer == name} for name, images in classes.items() if images}
    shared = next(iter(inner.values()))
    if not direct and choice == "auto" and len(shared) > 1 and all(each == shared for each in inner.values()):
        raise DataError(
            f"each folder in {folder} holds the same folders ({shown}), so that either could be the classes: put "
            "<class>/ outermost and give --layout classes, or, if the outer folders are parts of one data set, merge "
            "them."
        )
    line = f"images in folders inside of a class folder of {folder} count as that class: {shown}"
    if not direct:
        line += f". If these folders are the classes, put them directly into {folder}"
    lines.append(line)


def _unwrapped(folder: Path, lines: list[str], *, inside_split: bool = False) -> Path:
    """Enter a folder that is all there is, as unpacking an archive leaves it."""
    seen = {os.path.realpath(folder)}
    while True:
        inner = _folders(folder)
        if len(inner) != 1 or (split_of(inner[0].name) and not inside_split) or os.path.realpath(inner[0]) in seen:
            return folder
        if _has_images(folder) or _has_images(inner[0]) or not _folders(inner[0]):
            return folder
        seen.add(os.path.realpath(inner[0]))
        folder = inner[0]
        lines.append(f"{folder.parent} holds no images, but the folder {printable(folder.name)}/: that one is taken")


def _has_images(folder: Path) -> bool:
    return any(entry.is_file() and is_image(entry) for entry in _entries(folder))


def _entries(folder: Path) -> list[Path]:
    return sorted(
        (entry for entry in folder.iterdir() if not left_by_a_system(entry.name)), key=lambda entry: entry.name
    )


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if entry.is_dir()]


def _hidden_folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.name.startswith(".") and entry.is_dir())


def _refuse_linked_twice(folders: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for entry in folders:
        first = seen.setdefault(os.path.realpath(entry), entry)
        if first is not entry:
            raise DataError(
                f"{printable(first.name)}/ and {printable(entry.name)}/ in {entry.parent} are the same folder by a "
                "link, and one image cannot have two classes: remove one of them."
            )


def _refuse_other_tasks(folder: Path, classes: Mapping[str, Sequence[Path]]) -> None:
    """Refuse the layouts of object detection and segmentation: boxes or masks in a folder beside the images."""
    names = {name.casefold(): name for name in classes}
    pictures = [names[name] for name in _PICTURES if name in names]
    answers = [names[name] for name in _ANSWERS if name in names]
    if answers and (pictures or not any(classes[name] for name in answers)):
        beside = " beside ".join(f"{printable(name)}/" for name in (*pictures[:1], *answers[:1]))
        raise DataError(
            f"{folder} is laid out for object detection or segmentation ({beside}), and toolkit classifies whole "
            f"images: {LAYOUTS}, or give a CSV file of paths and classes. If these are classes, give --layout classes."
        )


def _table_hint(folder: Path) -> str:
    tables = [path for path in _entries(folder) if path.is_file() and path.suffix.lower() in _TABLES]
    return f"; or, if {tables[0].name} says which image has which class, give --data {tables[0]}" if tables else ""


def _alike(names: Iterable[str], fold: Callable[[str], str]) -> list[str]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(fold(name), []).append(name)
    return next((group for group in groups.values() if len(group) > 1), [])


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _looks(name: str) -> str:
    """Return a name without what the eye hardly tells apart: case, blanks, invisible characters, other forms."""
    seen = unicodedata.normalize("NFKC", name).casefold()
    seen = "".join(character for character in seen if unicodedata.category(character) != "Cf")
    return " ".join(seen.split())


def _require_distinct(pool: Pool) -> None:
    if alike := _alike(pool.classes, _nfc):
        spelt = " and ".join(ascii(name) for name in alike)
        raise DataError(
            f"two classes of {pool.where} have the same name {_nfc(alike[0])!r} in two Unicode spellings ({spelt}): "
            "merge them, or rename one."
        )


def _in_order_of(train: Pool, pool: Pool) -> Pool:
    """Give the classes of a pool the spelling and the order that training has."""
    spelt = {_nfc(name): name for name in train.classes}
    renamed = {spelt.get(_nfc(name), name): members for name, members in pool.classes.items()}
    ordered = {name: renamed.pop(name) for name in train.classes if name in renamed}
    return Pool(pool.where, pool.short, {**ordered, **renamed})


def _difference(train: Pool, pool: Pool) -> list[str]:
    missing = [printable(name) for name in train.classes if name not in pool.classes]
    extra = [printable(name) for name in pool.classes if name not in train.classes]
    lines = [f"{pool.short} lacks {in_words(missing)}"] if missing else []
    lines += [f"{pool.short} has {in_words(extra)}, which {train.short} lacks"] if extra else []
    if {name.casefold() for name in missing} & {name.casefold() for name in extra}:
        lines.append("names that differ only in case are different classes: spell them alike")
    elif alike := {_looks(name) for name in missing} & {_looks(name) for name in extra}:
        lines.append(f"the spellings of {in_words(sorted(alike))} differ in blanks or in characters that are not seen")
    return lines


def _cut(parts: Sequence[str], separator: str = ", ") -> str:
    more = [f"and {len(parts) - _SHOWN} more"] if len(parts) > _SHOWN else []
    return separator.join([*parts[:_SHOWN], *more])
