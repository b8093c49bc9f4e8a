from __future__ import annotations

from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]


def test_recipes_are_listed_and_printed(run: Run) -> None:
    _, out, _ = run("recipes")
    assert [line.split()[0] for line in out.splitlines()] == ["cifar10", "digits", "folder", "textbook", "auto"]
    _, out, _ = run("recipes", "textbook")
    assert 'name = "torchvision:resnet18"' in out
    code, _, err = run("recipes", "nothing")
    assert code == 2
    assert "no recipe 'nothing'" in err
