"""A backbone with pretrained, stored or random weights and a new head."""

from __future__ import annotations

from torch import nn

from toolkit.backbones.backbone import Backbone, Source
from toolkit.backbones.checkpoints import read_checkpoint
from toolkit.backbones.image_size import check_image_size, takes_size
from toolkit.backbones.registry import split_name
from toolkit.backbones.surgery import find_blocks, find_head, replace_head, seeded
from toolkit.backbones.weights import load_state
from toolkit.errors import BackboneError, first_line
from toolkit.files import expanded, sha256_file
from toolkit.progress import Reporter, Silent

_SILENT = Silent()


def create_backbone(
    name: str, *, weights: str, classes: int, image_size: int | None, seed: int, reporter: Reporter = _SILENT
) -> Backbone:
    """Build a network, load weights, and give it a new head.

    Args:
        name: ``torchvision:NAME``, ``timm:NAME`` or a bare name.
        weights: ``default`` (pretrained), ``none`` (random, from ``seed``), or the path of a checkpoint of the
            same architecture (see ``checkpoints.read_checkpoint``); the head in it, of whatever size, is left out.
        classes: outputs of the new head, which always starts random, from ``seed``.
        image_size: side of the square input in pixels; None takes the backbone's own.
        seed: the same seed gives the same tensors, whatever was drawn before.
        reporter: where progress goes.

    Raises:
        BackboneError: no such model, an image size it cannot take, or weights that cannot be read or do not fit.
        DownloadError: the pretrained weights cannot be fetched.
    """
    canonical, source, bare = split_name(name)
    if classes < 1:
        raise BackboneError(f"a head needs at least 1 class, {classes} were given.")
    defaults = source.defaults(bare)
    size = image_size or defaults.image_size
    if size != defaults.image_size:
        check_image_size(source, bare, size, canonical)
    with seeded(seed):
        model, origin = _with_weights(source, bare, canonical, weights, classes, size, reporter)
    known_license = {"default": defaults.license, "none": "none needed, they are random"}
    head = find_head(model)
    replace_head(model, head, classes, seed)
    return Backbone(
        name=canonical,
        model=model.eval(),
        head=head,
        blocks=find_blocks(model, head),
        weights=origin,
        weights_license=known_license.get(weights),
        normalization=defaults.normalization,
        image_size=size,
        interpolation=defaults.interpolation,
        crop_fraction=defaults.crop_fraction,
    )


def takes_image_size(name: str, image_size: int) -> bool:
    """Tell whether a network takes square images of this side.

    Raises:
        BackboneError: no such model.
    """
    _, source, bare = split_name(name)
    return image_size == source.defaults(bare).image_size or takes_size(source, bare, image_size)


def build_architecture(name: str, classes: int, image_size: int) -> nn.Module:
    """Build the network of ``create_backbone`` without its weights, on the CPU in inference mode.

    Raises:
        BackboneError: no such model, or an image size it cannot take.
    """
    canonical, source, bare = split_name(name)
    with seeded(0):
        try:
            return source.build(bare, classes, image_size).eval()
        except (AssertionError, ValueError) as error:
            raise BackboneError(
                f"{canonical} cannot be built for images of {image_size} x {image_size} pixels ({first_line(error)})."
            ) from error


def weights_available(name: str) -> str | None:
    """Say in one phrase why a backbone's default weights cannot be had.

    None if they are on disk, in a pip package, or their host answers.

    Takes at most about five seconds beside the import of the source.

    Raises:
        BackboneError: no such model.
    """
    _, source, bare = split_name(name)
    return source.unavailable(bare)


def _with_weights(
    source: Source, bare: str, canonical: str, weights: str, classes: int, image_size: int, reporter: Reporter
) -> tuple[nn.Module, str]:
    if weights == "default":
        return source.pretrained(bare, classes, image_size, reporter)
    if weights == "none":
        return source.build(bare, classes, image_size), "random (seeded)"
    path = expanded(weights)
    model = source.build(bare, classes, image_size)
    head = find_head(model)
    outside = [name for name in model.state_dict() if not name.startswith(tuple(f"{layer}." for layer in head))]
    checkpoint = read_checkpoint(path, outside)
    for note in checkpoint.notes:
        reporter.line(note)
    try:
        adapted = source.adapt(model, checkpoint.tensors, image_size)
    except (KeyError, ValueError, RuntimeError, AttributeError, AssertionError, IndexError, TypeError) as error:
        raise BackboneError(
            f"the weights in {path} do not fit {canonical} ({first_line(error)}). Is it another architecture?"
        ) from error
    load_state(model, adapted, head, str(path))
    # Not its folder: this is said in the bundle too, and what ships names no path of the machine that trained.
    averaged = f" ({checkpoint.found})" if checkpoint.averaged else ""
    return model, f"file {path.name}{averaged}, SHA-256 {sha256_file(path)}"
