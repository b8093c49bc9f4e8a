"""The names of the package, of which those that list folders are loaded on first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from toolkit import preprocess


def test_every_public_name_is_there() -> None:
    assert [name for name in preprocess.__all__ if not hasattr(preprocess, name)] == []
    assert preprocess.list_images is preprocess.image_files.list_images


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match=r"module 'toolkit\.preprocess' has no attribute 'nothing'"):
        _ = preprocess.nothing


def test_a_service_does_not_import_what_lists_folders() -> None:
    program = """
import sys, toolkit.runtime
print("toolkit.preprocess.image_files" in sys.modules)
from toolkit.preprocess import list_images
print("toolkit.preprocess.image_files" in sys.modules, list_images.__module__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "toolkit.preprocess.image_files"]
