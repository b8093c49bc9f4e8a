"""A network cut at its frozen part.

Where each stage cuts it, and what runs the frozen part; None where a network cannot be cut.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from toolkit.backbones import TrainableParts, set_trainable
from toolkit.backbones.frontier import (
    Cut,
    Division,
    NoFrontierError,
    Tensor,
    compare_parts,
    cut_at_frontier,
    independent_stages,
)
from toolkit.backbones.residual import drop_branches
from toolkit.progress import working
from toolkit.training.activations import digests
from toolkit.training.activations.prefix import Prefix, PrefixNetwork, from_stored, look_up, make_prefix
from toolkit.training.setting import Setting


@dataclass(frozen=True)
class DividedNetwork:
    """A network in two: the frozen prefix in an engine of its own, and what each stage trains behind it.

    Attributes:
        division: the network, cut once per stage in ``stages``.
        stages: numbers of the stages that it serves.
        prefix: what runs the frozen part.
        digest: SHA-256 of everything that decides what the prefix computes.
        device: where the trained part runs.
        serves_all: True where one division serves all stages, so that its prefix is frozen throughout.
        title: what its prefix is called while it runs.
        made: what is kept of it.
    """

    division: Division
    stages: tuple[int, ...]
    prefix: Prefix
    digest: str
    device: torch.device
    serves_all: bool
    title: str = "frozen part"
    made: str = "activations"

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What the prefix computes of an image, for all stages."""
        return self.division.tensors

    def cut(self, stage: int) -> Cut:
        """Return where one of its stages cuts it."""
        return self.division.cuts[self.stages.index(stage)]

    def places(self, cut: Cut) -> list[int]:
        """Return where a cut's tensors stand among all that the prefix returns."""
        names = [tensor.name for tensor in self.division.tensors]
        return [names.index(tensor.name) for tensor in cut.tensors]

    def run_prefix(self, images: npt.NDArray[np.uint8], cut: Cut) -> list[torch.Tensor]:
        """Return what the trained part behind a cut takes, on the device, of uint8 ``[n, H, W, 3]``."""
        return [from_stored(array, self.device) for array in self.prefix.run(images, self.places(cut))]


def divide_network(setting: Setting, stage: int | None) -> DividedNetwork | None:
    """Divide the network for one stage, or for as many as one pass over the images can serve.

    Moves the network to the device and opens the engine of its frozen part.

    Args:
        setting: the run; why training goes on without a division is said to its reporter.
        stage: number of the stage; None for all of them.

    Returns:
        None if the recipe wants no cache, or the network cannot be cut at its frozen part.
    """
    recipe, backbone = setting.recipe, setting.backbone
    if not recipe.cache.use:
        return None
    wanted = {number: each for number, each in recipe.stages if stage in (None, number)}
    parts = [set_trainable(backbone, each.unfreeze, train_bn=recipe.train.train_bn) for each in wanted.values()]
    stages, serves_all = tuple(wanted), stage is None
    if not independent_stages(parts):
        stages, parts, serves_all = stages[:1], parts[:1], False
    try:
        return _open(setting, parts, stages, serves_all)
    except NoFrontierError as error:
        setting.reporter.line(
            f"training goes on without a cache of activations: {backbone.name} cannot be cut at its frozen part, "
            f"{error}"
        )
        return None


def _open(
    setting: Setting, parts: Sequence[TrainableParts], stages: tuple[int, ...], serves_all: bool
) -> DividedNetwork:
    started = time.perf_counter()
    backbone, rate = setting.backbone, setting.recipe.train.drop_path or 0.0
    model = backbone.model.cpu()
    with working(setting.reporter, "frozen part: preparing its engine"):
        division = cut_at_frontier(backbone, parts, with_branches=rate > 0)
        network = PrefixNetwork(division, backbone.normalization)
        # The engine may move the network to its device; the digest is of the weights alone and taken before.
        digest = network.digest()
        kept = look_up(setting, network, digest, _decides(setting, parts, division))
        if kept.model is None:
            compare_parts(backbone, parts, division)
            # It leaves modules that a later stage trains in training mode; the prefix is exported as it infers.
            network.eval()
        prefix = make_prefix(network, setting, kept)
    for cut in division.cuts:
        if rate > 0:
            drop_branches(cut.train, rate)
        cut.train.to(setting.device)
        cut.infer.to(setting.device)
    model.to(setting.device)
    shapes = ", ".join(f"{tensor.name} {'x'.join(map(str, tensor.shape))}" for tensor in division.tensors)
    seconds = time.perf_counter() - started
    setting.reporter.line(
        f"frozen part: runs in {prefix.engine}, activations kept of each image: {shapes} (ready after {seconds:.1f} s)"
    )
    return DividedNetwork(division, stages, prefix, digest, setting.device, serves_all)


def _decides(setting: Setting, parts: Sequence[TrainableParts], division: Division) -> list[str]:
    """Return all that decides whether the parts compute what the whole computes.

    The weights of the trained part are not among it: both sides call the same modules, and another seed, which draws
    another head, is no reason to compare again.
    """
    model = setting.backbone.model
    return [
        setting.backbone.name,
        *(f"{each.names} {each.modules} {each.train_bn}" for each in parts),
        *(f"{cut.tensors} {cut.train.graph} {cut.infer.graph}" for cut in division.cuts),
        str(division.prefix.graph),
        *(f"{name} {tensor.dtype} {tuple(tensor.shape)}" for name, tensor in model.state_dict().items()),
        *digests.settings(model),
        *digests.code(model),
    ]
