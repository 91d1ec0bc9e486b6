"""The processes that compute together: those started by torchrun, on one or several machines, or a single process."""

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

_CPU_TIMEOUT = timedelta(days=7)
"""How long a process waits for the others on the CPU. A process that has finished its share of an extraction may wait
for hours."""

_GPU_TIMEOUT = timedelta(minutes=30)
"""How long a process waits at start-up, and between GPUs. There no process is ahead of another by more than writing
a checkpoint or a share of val. And NCCL, unlike gloo, may not notice that a peer has died."""

_GLOO = re.compile(r"gloo[/\\]transport|by peer|Broken pipe|Timed out waiting")
"""Messages of gloo about a lost connection: gloo raises only RuntimeError. The first is that of torch's own builds."""

T = TypeVar("T")


@contextmanager
def _peer_errors() -> Iterator[None]:
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
        rank: 0..size - 1; the process of rank 0 writes the results and reports for all.
        size: number of processes.
        gpus: the NCCL process group for tensors on GPUs; None if the processes compute on CPUs.
    """

    rank: int = 0
    size: int = 1
    gpus: ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and reports for all (rank 0)."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """This process's contiguous part of n items; the sizes of parts differ by at most 1, and may be 0."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def wait(self) -> None:
        """Wait until every process has reached this call."""
        if self.size > 1:
            with _peer_errors():
                dist.all_reduce(torch.zeros(1))  # on the CPU, where the wait may be long

    def add(self, parts: Sequence[Tensor]) -> None:
        """Sum tensors over the processes, in place and in one message; all have one dtype and lie on one device."""
        if self.size == 1 or not parts:
            return
        flat = torch.cat([part.reshape(-1) for part in parts])
        with _peer_errors():
            dist.all_reduce(flat, group=self.gpus if flat.is_cuda else None)
        for part, total in zip(parts, torch.split(flat, [part.numel() for part in parts]), strict=True):
            part.copy_(total.view_as(part))

    def broadcast(self, value: T) -> T:
        """The value of the first process, in every process."""
        if self.size == 1:
            return value
        values = [value]
        with _peer_errors():
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def gather(self, value: T) -> list[T]:
        """The values of all processes in order of rank, in every process."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        with _peer_errors():
            dist.all_gather_object(values, value)
        return cast(list[T], values)

    @contextmanager
    def first_alone(self) -> Iterator[bool]:
        """A block that the first process completes before the others enter it; yields whether this is the first one."""
        if not self.first:
            self.wait()
        yield self.first
        if self.first:
            self.wait()


ALONE = World()
"""A single process."""

_joined: World | None = None
"""The world of this process after `join`; None before."""


def local_rank(environment: Mapping[str, str] = os.environ) -> int:
    """The number of this process on its machine (LOCAL_RANK), 0 by default."""
    return int(environment.get("LOCAL_RANK", 0))


def join(device: torch.device) -> World:
    """Connect to the other processes that torchrun has started; a process that torchrun did not start gets ALONE.

    Args:
        device: the device of this process. Gradients are exchanged by NCCL between GPUs and by gloo between CPUs; all
            other messages use gloo.

    Raises:
        LabeldepError: the others cannot be reached, or the devices of the processes cannot be used together.
    """
    global _joined
    if not dist.is_available() or int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return ALONE
    if device.type == "mps":
        raise LabeldepError(
            "several processes cannot compute together on Apple's GPU (--device mps)",
            "Run the command without torchrun, or use --device cpu.",
        )
    if _joined is None:
        with _peer_errors():
            _joined = _connect(device)
    return _joined


def _connect(device: torch.device) -> World:
    store, rank, size = next(rendezvous("env://", timeout=_GPU_TIMEOUT))
    # After a restart the store may be the same one, which still holds the addresses of processes that have died.
    store = PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    require_separate_devices(store, device, rank, size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=_CPU_TIMEOUT)
    if device.type != "cuda":
        return World(rank, size)
    return World(rank, size, cast(ProcessGroup, dist.new_group(backend="nccl", timeout=_GPU_TIMEOUT)))


def require_separate_devices(store: Store, device: torch.device, rank: int, size: int) -> None:
    """Exchange the devices of all processes, and refuse devices that cannot be used together.

    GPUs are compared by UUID and not by name: a launcher may give each process another GPU under the name cuda:0.

    Args:
        store: shared by all processes.
        device: the device of this process.
        rank, size: rank of this process, and number of processes.

    Raises:
        LabeldepError: two processes would share a GPU, which NCCL refuses, or only some have a GPU; names them.
    """
    gpu = str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else ""
    store.set(f"device of {rank}", json.dumps([str(device), gpu]))
    devices = [json.loads(store.get(f"device of {other}")) for other in range(size)]
    process_of_gpu: dict[str, int] = {}
    for other, (name, uuid) in enumerate(devices):
        if bool(uuid) != bool(devices[0][1]):
            raise LabeldepError(
                f"process 0 would compute on {devices[0][0]} and process {other} on {name}: gradients cannot travel "
                "between a CPU and a GPU",
                "Start processes only where each has a GPU, or have all of them compute on CPUs: --device cpu.",
            )
        if uuid and process_of_gpu.setdefault(uuid, other) != other:
            raise LabeldepError(
                f"processes {process_of_gpu[uuid]} and {other} would compute on one GPU, {name} (UUID {uuid})",
                "Start one process a GPU (torchrun --nproc-per-node N for N GPUs), and let each take its own with\n"
                "--device cuda, by LOCAL_RANK, which torchrun sets and other launchers may not. Or compute on CPUs: "
                "--device cpu.",
            )


def leave() -> None:
    """Disconnect from the other processes at the end of a command."""
    global _joined
    if _joined is not None:
        _joined = None
        dist.destroy_process_group()
