"""The first hour with a folder of photographs: what must be typed, and how long one sits before a screen that is blank.

The commands are those of the README. They are typed in an empty folder, with an empty home folder, into a pipe; the
second one as soon as the first one says that it works. Some 3 minutes at most.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from benchmarks.harness.command_line import main, report_parser, workspace
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.finetuning import toolkit_command
from benchmarks.harness.report import Claim, Report, Table, finish
from benchmarks.harness.typed import Typed, Typing
from toolkit.preprocess import IMAGE_SUFFIXES

NAME = "first_hour"
README = Path(__file__).parents[1] / "README.md"
FOLDER, PHOTOGRAPH = "photos", "holiday.jpg"
"""What the commands of the README call the folder, and the photograph that is not in it."""
READY = "from now on this works too: "
"""'toolkit run' says so, while it still measures, when a prediction can be had."""
CLASSES = ("flower", "temple")
COUNT = 60
PIXELS = (1600, 1200)
TURNED = {6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180, 8: Image.Transpose.ROTATE_270}
"""EXIF orientation to how a camera that was held so stores the picture."""
ORIENTATION, MODEL = 0x0112, 0x0110
"""Tags of EXIF."""
COMMANDS, FIRST_LINE, SILENCE = 2, 1.0, 11.0
"""What is promised: commands up to the first prediction; seconds to the first line, and without a line afterwards: into
a pipe at most one sign of life in ten seconds, and it is looked twice a second whether one is due."""
NOTES = (
    "The commands are those under 'Two commands' of the README, typed in a folder with nothing but photographs, with "
    "an empty home folder, no settings and 80 columns, into a pipe.",
    "The second one is typed when the first one says that it works now; the first one goes on to measure meanwhile. "
    "Times of a row count from its own Enter, the first prediction from the first Enter.",
    "A silence is a time without a new line: before the first one, between two, or after the last one.",
    "Before there was `toolkit run`, a script that typed the same took 3 commands (`finetune`, `export`, `predict`) "
    "and 90 s to the first prediction; with it 2 commands and 34.5 s, on two cores of an AMD EPYC.",
)
INTERRUPTED = 130
GRACE_SECONDS = 60.0
"""A benchmark that is stopped lets its processes end, which takes 9 s beside a load of nine on two cores."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = report_parser(NAME, __doc__)
    parser.add_argument(
        "--data",
        type=Path,
        default=None,
        metavar="FOLDER",
        help="photographs in one folder per class, instead of those that are made; they are copied",
    )
    parser.add_argument(
        "--seconds", type=float, default=150.0, help="after which whatever still runs is stopped by Ctrl-C"
    )
    return parser.parse_args(arguments)


def commands_of(readme: str) -> list[str]:
    """Return the 'toolkit' commands of the README's first steps, as they are to be typed.

    Raises:
        BenchmarkError: there are none.
    """
    _, _, text = readme.partition("\n## Two commands\n")
    section, _, _ = text.partition("\n## ")
    blocks = re.findall(r"^```\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    lines = [line.partition(" #")[0].rstrip() for block in blocks for line in block.splitlines()]
    found = [line for line in lines if line.startswith("toolkit ")]
    if not found:
        raise BenchmarkError("README.md has no 'toolkit' command under 'Two commands': nothing can be typed.")
    return found


def make_photographs(folder: Path) -> None:
    """Write 60 photographs in two classes, and one beside them, as a camera writes them.

    They are pieces of the two photographs that scikit-learn brings along.
    """
    random = np.random.default_rng(0)
    temple, flower = load_sample_images().images
    for label, pixels in zip(CLASSES, (flower, temple), strict=True):
        (folder / FOLDER / label).mkdir(parents=True)
        whole = Image.fromarray(pixels)
        for number in range(COUNT // len(CLASSES)):
            orientation = int(random.choice([1, *TURNED]))
            path = folder / FOLDER / label / f"IMG_{number:04}.JPG"
            _save(_piece(whole, random), path, orientation)
    _save(_piece(Image.fromarray(flower), random), folder / PHOTOGRAPH, 1)


def _piece(whole: Image.Image, random: np.random.Generator) -> Image.Image:
    width = int(random.integers(whole.width // 3, whole.width * 3 // 4))
    height = width * PIXELS[1] // PIXELS[0]
    left, top = (int(random.integers(room + 1)) for room in (whole.width - width, whole.height - height))
    piece = whole.crop((left, top, left + width, top + height)).resize(PIXELS, Image.Resampling.BICUBIC)
    return ImageOps.mirror(piece) if random.random() < 0.5 else piece


def _save(picture: Image.Image, path: Path, orientation: int) -> None:
    """Write a picture as a camera does that was held in some way."""
    tags = Image.Exif()
    tags[MODEL], tags[ORIENTATION] = "benchmark", orientation
    stored = picture.transpose(TURNED[orientation]) if orientation in TURNED else picture
    stored.save(path, quality=90, exif=tags)


def take_photographs(data: Path, folder: Path) -> None:
    """Copy a folder of photographs, and take one out of the copy.

    Raises:
        BenchmarkError: it is no folder, or has no JPEG image.
    """
    if not data.is_dir():
        raise BenchmarkError(f"{data} is not a folder: give one with photographs in one folder per class.")
    shutil.copytree(data, folder / FOLDER)
    found = [path for path in sorted((folder / FOLDER).rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg")]
    if not found:
        raise BenchmarkError(f"{data} has no JPEG image, and one is taken out of it to be classified.")
    found[-1].rename(folder / PHOTOGRAPH)


def clean_environment(home: Path, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of somebody who has never used toolkit: an empty home folder and no settings."""
    kept = {
        name: value for name, value in environment.items() if not name.startswith(("TOOLKIT_", "XDG_", "TORCH_", "HF_"))
    }
    return {**kept, "HOME": str(home), "COLUMNS": "80"}


def words_of(command: str) -> list[str]:
    """Return what is run where a command was typed."""
    _, *rest = shlex.split(command)
    return [*toolkit_command(), *rest]


def type_all(commands: Sequence[str], folder: Path, environment: Mapping[str, str], seconds: float) -> list[Typed]:
    """Type the commands one after the other, the last one as soon as the one before says that it works.

    Whatever still runs after so many seconds is stopped by Ctrl-C. The seconds of all lines count from the Enter of
    their own command.

    Raises:
        BenchmarkError: a command failed, or did not end after Ctrl-C; there was no time left for the last one.
    """
    until = time.monotonic() + seconds
    with ExitStack() as stack:
        typing: list[Typing] = []
        for command in commands:
            if typing and not typing[-1].wait_for(lambda text: READY in text, until - time.monotonic()):
                _ended(typing[-1], until)  # it ended by itself, or it is too late
                if time.monotonic() > until:
                    late = f"'{typing[-1].command}' did not come to a prediction within {seconds:g} s"
                    raise BenchmarkError(f"{late}: give more --seconds.")
            print(f"$ {command}", file=sys.stderr, flush=True)
            typing.append(stack.enter_context(Typing(command, words_of(command), environment, folder)))
        return [_ended(one, until) for one in typing]


def _ended(typing: Typing, until: float) -> Typed:
    allowed = [0]
    ended = typing.end(until - time.monotonic())
    if ended is None:
        typing.interrupt()
        allowed.append(INTERRUPTED)
        ended = typing.end(GRACE_SECONDS)
    if ended is None:
        raise BenchmarkError(f"'{typing.command}' did not end within {GRACE_SECONDS:.0f} s of Ctrl-C.")
    if ended.code not in allowed:
        last = "\n".join(line.text for line in ended.lines[-20:])
        raise BenchmarkError(f"'{typing.command}' ended with exit code {ended.code}; it said:\n{last}")
    return ended


def first_prediction(typed: Sequence[Typed]) -> tuple[float, str]:
    """Return the seconds from the first Enter to the prediction of the last command, and the label in it.

    Raises:
        BenchmarkError: it printed none.
    """
    for line in typed[-1].lines:
        if found := re.fullmatch(rf"{re.escape(PHOTOGRAPH)}  (.+)  [01]\.\d+", line.text):
            return typed[-1].began - typed[0].began + line.seconds, found[1]
    raise BenchmarkError(f"'{typed[-1].command}' printed no prediction of {PHOTOGRAPH}.")


def claims(typed: Sequence[Typed]) -> list[Claim]:
    """Judge what is promised of the first hour."""
    slowest = max(typed, key=lambda one: one.seconds if (first := one.first_line()) is None else first)
    first = slowest.first_line()
    quietest = max(typed, key=lambda one: one.largest_silence().seconds)
    silence = quietest.largest_silence().seconds
    return [
        Claim(f"at most {COMMANDS} commands to the first prediction", str(len(typed)), len(typed) <= COMMANDS),
        Claim(
            f"the first line of each command within {FIRST_LINE:g} s of Enter",
            f"'{slowest.command}': {'none' if first is None else f'{first:.2f} s'}",
            first is not None and first <= FIRST_LINE,
        ),
        Claim(
            f"never more than {SILENCE:g} s without a line",
            f"'{quietest.command}': {silence:.1f} s",
            silence <= SILENCE,
        ),
    ]


def table(typed: Sequence[Typed]) -> Table:
    """Write out a row per command."""
    rows = []
    for one in typed:
        silence, first = one.largest_silence(), one.first_line()
        how = "stopped by Ctrl-C" if one.code == INTERRUPTED else "done"
        seen = ("none" if first is None else f"{first:.2f}", str(len(one.lines)), f"{silence.seconds:.1f}")
        rows.append((f"`{one.command}`", *seen, silence.after, f"{one.seconds:.1f}", how))
    header = ("command", "first line, s", "lines", "largest silence, s", "after the line", "end, s", "how it ended")
    return Table(header, rows)


def measurements(typed: Sequence[Typed], folder: Path) -> dict[str, Any]:
    """Return every line with its time; no path tells where it was measured."""
    commands = [asdict(one) for one in typed]
    for line in (line for one in commands for line in one["lines"]):
        line["text"] = line["text"].replace(str(folder), "...")
    return {"commands": commands}


def benchmark(arguments: Sequence[str]) -> int:
    """Type everything and write the report."""
    options = parse(arguments)
    commands = commands_of(README.read_text(encoding="utf-8"))
    with workspace(None) as place:
        folder, home = place / "here", place / "home"
        folder.mkdir()
        home.mkdir()
        if options.data is None:
            make_photographs(folder)
        else:
            take_photographs(options.data, folder)
        photographs = sum(path.suffix.lower() in IMAGE_SUFFIXES for path in (folder / FOLDER).rglob("*"))
        load = os.getloadavg()[0]
        typed = type_all(commands, folder, clean_environment(home), options.seconds)
        found = measurements(typed, place)
    seconds, label = first_prediction(typed)
    return finish(
        Report(
            name=NAME,
            title=f"The first hour: {seconds:.1f} s from a folder of photographs to a prediction",
            settings={
                "photographs": photographs,
                "made here": "no (--data)" if options.data else f"yes, {PIXELS[0]} x {PIXELS[1]} JPEG",
                "commands typed": len(typed),
                "seconds to the first prediction": f"{seconds:.1f} ({label})",
                "stopped by Ctrl-C after, s": options.seconds,
                "load of the machine before": f"{load:.2f}",
            },
            claims=claims(typed),
            tables=[table(typed)],
            notes=NOTES,
            measurements={"seconds_to_first_prediction": seconds, "load_before": load, **found},
        ),
        options.output,
        arguments,
    )


if __name__ == "__main__":
    main(benchmark)
