"""The processes that compute together: those that torchrun starts, on one machine or many, or this one alone."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, ProcessGroup, Store
from torch.distributed.rendezvous import rendezvous

from labeldep_cli.errors import LabeldepError

_PATIENCE = timedelta(days=7)
"""How long a process waits for the others on the CPU: one whose share of an extraction was done may wait for hours."""

_IN_STEP = timedelta(minutes=30)
"""How long at the start, and between GPUs. There none is ahead by more than a checkpoint's write or a share of val; and
NCCL, unlike gloo, may not notice that a peer is gone."""

_GLOO = re.compile(r"gloo[/\\]transport|by peer|Broken pipe|Timed out waiting")
"""What gloo, which raises nothing but RuntimeError, says of a connection: the first in torch's own builds."""

Said = TypeVar("Said")


@contextmanager
def _meeting() -> Iterator[None]:
    """Turn the loss of another process into an error that a user can mend."""
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, dist.DistError) or _GLOO.search(str(error))
        if not lost or "out of memory" in str(error):
            raise
        reason = re.sub(r"^\[[^]]*\] ", "", (str(error).splitlines() or [""])[0])
        raise LabeldepError(
            f"another of the processes that compute together has ended, or cannot be reached: {reason}",
            "Run the same command again: it goes on where it stopped.",
        ) from error


@dataclass(frozen=True)
class World:
    """This process among those that compute together.

    Attributes:
        rank: 0..size - 1; the first one writes what all have made, and speaks for all.
        size: how many there are.
        gpus: how tensors on their GPUs travel; None where there are none.
    """

    rank: int = 0
    size: int = 1
    gpus: ProcessGroup | None = None

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
            with _meeting():
                dist.all_reduce(torch.zeros(1))  # on the CPU, where the wait may be long

    def add(self, parts: Sequence[Tensor]) -> None:
        """Sum tensors over the processes, in place; all of one type and on one device, in one message."""
        if self.size == 1 or not parts:
            return
        flat = torch.cat([part.reshape(-1) for part in parts])
        with _meeting():
            dist.all_reduce(flat, group=self.gpus if flat.is_cuda else None)
        for part, total in zip(parts, torch.split(flat, [part.numel() for part in parts]), strict=True):
            part.copy_(total.view_as(part))

    def broadcast(self, said: Said) -> Said:
        """What the first process says, in every process."""
        if self.size == 1:
            return said
        words = [said]
        with _meeting():
            dist.broadcast_object_list(words, src=0)
        return words[0]

    def gather(self, said: Said) -> list[Said]:
        """What each process says, by rank, in every process."""
        if self.size == 1:
            return [said]
        words: list[Said | None] = [None] * self.size
        with _meeting():
            dist.all_gather_object(words, said)
        return cast(list[Said], words)

    @contextmanager
    def first_alone(self) -> Iterator[bool]:
        """A block that the first process passes before the others enter it; yields whether this one is the first."""
        if not self.first:
            self.wait()
        yield self.first
        if self.first:
            self.wait()


ALONE = World()

_joined: World | None = None
"""The one that this process belongs to, once it has met the others."""


def local_rank(environment: Mapping[str, str] = os.environ) -> int:
    """This process's number on its machine."""
    return int(environment.get("LOCAL_RANK", 0))


def join(device: torch.device) -> World:
    """Meet the other processes that torchrun has started; a process on its own stays alone.

    Args:
        device: that this process computes on: gradients travel over NCCL between GPUs, over gloo between CPUs, and
            whatever else there is to say over gloo.

    Raises:
        LabeldepError: the others do not come, or their devices and this one cannot compute together.
    """
    global _joined
    if not dist.is_available() or int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return ALONE
    if _joined is None:
        with _meeting():
            _joined = _meet(device)
    return _joined


def _meet(device: torch.device) -> World:
    store, rank, size = next(rendezvous("env://", timeout=_IN_STEP))
    # A restart may come with the same store, which still holds the addresses of the processes that were lost.
    store = PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    require_own_devices(store, device, rank, size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    if device.type != "cuda":
        return World(rank, size)
    return World(rank, size, cast(ProcessGroup, dist.new_group(backend="nccl", timeout=_IN_STEP)))


def require_own_devices(store: Store, device: torch.device, rank: int, size: int) -> None:
    """Tell the other processes of this one's device, hear of theirs, and refuse what cannot compute together.

    What a process calls cuda:0 says nothing: a launcher may show each of them another GPU.

    Args:
        store: that all of them see.
        device: this process's.
        rank, size: of this process, and how many there are.

    Raises:
        LabeldepError: two would share a GPU, which NCCL refuses, or some have a GPU and others none; names them.
    """
    gpu = str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else ""
    store.set(f"device of {rank}", json.dumps([str(device), gpu]))
    devices = [json.loads(store.get(f"device of {other}")) for other in range(size)]
    own: dict[str, int] = {}
    for other, (name, uuid) in enumerate(devices):
        if bool(uuid) != bool(devices[0][1]):
            raise LabeldepError(
                f"process 0 would compute on {devices[0][0]} and process {other} on {name}: gradients cannot travel "
                "between a CPU and a GPU",
                "Start processes only where each has a GPU, or have all of them compute on CPUs: --device cpu.",
            )
        if uuid and own.setdefault(uuid, other) != other:
            raise LabeldepError(
                f"processes {own[uuid]} and {other} would compute on one GPU, {name} (UUID {uuid})",
                "Start one process a GPU (torchrun --nproc-per-node N for N GPUs), and let each take its own with\n"
                "--device cuda, by LOCAL_RANK, which torchrun sets and other launchers may not. Or compute on CPUs: "
                "--device cpu.",
            )


def leave() -> None:
    """Part from the others at the end of a command."""
    global _joined
    if _joined is not None:
        _joined = None
        dist.destroy_process_group()
