"""`labeldep doctor`: report what this machine has, what is on its disks, what would be downloaded, and problems."""

from __future__ import annotations

import math
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from labeldep_cli import __version__
from labeldep_cli.config import DEFAULT_BACKBONE, PAPER_BACKBONES, Machine, Workspace, usable_cores
from labeldep_cli.config.cores import cgroup, core_quota
from labeldep_cli.datasets.registry import DATASETS
from labeldep_cli.features.framing import SIDE
from labeldep_cli.features.views import N_VIEWS
from labeldep_cli.models.backbones import find_backbone
from labeldep_cli.models.weights import published_file
from labeldep_cli.progress import Reporter
from labeldep_cli.runs.listing import list_runs

NEEDED = (
    "torch",
    "torchvision",
    "typer",
    "rich",
    "h5py",
    "pycocotools",
    "safetensors",
    "pillow",
    "msgspec",
    "numpy",
    "scipy",
    "jinja2",
    "matplotlib",
    "imagehash",
    "defusedxml",
)
EXTRAS = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "heif": ("pillow-heif",),
    "parquet": ("pyarrow",),
    "tensorboard": ("tensorboard",),
    "timm": ("timm",),
}
LITTLE_DISK = 2 * 1000**3
"""Bytes: less free disk space gives a warning. COCO's features with one view need 0.5 GB, its checkpoints as much."""

_MIB = 1024**2
_BATCHES = 2 * 32 * 3 * SIDE**2  # bytes that a decoding process has in flight: torch prefetches two batches of 32


@dataclass(frozen=True)
class Warned:
    """A problem that will cost time or make a command fail, and its remedy."""

    what: str
    remedy: str


@dataclass(frozen=True)
class Checkup:
    """The state of this machine; sizes in bytes.

    Attributes:
        versions: of this program, Python and the required packages; None for a missing package.
        extras: the packages of each extra, with their versions; None for a missing package.
        device: kind ("cuda" or "cpu"), names and memory of the GPUs, whether torch can use Apple's GPU, vector
            instructions of the CPU.
        memory: RAM and shared memory, total and free; within the limit of a container.
        threads: usable cores, threads of torch, relevant environment variables, decoding processes.
        weights: the published weights of the paper's backbones: their size on disk, or the size of a download.
        datasets: the named data sets, and which of their files are missing.
        caches: finished and unfinished feature files.
        runs: number of runs by state.
        disks: free space where files are written.
        warnings: the problems.
    """

    versions: dict[str, str | None]
    extras: dict[str, dict[str, str | None]]
    device: dict[str, Any]
    memory: dict[str, int | None]
    threads: dict[str, Any]
    weights: list[dict[str, Any]]
    datasets: list[dict[str, Any]]
    caches: dict[str, Any]
    runs: dict[str, Any]
    disks: list[dict[str, Any]]
    warnings: tuple[Warned, ...]

    def to_json(self) -> dict[str, Any]:
        """The fields, as JSON."""
        return asdict(self)


def doctor(workspace: Workspace, reporter: Reporter) -> Checkup:
    """Examine the machine. No file is read in full and nothing is written, so it takes a few seconds at most."""
    memory, threads, device = _memory(), _threads(), _device()
    weights = [_weights(name) for name in PAPER_BACKBONES]
    caches, disks = _caches(workspace.features), _disks(workspace)
    extras = {extra: {name: _version(name) for name in names} for extra, names in EXTRAS.items()}
    program: dict[str, str | None] = {"labeldep": __version__, "python": platform.python_version()}
    return Checkup(
        versions=program | {name: _version(name) for name in NEEDED},
        extras=extras,
        device=device,
        memory=memory,
        threads=threads,
        weights=weights,
        datasets=[_dataset(name, workspace.data_dir) for name in DATASETS],
        caches=caches,
        runs=_runs(workspace.runs_dir, reporter),
        disks=disks,
        warnings=tuple(_warnings(device, memory, threads, weights, caches, disks)),
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _device() -> dict[str, Any]:
    gpus = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        gpus.append({"name": torch.cuda.get_device_name(index), "free": free, "total": total})
    driver = shutil.which("nvidia-smi") is not None
    vectors = torch.backends.cpu.get_cpu_capability()
    mps = torch.backends.mps.is_available()
    return {"kind": "cuda" if gpus else "cpu", "gpus": gpus, "mps": mps, "nvidia_driver": driver, "cpu": vectors}


def _memory() -> dict[str, int | None]:
    memory: dict[str, int | None] = {"total": None, "available": None, "shm_total": None, "shm_free": None}
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        kib = {line.split(":")[0]: int(line.split()[1]) for line in meminfo.read_text().splitlines()}
        limit, used = cgroup("memory.max")[0], cgroup("memory.current")[0]
        memory["total"] = min(1024 * kib["MemTotal"], limit or 1024 * kib["MemTotal"])
        # In a container without a limit, the machine's numbers count.
        room = max(limit - used, 0) if limit and used else 1024 * kib["MemAvailable"]
        memory["available"] = min(1024 * kib["MemAvailable"], room)
    if Path("/dev/shm").is_dir():
        shared = shutil.disk_usage("/dev/shm")
        memory |= {"shm_total": shared.total, "shm_free": shared.free}
    return memory


def _threads() -> dict[str, Any]:
    return {
        "cores": usable_cores(),
        "quota": core_quota(),
        "torch": torch.get_num_threads(),
        "decoding": Machine().n_workers,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
    }


def _weights(name: str) -> dict[str, Any]:
    file = published_file(find_backbone(name))
    return {
        "backbone": name,
        "default": name == DEFAULT_BACKBONE,
        "path": str(file.path),
        "url": file.url,
        "on_disk": file.path.stat().st_size if file.path.is_file() else None,
        "published": None if file.megabytes is None else round(file.megabytes * _MIB),
    }


def _dataset(name: str, data_dir: Path) -> dict[str, Any]:
    row = DATASETS[name]
    return {"name": name, "embedded": not row.needs, "needs": len(row.needs), "lacking": row.missing_files(data_dir)}


def _caches(features: Path) -> dict[str, Any]:
    files = [path for path in sorted(features.glob("*/*.h5*")) if path.is_file()]
    sizes = {path.relative_to(features).as_posix(): path.stat().st_size for path in files}
    return {
        "folder": str(features),
        "finished": [{"file": name, "bytes": n} for name, n in sizes.items() if not name.endswith(".partial")],
        "unfinished": [{"file": name, "bytes": n} for name, n in sizes.items() if name.endswith(".partial")],
    }


def _runs(runs_dir: Path, reporter: Reporter) -> dict[str, Any]:
    rows = list_runs(runs_dir, reporter)
    states = {state: sum(row.state == state for row in rows) for state in ("finished", "training")}
    left = len(rows) - sum(states.values())
    return {"folder": str(runs_dir), **states, "unfinished": left, "bytes": sum(row.bytes for row in rows)}


def _disks(workspace: Workspace) -> list[dict[str, Any]]:
    disks = []
    checkpoints = Path(torch.hub.get_dir())
    for what, folder in (("caches", workspace.features), ("runs", workspace.runs_dir), ("weights", checkpoints)):
        # os.path returns False where Path's method raises: for a folder without permission.
        above = (folder.absolute(), *folder.absolute().parents)
        existing = next(path for path in above if os.path.isdir(path))  # noqa: PTH112
        usage = shutil.disk_usage(existing)
        disks.append({"what": what, "folder": str(folder), "free": usage.free, "total": usage.total})
    return disks


def _warnings(
    device: dict[str, Any],
    memory: dict[str, int | None],
    threads: dict[str, Any],
    weights: list[dict[str, Any]],
    caches: dict[str, Any],
    disks: list[dict[str, Any]],
) -> Iterator[Warned]:
    if device["kind"] == "cpu" and device["nvidia_driver"]:
        yield Warned(
            "there is an NVIDIA driver, but this torch finds no GPU",
            "Install a torch built for that driver (see pytorch.org), or look at CUDA_VISIBLE_DEVICES.",
        )
    if str(threads["OMP_WAIT_POLICY"]).upper() == "ACTIVE":
        yield Warned(
            "OMP_WAIT_POLICY=ACTIVE: waiting threads spin, and a step takes many times as long on a busy machine",
            "Leave it unset (labeldep then sets PASSIVE).",
        )
    if threads["quota"] is not None and threads["torch"] > math.ceil(threads["quota"]):
        yield Warned(
            f"torch computes with {threads['torch']} threads, but this container may use {threads['quota']:g} cores",
            f"Set OMP_NUM_THREADS={math.ceil(threads['quota'])}, and --workers {math.ceil(threads['quota'])}.",
        )
    shared, needed = memory["shm_free"], threads["decoding"] * _BATCHES
    if shared is not None and shared < needed * N_VIEWS:
        yield Warned(
            f"/dev/shm has {shared / 1e6:,.0f} MB free; {threads['decoding']} decoding processes need "
            f"{needed / 1e6:,.0f} MB, with --views {N_VIEWS} {needed * N_VIEWS / 1e6:,.0f} MB",
            "Give the container more (docker run --shm-size 4g): with less, fewer processes decode.",
        )
    for file in weights:
        if None not in (file["on_disk"], file["published"]) and abs(file["on_disk"] - file["published"]) > 0.01 * _MIB:
            yield Warned(
                f"{file['path']} has {file['on_disk']:,} bytes, not about {file['published']:,} as published",
                "Remove it: it is downloaded again when needed.",
            )
    for file in caches["unfinished"]:
        yield Warned(
            f"{Path(caches['folder']) / file['file']} is unfinished: {file['bytes'] / 1e6:,.1f} MB",
            "The command that began it goes on with it; if nobody will: labeldep features clean",
        )
    for free, purposes in _by_free(disks).items():
        if free < LITTLE_DISK:
            yield Warned(
                f"{free / 1e9:.1f} GB of disk are free for {' and '.join(purposes)}",
                "Free some (labeldep runs clean), or name another place: --features-dir, --runs-dir, TORCH_HOME.",
            )


def _by_free(disks: list[dict[str, Any]]) -> dict[int, list[str]]:
    """Purposes by free bytes. Folders with the same free space share a disk, so a full disk is reported once."""
    purposes: dict[int, list[str]] = {}
    for disk in disks:
        purposes.setdefault(disk["free"], []).append(disk["what"])
    return purposes
