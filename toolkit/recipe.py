"""What a run is asked to do: frozen models, read from TOML, overridden by flags, written into the run folder.

A recipe is a plain description: it names data and a backbone but does not look at them. All bad fields are reported at
once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from toolkit import devices
from toolkit.decoding_limits import MAX_PIXELS
from toolkit.dependencies import import_optional
from toolkit.distribution import install_hint
from toolkit.errors import MOST_THREADS, RecipeError
from toolkit.files import read_text, write_text
from toolkit.pixel_depth import check_choice
from toolkit.printable import printable, unprintable
from toolkit.training_choices import LOSSES, OPTIMIZERS, SCHEDULES


@dataclass(frozen=True)
class NameIn:
    """Marks a field that names an entry of a table.

    Refused as a ``Literal`` of the names would be, in the same words; the names are those that the table has when the
    recipe is read.
    """

    table: Mapping[str, object]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._checked, handler(source))

    def _checked(self, value: Any) -> Any:
        if not isinstance(value, str) or value not in self.table:
            *first, last = (repr(name) for name in self.table)
            expected = f"{', '.join(first)} or {last}" if first else last
            raise PydanticKnownError("literal_error", {"expected": expected})
        return value


DEFAULT_SOURCE = "digits"
"""The data source of a recipe that names none: it needs no network. ``toolkit.data`` is who knows it."""
AUTO = "auto"
"""What a person gives in place of a recipe's name to have it chosen."""
PREFERRED_RECIPE = "cifar10"
"""What ``auto`` takes where its data and weights can be had."""
EMBEDDED_RECIPE = "digits"
"""What ``auto`` takes otherwise: its data and weights are in pip packages."""
PATH_RECIPE = "folder"
"""What ``auto`` takes for data that a person names."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _split(value: Any) -> Any:
    """Read ``"a, b"``, as a flag gives it, as a list; leave anything else to the validation."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _count_or_names(value: Any) -> Any:
    """Read ``"2"`` as a count and ``"layer3, layer4"`` as names."""
    return int(value) if isinstance(value, str) and value.strip().lstrip("-").isdigit() else _split(value)


def _device(value: str) -> str:
    if value != devices.AUTO and not devices.is_device(value):
        raise ValueError(f"there is no device {value!r}: give {devices.AUTO}, {', '.join(devices.DEVICE_NAMES)}")
    return value


class DataRecipe(_Section):
    """Which labelled images, and how they are divided."""

    source: str = Field(
        DEFAULT_SOURCE,
        min_length=1,
        description="the path of a folder of images sorted into one folder per class, or a data source by its name "
        "(a wrong one lists them)",
    )
    root: str | None = Field(
        None, description="where sources keep the files that they download (default: the user's cache folder)"
    )
    validation_fraction: float = Field(
        0.1, gt=0.0, lt=1.0, description="share of the training images set aside to choose the best weights"
    )
    test_fraction: float = Field(
        0.2, gt=0.0, lt=1.0, description="share set aside for the test where the source has no test split of its own"
    )
    train_limit: int | None = Field(
        None, ge=1, description="use at most this many training images, drawn per class (validation images included)"
    )
    test_limit: int | None = Field(None, ge=1, description="use at most this many test images, drawn per class")
    layout: Literal["auto", "splits", "classes"] = Field(
        "auto",
        description="what the folders in the folder of images are; auto tells by their names, and refuses what could "
        "be both",
    )
    max_pixels: int = Field(
        MAX_PIXELS, ge=1, description="refuse images of more pixels, before they are decoded, as unreadable"
    )
    skip_unreadable: bool = Field(False, description="leave out files that cannot be decoded instead of stopping")
    check_duplicates: bool = Field(
        False,
        description="also look for the same picture in another encoding or size, or slightly cropped (identical files "
        "are found anyway)",
    )
    check_labels: bool = Field(
        True,
        description="look for labels that are probably wrong, with what the pretrained network makes of the images",
    )
    resize: Literal["squash", "crop"] = Field(
        "squash", description="squash both sides to the model's size, or scale the short side and crop"
    )
    interpolation: Literal["bilinear", "bicubic", "lanczos", "box", "nearest"] = Field(
        "bilinear", description="resampling filter"
    )
    decode: Literal["full", "reduced"] = Field(
        "reduced",
        description="full, or large JPEGs decoded at a half, a quarter or an eighth of their size, as long as that is "
        "twice the size they are resized to",
    )
    sixteen_bit: Annotated[str, AfterValidator(check_choice)] = Field(
        "high-byte",
        description="how grey images of 16 and 32 bits become 8 bits: 'high-byte', 'scale' (from the range of the "
        "training images) or a range of values, e.g. 0..4095",
    )


class BackboneRecipe(_Section):
    """Which pretrained network."""

    name: str = Field(
        "timm:tf_efficientnet_lite0",
        min_length=1,
        description="'torchvision:NAME', 'timm:NAME', or a bare name (torchvision first)",
    )
    weights: str = Field(
        "default", min_length=1, description="'default' (pretrained), 'none' (random), or a checkpoint file"
    )
    image_size: int | None = Field(
        None, ge=16, le=2048, description="side of the square input in pixels (default: the backbone's own)"
    )


class AugmentRecipe(_Section):
    """Random changes of the training images."""

    flip: bool = Field(False, description="mirror left and right with probability one half")
    shift: float = Field(
        0.0, ge=0.0, le=0.5, description="shift by up to this fraction of the side, repeating the edge pixels"
    )
    mixup: float = Field(
        0.0, ge=0.0, le=10.0, description="mixup: alpha of the Beta distribution of the shares; 0 leaves it out"
    )
    cutmix: float = Field(
        0.0,
        ge=0.0,
        le=10.0,
        description="cutmix: alpha of the Beta distribution of the shares; 0 leaves it out; beside mixup each batch "
        "draws one of the two",
    )
    crop: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="random resized crop: smallest share of the area that is taken and resized; 0 leaves it out",
    )
    randaugment: int = Field(
        0, ge=0, le=14, description="RandAugment: operations that are applied to each image; 0 leaves it out"
    )
    magnitude: int = Field(9, ge=0, le=30, description="magnitude of the operations of RandAugment, up to 30")
    erase: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="random erasing (cutout): probability with which a rectangle is filled with the mean colour of its "
        "image; 0 leaves it out",
    )
    erase_area: float = Field(
        0.33, ge=0.02, lt=1.0, description="largest share of the area that is erased; the smallest is 0.02"
    )

    @property
    def changes_images(self) -> bool:
        """Whether the images themselves are changed; mixup and cutmix blend what has been made of them."""
        return self.flip or any((self.shift, self.crop, self.randaugment, self.erase))


class CacheRecipe(_Section):
    """Activations of the frozen part of the network, computed once and kept."""

    use: bool = Field(
        True, description="compute the frozen part of the network once per image and keep the result on disk"
    )
    views: int | None = Field(
        None,
        ge=1,
        le=64,
        description="views of each training image that are kept, each epoch draws one (default: 4 with augmentation, "
        "1 without)",
    )
    dtype: Literal["float16", "float32"] = Field("float16", description="precision in which activations are kept")
    refresh: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="share of the training images of which each epoch of the last stage sees a new view, drawn for it "
        "alone, instead of a kept one; 0 draws none",
    )

    def new_views(self, images: int) -> int:
        """Return of how many of so many training images an epoch of the last stage sees a new view."""
        return max(1, round(self.refresh * images)) if self.refresh > 0 else 0


class TrainRecipe(_Section):
    """What all stages share."""

    loss: Annotated[str, NameIn(LOSSES)] = Field(
        "cross_entropy", description="cross-entropy, or mean squared error on one-hot targets"
    )
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0, description="label smoothing of the cross-entropy")
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced multiplies the loss of a class by what makes all classes count alike"
    )
    keep: Literal["auto", "best", "last"] = Field(
        "auto",
        description="keep the weights of the epoch that is best on the validation images, or of the last one; auto is "
        "the last one of a stage where they are too few to tell epochs apart",
    )
    batch_size: int = Field(64, ge=1, description="images per step")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="arithmetic of forward and backward passes; auto is bfloat16 where the processor and the trained "
        "layers gain, else float32",
    )
    checkpoint_minutes: float = Field(
        5.0, gt=0.0, description="save a checkpoint after every epoch, and at least this often"
    )
    train_bn: bool = Field(False, description="let BatchNorm layers of unfrozen blocks use and update batch statistics")
    bn_reestimate: int = Field(
        0,
        ge=0,
        description="estimate the statistics of these BatchNorm layers anew at the end, with the weights that are "
        "kept, on so many batches of images as they are; 0 leaves it out",
    )
    device: Annotated[str, AfterValidator(_device)] = Field(
        "auto", description="where to train; auto takes CUDA if there is one, cuda:1 is the second GPU"
    )
    ema: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="decay of the exponential moving average of the weights, which is then what is looked at and kept; "
        "0 leaves it out",
    )
    average_last: int = Field(
        0,
        ge=0,
        description="keep the mean of the weights after the last epochs, this many; 0 and 1 leave it out",
    )
    patience: int = Field(
        0,
        ge=0,
        description="end a stage after this many epochs in a row without a better one on the validation images; 0 "
        "never does",
    )
    drop_path: float | None = Field(
        None,
        ge=0.0,
        lt=1.0,
        description="stochastic depth in the blocks that are trained: rate of the last residual branch, rising up "
        "to it from the first (default: what the network brings)",
    )
    dropout: float | None = Field(
        None, ge=0.0, lt=1.0, description="dropout before the head (default: what the network brings)"
    )
    sam_rho: float = Field(
        0.0,
        ge=0.0,
        le=10.0,
        description="sharpness-aware steps: how far the weights are moved up the loss before the gradient is taken; "
        "doubles the cost of a step; 0 leaves it out",
    )
    threads: int | None = Field(None, ge=1, le=MOST_THREADS, description="CPU threads (default: all cores)")

    @model_validator(mode="after")
    def _smoothing_needs_a_loss_that_takes_it(self) -> Self:
        smoothed = [name for name, loss in LOSSES.items() if "label_smoothing" in loss.fields]
        if self.loss not in smoothed and self.label_smoothing > 0:
            raise ValueError(f"label_smoothing applies to the {' and '.join(smoothed)} loss only")
        return self

    @model_validator(mode="after")
    def _statistics_that_are_trained(self) -> Self:
        if self.bn_reestimate > 0 and not self.train_bn:
            raise ValueError("bn_reestimate is for BatchNorm layers that train_bn trains: give both, or neither")
        return self

    @model_validator(mode="after")
    def _one_average_over_epochs_that_are_known(self) -> Self:
        if self.average_last > 1 and self.ema > 0:
            raise ValueError("ema and average_last are two averages of the same weights: give one of them")
        if self.average_last > 1 and self.patience > 0:
            raise ValueError("average_last counts from the last epoch, which patience does not know: give one of them")
        return self


class StageRecipe(_Section):
    """One stage of fine-tuning."""

    epochs: int = Field(10, ge=0, description="passes over the training images; 0 leaves the stage out")
    optimizer: Annotated[str, NameIn(OPTIMIZERS)] = Field("sgd", description="optimiser")
    head_lr: float = Field(0.001, gt=0.0, description="learning rate of the new head")
    backbone_lr: float = Field(0.0001, gt=0.0, description="learning rate of the unfrozen blocks")
    layer_decay: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        description="factor of the learning rate from each unfrozen block to the one before it; 1 trains all at one "
        "rate",
    )
    momentum: float = Field(0.9, ge=0.0, lt=1.0, description="momentum of SGD")
    weight_decay: float = Field(0.0, ge=0.0, description="weight decay")
    schedule: Annotated[str, NameIn(SCHEDULES)] = Field(
        "constant", description="learning-rate schedule over the stage, stepped per batch"
    )
    unfreeze: Annotated[int | tuple[str, ...], BeforeValidator(_count_or_names)] = Field(
        0, description="how many of the last blocks to train beside the head, or module names"
    )

    @model_validator(mode="after")
    def _count_is_not_negative(self) -> Self:
        if isinstance(self.unfreeze, int) and self.unfreeze < 0:
            raise ValueError("unfreeze must be 0 or more blocks, or a list of module names")
        return self


class Stage1Recipe(StageRecipe):
    """The first stage, which can do without steps."""

    solver: Literal["auto", "steps", "lbfgs"] = Field(
        "steps",
        description="how the new head is found: by steps of the optimiser, or solved as logistic regression over what "
        "the frozen network makes of the images; auto solves it where they are few",
    )


FIELDS_OF_STEPS = frozenset(
    f"stage1.{name}" for name in ("epochs", "optimizer", "head_lr", "momentum", "weight_decay", "schedule")
)
"""What a head that is solved does not ask for."""


class DistillRecipe(_Section):
    """A teacher whose answers are learned beside the labels (Hinton et al. 2015)."""

    teacher: str | None = Field(
        None,
        min_length=1,
        description="a finished run, by its name in artifacts or its path, whose answers are learned beside the labels "
        "(default: none)",
    )
    weight: float = Field(0.5, ge=0.0, le=1.0, description="share of the teacher in the loss; the labels have the rest")
    temperature: float = Field(
        2.0, gt=0.0, le=100.0, description="what the logits of both are divided by before they are compared"
    )


class ModelRecipe(_Section):
    """What the fine-tuned model is, beside its weights."""

    flip_test: bool = Field(
        False,
        description="average the logits of each image and of its mirror image, in the test and in every artifact, "
        "which doubles the cost of each prediction",
    )


class ExportRecipe(_Section):
    """What is made of the fine-tuned model."""

    formats: Annotated[tuple[str, ...], BeforeValidator(_split)] = Field(
        ("torchscript", "onnx"), min_length=1, description="export formats, separated by commas"
    )
    input: Literal["images", "tensor"] = Field(
        "images", description="graph input: uint8 images [N,H,W,3], or a normalised float tensor [N,3,H,W]"
    )
    profile: Literal["wide", "newest"] | None = Field(
        None, description="ONNX opset and IR version for the most readers, or the newest ones"
    )
    opset: int | None = Field(
        None, ge=18, le=30, description="ONNX opset (default: the profile's, or the exporter's recommended one)"
    )
    ir: int | None = Field(
        None, ge=8, le=14, description="ONNX IR version (default: the profile's, or the exporter's own)"
    )
    max_drop: float = Field(
        0.5, ge=0.0, le=100.0, description="points of validation accuracy that a quantised artifact may lose"
    )


@dataclass(frozen=True)
class _Given:
    """Which fields a person gave. Recipes that say the same are equal, whoever said it."""

    fields: frozenset[str] = field(default=frozenset(), compare=False)


class Recipe(_Section):
    """Everything that decides what a run computes."""

    _given: _Given = PrivateAttr(default=_Given())

    name: str = Field(
        "custom", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="the recipe's name; it starts the run's name"
    )
    description: str = Field("", description="one line on what it is for")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of splits, initial head, order and augmentation")
    data: DataRecipe = DataRecipe.model_validate({})
    backbone: BackboneRecipe = BackboneRecipe.model_validate({})
    augment: AugmentRecipe = AugmentRecipe.model_validate({})
    cache: CacheRecipe = CacheRecipe.model_validate({})
    train: TrainRecipe = TrainRecipe.model_validate({})
    stage1: Stage1Recipe = Stage1Recipe.model_validate({})
    stage2: StageRecipe = StageRecipe.model_validate({"unfreeze": 1})
    stage3: StageRecipe = StageRecipe.model_validate({"epochs": 0})
    distill: DistillRecipe = DistillRecipe.model_validate({})
    model: ModelRecipe = ModelRecipe.model_validate({})
    export: ExportRecipe = ExportRecipe.model_validate({})

    @model_validator(mode="after")
    def _something_to_train(self) -> Self:
        if not self.stages:
            raise ValueError("stage1.epochs and stage2.epochs are both 0: nothing would be trained")
        return self

    @model_validator(mode="after")
    def _a_third_stage_goes_deeper(self) -> Self:
        before, third = self.stage2.unfreeze, self.stage3.unfreeze
        if self.stage2.epochs == 0 or self.stage3.epochs == 0:
            return self
        if isinstance(before, int) and isinstance(third, int) and third < before:
            raise ValueError(
                f"stage3.unfreeze is {third} and stage2.unfreeze is {before}: a third stage is for more blocks, say "
                "how many"
            )
        return self

    @model_validator(mode="after")
    def _new_views_need_a_cache(self) -> Self:
        if self.cache.refresh > 0 and not self.cache.use:
            raise ValueError("without a cache every view is new: leave --no-cache or --refresh-views out")
        return self

    @model_validator(mode="after")
    def _a_teacher_needs_a_cache(self) -> Self:
        if self.distill.teacher is not None and not self.cache.use:
            raise ValueError("a teacher's answers are kept beside the activations: leave --no-cache or --teacher out")
        return self

    @model_validator(mode="after")
    def _what_is_solved_is_logistic_regression(self) -> Self:
        if self.stage1.solver == "lbfgs" and (obstacle := self.obstacle_to_solving):
            raise ValueError(f"stage1.solver lbfgs is logistic regression over frozen features: {obstacle}")
        return self

    @property
    def obstacle_to_solving(self) -> str | None:
        """Why the head cannot be solved in place of the first stage, as what to do about it; None where it can."""
        if self.stage1.epochs == 0:
            return "0 epochs leave its stage out, give stage1.epochs 1 or more or take the solver steps"
        if self.train.loss != "cross_entropy":
            return f"loss {self.train.loss} is another problem, take the solver steps"
        if self.distill.teacher is not None:
            return "it does not listen to a teacher, leave the teacher out or take the solver steps"
        if self.stage1.unfreeze:
            return "leave stage1.unfreeze at 0, or take the solver steps"
        if self.cache.refresh > 0 and [number for number, _ in self.stages] == [1]:
            return "it has no epochs to draw new views for, leave --refresh-views out or take the solver steps"
        return None

    @property
    def stages(self) -> tuple[tuple[int, StageRecipe], ...]:
        """The stages that train, in order, each with its number; one of 0 epochs is left out."""
        stages = enumerate((self.stage1, self.stage2, self.stage3), 1)
        return tuple((number, stage) for number, stage in stages if stage.epochs > 0)

    def model_post_init(self, context: Any, /) -> None:
        """Take every field that is set for one that a person gave."""
        del context
        self._given = _Given(frozenset(_fields_set(self, "")))

    def is_given(self, dotted: str) -> bool:
        """Tell whether a person gave a field, in a file, by a flag or from Python.

        The others are defaults, of a shipped recipe or of the field itself: what does not fit a network is adapted to
        it and said, where a person's own word is refused.
        """
        return dotted in self._given.fields

    def to_toml(self) -> str:
        """Return the recipe as TOML; fields without a value are left out.

        Raises:
            MissingDependencyError: ``tomli-w`` is not installed.
        """
        tomli_w = import_optional("tomli_w", f"writing a recipe needs tomli-w: {install_hint('train')}")
        text: str = tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))
        return text

    def without_folders(self) -> Recipe:
        """Return the recipe as it may leave this machine: of the paths in it the last part only."""
        data = self.data.model_copy(update={"source": last_part(self.data.source), "root": None})
        distill = self.distill.model_copy(
            update={"teacher": Path(self.distill.teacher).name if self.distill.teacher else None}
        )
        backbone = self.backbone.model_copy(update={"weights": Path(self.backbone.weights).name})
        return self.model_copy(update={"data": data, "backbone": backbone, "distill": distill})

    def save(self, path: Path) -> None:
        """Write the recipe as TOML, atomically."""
        write_text(path, self.to_toml())

    def override(self, changes: Mapping[str, Any], origin: str = "the command line") -> Recipe:
        """Return a copy with dotted fields replaced, e.g. ``{"stage1.head_lr": 0.01}``.

        Raises:
            RecipeError: a field is unknown or a value is not valid; all of them are named.
        """
        tree = _changed(self.model_dump(mode="python", exclude_none=True), changes)
        return _validate(tree, origin)._with_given(self._given.fields | changes.keys())

    def adapted(self, changes: Mapping[str, Any]) -> Recipe:
        """Return a copy with defaults replaced by what fits: as ``override``, but nobody gave these fields."""
        return self.override(changes)._with_given(self._given.fields)

    def as_defaults(self) -> Recipe:
        """Return a copy of which nobody gave a field, see ``is_given``."""
        return self.model_copy()._with_given(frozenset())

    def _with_given(self, fields: frozenset[str]) -> Recipe:
        self._given = _Given(fields)
        return self


def _changed(tree: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Put dotted fields into a tree, which is changed."""
    for dotted, value in changes.items():
        *sections, field = dotted.split(".")
        branch: Any = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[field] = value
    return tree


def _fields_set(section: BaseModel, prefix: str) -> Iterator[str]:
    for name in section.model_fields_set:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _fields_set(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


PREFIXED = ("augment", "stage1", "stage2", "stage3", "distill")
"""Sections whose name starts the names of their fields; the fields of the others have names that speak for
themselves."""
NAMES = {
    "data.source": "data",
    "data.root": "data_root",
    "backbone.name": "backbone",
    "augment.randaugment": "randaugment",
    "augment.magnitude": "randaugment_magnitude",
    "cache.use": "cache",
    "cache.dtype": "cache_dtype",
    "cache.refresh": "refresh_views",
    "distill.teacher": "teacher",
}
"""Fields that are not called what they are called in their section."""
NOT_GIVEN = ("name", "description")
"""What only a file says of itself."""


def field_of(recipe: Recipe, dotted: str) -> Any:
    """Return the value of a field, e.g. ``stage1.head_lr``."""
    value: Any = recipe
    for part in dotted.split("."):
        value = getattr(value, part)
    return value


def recipe_fields() -> Iterator[tuple[str, str, FieldInfo]]:
    """Yield the dotted field, the name and the description of all of a recipe that a person can give by itself.

    The name is that of the keyword argument in Python, e.g. ``stage1_head_lr``, and with dashes that of the flag.
    """
    for name, description in Recipe.model_fields.items():
        section = description.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            for inner, inner_description in section.model_fields.items():
                dotted = f"{name}.{inner}"
                yield dotted, NAMES.get(dotted, f"{name}_{inner}" if name in PREFIXED else inner), inner_description
        elif name not in NOT_GIVEN:
            yield name, name, description


def changes_of(
    given: Mapping[str, Any], origin: str, section: str = "", *, called: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return what was given by names, as ``recipe_fields`` has them, by dotted fields, as ``Recipe.override`` takes it.

    Args:
        given: names and values.
        origin: who gave them, named in errors.
        section: the only one whose fields are taken, e.g. ``export.``; all by default.
        called: what is meant by names that are no fields, to say so.

    Raises:
        RecipeError: a field is unknown or a value is not valid; all of them are named, and the fields there are.
    """
    names = {dotted: name for dotted, name, _ in recipe_fields()}
    fields = {name: dotted for dotted, name in names.items() if dotted.startswith(section)}
    problems = [
        f"  {printable(name)}: no such field{_meant(name, list(fields), called or {})}"
        for name in given
        if name not in fields
    ]
    changes = {fields[name]: value for name, value in given.items() if name in fields}
    try:
        Recipe.model_validate(_changed(Recipe().model_dump(exclude_none=True), changes))
    except ValidationError as error:
        problems += _problems(error, names)
    if problems:
        more = f"\nFields are {', '.join(sorted(fields))}." if given.keys() - fields.keys() else ""
        raise RecipeError(_summary(problems, origin) + more)
    return changes


def _meant(name: str, fields: list[str], called: Mapping[str, str]) -> str:
    """Return which fields somebody may have meant, as the end of a sentence."""
    meant = [called[name]] if name in called else [field for field in fields if field.endswith(f"_{name}")]
    meant = meant or difflib.get_close_matches(name, fields, n=2)
    return f" (did you mean {' or '.join(meant)}?)" if meant else ""


def last_part(text: str) -> str:
    """Return the last part of a path that leads from the root or from a home; anything else as it is."""
    path = Path(text)
    return path.name if path.is_absolute() or text.startswith("~") else text


def _validate(tree: Mapping[str, Any], origin: str) -> Recipe:
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(_summary(_problems(error), origin)) from error


def _problems(error: ValidationError, names: Mapping[str, str] | None = None) -> list[str]:
    """Return a line for each field that is not valid, called by its name where there are ``names``."""
    lines = []
    for problem in error.errors():
        field = ".".join(
            str(part) for part in problem["loc"] if not (isinstance(part, str) and ("[" in part or part == "int"))
        )
        field = (names or {}).get(field, field)
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {field}: no such field; fields here are {', '.join(_siblings(problem['loc']))}")
        elif problem["type"] == "value_error":
            lines.append(f"  {field or 'recipe'}: {problem['ctx']['error']}")
        elif problem["type"] == "string_unicode":
            lines.append(
                f"  {field}: {problem['input']!r} is not UTF-8, and a recipe is: rename it, or give a link to it"
            )
        else:
            lines.append(f"  {field}: {problem['msg']} (given: {problem['input']!r})")
    return lines


def _summary(lines: list[str], origin: str) -> str:
    return (
        f"{len(lines)} field{'s' if len(lines) > 1 else ''} of the recipe from {origin} cannot be used:\n"
        + "\n".join(dict.fromkeys(lines))
    )


def _siblings(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in location[:-1]:
        annotation = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return sorted(model.model_fields)
        model = annotation
    return sorted(model.model_fields)


def shipped_recipes() -> dict[str, str]:
    """Return the recipes in the package: name to TOML text, by name."""
    folder = Path(__file__).parent / "recipes"
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.toml"))}


def load_recipe(name_or_path: str) -> Recipe:
    """Read a shipped recipe by name or a TOML file by path.

    Raises:
        RecipeError: no such recipe, not TOML, or fields that are not valid (all of them named).
    """
    shipped = shipped_recipes()
    if name_or_path in shipped:
        # Nobody gave what stands in a shipped recipe.
        return parse_recipe(shipped[name_or_path], f"recipe {name_or_path!r}")._with_given(frozenset())
    path = Path(name_or_path)
    if not path.exists():
        raise RecipeError(
            f"no recipe {name_or_path!r}: give one of {', '.join([AUTO, *shipped])}, or the path of a TOML file"
        )
    try:
        return parse_recipe(read_text(path), printable(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecipeError(f"cannot read the recipe {printable(path)}: {reason}.") from error


def parse_recipe(text: str, origin: str) -> Recipe:
    """Parse TOML into a recipe; ``origin`` is named in errors."""
    import tomllib  # only a command that runs reads TOML; help does not wait for it

    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{origin} is not valid TOML: {error}") from error
    if found := next((marked for text in _texts(tree) if (marked := unprintable(text, lines=True))), None):
        raise RecipeError(f"{origin} holds the character {found}, which could change what a terminal shows: remove it.")
    return _validate(tree, origin)


def _texts(tree: object) -> Iterator[str]:
    """Yield every key and every string of parsed TOML."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield key
            yield from _texts(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _texts(value)
    elif isinstance(tree, str):
        yield tree
