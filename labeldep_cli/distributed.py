"""The processes that compute together: those that torchrun starts, on one machine or many, or this one alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

_PATIENCE = timedelta(days=7)
"""How long a process waits for the others: one whose share of an extraction was done may wait for hours."""

Said = TypeVar("Said")


@dataclass(frozen=True)
class World:
    """This process among those that compute together.

    Attributes:
        rank: 0..size - 1; the first one writes what all have made, and speaks for all.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """This process's part of n things in order; parts differ by one at most, and may be empty."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.size > 1:
            dist.all_reduce(torch.zeros(1))  # on the CPU: NCCL's own barrier would hold the GPU

    def add(self, parts: Sequence[Tensor]) -> None:
        """Sum tensors over the processes, in place; all of one type and on one device, in one message."""
        if self.size == 1 or not parts:
            return
        flat = torch.cat([part.reshape(-1) for part in parts])
        dist.all_reduce(flat)
        for part, total in zip(parts, torch.split(flat, [part.numel() for part in parts]), strict=True):
            part.copy_(total.view_as(part))

    def hear(self, said: Said) -> Said:
        """What the first process says, in every process."""
        if self.size == 1:
            return said
        words = [said]
        dist.broadcast_object_list(words, src=0)
        return words[0]

    @contextmanager
    def first_alone(self) -> Iterator[bool]:
        """A block that the first process passes before the others enter it; yields whether this one is the first."""
        if not self.first:
            self.wait()
        yield self.first
        if self.first:
            self.wait()


ALONE = World()


def local_rank(environment: Mapping[str, str] = os.environ) -> int:
    """This process's number on its machine, which is the number of its GPU."""
    return int(environment.get("LOCAL_RANK", 0))


def join(device: torch.device) -> World:
    """Meet the other processes that torchrun has started; a process on its own stays alone.

    Args:
        device: that this process computes on: gradients travel over NCCL between GPUs, over gloo between CPUs.
    """
    if not dist.is_available() or int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return ALONE
    if not dist.is_initialized():
        store, rank, size = next(rendezvous("env://"))
        # After a restart the launcher may serve the same store, in which the dead processes' addresses still stand.
        store = PrefixStore(f"restart {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    return World(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """Part from the others at the end of a command."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
