"""The files that are changed, and the command that reads each: a workshop of small data sets and runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from typer.testing import CliRunner

from benchmarks.fuzz import mutants
from labeldep_cli.cli import app

FEATURES = "rows.npz"


@dataclass(frozen=True)
class Format:
    """A file of the workshop, and what reads it.

    Attributes:
        name: FILE -> COMMAND.
        file: its path in the workshop; a pattern, of which the last file by name is taken.
        command: the command line that reads it.
        mutate: how its content is changed.
        shows: whether the command prints the file's values: then another output than the unharmed file's is right.
    """

    name: str
    file: str
    command: str
    mutate: mutants.Mutator
    shows: bool = False


FORMATS = (
    Format("config.json -> eval", "runs/base/config.json", "eval base --json", mutants.changed_json),
    Format("config.json -> runs", "runs/base/config.json", "runs --json", mutants.changed_json, shows=True),
    Format("result.json -> the same training", "runs/base/result.json", "", mutants.changed_json, shows=True),
    Format("metrics.jsonl -> runs", "runs/base/metrics.jsonl", "runs --json", mutants.changed_lines, shows=True),
    Format(
        "metrics.jsonl -> report", "runs/base/metrics.jsonl", "report base --json", mutants.changed_lines, shows=True
    ),
    Format("best.safetensors -> eval", "runs/base/best.safetensors", "eval base --json", mutants.changed_head),
    Format(
        "a critic's best.safetensors -> eval rerank",
        "runs/critic/best.safetensors",
        "eval critic --decision rerank --json",
        mutants.changed_head,
    ),
    Format("last.safetensors -> runs", "runs/base/last.safetensors", "runs --json", mutants.changed_head, shows=True),
    Format("rows.safetensors -> eval", "runs/base/rows.safetensors", "eval base --json", mutants.changed_head),
    Format("feature store -> eval", "data/features/scenesnet-*/test-*.h5", "eval photos --json", mutants.changed_bytes),
    Format("kind.json -> eval", "data/features/scenesnet-*/kind.json", "eval photos --json", mutants.changed_json),
    Format(
        "labels.csv -> data", "photos/labels.csv", "data photos/labels.csv --json", mutants.changed_text, shows=True
    ),
    Format("features.npz -> data", FEATURES, f"data {FEATURES} --json", mutants.changed_bytes, shows=True),
    Format("features.h5 -> data", "rows.h5", "data rows.h5 --json", mutants.changed_bytes, shows=True),
    Format(
        "photo -> predict",
        "photos/0.jpg",
        "predict photos/0.jpg --run photos --json",
        mutants.changed_bytes,
        shows=True,
    ),
    Format("labeldep.toml -> data", "labeldep.toml", f"data {FEATURES} --json", mutants.changed_text, shows=True),
)

_TRAIN = f"pretrain --dataset {FEATURES} --steps 4 --out runs/base --json"


def command_of(form: Format) -> list[str]:
    """The words of the command line; the training is told once."""
    return (form.command or _TRAIN).split()


def make(folder: Path) -> None:
    """Make the unharmed files. All paths in them are relative to the folder, which must be the working directory."""
    draws = np.random.default_rng(0)
    x = draws.normal(size=(60, 6)).astype(np.float32)
    y = (x[:, :3] > 0.2).astype(np.int8)
    split = np.array(["train"] * 36 + ["val"] * 12 + ["test"] * 12)
    names = np.array(["cat", "dog", "mat"])
    np.savez(folder / FEATURES, X=x, Y=y, label_names=names, split=split)
    with h5py.File(folder / "rows.h5", "w") as file:
        file.create_dataset("X", data=x, chunks=(12, 6), compression="gzip")
        file["Y"], file["label_names"], file["split"] = y, names.tolist(), split.tolist()
    photos = folder / "photos"
    photos.mkdir()
    lines = ["path,split,cat,dog,mat"]
    for row in range(12):
        Image.fromarray(draws.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((64, 48)).save(photos / f"{row}.jpg")
        lines.append(f"{row}.jpg,{('train', 'train', 'val', 'test')[row % 4]},{row % 2},{row // 2 % 2},{row % 3 // 2}")
    (photos / "labels.csv").write_text("\n".join(lines) + "\n")
    (folder / "labeldep.toml").write_text("[defaults]\nsplit-seed = 0\n\n[pretrain]\nseed = 0\n")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for line in (
            _TRAIN,
            f"adversarial --dataset {FEATURES} --from base --critic nce --critic-width 16 --steps 4 --out runs/critic",
            "pretrain --dataset photos/labels.csv --backbone scenesnet --steps 4 --workers 0 --out runs/photos",
        ):
            done = CliRunner().invoke(app, line.split())
            if done.exit_code:
                raise RuntimeError(f"{line}: {done.output}")
    finally:
        os.chdir(before)
