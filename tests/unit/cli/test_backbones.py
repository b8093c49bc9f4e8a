from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from toolkit.backbones import BackboneSummary

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    summaries = [
        BackboneSummary("torchvision:resnet18", 11_689_512, 1.8141, 224, "layer4"),
        BackboneSummary("timm:uncounted", 500_000, float("nan"), 96, "blocks.3"),
    ]

    def matching(pattern: str | None) -> Iterator[BackboneSummary]:
        return (summary for summary in summaries if pattern is None or pattern in summary.name)

    monkeypatch.setattr("toolkit.backbones.list_backbones", matching)


@pytest.mark.usefixtures("known")
def test_a_header_and_a_line_per_network(run: Run) -> None:
    code, out, err = run("backbones")
    head, first, second = out.splitlines()
    assert (code, err) == (0, "loading PyTorch ...\n")
    assert head.split() == ["backbone", "params", "(M)", "GMACs", "input", "last", "block"]
    assert first.split() == ["torchvision:resnet18", "11.69", "1.81", "224", "layer4"]
    assert second.split() == ["timm:uncounted", "0.50", "nan", "96", "blocks.3"]


@pytest.mark.usefixtures("known")
def test_no_match_is_bad_input_and_prints_no_header(run: Run) -> None:
    code, out, err = run("backbones", "vgg")
    assert (code, out) == (2, "")
    assert "no backbone matches 'vgg': give a pattern" in err
