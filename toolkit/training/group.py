"""The processes that train together: one, unless ``torchrun`` started several."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.distributed import (
    all_gather_object,
    all_reduce,
    broadcast,
    broadcast_object_list,
    destroy_process_group,
    get_backend,
    init_process_group,
)
from torch.nn.parallel import DistributedDataParallel

from toolkit.errors import TrainingError, first_line

Value = TypeVar("Value")

# Newer releases of PyTorch warn whoever gives what older ones call it.
_NAMES = ("forward_sync_buffers", "broadcast_buffers")
_OWN_BUFFERS: dict[str, Any] = {
    next(name for name in _NAMES if name in inspect.signature(DistributedDataParallel).parameters): False
}


@dataclass(frozen=True)
class Group:
    """One process among those that train together.

    Attributes:
        rank: number of this process, 0 is the one that writes.
        world: how many there are.
        local_rank: number of this process on its machine; chooses the GPU.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """True for the process that writes files and reports."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all processes, in float64."""
        if self.world == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        if get_backend() == "nccl":
            tensor = tensor.cuda(self.local_rank)
        all_reduce(tensor)
        return [float(value) for value in tensor.cpu()]

    def broadcast(self, value: Value) -> Value:
        """Return the value that rank 0 has."""
        if self.world == 1:
            return value
        values = [value]
        broadcast_object_list(values)
        return values[0]

    def follow_first(self, tensors: Sequence[torch.Tensor]) -> None:
        """Put into tensors, which are changed, what rank 0 has in its own."""
        if self.world > 1:
            for tensor in tensors:
                broadcast(tensor, 0)

    def gather(self, value: Value) -> list[Value]:
        """Return the values of all processes, in the order of their ranks."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        all_gather_object(values, value)
        return values

    def share(self, module: nn.Module) -> nn.Module:
        """Return the module such that its gradients are averaged over all processes."""
        if self.world == 1:
            return module
        # BatchNorm statistics differ between ranks only where --train-bn is on. At the end of an epoch those of rank 0,
        # which are the ones that are saved, take the place of the others.
        return DistributedDataParallel(module, **_OWN_BUFFERS)

    def part(self, count: int) -> npt.NDArray[np.int64]:
        """Return which of ``count`` images belong to this process: every ``world``-th."""
        return np.arange(self.rank, count, self.world, dtype=np.int64)


@contextlib.contextmanager
def joined(device: str) -> Iterator[Group]:
    """Join the processes that ``torchrun`` started, for the length of the block; alone, do nothing.

    Args:
        device: ``cpu`` (gloo) or ``cuda`` (NCCL).
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Group()
        return
    group = Group(rank=int(os.environ["RANK"]), world=world, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield group
    except RuntimeError as error:
        if not _says_that_a_peer_is_gone(error):
            raise
        raise TrainingError(
            f"process {group.rank} of {world} lost another one (torchrun names it below): {first_line(error)}. "
            "Start the job again with --resume to go on from the last checkpoint."
        ) from error
    finally:
        destroy_process_group()


def _says_that_a_peer_is_gone(error: RuntimeError) -> bool:
    # Neither gloo nor NCCL has a class of its own for it on every path.
    return isinstance(error, torch.distributed.DistError) or any(
        word in str(error) for word in ("gloo", "Connection closed", "NCCL")
    )


def leads_here() -> bool:
    """Tell whether this process is the one that writes and reports, before or after the group is joined."""
    return os.environ.get("RANK", "0") == "0"


def epoch_order(seed: Sequence[int], count: int, batch_size: int, shards: int = 1) -> npt.NDArray[np.int64]:
    """Return an epoch's order such that each batch takes equally many images from every shard (see ``Group.part``).

    With one shard it is a permutation of all images. With several, each is permuted by itself and the batches are laid
    side by side, so that a process that holds one shard finds its part of every batch at home. Where ``count`` is no
    multiple of ``shards``, fewer than ``shards`` images are left out, other ones each epoch.

    Args:
        seed: entropy of the epoch.
        count: number of training images.
        batch_size: images per step over all shards, a multiple of ``shards``.
        shards: number of shards.
    """
    parts = [
        np.random.default_rng([*seed, 0, shard]).permutation(np.arange(shard, count, shards)) for shard in range(shards)
    ]
    least, local = min(len(part) for part in parts), batch_size // shards
    return np.concatenate(
        [part[start : min(start + local, least)] for start in range(0, least, local) for part in parts]
    ).astype(np.int64)
