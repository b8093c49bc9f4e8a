"""The options of benchmarks that train on few images again and again, each draw on others."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.command_line import positive, report_parser
from benchmarks.harness.errors import BenchmarkError
from toolkit.recipe import Recipe

FEWEST_DRAWS = 5
"""Of fewer the interval of a mean says next to nothing."""


def draws_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser for such a benchmark, without the option that says how many images a draw has."""
    parser = report_parser(name, description)
    parser.add_argument("--data", metavar="FOLDER", help="images as train/<class>/ and test/<class>/ (default: digits)")
    parser.add_argument("--draws", type=positive, default=8, help=f"how often, {FEWEST_DRAWS} or more")
    parser.add_argument("--image-size", type=positive, default=64)
    parser.add_argument("--test", type=positive, default=None, metavar="N", help="test images (default: all)")
    parser.add_argument("--backbone", default=None, metavar="NAME", help="another one than the recipe's")
    parser.add_argument("--weights", default=None, metavar="FILE", help="other ones than the pretrained, or none")
    parser.add_argument("--work", type=Path, default=None, metavar="FOLDER", help="where temporary files go")
    return parser


def parse_draws(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Read a command line.

    Raises:
        BenchmarkError: there are too few draws.
    """
    options = parser.parse_args(arguments)
    if options.draws < FEWEST_DRAWS:
        raise BenchmarkError(f"{options.draws} draws have no interval worth its name: give {FEWEST_DRAWS} or more.")
    return options


def changes_of(options: argparse.Namespace) -> dict[str, object]:
    """Return what the options change in a recipe, by field."""
    changes: dict[str, object] = {"backbone.image_size": options.image_size, "train.precision": "float32"}
    if options.data:
        changes["data.source"] = str(Path(options.data).resolve())
    else:
        # They have no left and right.
        changes |= {"data.source": "digits", "augment.flip": False}
    if options.test:
        changes["data.test_limit"] = options.test
    if options.backbone:
        changes["backbone.name"] = options.backbone
    if options.weights:
        changes["backbone.weights"] = options.weights
    return changes


def settings_of(options: argparse.Namespace, recipe: Recipe) -> dict[str, Any]:
    """Return what a report says of how it was measured."""
    return {
        "recipe": recipe.name,
        "data": Path(options.data).resolve().name if options.data else "digits",
        "draws": options.draws,
        "image size": options.image_size,
        "backbone": recipe.backbone.name,
        "test images": options.test or "all",
    }
