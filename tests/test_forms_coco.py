"""COCO-format JSON as people have it: ids, categories, places of images, LVIS, labels within images, several files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign import all_are_files, commands, draw_images, labels_of, read, refusal, splits_of, write_json

LABELS = ("sea", "dog", "sky")
SETS = ((0, 1), (), (1,), (0, 1, 2))
EXPECTED = {"0.jpg": "sea dog", "1.jpg": "", "2.jpg": "dog", "3.jpg": "sea dog sky"}


def document(start: int = 0, stop: int = 4, prefix: str = "img/") -> dict[str, Any]:
    """A COCO-format document of some of four images."""
    pairs = [(row, column) for row in range(start, stop) for column in SETS[row]]
    box = {"bbox": [0, 0, 1.5, 2.5], "area": 3.75, "iscrowd": 0, "segmentation": [[0.5, 1.5, 2.5, 1.0, 0.0, 3.0]]}
    return {
        "images": [{"id": k + 1, "file_name": f"{prefix}{k}.jpg"} for k in range(start, stop)],
        "annotations": [
            {"id": n, "image_id": row + 1, "category_id": column + 1, **box} for n, (row, column) in enumerate(pairs)
        ],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(LABELS)],
    }


def make(root: Path, change: Callable[[dict[str, Any]], object] = lambda content: None, folder: str = "img") -> Path:
    """A file, changed, and its images."""
    draw_images(root / folder, [f"{k}.jpg" for k in range(4)])
    content = document(prefix=f"{folder}/" if folder == "img" else "")
    change(content)
    return write_json(root / "a.json", content)


def each(content: dict[str, Any], kind: str, key: str, new: Callable[[Any], Any]) -> None:
    for entry in content[kind]:
        entry[key] = new(entry[key])


VARIANTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "as it is": lambda c: None,
    "ids as text": lambda c: (
        each(c, "images", "id", lambda k: f"im{k}"),
        each(c, "annotations", "image_id", lambda k: f"im{k}"),
    ),
    "ids of two types": lambda c: each(c, "annotations", "image_id", str),
    "ids with a point": lambda c: each(c, "annotations", "category_id", float),
    "no ids of annotations": lambda c: [entry.pop("id") for entry in c["annotations"]],
    "the same id for all annotations": lambda c: each(c, "annotations", "id", lambda _: 0),
    "two categories of one name": lambda c: c["categories"].append({"id": 9, "name": "dog"}),
    "a category of Roboflow": lambda c: c["categories"].insert(0, {"id": 0, "name": "animals"}),
    "crowds": lambda c: [entry.update(iscrowd=1, segmentation={"counts": [1, 2]}) for entry in c["annotations"]],
    "backslashes": lambda c: each(c, "images", "file_name", lambda name: name.replace("/", "\\")),
    "an image twice": lambda c: c["images"].append({**c["images"][0], "id": 99}),
    "images elsewhere": lambda c: each(c, "images", "file_name", lambda name: f"/home/ann/{name}"),
    "URLs": lambda c: [entry.update(coco_url=f"http://host/img/{entry.pop('file_name')[4:]}") for entry in c["images"]],
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_say_the_same(tmp_path: Path, variant: str) -> None:
    found = read("coco", make(tmp_path, VARIANTS[variant]))
    assert labels_of(found) == EXPECTED
    assert all_are_files(found)
    assert found.rows.names == list(LABELS), "in the order of the categories"


def test_what_was_made_of_it_is_said(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for name in ("two categories of one name", "a category of Roboflow", "an image twice", "ids of two types"):
            VARIANTS[name](content)

    told = "; ".join(read("coco", make(tmp_path, change)).understood)
    for said in (
        "1 (dog)",
        "1 (animals)",
        "one image: 1 (img/0.jpg)",
        "numbers in one place",
        "no label: 1 (img/1.jpg)",
    ):
        assert said in told


OWN: dict[str, Callable[[int, tuple[int, ...]], Any]] = {
    "names": lambda k, labels: [LABELS[n] for n in labels],
    "ids": lambda k, labels: [n + 1 for n in labels],
    "objects": lambda k, labels: [{"name": LABELS[n]} for n in labels],
}


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("lists", ["empty", "missing"])
def test_labels_within_images(tmp_path: Path, kind: str, lists: str) -> None:
    def change(content: dict[str, Any]) -> None:
        for k, image in enumerate(content["images"]):
            image["labels"] = OWN[kind](k, SETS[k])
        content["annotations"] = []
        if lists == "missing":
            del content["annotations"]

    assert labels_of(read("coco", make(tmp_path, change))) == EXPECTED


def test_verified_absent_labels_within_images(tmp_path: Path) -> None:
    """As OpenImages: a confidence of 0 is a label that was looked for and not found."""

    def change(content: dict[str, Any]) -> None:
        del content["annotations"]
        for image in content["images"]:
            image["labels"] = [{"LabelName": "sea", "Confidence": 1}, {"LabelName": "dog", "Confidence": 0}]
        content["images"][1]["labels"] = [{"LabelName": "sky", "Confidence": 1}]

    found = labels_of(read("coco", make(tmp_path, change)))
    assert found["0.jpg"] == "sea ?sky" and found["1.jpg"] == "sky"


def test_lvis_is_unknown_where_it_says_nothing(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["neg_category_ids"], image["not_exhaustive_category_ids"] = [], [2]
        content["images"][2]["neg_category_ids"] = [1]
        content["images"][0]["neg_category_ids"] = [1]  # and annotated, too

    found = read("coco", make(tmp_path, change))
    assert labels_of(found) == {
        "0.jpg": "sea dog ?sky",
        "1.jpg": "?sea ?dog ?sky",
        "2.jpg": "dog ?sky",
        "3.jpg": "sea dog sky",
    }
    told = " ".join(found.understood)
    assert "1 times they are annotated, too" in told
    assert "of which no label is known: 1 (img/1.jpg)" in told and "which have no label" not in told


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "category": (lambda c: c["annotations"].append({"id": 77, "image_id": 1, "category_id": 99}), "category_id 99"),
    "image": (lambda c: c["annotations"].append({"id": 77, "image_id": 99, "category_id": 1}), "image_id 99"),
    "neither": (lambda c: c["annotations"].append({"id": 77, "image_id": 1}), "has no category_id"),
    "no object": (lambda c: c["annotations"].append(77), "is no object"),
    "no name": (lambda c: c["images"].append({"id": 77}), "no id or no file_name"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_stops_and_can_be_left_out(tmp_path: Path, kind: str) -> None:
    change, said = BROKEN[kind]
    file = make(tmp_path, change)
    error = refusal("coco", file)
    assert said in error.what
    (line,) = commands(error)
    assert "--drop-broken" in line
    found = read("coco", file, drop_broken=True)
    assert labels_of(found) == EXPECTED
    assert said in " ".join(found.understood)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["annotations"].clear(), "annotates no image"),
        (lambda c: c["images"].clear(), "lists no images"),
        (lambda c: c["categories"].append({"id": 5, "name": " "}), "has no name"),
        (lambda c: c["categories"].append({"id": 1, "name": "x"}), "two categories have the id 1"),
        (lambda c: c["images"].append({"id": 1, "file_name": "img/9.jpg"}), "two images have the id 1"),
        (lambda c: c["images"][0].update(split="mine"), "has the split 'mine'"),
        (lambda c: [image.update(split="train") for image in c["images"][1:]], "1 of 4 images have no split"),
        (lambda c: c["categories"][0].update(name="Dog"), "may be one label in several spellings"),
    ],
)
def test_what_nobody_can_read_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str) -> None:
    assert said in refusal("coco", make(tmp_path, change)).what


def test_no_categories_needs_their_names(tmp_path: Path) -> None:
    file = make(tmp_path, lambda content: content.pop("categories"))
    (line,) = commands(refusal("coco", file))
    assert line[3:5] == ["--label-names", "label1,label2,label3"]
    assert labels_of(read("coco", file, label_names=LABELS)) == EXPECTED
    assert "1, 2, 3" in refusal("coco", file, label_names=("one",)).what


def test_a_list_of_results_is_refused_for_what_it_is(tmp_path: Path) -> None:
    file = write_json(tmp_path / "results.json", [{"image_id": 1, "category_id": 1, "score": 0.5}])
    assert "results of a detector" in refusal("coco", file).what


def test_splits_of_images(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for image, word in zip(content["images"], ("train", "Train", "valid", "testing"), strict=True):
            image["subset"] = word

    assert list(splits_of(read("coco", make(tmp_path, change))).values()) == ["train", "train", "val", "test"]


LAYOUTS = {
    "images and annotations": ("annotations/instances_{0}2017.json", "images"),
    "a folder for each year": ("annotations/instances_{0}2017.json", "{0}2017"),
    "years in images": ("annotations/instances_{0}2017.json", "images/{0}2017"),
    "beside each other": ("{0}.json", "images"),
    "Roboflow": ("{0}/_annotations.coco.json", "{0}"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_for_each_split(tmp_path: Path, layout: str) -> None:
    file, folder = LAYOUTS[layout]
    for split, start, stop in (("train", 0, 3), ("val", 3, 4)):
        draw_images(tmp_path / folder.format(split), [f"{k}.jpg" for k in range(start, stop)])
        write_json(tmp_path / file.format(split), document(start, stop, ""))
    if "annotations" in file:
        write_json(tmp_path / "annotations" / "captions_val2017.json", {"images": [], "annotations": []})
    found = read("coco", tmp_path)
    assert labels_of(found) == EXPECTED
    assert splits_of(found) == {"0.jpg": "train", "1.jpg": "train", "2.jpg": "train", "3.jpg": "val"}
    assert all_are_files(found)


def test_categories_are_joined_by_name_where_ids_differ(tmp_path: Path) -> None:
    draw_images(tmp_path / "img", [f"{k}.jpg" for k in range(4)])
    other = document(3, 4)
    each(other, "categories", "id", lambda k: 40 - k)
    each(other, "annotations", "category_id", lambda k: 40 - k)
    write_json(tmp_path / "train.json", document(0, 3))
    write_json(tmp_path / "test.json", other)
    assert labels_of(read("coco", tmp_path)) == EXPECTED


def test_files_of_which_only_some_name_a_split(tmp_path: Path) -> None:
    draw_images(tmp_path / "img", [f"{k}.jpg" for k in range(4)])
    write_json(tmp_path / "train.json", document(0, 3))
    write_json(tmp_path / "more.json", document(3, 4))
    assert "more.json say no split" in refusal("coco", tmp_path).what


def test_a_test_file_alone_is_a_data_set_without_splits(tmp_path: Path) -> None:
    make(tmp_path)
    write_json(tmp_path / "b" / "instances_val.json", document(prefix="../img/"))
    assert read("coco", tmp_path / "b" / "instances_val.json").rows.splits is None


def test_polygons_are_not_kept_in_memory(tmp_path: Path) -> None:
    import tracemalloc

    content = document()
    shape = np.arange(200_000, dtype=float).tolist()
    for entry in content["annotations"]:
        entry["segmentation"] = [shape]
    draw_images(tmp_path / "img", [f"{k}.jpg" for k in range(4)])
    file = write_json(tmp_path / "a.json", content)
    tracemalloc.start()
    read("coco", file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * file.stat().st_size, "one annotation's polygon at a time, besides the text"
