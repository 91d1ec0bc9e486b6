"""A folder with a small file of every kind that labeldep reads: its own, and those of other programs."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from labeldep_cli.cli import app
from labeldep_cli.datasets.decision_file import append
from labeldep_cli.datasets.decisions import Decision, LabelSet
from labeldep_cli.models.scenesnet import ScenesNet

LABELS = ("cat", "dog", "mat")
FEATURES = "rows.npz"
TRAIN = f"pretrain --dataset {FEATURES} --steps 4 --json --out runs"
AUDIT = f"audit {FEATURES} --folds 2 --repeats 1 --steps 4 --out audit --json"
TUNE = f"tune --dataset {FEATURES} --trials 1 --json"
REPRODUCE = f"reproduce --dataset {FEATURES} --tables 1 --steps 4 --seeds 1 --no-rivals --out tables --json"
PHOTOS = "pretrain --dataset photos/labels.csv --backbone scenesnet --steps 4 --workers 0 --out runs/photos"
SAVED = {
    "jpg": {},
    "png": {},
    "webp": {},
    "gif": {},
    "bmp": {},
    "tiff": {"compression": "tiff_lzw"},
    "tga": {},
    "ico": {},
    "jp2": {},
    "avif": {},
    "ppm": {},
}
"""Kinds of images by their suffix, and how Pillow saves them."""


def make(folder: Path) -> None:
    """Make data sets and runs. All paths in them are relative to the folder."""
    draws = np.random.default_rng(0)
    _make_features(folder, draws)
    _make_photos(folder / "photos", [draws.integers(0, 256, (6, 8, 3), dtype=np.uint8) for _ in range(12)])
    (folder / "labeldep.toml").write_text("[defaults]\nsplit-seed = 0\n\n[pretrain]\nseed = 0\n")
    critic = f"adversarial --dataset {FEATURES} --from base --critic nce --critic-width 16 --steps 4 --out runs/critic"
    _run(folder, f"{TRAIN}/base", critic, PHOTOS)


def make_all(folder: Path) -> None:
    """Make a file of every kind."""
    make(folder)
    pixels = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    _make_images(folder / "images", pixels)
    _make_forms(folder / "forms", pixels)
    powerset = f"pretrain --dataset {FEATURES} --head powerset --steps 4 --out runs/powerset"
    _run(folder, powerset, AUDIT, TUNE, REPRODUCE)
    torch.save(ScenesNet().state_dict(), folder / "weights.pth")
    shutil.copy(folder / "runs" / "critic" / "config.json", folder / "config.json")
    requests = [{"id": k, "path": f"photos/{k}.jpg"} for k in range(3)]
    (folder / "requests.jsonl").write_text("".join(json.dumps(request) + "\n" for request in requests))
    shutil.copytree(folder / "runs" / "base", folder / "runs" / "cut")  # as after a kill before the result is written
    (folder / "runs" / "cut" / "result.json").unlink()
    decisions = [_decision("labels.csv", f"{row}.jpg", _names_of(row)) for row in range(3)]
    for file in (folder / "photos" / "corrections.csv", folder / "saved.csv"):
        append(file, decisions)
    cards = json.loads((folder / "audit" / "audit.json").read_text())["cards"]
    append(folder / "audited.csv", [_decision(FEATURES, card["path"], card["written"]) for card in cards[:3]])


def _run(folder: Path, *lines: str) -> None:
    """Run command lines in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        for line in lines:
            done = CliRunner().invoke(app, line.split())
            if done.exit_code:
                raise RuntimeError(f"{line}: {done.output}") from done.exception
    finally:
        os.chdir(before)


def _make_features(folder: Path, draws: np.random.Generator) -> None:
    x = draws.normal(size=(60, 6)).astype(np.float32)
    y = (x[:, :3] > 0.2).astype(np.int8)
    split = np.array(["train"] * 36 + ["val"] * 12 + ["test"] * 12)
    np.savez(folder / FEATURES, X=x, Y=y, label_names=np.array(LABELS), split=split)
    with h5py.File(folder / "rows.h5", "w") as file:
        file.create_dataset("X", data=x, chunks=(12, 6), compression="gzip")
        file["Y"], file["label_names"], file["split"] = y, list(LABELS), split.tolist()


def _labels_of(row: int) -> tuple[int, int, int]:
    return row % 2, row // 2 % 2, row % 3 // 2


def _names_of(row: int) -> list[str]:
    return [name for name, value in zip(LABELS, _labels_of(row), strict=True) if value]


def _make_photos(folder: Path, photos: list[NDArray[np.uint8]]) -> None:
    folder.mkdir()
    lines = ["path,split,cat,dog,mat"]
    for row, pixels in enumerate(photos):
        Image.fromarray(pixels).resize((64, 48)).save(folder / f"{row}.jpg")
        split = ("train", "train", "val", "test")[row % 4]
        lines.append(f"{row}.jpg,{split},{','.join(map(str, _labels_of(row)))}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def _make_images(folder: Path, pixels: NDArray[np.uint8]) -> None:
    """One image of each kind, and one of 16 bits."""
    folder.mkdir()
    for suffix, options in SAVED.items():
        Image.fromarray(pixels).resize((64, 48)).save(folder / f"a.{suffix}", **options)
    Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 200).resize((64, 48)).save(folder / "deep.png")


def _make_forms(folder: Path, pixels: NDArray[np.uint8]) -> None:
    """Labels as other programs write them, all of the same six images."""
    folder.mkdir()
    rows = [(f"{row}.jpg", _names_of(row)) for row in range(6)]
    for name, _ in rows:
        Image.fromarray(pixels).resize((16, 12)).save(folder / name)
    numbers = {name: number for number, name in enumerate(LABELS)}
    boxes = [
        {"id": k, "image_id": row, "category_id": numbers[name], "bbox": [0.0, 1.0, 2.0, 3.0], "iscrowd": 0}
        for k, (row, name) in enumerate((row, name) for row, (_, names) in enumerate(rows) for name in names)
    ]
    images = [{"id": row, "file_name": name, "width": 16, "height": 12} for row, (name, _) in enumerate(rows)]
    categories = [{"id": number, "name": name, "supercategory": "thing"} for name, number in numbers.items()]
    tasks = [
        {
            "id": row,
            "data": {"image": f"/data/upload/1/0a1b2c3d-{name}"},
            "annotations": [
                {"id": row, "result": [{"from_name": "l", "type": "choices", "value": {"choices": names}}]}
            ],
        }
        for row, (name, names) in enumerate(rows)
    ]
    records = [{"image": name, "labels": names} for name, names in rows]
    written = {
        "coco.json": json.dumps({"images": images, "annotations": boxes, "categories": categories}),
        "label_studio.json": json.dumps(tasks),
        "labels.json": json.dumps({"classes": LABELS, "labels": {n[:-4]: [numbers[x] for x in s] for n, s in rows}}),
        "records.json": json.dumps(records),
        "records.jsonl": "".join(json.dumps(record) + "\n" for record in records),
        "own.jsonl": "".join(json.dumps({"path": name, "labels": names}) + "\n" for name, names in rows),
        "list_attr.txt": "\n".join(["6", " ".join(LABELS), *(_celeba(n, s) for n, s in rows)]) + "\n",
        "long.csv": "\n".join(["image,label", *(f"{n},{label}" for n, s in rows for label in s)]) + "\n",
        "listed.csv": "\n".join(["image,tags", *(f"{n},{'|'.join(s)}" for n, s in rows)]) + "\n",
        "annotations.xml": _cvat(rows),
    }
    for name, text in written.items():
        (folder / name).write_text(text)
    (folder / "voc" / "Annotations").mkdir(parents=True)
    for name, names in rows:
        (folder / "voc" / "Annotations" / f"{name[:-4]}.xml").write_text(_voc(name, names))
    known = {"labels": {"feature": {"names": LABELS, "_type": "ClassLabel"}, "_type": "List"}}
    sets = [[numbers[label] for label in names] for _, names in rows]
    table = pyarrow.table({"file_name": [name for name, _ in rows], "labels": sets})
    described = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": known}})})
    pyarrow.parquet.write_table(described, folder / "rows.parquet")
    with tarfile.open(folder / "shard-000.tar", "w") as tar:
        for row, (name, names) in enumerate(rows):
            split = ("train", "train", "val", "test")[row % 4]
            label = json.dumps({"labels": names, "split": split}).encode()
            for file, content in ((name, (folder / name).read_bytes()), (f"{name[:-4]}.json", label)):
                info = tarfile.TarInfo(file)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def _celeba(name: str, names: list[str]) -> str:
    return " ".join([name, *("1" if label in names else "-1" for label in LABELS)])


def _cvat(rows: list[tuple[str, list[str]]]) -> str:
    images = "".join(
        f'<image id="{k}" name="{name}">' + "".join(f'<tag label="{x}"/>' for x in names) + "</image>"
        for k, (name, names) in enumerate(rows)
    )
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{images}</annotations>\n'


def _voc(name: str, names: list[str]) -> str:
    objects = "".join(f"<object><name>{label}</name><difficult>0</difficult></object>" for label in names)
    return f"<annotation><filename>{name}</filename>{objects}</annotation>\n"


def _decision(table: str, path: str, names: list[str]) -> Decision:
    after = LabelSet(("cat",))
    return Decision("2026-01-02T03:04:05Z", "ada", table, path, "edit", LabelSet(tuple(names)), after)
