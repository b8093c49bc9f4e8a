from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from small_networks import Centring, Numbered, Plain, Scaling, with_norm, wrap
from torch import fx, nn

from toolkit.backbones import Backbone, TrainableParts, create_backbone, frontier, set_trainable
from toolkit.backbones.frontier import Cut, Division, NoFrontierError, divide_at_frontier, independent_stages


def real(name: str, size: int = 32) -> Backbone:
    return create_backbone(name, weights="none", classes=3, image_size=size, seed=0)


def names(cut: Cut) -> list[str]:
    return [tensor.name for tensor in cut.tensors]


def divide(
    backbone: Backbone, *unfreeze: int | list[str], train_bn: bool = False
) -> tuple[Division, list[TrainableParts]]:
    parts = [set_trainable(backbone, each, train_bn=train_bn) for each in unfreeze]
    return divide_at_frontier(backbone, parts), parts


class TestWhereItCuts:
    def test_resnet_is_cut_before_layer4_and_before_its_head(self) -> None:
        division, _ = divide(real("resnet18"), 0, ["layer4"])
        assert [names(cut) for cut in division.cuts] == [["flatten"], ["layer3"]]
        assert [cut.tensors[0].shape for cut in division.cuts] == [(512,), (256, 2, 2)]
        assert division.cuts[1].tensors[0].elements == 1024
        assert {tensor.name for tensor in division.tensors} == {"flatten", "layer3"}

    def test_a_network_that_branches_has_several_tensors(self) -> None:
        class Branching(Plain):
            def __init__(self) -> None:
                super().__init__()
                self.head = nn.Linear(10, 3)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                early = self.first(x)
                return self.head(torch.cat([self.second(early).mean(dim=(2, 3)), early.mean(dim=(2, 3))], dim=1))

        division, _ = divide(wrap(Branching()), ["second"])
        assert [tensor.shape for tensor in division.cuts[0].tensors] == [
            (4, 6, 6)
        ]  # the mean of what crosses anyway is computed again
        division, _ = divide(wrap(Branching()), ["second.1"])
        assert sorted(tensor.shape for tensor in division.cuts[0].tensors) == [(4,), (6, 4, 4)]

    def test_a_copy_of_what_crosses_anyway_is_not_kept(self) -> None:
        division, _ = divide(real("densenet121"), 1)
        assert names(division.cuts[0]) == ["features_transition3"]

    def test_active_dropout_is_trained_with_what_follows_it(self) -> None:
        active, _ = divide(wrap(Plain()), 1)
        assert active.cuts[0].tensors[0].shape == (4, 6, 6)
        frozen, _ = divide(wrap(Plain()), 0)
        assert names(frozen.cuts[0]) == ["drop"]

    def test_dropout_that_does_nothing_is_frozen(self) -> None:
        class BeforeThePool(Plain):
            def __init__(self, dropout: float) -> None:
                super().__init__(dropout)
                self.second.append(nn.Conv2d(6, 6, 1))

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.head(self.second(self.drop(self.first(x))).mean(dim=(2, 3)))

        def cut(dropout: float, *, active: bool) -> list[str]:
            backbone = wrap(BeforeThePool(dropout))
            parts = set_trainable(backbone, ["second.3"])
            modules = (*parts.modules, "drop") if active else parts.modules
            return names(divide_at_frontier(backbone, [replace(parts, modules=modules)]).cuts[0])

        assert cut(0.5, active=True) == ["first"]
        assert cut(0.0, active=True) == ["second_2"]
        assert cut(0.5, active=False) == ["second_2"]

    def test_functional_dropout_in_training_belongs_to_the_trained_part(self) -> None:
        class Functional(Plain):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                pooled = self.second(self.pool(self.first(x))).mean(dim=(2, 3))
                return self.head(nn.functional.dropout(pooled, 0.5, self.head.training))

        division, _ = divide(wrap(Functional()), 0)
        assert names(division.cuts[0]) == ["mean"]

    def test_batch_statistics_in_training_belong_to_the_trained_part(self) -> None:
        backbone = wrap(Plain())
        still, _ = divide(backbone, ["second.0"])
        assert names(still.cuts[0]) == ["pool"]
        moving, _ = divide(backbone, ["first.1"], train_bn=True)
        assert names(moving.cuts[0]) == ["first_0"]

    def test_sizes_and_parameters_do_not_cross(self) -> None:
        class Token(Plain):
            def __init__(self) -> None:
                super().__init__()
                self.token = nn.Parameter(torch.randn(1, 6))

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                features = self.second(self.pool(self.first(x))).mean(dim=(2, 3))
                return self.head(features.view(x.shape[0], -1) + self.token.expand(features.shape[0], -1))

        division, _ = divide(wrap(Token()), 0)
        (cut,) = division.cuts
        assert [tensor.shape for tensor in cut.tensors] == [(6,)]

    @pytest.mark.parametrize("train_token", [False, True])
    def test_a_class_token_is_frozen_or_trained(self, train_token: bool) -> None:
        class Sequence(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.patches = nn.Conv2d(3, 4, 4, stride=4)
                self.token = nn.Parameter(torch.randn(1, 1, 4))
                self.position = nn.Parameter(torch.randn(1, 5, 4))
                self.norm = nn.LayerNorm(4)
                self.head = nn.Linear(4, 3)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                patches = self.patches(x).flatten(2).transpose(1, 2)
                tokens = torch.cat([self.token.expand(patches.shape[0], -1, -1), patches], dim=1) + self.position
                return self.head(self.norm(tokens)[:, 0])

        backbone = wrap(Sequence())
        parts = set_trainable(backbone, ["norm"])
        if train_token:
            backbone.model.token.requires_grad_(True)
            parts = replace(parts, backbone=[*parts.backbone, backbone.model.token])
        division = divide_at_frontier(backbone, [parts])
        assert names(division.cuts[0]) == (["transpose"] if train_token else ["add"])
        images = torch.randn(4, 3, 8, 8)
        logits = division.cuts[0].train(*division.prefix(images))
        assert torch.allclose(logits, backbone.model(images), atol=1e-6)
        logits.square().sum().backward()
        assert (backbone.model.token.grad is not None) is train_token
        assert backbone.model.position.grad is None
        assert backbone.model.patches.weight.grad is None

    def test_optional_arguments_of_forward_do_no_harm(self) -> None:
        division, _ = divide(
            create_backbone("timm:vit_tiny_patch16_224", weights="none", classes=3, image_size=32, seed=0), 0, 1
        )
        assert [cut.tensors[0].shape for cut in division.cuts] == [(192,), (5, 192)]

    def test_code_that_cannot_be_traced_may_stand_in_the_frozen_part(self) -> None:
        class Deciding(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv = nn.Conv2d(3, 4, 3)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.conv(x) if x.sum() > -1e9 else x

        class Network(Plain):
            def __init__(self) -> None:
                super().__init__()
                self.first = Deciding()

        division, _ = divide(wrap(Network()), 1)
        assert names(division.cuts[0]) == ["pool"]
        with pytest.raises(NoFrontierError, match="its graph cannot be traced"):
            divide(wrap(Network()), ["first.conv"])

    def test_a_size_that_the_trained_part_asks_of_the_image_is_asked_of_the_frontier(self) -> None:
        class Sized(Plain):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                images, _, height, width = x.shape
                features = self.second(self.pool(self.first(x))).reshape(images, 6, -1)
                return self.head(features.sum(dim=2) / ((height - 4) * (width - 4)) + images)

        backbone = wrap(Sized(dropout=0.0))
        division, _ = divide(backbone, 1)
        assert names(division.cuts[0]) == ["pool"]
        image = torch.rand(5, 3, 8, 8)
        backbone.model.eval()
        torch.testing.assert_close(division.cuts[0].infer(*division.prefix(image)), backbone.model(image))


class TestWhatItComputes:
    @pytest.mark.parametrize(
        "make",
        [Plain, lambda: real("mobilenet_v2").model, lambda: real("shufflenet_v2_x0_5").model],
        ids=["plain", "mobile", "shuffle"],
    )
    def test_the_parts_compute_what_the_whole_computes(self, make: Callable[[], nn.Module]) -> None:
        backbone = wrap(make())
        division, _ = divide(backbone, 0, 1)
        images = torch.randn(5, 3, 32, 32)
        for cut in division.cuts:
            backbone.model.eval()
            with torch.no_grad():
                tensors = dict(zip((tensor.name for tensor in division.tensors), division.prefix(images), strict=True))
                logits = cut.infer(*(tensors[name] for name in names(cut)))
                assert torch.allclose(logits, backbone.model(images), atol=1e-5)

    def test_one_prefix_serves_two_stages(self) -> None:
        division, _ = divide(wrap(Plain()), 0, 1, 1)
        assert [names(cut) for cut in division.cuts] == [["drop"], ["pool"], ["pool"]]
        assert {tensor.name for tensor in division.tensors} == {"drop", "pool"}
        outputs = division.prefix(torch.randn(4, 3, 8, 8))
        assert [tuple(output.shape[1:]) for output in outputs] == [tensor.shape for tensor in division.tensors]

    def test_dropout_draws_what_it_draws_in_the_whole(self) -> None:
        backbone = wrap(Plain())
        division, _ = divide(backbone, 1)
        images = torch.randn(4, 3, 8, 8)
        with torch.no_grad():
            torch.manual_seed(5)
            whole = backbone.model(images)
            torch.manual_seed(5)
            assert torch.allclose(division.cuts[0].train(*division.prefix(images)), whole, atol=1e-6)

    def test_it_trains_the_network_itself_and_nothing_that_is_frozen(self) -> None:
        backbone = wrap(Plain())
        division, (parts,) = divide(backbone, 1)
        frozen = backbone.model.first[0].weight.detach().clone()
        trained = backbone.model.second[0].weight.detach().clone()
        optimizer = torch.optim.SGD([*parts.head, *parts.backbone], lr=0.1)
        division.cuts[0].train(torch.randn(4, 4, 6, 6)).sum().backward()
        optimizer.step()
        assert torch.equal(backbone.model.first[0].weight, frozen)
        assert backbone.model.first[0].weight.grad is None
        assert not torch.equal(backbone.model.second[0].weight, trained)

    def test_batch_statistics_are_left_as_they_were(self) -> None:
        backbone = wrap(Plain())
        before = {name: buffer.clone() for name, buffer in backbone.model.named_buffers()}
        divide(backbone, 1, train_bn=True)
        assert all(torch.equal(buffer, before[name]) for name, buffer in backbone.model.named_buffers())

    def test_a_hand_written_layer_updates_its_statistics_in_the_parts_as_in_the_whole(self) -> None:
        backbone = wrap(with_norm(Centring()))
        before = {name: buffer.clone() for name, buffer in backbone.model.named_buffers()}
        division, _ = divide(backbone, 1, train_bn=True)
        assert all(torch.equal(buffer, before[name]) for name, buffer in backbone.model.named_buffers())
        images = torch.randn(4, 3, 8, 8)
        norm = backbone.model.second[1]
        with torch.no_grad():
            division.cuts[0].train(*division.prefix(images))
            split = norm.running_mean.clone()
            norm.running_mean.zero_()
            backbone.model(images)
        assert split.abs().max() > 0
        assert torch.allclose(split, norm.running_mean)
        assert norm.seen == 2


class TestWhatCannotBeCut:
    def test_nothing_is_frozen(self) -> None:
        backbone = wrap(Plain())
        with pytest.raises(NoFrontierError, match="nothing before the trained part is frozen"):
            divide(backbone, len(backbone.blocks))

    def test_the_trained_part_takes_the_image_beside_what_is_frozen(self) -> None:
        class Shortcut(Plain):
            def __init__(self) -> None:
                super().__init__()
                self.side = nn.Conv2d(3, 6, 1)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.head(self.second(self.first(x)).mean(dim=(2, 3)) + self.side(x).mean(dim=(2, 3)))

        with pytest.raises(NoFrontierError, match="the trained part takes the image itself"):
            divide(wrap(Shortcut()), ["second", "side"])

    def test_a_change_in_place_that_the_graph_loses_is_noticed(self) -> None:
        class InPlace(Plain):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                early = self.first(x)
                early[:, :2].add_(1)
                return self.head(self.second(early).mean(dim=(2, 3)))

        with pytest.raises(NoFrontierError, match="do not compute in inference what the whole computes"):
            divide(wrap(InPlace()), 1)

    def test_statistics_that_the_parts_would_not_update_are_noticed(self) -> None:
        backbone = wrap(with_norm(Centring("average")))
        with pytest.raises(
            NoFrontierError,
            match=r"do not update in training what the whole updates \(second.1.average, second.1.seen\)",
        ):
            divide(backbone, 1)
        assert backbone.model.second[1].seen == 0
        assert not backbone.model.second[1].average.any()

    def test_an_option_that_makes_tracing_return_a_list(self) -> None:
        class Optional(Plain):
            def forward(self, x: torch.Tensor, scales: tuple[float, float] = (1.0, 2.0)) -> torch.Tensor:
                return super().forward(x * scales[0]) * scales[1]

        with pytest.raises(NoFrontierError, match="do not give in inference the one tensor"):
            divide(wrap(Optional()), 1)


@pytest.mark.parametrize(("stages", "independent"), [((0, 1), True), ((1, 1), True), ((2, 1), False), ((1, 0), False)])
def test_one_pass_serves_stages_that_only_unfreeze(stages: tuple[int, int], independent: bool) -> None:
    backbone = wrap(Plain())
    assert independent_stages([set_trainable(backbone, count) for count in stages]) is independent


def test_a_part_that_fails_says_so_in_one_sentence_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    graph = fx.Graph()
    graph.output(graph.call_method("reshape", (graph.placeholder("x"), 5)))
    with pytest.raises(NoFrontierError, match=r"its parts cannot be run .*RuntimeError: shape"):
        frontier._run(fx.GraphModule(nn.Module(), graph), torch.zeros(2, 2))
    assert capfd.readouterr() == ("", "")


def test_the_graphs_of_training_and_inference_are_measured_each_for_itself() -> None:
    division, _ = divide(wrap(Numbered()), 0, 1)
    assert [names(cut) for cut in division.cuts] == [["mean"], ["pool"]]


def test_what_is_changed_in_place_and_not_used_by_its_new_name_is_kept() -> None:
    division, _ = divide(wrap(Scaling()), 0, 1)
    assert [names(cut) for cut in division.cuts] == [["mean"], ["pool"]]
