"""The one place where an image file becomes uint8 pixels. Training, verification, benchmarks and serving all call it.

Pillow and numpy only. Every decision taken here is a field of ``Preprocessing``, which stands in the manifest.
"""

from __future__ import annotations

from toolkit.preprocess.contract import (
    DECODE_RULES,
    DENOMINATORS,
    LONGEST_SIDE,
    Preprocessing,
    rules_for_deep_pixels,
    smallest_reduced,
)
from toolkit.preprocess.decoding import Examined, decode, examine, fault
from toolkit.preprocess.image_files import (
    IMAGE_SUFFIXES,
    Listing,
    image_by_name,
    is_image,
    left_by_a_system,
    list_folder,
    list_images,
    not_images,
    walk_folder,
)
from toolkit.preprocess.reduced import decoded_for
from toolkit.preprocess.resizing import WHOLE, Part, prepare, prepare_batch, prepare_parts
from toolkit.preprocess.sources import ImageSource, describe, is_one_image

__all__ = [
    "DECODE_RULES",
    "DENOMINATORS",
    "IMAGE_SUFFIXES",
    "LONGEST_SIDE",
    "WHOLE",
    "Examined",
    "ImageSource",
    "Listing",
    "Part",
    "Preprocessing",
    "decode",
    "decoded_for",
    "describe",
    "examine",
    "fault",
    "image_by_name",
    "is_image",
    "is_one_image",
    "left_by_a_system",
    "list_folder",
    "list_images",
    "not_images",
    "prepare",
    "prepare_batch",
    "prepare_parts",
    "rules_for_deep_pixels",
    "smallest_reduced",
    "walk_folder",
]
