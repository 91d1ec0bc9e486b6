"""Small sources in the forms of tables that `labeldep import` reads, each with what it means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from conftest import draw_image

N = 12
LABELS = ("beach", "boat", "dog")


@dataclass(frozen=True)
class Meant:
    """What a source means.

    Attributes:
        source: the file or folder to import.
        present: the number of images with each label.
        unknown: the number of unknown labels over all images.
        splits: the number of images in train, val and test; None if the source has none.
        groups: the number of groups; None if the source has none.
    """

    source: Path
    present: Mapping[str, int]
    unknown: int = 0
    splits: tuple[int, int, int] | None = None
    groups: int | None = None


def truth() -> np.ndarray:
    """Labels int8 [N, 3]: some images have all, some have none."""
    y = (np.random.default_rng(3).random((N, len(LABELS))) < 0.5).astype(int)
    y[0], y[1] = 0, 1
    return y


def present(names: tuple[str, ...] = LABELS) -> dict[str, int]:
    return dict(zip(names, truth().sum(axis=0).tolist(), strict=True))


def names_of(row: np.ndarray, names: tuple[str, ...] = LABELS) -> list[str]:
    return [name for name, value in zip(names, row, strict=True) if value]


def images(folder: Path, names: Callable[[int], str] = "{:03d}.png".format) -> list[str]:
    for number in range(N):
        draw_image(folder / names(number), number)
    return [names(number) for number in range(N)]


def write(file: Path, lines: list[str]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def celeba_txt(folder: Path) -> Meant:
    paths, y = images(folder / "img_align_celeba"), truth()
    lines = [str(N), " ".join(LABELS) + " "]
    lines += [f"{path} " + " ".join(f"{1 if v else -1:2d}" for v in row) for path, row in zip(paths, y, strict=True)]
    write(folder / "list_eval_partition.txt", [f"{path} {number // 5}" for number, path in enumerate(paths)])
    return Meant(write(folder / "list_attr_celeba.txt", lines), present(), splits=(5, 5, 2))


def celeba_csv(folder: Path) -> Meant:
    paths, y = images(folder / "img_align_celeba" / "img_align_celeba"), truth()
    lines = ["image_id," + ",".join(LABELS)]
    lines += [f"{path}," + ",".join("1" if v else "-1" for v in row) for path, row in zip(paths, y, strict=True)]
    partition = [f"{path},{number // 5}" for number, path in enumerate(paths)]
    write(folder / "list_eval_partition.csv", ["image_id,partition", *partition])
    write(folder / "list_attr_celeba.csv", lines)
    return Meant(folder, present(), splits=(5, 5, 2))


def chexpert(folder: Path) -> Meant:
    names = ("No Finding", "Edema", "Pleural Effusion")
    header = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(names)
    paths, y = images(folder, "train/patient{:05d}/study1/view1_frontal.png".format), truth()
    cell = {1: "1.0", 0: ""}
    rows = [
        f"CheXpert-v1.0-small/{path},Female,68,Frontal,AP," + ",".join(map(cell.get, row))
        for path, row in zip(paths, y, strict=True)
    ]
    rows[0] = rows[0][:-1] + ",-1.0"
    write(folder / "valid.csv", [header, *rows[9:]])
    write(folder / "train.csv", [header, *rows[:9]])
    return Meant(folder, present(names), unknown=1, splits=(9, 3, 0), groups=N)


def nih(folder: Path) -> Meant:
    paths, y = images(folder / "images_001" / "images"), truth()
    header = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,OriginalImage[Width,Height],"
    rows = [
        f"{p},{'|'.join(names_of(row)) or 'No Finding'},0,{k // 2},58,2682,2749,"
        for k, (p, row) in enumerate(zip(paths, y, strict=True))
    ]
    write(folder / "train_val_list.txt", paths[:8])
    write(folder / "test_list.txt", paths[8:])
    return Meant(write(folder / "Data_Entry_2017.csv", [header, *rows]), present(), splits=(8, 0, 4), groups=6)


def planet(folder: Path) -> Meant:
    paths, y = images(folder / "train-jpg", "train_{}.jpg".format), truth()
    rows = [f"{Path(path).stem},{' '.join(names_of(row))}" for path, row in zip(paths, y, strict=True)]
    return Meant(write(folder / "train_v2.csv", ["image_name,tags", *rows]), present())


def hpa(folder: Path) -> Meant:
    paths, y = images(folder / "train"), truth()
    rows = [f"{Path(p).stem},{' '.join(map(str, np.flatnonzero(row)))}" for p, row in zip(paths, y, strict=True)]
    return Meant(write(folder / "train.csv", ["Id,Target", *rows]), present(("0", "1", "2")))


def imet(folder: Path) -> Meant:
    meant = hpa(folder)
    lines = meant.source.read_text().replace("Id,Target", "id,attribute_ids").splitlines()
    write(folder / "labels.csv", ["attribute_id,attribute_name", *(f"{k},{name}" for k, name in enumerate(LABELS))])
    return Meant(write(meant.source, lines), present())


def posters(folder: Path) -> Meant:
    paths, y = images(folder / "Images"), truth()
    rows = [f'{Path(p).stem},"{names_of(row)}",' + ",".join(map(str, row)) for p, row in zip(paths, y, strict=True)]
    return Meant(write(folder / "train.csv", ["Id,Genre," + ",".join(LABELS), *rows]), present())


def openimages(folder: Path) -> Meant:
    paths, y = images(folder / "train"), truth()
    codes = [f"/m/{k}" for k in range(len(LABELS))]
    write(folder / "class-descriptions.csv", [f"{code},{name}" for code, name in zip(codes, LABELS, strict=True)])
    pairs = [
        (Path(p).stem, code, v) for p, row in zip(paths, y, strict=True) for code, v in zip(codes, row, strict=True)
    ]
    rows = [f"{image},verification,{code},{value}" for image, code, value in pairs]
    table = write(folder / "train-annotations.csv", ["ImageID,Source,LabelName,Confidence", *rows[:-1]])
    return Meant(table, {**present(), LABELS[-1]: present()[LABELS[-1]] - int(y[-1, -1])}, unknown=1)


def long(folder: Path) -> Meant:
    paths, y = images(folder), truth()
    rows = [f"{p},640,480,{name},1,2,3,4" for p, row in zip(paths, y, strict=True) for name in names_of(row)]
    return Meant(write(folder / "boxes.csv", ["filename,width,height,class,xmin,ymin,xmax,ymax", *rows]), present())


def roboflow(folder: Path) -> Meant:
    y = truth()
    for split, rows in (("train", range(7)), ("valid", range(7, 9)), ("test", range(9, N))):
        names = {row: f"{row}_jpg.rf.0{row}.jpg" for row in rows}
        for row, name in names.items():
            draw_image(folder / split / name, row)
        lines = [f"{name}, {', '.join(map(str, y[row]))}, {int(not y[row].any())}" for row, name in names.items()]
        write(folder / split / "_classes.csv", ["filename, " + ", ".join(LABELS) + ", Unlabeled", *lines])
    return Meant(folder, present(), splits=(7, 2, 3))


def label_studio(folder: Path) -> Meant:
    paths, y = images(folder / "upload" / "1"), truth()
    rows = []
    for k, (path, row) in enumerate(zip(paths, y, strict=True)):
        chosen = names_of(row)
        cell = (
            '"{{""choices"":[{}]}}"'.format(",".join(f'""{c}""' for c in chosen))
            if len(chosen) > 1
            else "".join(chosen)
        )
        rows.append(f"{k},1,{k},{cell},2026-01-01,/data/upload/1/{path},3.5,2026-01-01")
    rows.append(rows[1].replace('"{""choices"":[""beach"",""boat"",""dog""]}"', "boat"))
    header = "annotation_id,annotator,id,choice,created_at,image,lead_time,updated_at"
    meant = {**present(), "beach": present()["beach"] - 1, "dog": present()["dog"] - 1}
    return Meant(write(folder / "project.csv", [header, *rows]), meant, unknown=2)


def hugging_face(folder: Path) -> Meant:
    y = truth()
    for split, rows in (("train", range(8)), ("test", range(8, N))):
        lines = []
        for row in rows:
            draw_image(folder / split / f"{row}.png", row)
            lines.append(f'{row}.png,"{names_of(y[row])}"')
        write(folder / split / "metadata.csv", ["file_name,labels", *lines])
    return Meant(folder, present(), splits=(8, 0, 4))


def own(folder: Path) -> Meant:
    paths, y = images(folder), truth()
    rows = [
        f"{p},{'test' if k > 8 else 'train'},g{k // 2},{';'.join(names_of(row))},"
        for k, (p, row) in enumerate(zip(paths, y, strict=True))
    ]
    rows[0] += "dog"
    table = write(folder / "labels.csv", ["path,split,group,labels,unknown", *rows])
    return Meant(table, present(), unknown=1, splits=(9, 0, 3), groups=6)


SOURCES: dict[str, tuple[str, Callable[[Path], Meant]]] = {
    "celeba txt": ("celeba", celeba_txt),
    "celeba folder": ("celeba", celeba_csv),
    "chexpert": ("chexpert", chexpert),
    "nih": ("nih", nih),
    "planet": ("planet", planet),
    "hpa": ("numbers", hpa),
    "imet": ("numbers", imet),
    "posters": ("table", posters),
    "openimages": ("openimages", openimages),
    "boxes": ("long", long),
    "roboflow": ("roboflow", roboflow),
    "label studio": ("label-studio-csv", label_studio),
    "hugging face": ("table", hugging_face),
    "own": ("labeldep", own),
}
"""By name: the form that reads the source, and its maker."""
