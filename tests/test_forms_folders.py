"""Foreign forms that are folders or XML: Pascal VOC, ImageFolder, CVAT."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from foreign import all_are_files, draw_images, labels_of, read, refusal, splits_of

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.ingest.find_images import ImageFinder
from labeldep_cli.ingest.forms import FORMS

# Pascal VOC


def voc_xml(name: str, *objects: tuple[str, int]) -> str:
    """The annotation of an image; an object is a name, and whether it is difficult."""
    parts = "".join(
        f"<object><name>{label}</name><difficult>{difficult}</difficult><part><name>head</name></part></object>"
        for label, difficult in objects
    )
    return f"<annotation><filename>{name}</filename>{parts}</annotation>"


def make_voc(root: Path, lists: dict[str, list[str]]) -> Path:
    draw_images(root / "JPEGImages", [f"{k}.jpg" for k in range(4)])
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    contents = ([("dog", 0), ("boat", 0)], [("dog", 1), ("dog", 0)], [("dog", 1), ("boat", 0)], [])
    for k, objects in enumerate(contents):
        (root / "Annotations" / f"{k}.xml").write_text(voc_xml(f"{k}.jpg", *objects))
    for name, ids in lists.items():
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{one}\n" for one in ids))
    return root


def test_voc_labels_are_unknown_where_all_objects_are_difficult(tmp_path: Path) -> None:
    found = read("voc", make_voc(tmp_path, {}))
    assert labels_of(found) == {"0.jpg": "boat dog", "1.jpg": "dog", "2.jpg": "boat ?dog", "3.jpg": ""}
    assert found.rows.splits is None
    assert all_are_files(found)
    assert found.understood == ("labels that are unknown, since all their objects are marked difficult: 1",)


def test_voc_lists_are_splits_and_what_they_lack_is_said(tmp_path: Path) -> None:
    lists = {"train": ["0"], "val": ["1"], "trainval": ["0", "1"], "test": ["2", "9"]}
    lists["dog_train"] = ["0  1", "1 -1"]
    found = read("voc", make_voc(tmp_path, lists))
    assert splits_of(found) == {"0.jpg": "train", "1.jpg": "val", "2.jpg": "test"}
    told = " ".join(found.understood)
    assert "left out: 1 (3)" in told and "without an annotation, left out: 1 (9)" in told


def test_voc_with_a_trainval_list_alone(tmp_path: Path) -> None:
    assert set(splits_of(read("voc", make_voc(tmp_path, {"trainval": ["0", "1"]}))).values()) == {"train"}


@pytest.mark.parametrize("other", ["test", "val"])
def test_voc_an_image_in_two_lists_is_refused(tmp_path: Path, other: str) -> None:
    assert "'0' is in" in refusal("voc", make_voc(tmp_path, {"train": ["0"], other: ["0"]})).what


def test_voc_years_within_a_folder_and_the_annotations_folder_itself(tmp_path: Path) -> None:
    for year in ("VOC2007", "VOC2012"):
        make_voc(tmp_path / "VOCdevkit" / year, {"train": ["0"], "val": ["1"]})
    assert len(read("voc", tmp_path).rows.paths) == 4
    assert len(read("voc", tmp_path / "VOCdevkit" / "VOC2007" / "Annotations").rows.paths) == 2


def test_voc_xml_beside_images_in_a_folder_for_each_split(tmp_path: Path) -> None:
    for folder in ("train", "valid", "test"):
        draw_images(tmp_path / folder, ["x.jpg"])
        (tmp_path / folder / "x.xml").write_text(voc_xml("renamed since.jpg", (f"of {folder}", 0)))
    found = read("voc", tmp_path)
    assert sorted(found.rows.splits or ()) == ["test", "train", "val"]
    assert all_are_files(found), "the XML's own name finds the image"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("<annotation><object></object></annotation>", "object 1 has no name"),
        ("<annotation><object>", "not valid XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "declares entities"),
    ],
)
def test_voc_a_broken_file_is_named_and_can_be_left_out(tmp_path: Path, content: str, said: str) -> None:
    make_voc(tmp_path, {})
    (tmp_path / "Annotations" / "1.xml").write_text(content)
    error = refusal("voc", tmp_path)
    assert said in error.what and "1.xml" in error.what and "--drop-broken" in error.remedy
    found = read("voc", tmp_path, drop_broken=True)
    assert set(labels_of(found)) == {"0.jpg", "2.jpg", "3.jpg"}
    assert said in " ".join(found.understood)


# ImageFolder


def make_folders(root: Path) -> Path:
    """Image 0 is in two folders under two names, image 1 in one; x.jpg is another image in each folder."""
    draw_images(root / "boat", ["0.jpg", "1.jpg", "x.jpg"])
    (root / "dog").mkdir()
    shutil.copyfile(root / "boat" / "0.jpg", root / "dog" / "copy of 0.jpg")
    draw_images(root / "dog" / "deep", ["a.jpg", "b.jpg", "c.jpg", "x.jpg"])
    return root


def test_folders_images_are_one_by_their_bytes_not_by_their_names(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "data")
    (root / "dog" / "deep" / "a.jpg").unlink()  # the bytes of boat/0.jpg
    (root / "dog" / "deep" / "b.jpg").unlink()  # the bytes of boat/1.jpg
    (root / "dog" / "deep" / "c.jpg").unlink()  # the bytes of boat/x.jpg
    found = read("imagefolder", root)
    assert [labels for _, labels in sorted(labels_of(found).items())] == ["boat dog", "boat", "dog"]
    assert len(found.rows.paths) == 4, "x.jpg is two images"
    told = " ".join(found.understood)
    assert "1 copies, 1 images with several labels" in told
    assert "different images: 1 (x.jpg)" in told


def test_folders_a_word_for_nothing_and_images_outside(tmp_path: Path) -> None:
    draw_images(tmp_path, ["stray.jpg", "boat/1.jpg", "dog/2.jpg", "empty/3.jpg", ".hidden/4.jpg"])
    error = refusal("imagefolder", tmp_path)
    assert "'empty' may be no label" in error.what
    found = read("imagefolder", tmp_path, nothing=("empty",))
    assert labels_of(found) == {"1.jpg": "boat", "2.jpg": "dog", "3.jpg": ""}
    assert "left out: 1 (stray.jpg)" in " ".join(found.understood)


def test_folders_above_the_labels_are_splits(tmp_path: Path) -> None:
    draw_images(tmp_path, ["train/a/1.jpg", "train/b/2.jpg", "Validation/a/3.jpg", "test/b/4.jpg", "extra/c/5.jpg"])
    found = read("imagefolder", tmp_path)
    assert splits_of(found) == {"1.jpg": "train", "2.jpg": "train", "3.jpg": "val", "4.jpg": "test"}
    assert "left out: 1 (extra)" in " ".join(found.understood)


def test_folders_copies_on_both_sides_of_a_split_stay_two_images(tmp_path: Path) -> None:
    """They are a leak, which is shown to the user and not hidden by dropping one of them."""
    draw_images(tmp_path, ["train/a/1.jpg", "test/b/2.jpg"])
    shutil.copyfile(tmp_path / "train" / "a" / "1.jpg", tmp_path / "test" / "b" / "1.jpg")
    assert sorted(read("imagefolder", tmp_path).rows.splits or ()) == ["test", "test", "train"]


def test_folders_a_label_called_like_a_split(tmp_path: Path) -> None:
    found = read("imagefolder", draw_images(tmp_path, ["train/1.jpg", "boat/2.jpg"]))
    assert labels_of(found) == {"1.jpg": "train", "2.jpg": "boat"}


@pytest.mark.parametrize("name", ["labels.csv", "metadata.jsonl", "a.parquet"])
def test_folders_beside_a_file_with_labels_are_not_taken_for_labels(tmp_path: Path, name: str) -> None:
    draw_images(tmp_path, ["a/1.jpg", "b/2.jpg"])
    (tmp_path / name).touch()
    assert not FORMS["imagefolder"].reader.recognises(tmp_path)


# CVAT


def make_cvat(root: Path, subsets: tuple[str, str, str] = ("Train", "Train", "Test")) -> Path:
    draw_images(root / "images", [f"{subset}/{k}.jpg" for k, subset in enumerate(subsets)])
    bodies = (
        '<tag label="sea"/><box label="dog" xtl="1"><attribute name="age">3</attribute></box>',
        "",
        '<tag label="dog"/>',
    )
    images = "".join(
        f'<image id="{k}" name="{k}.jpg" subset="{subset}" width="9" height="9">{body}</image>'
        for k, (subset, body) in enumerate(zip(subsets, bodies, strict=True))
    )
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("sea", "dog", "sky"))
    (root / "annotations.xml").write_text(
        f"<?xml version='1.0'?><annotations><version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"
        f"{images}</annotations>"
    )
    return root


def test_cvat_tags_and_shapes_are_labels_and_subsets_are_splits(tmp_path: Path) -> None:
    found = read("cvat", make_cvat(tmp_path))
    assert labels_of(found) == {"0.jpg": "sea dog", "1.jpg": "", "2.jpg": "dog"}
    assert splits_of(found) == {"0.jpg": "train", "1.jpg": "train", "2.jpg": "test"}
    assert all_are_files(found)
    told = " ".join(found.understood)
    assert "no label: 1 (1.jpg)" in told and "left out: 1 (sky)" in told
    assert labels_of(read("cvat", tmp_path / "annotations.xml")) == labels_of(found)


def test_cvat_subsets_that_are_no_splits(tmp_path: Path) -> None:
    found = read("cvat", make_cvat(tmp_path / "one", ("default", "default", "default")))
    assert found.rows.splits is None and "not kept: 1 (default)" in " ".join(found.understood)
    assert "no splits, but others are" in refusal("cvat", make_cvat(tmp_path / "two", ("Train", "Train", "odd"))).what


def test_cvat_tracks_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text('<annotations><track id="0" label="dog"><box frame="0"/></track></annotations>')
    assert "tracks of a video" in refusal("cvat", tmp_path / "a.xml").what


# Where images are


@pytest.mark.parametrize(
    "written",
    ["img/a b.jpg", "img\\a b.jpg", "img/a%20b.jpg", "https://host/img/a%20b.jpg?x=1", "prefix/img/a b.jpg", "img/a b"],
)
def test_images_are_found_however_they_are_written(tmp_path: Path, written: str) -> None:
    draw_images(tmp_path, ["img/a b.jpg", "other/a b.jpg"])
    assert ImageFinder(ImportConfig(), [tmp_path]).find(written) == str(tmp_path / "img" / "a b.jpg")


def test_images_that_are_nowhere_or_in_two_places_keep_their_name(tmp_path: Path) -> None:
    draw_images(tmp_path, ["one/a.jpg", "two/a.jpg"])
    finder = ImageFinder(ImportConfig(), [tmp_path])
    assert (finder.find("a.jpg"), finder.find("b.jpg")) == ("a.jpg", "b.jpg")
    given = ImageFinder(ImportConfig(images_dir=tmp_path / "two", suffix=".jpg"), [tmp_path / "one"])
    assert given.find("a") == str(tmp_path / "two" / "a.jpg")
