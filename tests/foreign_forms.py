"""Small sources in the other forms that `labeldep import` reads, each with what it means."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foreign_tables import LABELS, Meant, N, images, names_of, present, truth, write

SETS = [names_of(row) for row in truth()]
SPLITS = ["train"] * 7 + ["val"] * 2 + ["test"] * 3


def save(file: Path, content: Any) -> Path:
    return write(file, [json.dumps(content)])


def voc(folder: Path) -> Meant:
    paths = images(folder / "JPEGImages", "{:06d}.jpg".format)
    for path, names in zip(paths, SETS, strict=True):
        objects = "".join(f"<object><name>{name}</name><difficult>0</difficult></object>" for name in names)
        if "dog" not in names and path == paths[0]:
            objects += "<object><name>dog</name><difficult>1</difficult></object>"
        xml = f"<annotation><filename>{path}</filename>{objects}</annotation>"
        write(folder / "Annotations" / f"{Path(path).stem}.xml", [xml])
    for split in ("train", "val", "test"):
        listed = [Path(path).stem for path, own in zip(paths, SPLITS, strict=True) if own == split]
        write(folder / "ImageSets" / "Main" / f"{split}.txt", listed)
    return Meant(folder, present(), unknown=1, splits=(7, 2, 3))


def image_folder(folder: Path) -> Meant:
    paths = images(folder.parent / "photos")
    for path, names in zip(paths, SETS, strict=True):
        for name in names:
            (folder / name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder.parent / "photos" / path, folder / name / path)
    return Meant(folder, present())


def label_studio(folder: Path) -> Meant:
    paths = images(folder / "upload")
    tasks = [
        {
            "id": number,
            "data": {"image": f"/data/upload/1/{number:08x}-{path}"},
            "annotations": [
                {"was_cancelled": False, "result": [{"from_name": "c", "type": "choices", "value": {"choices": names}}]}
            ],
        }
        for number, (path, names) in enumerate(zip(paths, SETS, strict=True))
    ]
    return Meant(save(folder / "project-1.json", tasks), present())


def label_studio_min(folder: Path) -> Meant:
    paths = images(folder / "upload")
    tasks = [
        {"id": number, "image": f"upload/{path}", "choice": {"choices": names} if len(names) != 1 else names[0]}
        for number, (path, names) in enumerate(zip(paths, SETS, strict=True))
    ]
    return Meant(save(folder / "min.json", tasks), present())


def fiftyone(folder: Path) -> Meant:
    paths = images(folder / "data")
    labels = {Path(p).stem: [LABELS.index(name) for name in names] for p, names in zip(paths, SETS, strict=True)}
    save(folder / "labels.json", {"classes": LABELS, "labels": labels})
    return Meant(folder, present())


def fiftyone_export(folder: Path) -> Meant:
    paths = images(folder / "data")
    samples = [
        {
            "filepath": f"data/{path}",
            "tags": [split],
            "ground_truth": {"_cls": "Classifications", "classifications": [{"label": name} for name in names]},
        }
        for path, names, split in zip(paths, SETS, SPLITS, strict=True)
    ]
    return Meant(save(folder / "samples.json", {"samples": samples}), present(), splits=(7, 2, 3))


def cvat(folder: Path) -> Meant:
    paths = images(folder / "images")
    rows = [
        f'<image id="{k}" name="{path}">' + "".join(f'<tag label="{name}"/>' for name in names) + "</image>"
        for k, (path, names) in enumerate(zip(paths, SETS, strict=True))
    ]
    return Meant(write(folder / "annotations.xml", ["<annotations>", *rows, "</annotations>"]), present())


def _coco(paths: list[str], sets: list[list[str]], **of_each: Any) -> dict[str, Any]:
    pairs = [(row, LABELS.index(name)) for row, names in enumerate(sets) for name in names]
    return {
        "images": [{"id": row, "file_name": path, **of_each} for row, path in enumerate(paths)],
        "annotations": [{"id": n, "image_id": row, "category_id": 10 + label} for n, (row, label) in enumerate(pairs)],
        "categories": [{"id": 10 + label, "name": name} for label, name in enumerate(LABELS)],
    }


def coco(folder: Path) -> Meant:
    paths = images(folder / "images")
    for split in ("train", "val", "test"):
        rows = [row for row, own in enumerate(SPLITS) if own == split]
        content = _coco([paths[row] for row in rows], [SETS[row] for row in rows])
        save(folder / "annotations" / f"instances_{split}.json", content)
    return Meant(folder, present(), splits=(7, 2, 3))


def lvis(folder: Path) -> Meant:
    """All labels but the last are verified in each image; a `dog` that is not annotated is unknown."""
    content = _coco(images(folder), SETS, neg_category_ids=[10, 11], not_exhaustive_category_ids=[])
    return Meant(save(folder / "lvis.json", content), present(), unknown=N - present()["dog"])


def hugging_face(folder: Path) -> Meant:
    for start, stop, split in ((0, 9, "train"), (9, N, "test")):
        paths = images(folder / split)[start:stop]
        rows = [{"file_name": p, "labels": names} for p, names in zip(paths, SETS[start:stop], strict=True)]
        write(folder / split / "metadata.jsonl", list(map(json.dumps, rows)))
    return Meant(folder, present(), splits=(9, 0, 3))


def parquet(folder: Path) -> Meant:
    import pyarrow
    from pyarrow.parquet import write_table

    paths = images(folder.parent / "photos")
    held = [{"bytes": (folder.parent / "photos" / path).read_bytes(), "path": path} for path in paths]
    folder.mkdir()
    for start, stop, split in ((0, 9, "train"), (9, N, "test")):
        table = pyarrow.table({"image": held[start:stop], "labels": SETS[start:stop]})
        write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return Meant(folder, present(), splits=(9, 0, 3))


def records(folder: Path) -> Meant:
    rows = [{"path": p, "labels": names} for p, names in zip(images(folder), SETS, strict=True)]
    return Meant(save(folder / "photos.json", rows), present())


def lines(folder: Path) -> Meant:
    rows = [
        {
            "file": path,
            "tags": {name: int(name in names) for name in LABELS},
            "subset": split,
            "group": f"burst {k // 2}",
        }
        for k, (path, names, split) in enumerate(zip(images(folder), SETS, SPLITS, strict=True))
    ]
    return Meant(write(folder / "photos.ndjson", list(map(json.dumps, rows))), present(), splits=(7, 2, 3), groups=6)


SOURCES: dict[str, tuple[str, Callable[[Path], Meant]]] = {
    "voc": ("voc", voc),
    "folders": ("imagefolder", image_folder),
    "label studio json": ("label-studio", label_studio),
    "label studio min": ("label-studio", label_studio_min),
    "fiftyone": ("fiftyone", fiftyone),
    "fiftyone export": ("fiftyone", fiftyone_export),
    "cvat": ("cvat", cvat),
    "coco": ("coco", coco),
    "lvis": ("coco", lvis),
    "metadata.jsonl": ("records", hugging_face),
    "parquet": ("parquet", parquet),
    "records": ("records", records),
    "lines": ("records", lines),
}
"""By name: the form that reads the source, and its maker."""
