"""The images of a run, as each stage trains on them.

Kept activations where the network can be cut at its frozen part and they fit on the disk, else the images themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from toolkit.backbones import set_trainable
from toolkit.backbones.deployable import Deployable
from toolkit.backbones.frontier import NoFrontierError, trace_training
from toolkit.data import Split
from toolkit.data.batches import iterate_batches
from toolkit.errors import FileWriteError, TrainingError
from toolkit.progress import Bar
from toolkit.training.activations.catalogue import CacheKey, cache_root
from toolkit.training.activations.cleaning import discard_abandoned
from toolkit.training.activations.divided_network import DividedNetwork, divide_network
from toolkit.training.activations.extraction import (
    EXTRACTION_BATCH,
    Activations,
    Extraction,
    NoCacheError,
)
from toolkit.training.activations.new_views import NewViews
from toolkit.training.activations.prefix import from_stored
from toolkit.training.batch_sources import ActivationBatches, BatchSource, ImageBatches, Tensors, TrainedPart
from toolkit.training.distillation import Answers, answers_of, find_teacher, may_have_seen
from toolkit.training.evaluate import predict_logits
from toolkit.training.few_images import behind_head, cross_validates
from toolkit.training.group import Group
from toolkit.training.setting import Setting


class TrainingData:
    """What each stage trains on; closes the kept activations at the end of a ``with`` block.

    Attributes:
        train: this process's training images.
        validation: this process's validation images.
        divided: how the network is divided; None where training goes without a cache.
        answers: what has the teacher answer; None without one.
    """

    def __init__(self, setting: Setting) -> None:
        """Move the network to the device, divide it and open the engine of its frozen part.

        Computes nothing of the images yet.

        Raises:
            RunError: the recipe's teacher cannot be used.
            RecipeError: it does not know the classes.
            TrainingError: it cannot be learned from, because nothing can be kept of this network.
        """
        self._setting = setting
        self._activations: dict[str, Activations] = {}
        self._new: dict[str, NewViews] = {}
        self.train, self.validation = (
            _part(setting.dataset.split(name), setting.group) for name in ("train", "validation")
        )
        model = setting.backbone.model
        # Depthwise convolutions and most others run faster on a CPU in this layout, and uint8 [N,H,W,3] images already
        # have it.
        model.to(memory_format=torch.channels_last)
        self.divided: DividedNetwork | None = divide_network(setting, None)
        model.to(setting.device)
        self._network = Deployable(model, setting.backbone.normalization).to(setting.device)
        self.answers: Extraction[Answers] | None = None
        if (teacher := find_teacher(setting.recipe, setting.dataset)) is not None:
            self._require_kept()
            self.answers = answers_of(setting, teacher)
            seen = may_have_seen(teacher, setting.dataset)
            warning = ", which may have been trained on the validation and test images of this run" if seen else ""
            setting.reporter.line(
                f"teacher: {teacher.run.folder.name}, {teacher.run.record.backbone} at "
                f"{teacher.run.record.preprocessing.height} px{warning}"
            )

    def identity(self) -> dict[str, str]:
        """Return what beside the setting must not change when a run goes on, each thing with its digest."""
        return {} if self.answers is None else {"teacher": self.answers.divided.digest}

    def _require_kept(self) -> None:
        """Refuse a teacher where nothing is kept: its answers belong to views that are."""
        if self.divided is None:
            raise TrainingError(
                "a teacher's answers are kept beside the activations of each view, and this run keeps none (why stands "
                "above): leave --teacher out."
            )

    def batches(self, stage: int) -> BatchSource:
        """Return what a stage, given by its number, trains on; computes or opens the activations that it needs.

        Raises:
            FileWriteError: the disk filled up, or the cache's folder cannot be written.
            ImageError: an image has gone or changed since it was scanned.
        """
        if self.divided is not None and stage not in self.divided.stages:
            self.close()
            self.divided = divide_network(self._setting, stage)
        if self.divided is not None and self._extract(self.divided):
            cut = self.divided.cut(stage)
            return ActivationBatches(
                cut,
                self.divided.places(cut),
                self._activations["train"],
                self._activations["validation"],
                self._setting.device,
                self._activations.get("teacher"),
            )
        if self.answers is not None:
            self._require_kept()
        return self.image_batches(stage)

    def keep(self) -> bool:
        """Compute or open the activations that the present division needs; return False where there are none."""
        return self.divided is not None and self._extract(self.divided)

    def serves(self, stages: Collection[int]) -> bool:
        """Tell whether what is kept serves several stages, given by their numbers, one after the other and again."""
        return self.divided is not None and all(stage in self.divided.stages for stage in stages)

    def stages_to_try(self) -> tuple[int, ...]:
        """Return the stages behind a solved head that prove themselves in folds first, by number; none where none do.

        What is kept must serve all of them, for they train one after the other in each fold.
        """
        setting = self._setting
        stages = behind_head(number for number, _ in setting.recipe.stages)
        validation = len(setting.dataset.split("validation"))
        tried = cross_validates(setting.recipe, validation, setting.group.world) and self.serves(stages)
        return stages if tried else ()

    def draw_anew(self, batches: ActivationBatches, seed: tuple[int, ...]) -> ActivationBatches | None:
        """Compute new views of a share of the training images for one epoch; those of the epoch before are removed.

        Every process does it for the images that it holds, and all of them or none train on new ones.

        Args:
            batches: the epoch's, on the views that are kept.
            seed: entropy of the epoch.

        Returns:
            the epoch's batches; None where there is no room in some process, which is said.

        Raises:
            ImageError: an image has gone or changed since it was scanned.
        """
        divided, problem = self.divided, ""
        if divided is None:
            raise ValueError("the network is not divided")
        self._forget_new_views()
        try:
            extraction = Extraction(self._setting, divided)
            self._new["train"] = extraction.new_views(self.train, self._activations["train"], batches.places, seed)
            if self.answers is not None:
                self._new["teacher"] = self.answers.new_views(self.train, self._activations["teacher"], (0,), seed)
        except (NoCacheError, FileWriteError) as error:
            problem = str(error)
        (failed,) = self._setting.group.sum([float(bool(problem))])
        if failed:
            self._forget_new_views()
            reason = problem or "another process cannot keep its own"
            self._setting.reporter.line(f"training goes on without new views, on those that are kept: {reason}")
            return None
        return batches.with_new_views(self._new["train"], self._new.get("teacher"))

    def _forget_new_views(self) -> None:
        for views in self._new.values():
            views.close()
        self._new = {}

    def unaugmented(self, name: str, images: npt.NDArray[np.int64]) -> Iterator[list[torch.Tensor]]:
        """Yield in batches what the frozen part makes of images as they are: all its tensors, float32, on the CPU.

        Of training and validation images what ``keep`` kept, of test images computed now: before anything is trained,
        where the frozen part may share its weights with what is to be trained.

        Args:
            name: of their split.
            images: indices into it, int64 ``[n]``.
        """
        divided, cpu = self.divided, torch.device("cpu")
        if divided is None:
            raise ValueError("the network is not divided")
        every = range(len(divided.division.tensors))
        if (kept := self._activations.get(name)) is not None:
            for start in range(0, len(images), EXTRACTION_BATCH):
                batch = images[start : start + EXTRACTION_BATCH]
                yield kept.load(every, batch, np.zeros_like(batch), cpu)
            return
        setting = self._setting
        for pixels, _, _ in iterate_batches(
            setting.dataset.split(name), images, EXTRACTION_BATCH, setting.preprocessing, workers=setting.threads
        ):
            yield [from_stored(array, cpu) for array in divided.prefix.run(pixels, every)]

    def image_batches(self, stage: int) -> ImageBatches:
        """Return whole images for the whole network, as a stage, given by its number, trains it.

        Raises:
            TrainingError: it cannot be trained with stochastic depth.
        """
        return ImageBatches(self._setting, self._network, self.train, self.validation, self._whole(stage))

    def _whole(self, stage: int) -> Deployable:
        """Return the network that a stage trains: itself, or with stochastic depth its graph.

        Raises:
            TrainingError: it has no graph that could be changed.
        """
        setting, backbone = self._setting, self._setting.backbone
        rate = setting.recipe.train.drop_path
        if not rate:
            return self._network
        wanted = dict(setting.recipe.stages)[stage]
        backbone.model.cpu()
        parts = set_trainable(backbone, wanted.unfreeze, train_bn=setting.recipe.train.train_bn)
        try:
            graph = trace_training(backbone, parts, rate)
        except NoFrontierError as error:
            raise TrainingError(
                f"{backbone.name} cannot be trained with stochastic depth, {error}: leave --drop-path out."
            ) from error
        backbone.model.to(setting.device)
        return Deployable(graph, backbone.normalization).to(setting.device)

    def predict(self, split: Split, bar: Bar) -> npt.NDArray[np.float32]:
        """Return float32 logits ``[n, C]`` of every image of a split, with the weights as they are now.

        The frozen part in its own engine. Where the recipe asks for it they are the mean over each image and its mirror
        image, as ``Deployable`` computes them.
        """
        self._setting.backbone.model.eval()
        return predict_logits(self._setting, split, self._logits, bar)

    def _logits(self, images: npt.NDArray[np.uint8]) -> torch.Tensor:
        logits = self._of_these(images)
        if self._setting.recipe.model.flip_test:
            logits = (logits + self._of_these(np.ascontiguousarray(images[:, :, ::-1]))) / 2
        return logits

    def _of_these(self, images: npt.NDArray[np.uint8]) -> torch.Tensor:
        if self.divided is None or not self.divided.serves_all:
            logits: torch.Tensor = self._network(torch.from_numpy(images).to(self._setting.device))[0]
            return logits
        cut = self.divided.division.cuts[-1]
        logits = cut.infer(*self.divided.run_prefix(images, cut))
        return logits

    @property
    def views(self) -> int:
        """Views of each training image that are kept."""
        return self._setting.views if self.divided else 1

    def sample(self, stage: int, images: npt.NDArray[np.uint8]) -> tuple[TrainedPart, Tensors]:
        """Return what a stage trains and one batch for it, without keeping anything.

        A stage that cannot be divided before an earlier one has ended is given the whole network.
        """
        if self.divided is None or stage not in self.divided.stages:
            return self.image_batches(stage).part, [torch.from_numpy(images).to(self._setting.device)]
        cut = self.divided.cut(stage)
        return TrainedPart(cut.train, cut.infer), self.divided.run_prefix(images, cut)

    def last_places(self) -> list[int]:
        """Return which of the kept tensors the last stage takes.

        All of them where the network is divided for it only once an earlier stage has ended.
        """
        divided, (last, _) = self.divided, self._setting.recipe.stages[-1]
        if divided is None:
            return []
        return divided.places(divided.cut(last)) if last in divided.stages else list(range(len(divided.tensors)))

    def cache_keys(self) -> list[CacheKey]:
        """Return what decides the content of each cache that the present division needs; empty without one."""
        if self.divided is None:
            return []
        extraction = Extraction(self._setting, self.divided)
        return [extraction.key(split, views) for split, views in self._splits_and_views()]

    def teacher_key(self) -> CacheKey | None:
        """Return what decides the content of the teacher's answers; None without one."""
        if self.answers is None:
            return None
        return self.answers.key(self.train, self._setting.views)

    def _extract(self, divided: DividedNetwork) -> bool:
        """Have the activations of both splits at hand; return False where they cannot be kept, in any process."""
        if self._activations:
            return True
        discard_abandoned(cache_root())
        extraction = Extraction(self._setting, divided)
        opened: dict[str, Activations] = {}
        problem = ""
        try:
            for split, views in self._splits_and_views():
                opened[split.name] = extraction.activations(split, views)
            if self.answers is not None:
                opened["teacher"] = self.answers.activations(self.train, self._setting.views)
        except NoCacheError as error:
            problem = str(error)
        except BaseException:
            _close(opened)
            raise
        (failed,) = self._setting.group.sum([float(bool(problem))])
        if failed:
            self._setting.reporter.line(
                f"training goes on without a cache of activations: {problem or 'another process cannot keep its own'}"
            )
            _close(opened)
            self.divided = None
            return False
        self._activations = opened
        return True

    def _splits_and_views(self) -> list[tuple[Split, int]]:
        return [(self.train, self._setting.views), (self.validation, 1)]

    def close(self) -> None:
        """Close the kept activations, which stay on the disk, and remove the new views of an epoch."""
        self._forget_new_views()
        _close(self._activations)
        self._activations = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close(activations: Mapping[str, Activations]) -> None:
    for kept in activations.values():
        kept.cache.close()


def _part(split: Split, group: Group) -> Split:
    """Return this process's images of a split; the fingerprint says which part it is."""
    if group.world == 1:
        return split
    return chosen_of(split, group.part(len(split)), f"part {group.rank} of {group.world}")


def chosen_of(split: Split, indices: npt.NDArray[np.int64], which: str) -> Split:
    """Return some images of a split, int64 ``[n]``; the fingerprint says which, in words."""
    return replace(
        split,
        sources=[split.sources[index] for index in indices],
        targets=split.targets[indices],
        names=tuple(split.names[index] for index in indices),
        digests=tuple(split.digests[index] for index in indices) if split.digests else (),
        fingerprint=f"{split.fingerprint} {which}",
    )


@dataclass(frozen=True)
class FoldData:
    """Some of the training images as stages train on them, looked at on others of them.

    Attributes:
        validation: the others.
        sources: batches of both, by the number of the stage.
    """

    validation: Split
    sources: Mapping[int, ActivationBatches]

    def batches(self, stage: int) -> BatchSource:
        """Return what a stage, given by its number, trains on."""
        return self.sources[stage]

    def draw_anew(self, batches: ActivationBatches, seed: tuple[int, ...]) -> None:
        """Draw nothing: folds are trained on the views that are kept, or each epoch would run the frozen part."""

    def stages_to_try(self) -> tuple[int, ...]:
        """Return none: this is a trial."""
        return ()
