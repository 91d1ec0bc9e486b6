"""The gain from a second process: `extract` with two gloo processes and with one, on the same files, one thread each.

All decode in the process itself (`--workers 0`): with a separate decoding process, a single process would already keep
two cores busy. The rates are those of `extract --json`: they leave out start-up, which includes each process's first 32
images. With two processes, the longer time counts.
"""

from __future__ import annotations

import json as json_module
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from benchmarks.show import Table, show
from labeldep_cli.errors import DatasetError, LabeldepError
from labeldep_cli.projects.load_features import load_features

IMAGES = 512
REPEATS = 5
_LAUNCH = {
    "one": ["-m", "labeldep_cli"],
    "two": ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "labeldep_cli"],
}


def command(
    photos: Annotated[
        Path | None, typer.Option(help=f"Folder of JPEGs, of which the first {IMAGES} are taken; else drawn ones.")
    ] = None,
    backbone: Annotated[str, typer.Option(help="With random weights: the time does not depend on them.")] = (
        "squeezenet1_1"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """The gain from a second process: extraction with two gloo processes and with one."""
    found = {"extraction": extraction(photos, backbone)}
    one = found["extraction"]
    title = (
        f"extract, {backbone}, {IMAGES} images ({one['files']}), one thread a process, no decoding processes; "
        f"features {'equal bit for bit' if one['equal'] else 'DIFFER'}"
    )
    rates = [f"{one['images_per_second'][name]:.1f}" for name in _LAUNCH]
    show(found, [Table(title, ("one: images a second", "two", "ratio"), [[*rates, f"{one['ratio']:.2f}"]], 0)], json)


def extraction(photos: Path | None, backbone: str) -> dict[str, Any]:
    """Extract the same images alternately with one process and with two.

    Args:
        photos: folder of JPEGs; None for drawn images.
        backbone: its name.

    Returns:
        Images per second (medians of REPEATS, and all values), their ratio, and whether the features are equal bit for
        bit.

    Raises:
        DatasetError: the folder holds too few JPEGs.
        LabeldepError: a command fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        table = _table(folder, _drawn(folder) if photos is None else _taken(photos))
        rates: dict[str, list[float]] = {name: [] for name in _LAUNCH}
        for _ in range(REPEATS):
            for name in _LAUNCH:
                rates[name].append(_extract(name, table, backbone, folder / name))
        stored = [
            load_features(table, backbone=backbone, weights="none", features_dir=folder / name) for name in _LAUNCH
        ]
        one, two = (found.features() for found in stored)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "images": IMAGES,
        "files": "drawn" if photos is None else "photos",
        "backbone": backbone,
        "images_per_second": medians,
        "ratio": medians["two"] / medians["one"],
        "all": rates,
        "equal": one.tobytes() == two.tobytes(),
    }


def _taken(photos: Path) -> list[Path]:
    found = sorted(photos.glob("*.jp*g"))[: IMAGES + 2]
    if len(found) < IMAGES + 2:
        raise DatasetError(f"{photos} holds {len(found)} JPEGs", f"Name a folder with {IMAGES + 2}, or leave it out.")
    return [path.absolute() for path in found]


def _drawn(folder: Path) -> list[Path]:
    """Images of smooth colours, 500 x 375, as large as a photo of COCO."""
    drawn = []
    for seed in range(IMAGES + 2):
        pixels = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        drawn.append(folder / f"{seed}.jpg")
        Image.fromarray(pixels).resize((500, 375), Image.Resampling.BICUBIC).save(drawn[-1], quality=90)
    return drawn


def _table(folder: Path, images: list[Path]) -> Path:
    """A data set whose train split has IMAGES images; val and test have one each, which is not used."""
    splits = ["train"] * IMAGES + ["val", "test"]
    lines = [f"{path},{split},{row % 2}" for row, (path, split) in enumerate(zip(images, splits, strict=True))]
    table = folder / "labels.csv"
    table.write_text("\n".join(["path,split,odd", *lines]) + "\n", encoding="utf-8")
    return table


def _extract(name: str, table: Path, backbone: str, out: Path) -> float:
    """Run `extract` in one process or two; returns images per second."""
    what = ["--dataset", str(table), "--split", "train", "--backbone", backbone, "--weights", "none"]
    how = ["--device", "cpu", "--workers", "0", "--out", str(out), "--fresh", "--json"]
    done = subprocess.run(
        [sys.executable, *_LAUNCH[name], "extract", *what, *how],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        raise LabeldepError(f"extract with {name} of the processes failed", done.stderr.strip())
    return float(json_module.loads(done.stdout)["images_per_second"])
