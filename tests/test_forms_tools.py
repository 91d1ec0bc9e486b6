"""Foreign forms of annotation tools in JSON: Label Studio and FiftyOne."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from foreign import all_are_files, commands, draw_images, labels_of, read, refusal, splits_of, write_json

# Label Studio


def chosen(*labels: str, control: str = "labels", kind: str = "choices") -> dict[str, Any]:
    """An entry of `result`."""
    return {"from_name": control, "to_name": "image", "type": kind, "value": {kind: list(labels)}}


def annotation(*results: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"result": list(results), "was_cancelled": False, **more}


def task(number: int, *annotations: dict[str, Any], image: str | None = None, **data: Any) -> dict[str, Any]:
    return {
        "id": number,
        "data": {"image": image or f"/data/upload/7/0a1b2c3d-{number}.jpg", **data},
        "annotations": list(annotations),
    }


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    """Images under the names that they had before their upload."""
    draw_images(tmp_path / "upload", [f"{k}.jpg" for k in range(6)])
    return tmp_path


def test_label_studio_who_chose_what(uploads: Path) -> None:
    tasks = [
        task(0, annotation(chosen("sea", "dog"))),
        task(1, annotation()),
        task(2, annotation(chosen("sea", "dog")), annotation(chosen("sea"))),
        task(3, annotation(chosen("dog")), annotation(chosen("dog")), annotation(chosen("sea"), ground_truth=True)),
    ]
    found = read("label-studio", write_json(uploads / "export.json", tasks))
    assert labels_of(found) == {"0.jpg": "dog sea", "1.jpg": "", "2.jpg": "?dog sea", "3.jpg": "sea"}
    assert all_are_files(found)
    assert "annotators disagree: 1" in " ".join(found.understood)


@pytest.mark.parametrize("key", ["was_cancelled", "skipped"])
def test_label_studio_tasks_that_nobody_labelled_are_left_out(uploads: Path, key: str) -> None:
    skipped = {"result": [chosen("dog")], key: True}
    tasks = [task(0, annotation(chosen("sea"))), task(1, skipped), task(2)]
    found = read("label-studio", write_json(uploads / "export.json", tasks))
    assert labels_of(found) == {"0.jpg": "sea"}
    assert "left out: 2 (1, 2)" in " ".join(found.understood)


def test_label_studio_taxonomy_regions_and_what_is_no_label(uploads: Path) -> None:
    taxonomy = {"type": "taxonomy", "from_name": "t", "value": {"taxonomy": [["animal", "dog"], ["scene"]]}}
    text = {"type": "textarea", "from_name": "note", "value": {"text": ["a note"]}}
    rating = {"type": "rating", "from_name": "r", "value": {"rating": 4}}
    box = {"type": "rectanglelabels", "from_name": "b", "value": {"x": 1, "rectanglelabels": ["boat"]}}
    tasks = [task(0, annotation(taxonomy, text, rating, box))]
    found = read("label-studio", write_json(uploads / "export.json", tasks))
    assert labels_of(found) == {"0.jpg": "animal/dog boat scene"}
    assert "several controls" in " ".join(found.understood)
    only = read("label-studio", uploads / "export.json", labels_column="b")
    assert labels_of(only) == {"0.jpg": "boat"}


def test_label_studio_one_name_under_two_controls_is_two_labels(uploads: Path) -> None:
    tasks = [task(0, annotation(chosen("good", control="light"), chosen("good", "old", control="boat")))]
    found = read("label-studio", write_json(uploads / "export.json", tasks))
    assert labels_of(found) == {"0.jpg": "boat: good light: good old"}


@pytest.mark.parametrize(
    "image",
    [
        "/data/upload/7/0a1b2c3d-1.jpg",
        "/data/local-files/?d=somewhere/upload/1.jpg",
        "s3://bucket/photos/1.jpg",
        "https://host/photos/1.jpg?token=x",
        "upload/1.jpg",
    ],
)
def test_label_studio_images_are_found_by_their_names(uploads: Path, image: str) -> None:
    tasks = [task(1, annotation(chosen("sea")), image=image)]
    assert all_are_files(read("label-studio", write_json(uploads / "export.json", tasks)))


def test_label_studio_min(uploads: Path) -> None:
    tasks = [
        {"id": 0, "image": "upload/0.jpg", "choice": {"choices": ["sea", "dog"]}},
        {"id": 1, "image": "upload/1.jpg", "choice": "sea"},
        {"id": 2, "image": "upload/2.jpg"},
        {"id": 3, "image": "upload/3.jpg", "choice": "dog", "annotator": 1},
        {"id": 3, "image": "upload/3.jpg", "choice": "sea", "annotator": 2},
    ]
    file = write_json(uploads / "min.json", tasks)
    found = read("label-studio", file)
    assert labels_of(found) == {"0.jpg": "dog sea", "1.jpg": "sea", "2.jpg": "", "3.jpg": "?dog ?sea"}
    assert "which have no label: 1 (2)" in " ".join(found.understood)
    assert set(labels_of(read("label-studio", file, blank="unknown"))) == {"0.jpg", "1.jpg", "3.jpg"}


def test_label_studio_min_with_two_lists_of_choices_asks(uploads: Path) -> None:
    tasks = [{"id": 0, "image": "0.jpg", "a": {"choices": ["x", "y"]}, "b": {"choices": ["z", "w"]}}]
    file = write_json(uploads / "min.json", tasks)
    assert "--labels-column" in refusal("label-studio", file).remedy
    assert labels_of(read("label-studio", file, labels_column="b")) == {"0.jpg": "w z"}


def test_label_studio_a_task_without_an_image_is_named(uploads: Path) -> None:
    tasks = [{"id": 7, "data": {"text": "hello"}, "annotations": [annotation(chosen("sea"))]}]
    assert "task 7 names no image" in refusal("label-studio", write_json(uploads / "a.json", tasks)).what


# FiftyOne


def make_directory(root: Path, labels: dict[str, Any], classes: list[str] | None = None) -> Path:
    draw_images(root / "data", [f"{k}.jpg" for k in range(4)])
    return write_json(root / "labels.json", {"classes": classes or ["sea", "dog", "sky"], "labels": labels})


def test_fiftyone_targets_of_all_kinds(tmp_path: Path) -> None:
    labels = {"0": [0, 1], "1": 1, "2": [{"label": 0, "confidence": 0.7}, {"label": "dog"}], "3": []}
    file = make_directory(tmp_path, labels)
    for source in (file, tmp_path):
        found = read("fiftyone", source)
        assert labels_of(found) == {"0.jpg": "sea dog", "1.jpg": "dog", "2.jpg": "sea dog", "3.jpg": ""}
        assert all_are_files(found)
    assert "left out: 1 (sky)" in " ".join(found.understood)


def test_fiftyone_null_is_not_labelled_unless_said(tmp_path: Path) -> None:
    file = make_directory(tmp_path, {"0": [0], "1": None})
    found = read("fiftyone", file)
    assert labels_of(found) == {"0.jpg": "sea"} and "(--blank): 1 (1)" in " ".join(found.understood)
    assert labels_of(read("fiftyone", file, blank="absent")) == {"0.jpg": "sea", "1.jpg": ""}


def test_fiftyone_a_number_without_a_class(tmp_path: Path) -> None:
    file = make_directory(tmp_path, {"0": [0], "1": [7]})
    assert "there are 3 classes" in refusal("fiftyone", file).what
    assert labels_of(read("fiftyone", file, drop_broken=True)) == {"0.jpg": "sea"}


def test_fiftyone_a_directory_for_each_split(tmp_path: Path) -> None:
    make_directory(tmp_path / "train", {"0": [0], "1": [1]})
    make_directory(tmp_path / "validation", {"2": [1]}, ["dog", "sea"])
    found = read("fiftyone", tmp_path)
    assert labels_of(found) == {"0.jpg": "sea", "1.jpg": "dog", "2.jpg": "sea"}
    assert splits_of(found) == {"0.jpg": "train", "1.jpg": "train", "2.jpg": "val"}


def sample(number: int, *labels: str, field: str = "ground_truth", tags: tuple[str, ...] = ()) -> dict[str, Any]:
    listed = [{"_cls": "Classification", "label": label} for label in labels]
    value = {"_cls": "Classifications", "classifications": listed} if labels else None
    return {"filepath": f"data/{number}.jpg", "tags": list(tags), field: value}


def test_fiftyone_export_with_tags_as_splits(tmp_path: Path) -> None:
    draw_images(tmp_path / "data", ["0.jpg", "1.jpg"])
    samples = [
        sample(0, "sea", "dog", tags=("train", "x")),
        sample(1, "dog", tags=("test",)),
        sample(2, tags=("test",)),
    ]
    write_json(tmp_path / "samples.json", {"samples": samples})
    write_json(tmp_path / "metadata.json", {"name": "photos"})
    found = read("fiftyone", tmp_path)
    assert labels_of(found) == {"0.jpg": "dog sea", "1.jpg": "dog"}
    assert splits_of(found) == {"0.jpg": "train", "1.jpg": "test"}
    assert "samples without 'ground_truth', left out: 1" in " ".join(found.understood)


def test_fiftyone_export_with_two_fields_asks(tmp_path: Path) -> None:
    draw_images(tmp_path / "data", ["0.jpg"])
    one = {**sample(0, "sea", field="people"), "model": sample(0, "dog", field="model")["model"]}
    file = write_json(tmp_path / "samples.json", {"samples": [one]})
    (line,) = commands(refusal("fiftyone", file))
    assert line[3:5] == ["--labels-column", "model"]
    found = read("fiftyone", file, labels_column="people")
    assert labels_of(found) == {"0.jpg": "sea"} and found.rows.ignored == ("model",)
