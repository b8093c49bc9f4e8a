from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from toolkit.recipe import AugmentRecipe, DistillRecipe
from toolkit.training.blending import Blended, blend, grid_axes
from toolkit.training.optim import TaughtLoss


def recipe(mixup: float = 0.0, cutmix: float = 0.0) -> AugmentRecipe:
    return AugmentRecipe.model_validate({"mixup": mixup, "cutmix": cutmix})


def seeded(seed: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed)


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor, taught: torch.Tensor | None) -> torch.Tensor:
    del taught
    return functional.cross_entropy(logits, targets)


def cut_maps(seed: int = 0, *shapes: tuple[int, ...]) -> Blended:
    """Blend maps that hold the number of their image everywhere."""
    shapes = shapes or ((5, 4, 4),)
    tensors = [torch.arange(6.0).view(6, *[1] * len(shape)).expand(6, *shape).contiguous() for shape in shapes]
    return blend(tensors, 6, recipe(cutmix=1.0), seeded(seed))


def test_without_alpha_nothing_changes() -> None:
    tensors, targets = [torch.randn(4, 3)], torch.tensor([0, 1, 2, 0])
    blended = blend(tensors, 4, recipe(), seeded(0))
    assert blended.tensors is tensors
    logits = torch.randn(4, 3)
    assert torch.equal(blended.loss(cross_entropy, logits, targets, None), functional.cross_entropy(logits, targets))


def test_mixup_blends_inputs_and_losses_by_the_same_share() -> None:
    targets = torch.tensor([0, 1, 2, 3])
    one_hot = functional.one_hot(targets, 4).float()
    blended = blend([one_hot], 4, recipe(mixup=0.4), seeded(3))
    logits = torch.randn(4, 4)
    # The blended one-hot rows are the soft targets, so the loss must be the cross-entropy to them.
    assert blended.loss(cross_entropy, logits, targets, None).item() == pytest.approx(
        functional.cross_entropy(logits, blended.tensors[0]).item(), rel=1e-5
    )
    assert not torch.equal(blended.tensors[0], one_hot)
    assert blended.tensors[0].sum(dim=1).tolist() == pytest.approx([1.0] * 4)


def test_mixup_draws_what_it_drew_before_there_was_cutmix() -> None:
    draw = np.random.default_rng(seeded(3))
    share, order = float(draw.beta(0.4, 0.4)), draw.permutation(4)
    blended = blend([torch.randn(4, 2)], 4, recipe(mixup=0.4), seeded(3))
    assert blended.share == share
    assert blended.other is not None
    assert blended.other.tolist() == order.tolist()


def test_mixup_blends_all_tensors_of_a_frontier_alike() -> None:
    first, second = torch.randn(5, 2), torch.randn(5, 3, 2, 2)
    both = blend([first, second], 5, recipe(mixup=1.0), seeded(7)).tensors
    (alone,) = blend([second], 5, recipe(mixup=1.0), seeded(7)).tensors
    assert torch.equal(both[1], alone)


@pytest.mark.parametrize("seed", range(20))
def test_the_labels_have_the_share_of_the_map_that_is_left(seed: int) -> None:
    blended = cut_maps(seed)
    (maps,) = blended.tensors
    assert blended.other is not None
    for image in range(6):
        own = (maps[image] == image).float().mean().item()
        if blended.other[image] != image:
            assert own == pytest.approx(blended.share)
            assert ((maps[image] == image) | (maps[image] == blended.other[image])).all()


def test_what_is_cut_is_one_rectangle_and_the_same_in_all_channels() -> None:
    shares = set()
    for seed in range(40):
        blended = cut_maps(seed)
        assert blended.other is not None
        image = int((blended.other != torch.arange(6)).nonzero()[0])
        cut = blended.tensors[0][image] != image
        assert (cut == cut[0]).all()
        rows, columns = cut[0].any(1), cut[0].any(0)
        assert torch.equal(cut[0], rows[:, None] & columns[None])
        assert rows.sum() == columns.sum()
        shares.add(blended.share)
    assert {15 / 16, 12 / 16, 7 / 16, 0.0} <= shares <= {1.0, 15 / 16, 12 / 16, 7 / 16, 0.0}


def test_the_rectangle_is_in_the_same_place_on_finer_maps() -> None:
    coarse, fine = cut_maps(4, (2, 4, 4), (3, 8, 8)).tensors
    assert torch.equal(coarse[:, :1].repeat_interleave(2, 2).repeat_interleave(2, 3).expand(-1, 3, -1, -1), fine)
    assert len(coarse[0].unique()) == 2


def test_channels_may_be_last() -> None:
    first, last = cut_maps(4, (5, 4, 4)).tensors[0], cut_maps(4, (4, 4, 5)).tensors[0]
    assert torch.equal(first.permute(0, 2, 3, 1), last)


def test_a_vector_beside_a_map_is_mixed_in_the_same_shares() -> None:
    blended = cut_maps(4, (5, 4, 4), (7,), (3, 1, 1))
    maps, vectors, pooled = blended.tensors
    torch.testing.assert_close(vectors[:, 0], maps.mean((1, 2, 3)))
    torch.testing.assert_close(pooled[:, 0, 0, 0], maps.mean((1, 2, 3)))


def test_without_a_map_cutmix_is_mixup() -> None:
    vectors = torch.randn(5, 3)
    cut = blend([vectors], 5, recipe(cutmix=0.7), seeded(2))
    mixed = blend([vectors], 5, recipe(mixup=0.7), seeded(2))
    assert torch.equal(cut.tensors[0], mixed.tensors[0])
    assert cut.share == mixed.share


def test_pixels_stay_pixels() -> None:
    images = torch.randint(0, 256, (6, 8, 8, 3), dtype=torch.uint8)
    (cut,) = blend([images], 6, recipe(cutmix=1.0), seeded(1)).tensors
    assert cut.dtype == torch.uint8
    assert not torch.equal(cut, images)


def test_a_batch_draws_one_of_both_ways() -> None:
    images = torch.rand(6, 1, 4, 4)
    cut = 0
    for seed in range(200):
        blended = blend([images], 6, recipe(mixup=1.0, cutmix=1.0), seeded(seed))
        (tensor,) = blended.tensors
        cut += bool(torch.isin(tensor, images).all())
    assert 70 < cut < 130


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((2, 5, 4, 4), (2, 3)),
        ((2, 4, 4, 5), (1, 2)),
        ((2, 4, 4, 4), (2, 3)),
        ((2, 5, 1, 1), None),
        ((2, 1, 1, 5), None),
        ((2, 16, 5), None),
        ((2, 5), None),
    ],
)
def test_rows_and_columns_are_found_by_their_shape(shape: tuple[int, ...], axes: tuple[int, int] | None) -> None:
    assert grid_axes(torch.zeros(shape)) == axes


def test_the_answers_of_a_teacher_are_blended_like_the_labels() -> None:
    """The loss to the blend of two answers, up to what the network has no influence on: so has it its gradients."""
    targets, taught = torch.tensor([0, 1, 2, 3]), torch.randn(4, 5)
    blended = blend([torch.randn(4, 2)], 4, recipe(mixup=0.8), seeded(3))
    assert blended.other is not None
    logits = torch.randn(4, 5, requires_grad=True)
    loss = TaughtLoss(functional.cross_entropy, DistillRecipe.model_validate({"weight": 1.0, "temperature": 1.0}))
    (ours,) = torch.autograd.grad(blended.loss(loss, logits, targets, taught), logits)
    answers = taught.softmax(1)
    soft = blended.share * answers + (1 - blended.share) * answers[blended.other]
    (wanted,) = torch.autograd.grad(functional.cross_entropy(logits, soft), logits)
    torch.testing.assert_close(ours, wanted)
