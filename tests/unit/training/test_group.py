from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed import HashStore, destroy_process_group, init_process_group
from torch.nn.parallel import DistributedDataParallel

from toolkit.training.group import Group, epoch_order, joined


def test_one_shard_is_a_permutation_that_seed_and_epoch_decide() -> None:
    order = epoch_order((0, 1, 1), 103, 10)
    assert sorted(order) == list(range(103))
    assert np.array_equal(order, epoch_order((0, 1, 1), 103, 10))
    assert not np.array_equal(order, epoch_order((0, 1, 2), 103, 10))
    assert not np.array_equal(order, epoch_order((1, 1, 1), 103, 10))


@pytest.mark.parametrize(("count", "batch", "shards"), [(103, 10, 2), (64, 16, 4), (7, 4, 2)])
def test_every_batch_takes_equally_many_images_from_every_shard(count: int, batch: int, shards: int) -> None:
    order = epoch_order((0, 2, 3), count, batch, shards)
    assert len(order) == count // shards * shards
    assert len(set(order)) == len(order)
    for start in range(0, len(order), batch):
        per_shard = np.bincount(order[start : start + batch] % shards, minlength=shards)
        assert len(set(per_shard)) == 1


def test_images_are_left_out_in_turn() -> None:
    left_out = {next(iter(set(range(5)) - set(epoch_order((0, 1, epoch), 5, 2, 2)))) for epoch in range(20)}
    assert len(left_out) > 1


def test_alone_nothing_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    module = nn.Linear(2, 2)
    with joined("cpu") as group:
        assert group == Group(0, 1, 0)
        assert group.leads
        assert group.sum([1.0, 2.5]) == [1.0, 2.5]
        assert group.share(module) is module
        assert group.broadcast("value") == "value"
        assert group.gather("value") == ["value"]
        tensor = torch.tensor([1.0])
        group.follow_first([tensor])
        assert tensor.tolist() == [1.0]


def test_the_parts_of_all_processes_are_all_images() -> None:
    parts = [Group(rank, 3).part(10) for rank in range(3)]
    assert sorted(np.concatenate(parts)) == list(range(10))
    assert [len(part) for part in parts] == [4, 3, 3]


def test_a_module_is_shared_without_a_warning_and_keeps_its_own_statistics_in_a_step() -> None:
    # A group of one process that takes itself for two: nothing else is there to wait for.
    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        shared = Group(world=2).share(nn.Linear(2, 2))
    finally:
        destroy_process_group()
    assert isinstance(shared, DistributedDataParallel)
    assert not getattr(shared, "forward_sync_buffers", getattr(shared, "broadcast_buffers", True))
