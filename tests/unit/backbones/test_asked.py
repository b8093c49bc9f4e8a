from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.backbones.asked import check_backbone, check_prefix, require_weights_file
from toolkit.errors import BackboneError


@pytest.mark.parametrize("name", ["resnet18", "torchvision:resnet18", "timm:resnet18.a1_in1k", "nobody_knows"])
def test_what_a_source_may_have_is_left_to_it(name: str) -> None:
    check_prefix(name)
    for weights in ("default", "none"):
        check_backbone(name, weights)


def test_a_source_that_there_is_not() -> None:
    with pytest.raises(BackboneError, match=r"no backbone 'hub:x': the name starts with one of torchvision:, timm: or"):
        check_backbone("hub:x", "default")


def test_a_file_of_weights_is_there_or_not(tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    for path, problem in ((file, "does not exist"), (tmp_path, "is no regular file")):
        with pytest.raises(BackboneError, match=re.escape(f"the weights '{path}' are not usable: it {problem}. Give")):
            check_backbone("resnet18", str(path))
    file.touch()
    require_weights_file(file)
    check_backbone("resnet18", str(file))


def test_it_needs_no_pytorch() -> None:
    program = "import sys, toolkit.backbones.asked; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
