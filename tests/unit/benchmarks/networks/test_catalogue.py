"""What a family is, and what stands for it."""

from benchmarks.networks import catalogue
from benchmarks.networks.catalogue import HEADS, families, smallest, smallest_side


def test_a_family_is_a_file_of_timm():
    known = families()
    assert len(known) > 90
    assert "resnet18" in known["resnet"]
    assert not any(name.startswith("test_") for names in known.values() for name in names)
    assert all(name in {n for names in known.values() for n in names} or "test_" in name for name in HEADS.values())


def test_the_smallest_model_and_side(monkeypatch):
    assert smallest(["test_resnet", "test_vit2", "test_efficientnet"]) == "test_efficientnet"
    monkeypatch.setattr(catalogue, "takes_image_size", lambda name, side: name == "timm:some" and side % 14 == 0)
    assert smallest_side("some") == 56
    assert smallest_side("other") is None
