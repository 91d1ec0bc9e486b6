"""`labeldep extract` compared with a plain torchvision loop over the same files, and with the rate of its own encoder.

The plain loop is what one would write first: a DataLoader of PIL images, torchvision's transforms (for a model of timm,
timm's own), the same weights in eager float32, batches of 32, features collected and written with h5py at the end. Both
use as many workers and as many threads as there are cores. Times start after the first batch. Every measurement is a
separate process, so that its peak memory can be measured. The measurements alternate, so that other load on the machine
affects all of them.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, cast

import h5py
import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.show import Table, show
from labeldep_cli.config import ExtractConfig, Machine, Source, Workspace
from labeldep_cli.errors import LabeldepError
from labeldep_cli.labelling.paths import expand
from labeldep_cli.models.backbones import IMAGENET_MEAN, IMAGENET_STD, find_backbone
from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.inference import InferenceEncoder
from labeldep_cli.models.loading import LoadedBackbone, load_backbone
from labeldep_cli.models.weights import locate_weights
from labeldep_cli.pipelines.extract import extract
from labeldep_cli.progress import SilentReporter

BATCH = ExtractConfig.group
VARIANTS = {
    "extract": ExtractConfig(),
    "extract --compile": ExtractConfig(compile=True),
    "extract --precision bfloat16": ExtractConfig(precision="bfloat16"),
    "extract --engine onnxruntime": ExtractConfig(engine="onnxruntime"),
    "extract --compile --precision bfloat16": ExtractConfig(compile=True, precision="bfloat16"),
}
_PLAIN, _QUARTER = "plain loop", "extract, a quarter of the images"


def command(
    images: Annotated[Path, typer.Option(help="A folder of photos.")],
    backbone: Annotated[str, typer.Option(help="Any that extract takes.")] = "resnet50",
    weights: Annotated[str, typer.Option(help="As for extract.")] = "none",
    count: Annotated[int, typer.Option(min=8 * BATCH, help="Images a measurement.")] = 512,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each; their median is told.")] = 5,
    default_only: Annotated[bool, typer.Option("--default-only", help="Leave --compile and --precision out.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Extraction compared with a plain torchvision loop, and with its own encoder."""
    variants = tuple(VARIANTS)[: 1 if default_only else None]
    found = run(images, backbone, weights, count, repeats, variants)
    rows = [
        [name, *("-" if value is None else f"{value:.2f}" for value in row.values())]
        for name, row in found["measured"].items()
    ]
    title = f"{backbone}, {found['images']} images, {found['workers']} workers, {found['threads']} threads"
    header = ("", "images a second", "over the plain loop", "own forward a second", "share of it", "peak MB")
    show(found, [Table(title, header, rows)], json)


@dataclass(frozen=True)
class Task:
    """The work of one measuring process.

    Attributes:
        backbone, weights: as the user writes them.
        paths: paths of the images.
        config: how features are extracted.
        workers: number of decoding processes.
    """

    backbone: str
    weights: str
    paths: tuple[str, ...]
    config: ExtractConfig
    workers: int

    def loaded(self) -> LoadedBackbone:
        """The plain backbone."""
        row = find_backbone(self.backbone)
        return load_backbone(row, locate_weights(row, self.weights), SilentReporter())

    @property
    def side(self) -> int:
        """Side of an input image, in pixels."""
        return find_backbone(self.backbone).side


def run(
    folder: Path, backbone: str, weights: str, count: int, repeats: int, variants: tuple[str, ...] = (*VARIANTS,)
) -> dict[str, Any]:
    """Measure the plain loop and some variants of `extract`.

    Args:
        folder: a folder of photos.
        backbone, weights: as for extract.
        count: images per measurement; fewer if the folder has fewer.
        repeats: measurements of each.
        variants: names from VARIANTS.

    Returns:
        For each, as medians: images per second, the ratio to the plain loop, the encoder's rate on ready tensors and
        the share of it that is reached, peak MB. Memory is that of the process and its workers; memory that they share
        is counted once per process.

    Raises:
        LabeldepError: there are too few images.
    """
    paths = photos_of(folder, count)
    workers = Machine().n_workers
    tasks: dict[str, tuple[Callable[[Task], float], Task]] = {
        _PLAIN: (_plain, Task(backbone, weights, paths, VARIANTS["extract"], workers)),
        _QUARTER: (extract_rate, Task(backbone, weights, paths[: len(paths) // 4], VARIANTS["extract"], workers)),
    }
    for name in variants:
        task = Task(backbone, weights, paths, VARIANTS[name], workers)
        tasks |= {name: (extract_rate, task), _forward_of(name): (_forward, task)}
    rates, peaks = rates_in_turn(tasks, repeats)
    measured = {
        name: {
            "images_per_second": statistics.median(rates[name]),
            "over_plain": median_ratio(rates[name], rates[_PLAIN]),
            "forward_per_second": statistics.median(rates[_forward_of(name)]) if name in variants else None,
            "share_of_forward": median_ratio(rates[name], rates[_forward_of(name)]) if name in variants else None,
            "peak_mb": statistics.median(peaks[name]),
        }
        for name in (_PLAIN, _QUARTER, *variants)
    }
    return {**circumstances(tasks[_PLAIN][1], repeats), "measured": measured}


def photos_of(folder: Path, count: int) -> tuple[str, ...]:
    """The first images of a folder.

    Raises:
        LabeldepError: there are too few: a quarter of them does not exceed the first group.
    """
    paths = tuple(
        str(Path(path).absolute())
        for _, path in zip(range(count), expand([str(folder)], SilentReporter().note), strict=False)
    )
    if len(paths) < 8 * BATCH:
        raise LabeldepError(f"{len(paths)} images of {folder} are too few", f"Give {8 * BATCH} at least.")
    return paths


def circumstances(task: Task, repeats: int) -> dict[str, Any]:
    """What the measurements of a task depend on."""
    return {
        "backbone": task.backbone,
        "images": len(task.paths),
        "workers": task.workers,
        "threads": torch.get_num_threads(),
        "repeats": repeats,
    }


def _forward_of(variant: str) -> str:
    return f"forward of {variant}"


def median_ratio(mine: list[float], theirs: list[float]) -> float:
    """The median of the ratios within each round, so that a temporarily slow machine affects both alike."""
    return statistics.median(one / other for one, other in zip(mine, theirs, strict=True))


def rates_in_turn(
    tasks: dict[str, tuple[Callable[[Task], float], Task]], repeats: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """The rates and the peak memory of each task, round by round."""
    rates: dict[str, list[float]] = {name: [] for name in tasks}
    peaks: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, (measure, task) in tasks.items():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                rate, peak = pool.submit(_measured, measure, task).result()
            rates[name].append(rate)
            peaks[name].append(peak)
    return rates, peaks


def _measured(measure: Callable[[Task], float], task: Task) -> tuple[float, float]:
    """Images per second, and the peak MB of this process and its workers."""
    rate = measure(task)
    own, largest = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return rate, (own + task.workers * largest) / 1024


def extract_rate(task: Task) -> float:
    """Images per second of `labeldep extract`, measured from the end of the first group."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "labels.csv")
        table.write_text("path,split,photo\n" + "".join(f'"{path}",train,1\n' for path in task.paths))
        source = Source(str(table), task.backbone, task.weights, val_fraction=0.0, test_fraction=0.0)
        machine = Machine("cpu", task.workers)
        found = extract(Workspace(Path(folder)), source, machine, task.config, "train", False, SilentReporter())
    return found.images_per_second or float("nan")


@torch.inference_mode()
def _forward(task: Task) -> float:
    """The rate of the same encoder on 8-bit images in memory."""
    encoder = InferenceEncoder(Encoder(task.loaded().module), task.config.precision)
    if task.config.engine == "onnxruntime":
        encoder.use_onnxruntime(task.side)
    if task.config.compile:
        encoder.compile(task.side, SilentReporter().note)
    images = torch.randint(0, 256, (BATCH, task.side, task.side, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    encoder(images)
    begun, passes = time.perf_counter(), max(1, len(task.paths) // BATCH)
    for _ in range(passes):
        encoder(images)
    return passes * BATCH / (time.perf_counter() - begun)


class _Photos(Dataset[Tensor]):
    """PIL images through the transforms of a library."""

    def __init__(self, paths: tuple[str, ...], transform: Callable[[Image.Image], Any]) -> None:
        self.paths = paths
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Tensor:
        with Image.open(self.paths[row]) as image:
            transformed: Tensor = self.transform(image.convert("RGB"))
        return transformed


def _transform(task: Task) -> Callable[[Image.Image], Any]:
    """Timm's transform for evaluation of a model of timm, else torchvision's transforms as its references use them."""
    row = find_backbone(task.backbone)
    if row.timm is not None:
        from timm.data import create_transform, resolve_data_config

        config = resolve_data_config(pretrained_cfg=dict(row.timm.config))
        return cast(Callable[[Image.Image], Any], create_transform(**config))
    steps = [transforms.Resize((task.side, task.side)), transforms.ToTensor()]
    return cast(
        Callable[[Image.Image], Any], transforms.Compose([*steps, transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    )


@torch.inference_mode()
def _plain(task: Task) -> float:
    backbone = task.loaded().module
    loader = DataLoader(_Photos(task.paths, _transform(task)), batch_size=BATCH, num_workers=task.workers)
    features, begun = [], 0.0
    for batch in loader:
        features.append(backbone(batch).numpy().astype(np.float16))
        begun = begun or time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, h5py.File(Path(folder, "features.h5"), "w") as file:
        file["features"] = np.concatenate(features)
        file.flush()
        return (len(task.paths) - len(features[0])) / (time.perf_counter() - begun)
