"""The fields of a recipe as keyword arguments, for editors and type checkers.

``toolkit.recipe`` is where they are: a test holds names, types and descriptions against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict


class ExportFields(TypedDict, total=False):
    """What an export may be told besides its formats."""

    input: Literal["images", "tensor"]
    """Graph input: uint8 images [N,H,W,3], or a normalised float tensor [N,3,H,W]."""
    profile: Literal["wide", "newest"] | None
    """ONNX opset and IR version for the most readers, or the newest ones."""
    opset: int | None
    """ONNX opset (default: the profile's, or the exporter's recommended one)."""
    ir: int | None
    """ONNX IR version (default: the profile's, or the exporter's own)."""
    max_drop: float
    """Points of validation accuracy that a quantised artifact may lose."""


class RecipeFields(ExportFields, total=False):
    """What a recipe says, by the names of the flags; ``data`` is an argument of its own.

    What is left out is the recipe's default.
    """

    seed: int
    """Seed of splits, initial head, order and augmentation."""
    data_root: str | Path | None
    """Where sources keep the files that they download (default: the user's cache folder)."""
    validation_fraction: float
    """Share of the training images set aside to choose the best weights."""
    test_fraction: float
    """Share set aside for the test where the source has no test split of its own."""
    train_limit: int | None
    """Use at most this many training images, drawn per class (validation images included)."""
    test_limit: int | None
    """Use at most this many test images, drawn per class."""
    layout: Literal["auto", "splits", "classes"]
    """What the folders in the folder of images are; auto tells by their names, and refuses what could be both."""
    max_pixels: int
    """Refuse images of more pixels, before they are decoded, as unreadable."""
    skip_unreadable: bool
    """Leave out files that cannot be decoded instead of stopping."""
    check_duplicates: bool
    """Also look for the same picture in another encoding or size, or slightly cropped (identical files are found
    anyway)."""
    check_labels: bool
    """Look for labels that are probably wrong, with what the pretrained network makes of the images."""
    resize: Literal["squash", "crop"]
    """Squash both sides to the model's size, or scale the short side and crop."""
    interpolation: Literal["bilinear", "bicubic", "lanczos", "box", "nearest"]
    """Resampling filter."""
    decode: Literal["full", "reduced"]
    """Full, or large JPEGs decoded at a half, a quarter or an eighth of their size, as long as that is twice the size
    they are resized to."""
    sixteen_bit: str
    """How grey images of 16 and 32 bits become 8 bits: 'high-byte', 'scale' (from the range of the training images) or
    a range of values, e.g. 0..4095."""
    backbone: str
    """'torchvision:NAME', 'timm:NAME', or a bare name (torchvision first)."""
    weights: str | Path
    """'default' (pretrained), 'none' (random), or a checkpoint file."""
    image_size: int | None
    """Side of the square input in pixels (default: the backbone's own)."""
    augment_flip: bool
    """Mirror left and right with probability one half."""
    augment_shift: float
    """Shift by up to this fraction of the side, repeating the edge pixels."""
    augment_mixup: float
    """Mixup: alpha of the Beta distribution of the shares; 0 leaves it out."""
    augment_cutmix: float
    """Cutmix: alpha of the Beta distribution of the shares; 0 leaves it out; beside mixup each batch draws one of the
    two."""
    augment_crop: float
    """Random resized crop: smallest share of the area that is taken and resized; 0 leaves it out."""
    randaugment: int
    """RandAugment: operations that are applied to each image; 0 leaves it out."""
    randaugment_magnitude: int
    """Magnitude of the operations of RandAugment, up to 30."""
    augment_erase: float
    """Random erasing (cutout): probability with which a rectangle is filled with the mean colour of its image; 0 leaves
    it out."""
    augment_erase_area: float
    """Largest share of the area that is erased; the smallest is 0.02."""
    cache: bool
    """Compute the frozen part of the network once per image and keep the result on disk."""
    views: int | None
    """Views of each training image that are kept, each epoch draws one (default: 4 with augmentation, 1 without)."""
    cache_dtype: Literal["float16", "float32"]
    """Precision in which activations are kept."""
    refresh_views: float
    """Share of the training images of which each epoch of the last stage sees a new view, drawn for it alone, instead
    of a kept one; 0 draws none."""
    loss: str
    """Cross-entropy, or mean squared error on one-hot targets."""
    label_smoothing: float
    """Label smoothing of the cross-entropy."""
    class_weights: Literal["none", "balanced"]
    """Balanced multiplies the loss of a class by what makes all classes count alike."""
    keep: Literal["auto", "best", "last"]
    """Keep the weights of the epoch that is best on the validation images, or of the last one; auto is the last one
    of a stage where they are too few to tell epochs apart."""
    batch_size: int
    """Images per step."""
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    """Arithmetic of forward and backward passes; auto is bfloat16 where the processor and the trained layers gain, else
    float32."""
    checkpoint_minutes: float
    """Save a checkpoint after every epoch, and at least this often."""
    train_bn: bool
    """Let BatchNorm layers of unfrozen blocks use and update batch statistics."""
    bn_reestimate: int
    """Estimate the statistics of these BatchNorm layers anew at the end, with the weights that are kept, on so many
    batches of images as they are; 0 leaves it out."""
    device: str
    """Where to train; auto takes CUDA if there is one, cuda:1 is the second GPU."""
    ema: float
    """Decay of the exponential moving average of the weights, which is then what is looked at and kept; 0 leaves it
    out."""
    average_last: int
    """Keep the mean of the weights after the last epochs, this many; 0 and 1 leave it out."""
    patience: int
    """End a stage after this many epochs in a row without a better one on the validation images; 0 never does."""
    drop_path: float | None
    """Stochastic depth in the blocks that are trained: rate of the last residual branch, rising up to it from the first
    (default: what the network brings)."""
    dropout: float | None
    """Dropout before the head (default: what the network brings)."""
    sam_rho: float
    """Sharpness-aware steps: how far the weights are moved up the loss before the gradient is taken; doubles the cost
    of a step; 0 leaves it out."""
    threads: int | None
    """CPU threads (default: all cores)."""
    stage1_epochs: int
    """Passes over the training images; 0 leaves the stage out."""
    stage1_optimizer: str
    """Optimiser."""
    stage1_head_lr: float
    """Learning rate of the new head."""
    stage1_backbone_lr: float
    """Learning rate of the unfrozen blocks."""
    stage1_layer_decay: float
    """Factor of the learning rate from each unfrozen block to the one before it; 1 trains all at one rate."""
    stage1_momentum: float
    """Momentum of SGD."""
    stage1_weight_decay: float
    """Weight decay."""
    stage1_schedule: str
    """Learning-rate schedule over the stage, stepped per batch."""
    stage1_unfreeze: int | str | Sequence[str]
    """How many of the last blocks to train beside the head, or module names."""
    stage1_solver: Literal["auto", "steps", "lbfgs"]
    """How the new head is found: by steps of the optimiser, or solved as logistic regression over what the frozen
    network makes of the images; auto solves it where they are few."""
    stage2_epochs: int
    """Passes over the training images; 0 leaves the stage out."""
    stage2_optimizer: str
    """Optimiser."""
    stage2_head_lr: float
    """Learning rate of the new head."""
    stage2_backbone_lr: float
    """Learning rate of the unfrozen blocks."""
    stage2_layer_decay: float
    """Factor of the learning rate from each unfrozen block to the one before it; 1 trains all at one rate."""
    stage2_momentum: float
    """Momentum of SGD."""
    stage2_weight_decay: float
    """Weight decay."""
    stage2_schedule: str
    """Learning-rate schedule over the stage, stepped per batch."""
    stage2_unfreeze: int | str | Sequence[str]
    """How many of the last blocks to train beside the head, or module names."""
    stage3_epochs: int
    """Passes over the training images; 0 leaves the stage out."""
    stage3_optimizer: str
    """Optimiser."""
    stage3_head_lr: float
    """Learning rate of the new head."""
    stage3_backbone_lr: float
    """Learning rate of the unfrozen blocks."""
    stage3_layer_decay: float
    """Factor of the learning rate from each unfrozen block to the one before it; 1 trains all at one rate."""
    stage3_momentum: float
    """Momentum of SGD."""
    stage3_weight_decay: float
    """Weight decay."""
    stage3_schedule: str
    """Learning-rate schedule over the stage, stepped per batch."""
    stage3_unfreeze: int | str | Sequence[str]
    """How many of the last blocks to train beside the head, or module names."""
    teacher: str | Path | None
    """A finished run, by its name in artifacts or its path, whose answers are learned beside the labels (default:
    none)."""
    distill_weight: float
    """Share of the teacher in the loss; the labels have the rest."""
    distill_temperature: float
    """What the logits of both are divided by before they are compared."""
    flip_test: bool
    """Average the logits of each image and of its mirror image, in the test and in every artifact, which doubles the
    cost of each prediction."""
    formats: str | Sequence[str]
    """Export formats, separated by commas."""
