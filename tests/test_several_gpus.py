"""Several processes on GPUs: which one takes which, what cannot compute together, and how long one waits for another.

There are no GPUs where these run: devices are told, not computed on. `test_worlds.py` has processes compute on CPUs.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from on_device import CPU, CUDA, simulated_cuda
from torch.distributed.distributed_c10d import PrefixStore

from labeldep_cli.compute import distributed
from labeldep_cli.compute.devices import pick_device
from labeldep_cli.compute.distributed import ALONE, World, join, leave, require_separate_devices
from labeldep_cli.config import Machine, Source, Workspace
from labeldep_cli.errors import LabeldepError
from labeldep_cli.progress import SilentReporter
from labeldep_cli.projects import open as opening

# Which GPU is a process's own


@pytest.mark.parametrize(
    ("local_rank", "visible", "taken"),
    [
        (None, 1, "cuda:0"),
        (None, 4, "cuda:0"),
        (0, 4, "cuda:0"),
        (3, 4, "cuda:3"),
        (3, 1, "cuda:0"),  # SLURM shows each process its own one
        (5, 2, "cuda:1"),  # or its own two
        (3, 0, "cpu"),
    ],
)
def test_each_process_of_a_machine_takes_its_own_gpu(monkeypatch, local_rank, visible, taken) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: visible > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if local_rank is not None:
        monkeypatch.setenv("LOCAL_RANK", str(local_rank))
    assert pick_device("auto") == torch.device(taken)
    assert pick_device("cpu") == CPU
    if visible:
        assert pick_device("cuda") == torch.device(taken)
        assert pick_device(f"cuda:{visible - 1}") == torch.device("cuda", visible - 1)
    with pytest.raises(LabeldepError, match=f"there is no device 'cuda:{visible}' here: {visible} CUDA devices found"):
        pick_device(f"cuda:{visible}")


def meet(monkeypatch: pytest.MonkeyPatch, *devices: tuple[str, str]) -> list[str]:
    """What each of some processes, threads here, is told when it has said its device and its GPU's UUID."""
    mine, store, told = threading.local(), dist.HashStore(), [""] * len(devices)
    store.set_timeout(timedelta(seconds=20))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=mine.uuid))

    def process(rank: int) -> None:
        name, mine.uuid = devices[rank]
        try:
            require_separate_devices(store, torch.device(name), rank, len(devices))
        except LabeldepError as error:
            told[rank] = str(error)

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(len(devices))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


@pytest.mark.parametrize(
    "devices",
    [
        [("cpu", ""), ("cpu", ""), ("cpu", "")],
        [("cuda:0", "a"), ("cuda:1", "b"), ("cuda:2", "c")],
        [("cuda:0", "a"), ("cuda:0", "b"), ("cuda:0", "c")],
    ],
)
def test_processes_with_a_device_each_compute_together(monkeypatch, devices) -> None:
    assert meet(monkeypatch, *devices) == [""] * 3


@pytest.mark.parametrize(
    ("devices", "what", "remedy"),
    [
        # --device cuda:0 under torchrun; and more processes than GPUs
        ([("cuda:0", "a"), ("cuda:0", "a")], "processes 0 and 1 would compute on one GPU, cuda:0", "--device cuda"),
        (
            [("cuda:0", "a"), ("cuda:1", "b"), ("cuda:0", "a")],
            "processes 0 and 2 would compute on one GPU",
            "LOCAL_RANK",
        ),
        ([("cuda:0", "a"), ("cpu", "")], "process 0 would compute on cuda:0 and process 1 on cpu", "--device cpu"),
        ([("cpu", ""), ("cpu", ""), ("cuda:0", "a")], "process 0 would compute on cpu and process 2 on cuda:0", "GPU"),
    ],
)
def test_every_process_is_told_what_cannot_compute_together(monkeypatch, devices, what, remedy) -> None:
    for told in meet(monkeypatch, *devices):
        first, _, rest = told.partition("\n")
        assert what in first and remedy in rest


# How they meet, and how long they wait


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, object]]]:
    """Process 0 of 2, of which the other one computes on a GPU too; gives the groups that are made."""
    store, groups = dist.HashStore(), []
    PrefixStore("start 0", store).set("device of 1", json.dumps(["cuda:0", "another"]))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="mine"))
    monkeypatch.setattr(distributed, "_joined", None)
    monkeypatch.setattr(distributed, "rendezvous", lambda url, timeout: iter([(store, 0, 2)]))
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **how: groups.append((backend, how)))
    monkeypatch.setattr(dist, "new_group", lambda backend, **how: groups.append((backend, how)) or "between GPUs")
    monkeypatch.setattr(dist, "destroy_process_group", groups.clear)
    return groups


def test_between_gpus_a_lost_process_is_not_waited_for_as_long_as_on_the_cpu(begun) -> None:
    world = join(CUDA)
    assert (world.rank, world.size, world.gpus) == (0, 2, "between GPUs")
    (cpu, patient), (gpu, in_step) = begun
    assert (cpu, gpu) == ("gloo", "nccl")
    assert patient["timeout"] >= timedelta(days=1), "a share of an extraction may end hours before the others"
    assert timedelta(minutes=5) <= in_step["timeout"] <= timedelta(hours=1)
    assert join(CUDA) is world, "they meet once"
    leave()
    assert begun == [] and distributed._joined is None


def test_gpus_tensors_travel_over_nccl_and_all_else_over_gloo(begun, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(dist, "all_reduce", lambda tensor, group=None: asked.append((tensor.is_cuda, group)))
    with simulated_cuda():
        world = join(CUDA)
        world.add([torch.ones(2, device="cuda"), torch.ones((), device="cuda")])
        world.add([torch.ones(3)])
        world.wait()
    assert asked == [(True, "between GPUs"), (False, None), (False, None)]


def test_on_cpus_no_nccl_is_asked_for(begun) -> None:
    with pytest.raises(LabeldepError, match="process 0 would compute on cpu and process 1 on cuda:0"):
        join(CPU)
    assert begun == [] and distributed._joined is None
    assert World().gpus is None


def test_a_process_has_taken_its_gpu_before_it_meets_the_others(tmp_path, monkeypatch) -> None:
    calls = []

    def meeting(device: torch.device) -> World:
        calls.append(("join", device))
        raise KeyboardInterrupt

    monkeypatch.setattr(opening, "join", meeting)
    with simulated_cuda():
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(("take", device)))
        with pytest.raises(KeyboardInterrupt):
            opening.open_project(Workspace(tmp_path), Source("scenes"), Machine("cuda"), SilentReporter())
    assert calls == [("take", CUDA), ("join", CUDA)]


# The loss of another process


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (dist.DistBackendError("NCCL error in: x.cpp:9, remote process exited"), "remote process exited"),
        (dist.DistNetworkError("The client socket has timed out"), "has timed out"),
        (dist.DistStoreError("wait timeout after 2000ms, keys: /device of 1"), "keys: /device of 1"),
        (
            RuntimeError("[/pytorch/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer [::1]:7"),
            ": Connection",
        ),
        (RuntimeError(r"[C:\x\gloo\transport\uv\pair.cc:1] EOF"), ": EOF"),
        (RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 8000ms"), "Timed out waiting"),
    ],
)
def test_the_loss_of_a_process_is_told(error, told) -> None:
    with pytest.raises(LabeldepError) as caught, distributed._peer_errors():
        raise error
    assert "another of the processes that compute together has ended" in caught.value.what
    assert told in caught.value.what and "\n" not in caught.value.what
    assert "the same command again" in caught.value.remedy


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("the peer reviewer found no such shape"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        dist.DistBackendError("NCCL error: unhandled cuda error; Cuda failure 2 'out of memory'"),
        ValueError("Connection closed by peer"),
    ],
)
def test_what_is_no_loss_keeps_its_kind(error) -> None:
    with pytest.raises(type(error)) as caught, distributed._peer_errors():
        raise error
    assert caught.value is error


LOSES_ONE = """
import os, torch
from labeldep_cli.compute.distributed import join
from labeldep_cli.errors import LabeldepError
world = join(torch.device("cpu"))
world.wait()
if world.rank == 1:
    os.kill(os.getpid(), 9)
for way in (world.wait, lambda: world.gather(1), lambda: world.add([torch.ones(10 ** 6)]), lambda: world.broadcast(1)):
    try:
        way()
    except LabeldepError as error:
        print(str(error).replace("\\n", " "))
"""


def test_a_killed_process_is_missed_by_every_way_of_talking() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", LOSES_ONE],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **where, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    survivor, _ = [process.communicate(timeout=120)[0] for process in processes]
    assert survivor.count("another of the processes that compute together has ended") == 4
    assert survivor.count("Run the same command again") == 4


def test_a_process_on_its_own_meets_no_one(monkeypatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join(CUDA) is ALONE
