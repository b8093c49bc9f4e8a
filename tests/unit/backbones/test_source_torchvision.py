import hashlib
import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
import torchvision

from toolkit.backbones import create_backbone, source_torchvision, weights_available
from toolkit.backbones.deployable import Deployable
from toolkit.errors import BackboneError, DownloadError


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "host"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{host.server_port}"
        host.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "hub" / "checkpoints"


def publish(state: dict[str, torch.Tensor], folder: Path, url: str, name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    torch.save(state, folder / "draft.pth")
    digest = hashlib.sha256((folder / "draft.pth").read_bytes()).hexdigest()
    file = f"{name}-{digest[:8]}.pth"
    (folder / "draft.pth").rename(folder / file)
    monkeypatch.setattr(source_torchvision, "_url", lambda _: f"{url}/{file}")
    return file


def pretrained(name: str, **options: object) -> torch.nn.Module:
    torch.manual_seed(9)
    model: torch.nn.Module = torchvision.models.get_model(name, weights=None, **options)
    for tensor in model.buffers():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return model.eval()


def test_default_weights_are_fetched_checked_and_loaded(
    server: tuple[Path, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = server
    original = pretrained("squeezenet1_1")
    file = publish(original.state_dict(), folder, url, "squeezenet1_1", monkeypatch)
    assert weights_available("squeezenet1_1") is None
    backbone = create_backbone("squeezenet1_1", weights="default", classes=3, image_size=64, seed=0)
    assert (cache / file).is_file()
    assert backbone.weights == f"ImageNet-1k (torchvision IMAGENET1K_V1, {file})"
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(backbone.model.features(images), original.features(images))
    (folder / file).unlink()
    assert weights_available("squeezenet1_1") is None  # from the cache, without the host
    (cache / file).write_bytes(b"damaged")
    assert "404" in str(weights_available("squeezenet1_1"))


def test_weights_that_cannot_be_fetched(server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_torchvision, "_url", lambda _: f"{server[1]}/resnet18-0123abcd.pth")
    assert "404" in str(weights_available("resnet18"))
    with pytest.raises(DownloadError, match=r"resnet18-0123abcd.pth.*404"):
        create_backbone("resnet18", weights="default", classes=3, image_size=64, seed=0)


def test_a_published_file_of_another_network(server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    publish({"weight": torch.zeros(1)}, *server, "resnet18", monkeypatch)
    with pytest.raises(BackboneError, match="do not fit ResNet"):
        create_backbone("resnet18", weights="default", classes=3, image_size=64, seed=0)


@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_inception_computes_what_torchvision_computes_with_pretrained_weights(
    name: str, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = pretrained(name, init_weights=True, aux_logits=True, transform_input=True)
    assert any(key.startswith(("AuxLogits.", "aux1.")) for key in original.state_dict())
    publish(original.state_dict(), *server, name, monkeypatch)
    backbone = create_backbone(name, weights="default", classes=1000, image_size=107, seed=0)
    assert not any(key.startswith(("AuxLogits.", "aux1.", "aux2.")) for key in backbone.model.state_dict())
    backbone.model.fc.load_state_dict(original.fc.state_dict())
    pixels = torch.randint(0, 256, (2, 107, 107, 3), dtype=torch.uint8)
    mean, std = (
        torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1),
        torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1),
    )
    with torch.inference_mode():
        expected = original((pixels.permute(0, 3, 1, 2) / 255 - mean) / std)
        logits, _ = Deployable(backbone.model, backbone.normalization)(pixels)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_densenet_files_with_old_names(tmp_path: Path) -> None:
    model = source_torchvision.build("densenet121", 2, 64)
    old = {
        name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): tensor
        for name, tensor in model.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "old.pth")
    backbone = create_backbone("densenet121", weights=str(tmp_path / "old.pth"), classes=3, image_size=64, seed=0)
    key = "features.denseblock4.denselayer16.norm1.running_var"
    assert torch.equal(backbone.model.state_dict()[key], model.state_dict()[key])


def test_defaults_come_from_the_default_weights() -> None:
    resnet, vit, efficientnet = (
        source_torchvision.defaults(name) for name in ("resnet50", "vit_h_14", "efficientnet_v2_l")
    )
    assert (resnet.image_size, resnet.interpolation) == (224, "bilinear")
    assert resnet.crop_fraction == pytest.approx(224 / 232)
    assert (vit.image_size, vit.interpolation, vit.crop_fraction) == (518, "bicubic", 1.0)
    assert efficientnet.normalization.mean == (0.5, 0.5, 0.5)
    assert source_torchvision.defaults("inception_v3").image_size == 299
    assert resnet.license is None, "torchvision names none"
    assert "SWAG" in str(vit.license)


def test_every_model_has_weights_with_a_digest_in_their_name() -> None:
    assert len(source_torchvision.names()) >= 80
    for name in source_torchvision.names():
        assert len(source_torchvision._digest(source_torchvision._url(name)).hex) >= 8
    with pytest.raises(ValueError, match="carries no digest"):
        source_torchvision._digest("https://example.org/model.pth")
