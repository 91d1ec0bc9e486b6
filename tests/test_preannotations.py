"""Label sets for annotation tools: what is written, and that `import` reads the same sets back."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, get_args

import pytest
from conftest import draw_image
from foreign import all_are_files, labels_of, read
from PIL import Image

from labeldep_cli.cli.formats import open_form
from labeldep_cli.cli.preannotations import ROOT_VARIABLE, Tool
from labeldep_cli.datasets.split import Skipped
from labeldep_cli.labelling.prediction import Prediction

PROBABILITIES: dict[str, dict[str, float]] = {
    "a b.png": {"sea": 0.9, "dog": 0.2, "sky, grey": 0.8},
    "none.png": {"sea": 0.1, "dog": 0.4, "sky, grey": 0.3},
    "é.png": {"sea": 0.6, "dog": 0.7, "sky, grey": 0.0},
}
EXPECTED = {"a b.png": {"sea", "sky, grey"}, "none.png": set(), "é.png": {"sea", "dog"}}


def written(tool: Tool, images: Path, folder: Path) -> Any:
    """The document of three images, which are drawn; a fourth is skipped."""
    stream = io.StringIO()
    form = open_form(tool, stream, everything=False, folder=folder)
    for seed, (name, p) in enumerate(PROBABILITIES.items()):
        path = draw_image(images / name, seed, (48, 32))
        labels = sorted(((label, value) for label, value in p.items() if value > 0.5), key=lambda pair: -pair[1])
        form.add(Prediction(str(path), tuple(labels), p, 0.5))
    form.skip(Skipped("broken.png", "not an image"))
    assert stream.getvalue() == "", "one document, which is not begun before all is known"
    form.end()
    return json.loads(stream.getvalue())


@pytest.mark.parametrize("tool", get_args(Tool))
@pytest.mark.parametrize("place", [".", "elsewhere"])
def test_import_reads_the_same_label_sets_back(tmp_path: Path, tool: Tool, place: str) -> None:
    folder = tmp_path / place
    folder.mkdir(exist_ok=True)
    (folder / "labels.json").write_text(json.dumps(written(tool, tmp_path / "photos", folder)))
    found = read(tool, folder / "labels.json")
    sets = dict(zip(labels_of(found), found.rows.labels.tolist(), strict=True))
    assert {image: {n for n, v in zip(found.rows.names, y, strict=True) if v} for image, y in sets.items()} == EXPECTED
    assert all_are_files(found)


def test_coco_has_a_box_of_the_whole_image_as_it_is_shown(tmp_path: Path) -> None:
    """An image that is stored turned has the size that people see."""
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (48, 32)).save(tmp_path / "turned.jpg", exif=turned)
    stream = io.StringIO()
    form = open_form("coco", stream, everything=False, folder=tmp_path)
    form.add(Prediction(str(tmp_path / "turned.jpg"), (("sea", 0.75),), {"dog": 0.25, "sea": 0.75}, 0.5))
    form.end()
    assert json.loads(stream.getvalue()) == {
        "images": [{"id": 1, "file_name": "turned.jpg", "width": 32, "height": 48, "confidence": 0.5}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 2,
                "bbox": [0, 0, 32, 48],
                "area": 1536,
                "segmentation": [],
                "iscrowd": 0,
                "score": 0.75,
            }
        ],
        "categories": [
            {"id": 1, "name": "dog", "supercategory": ""},
            {"id": 2, "name": "sea", "supercategory": ""},
        ],
    }


def test_coco_ids_are_unique_and_paths_outside_are_absolute(tmp_path: Path) -> None:
    content = written("coco", tmp_path / "photos", tmp_path / "elsewhere")
    assert [entry["id"] for entry in content["annotations"]] == [1, 2, 3, 4]
    assert content["images"][0]["file_name"] == str(tmp_path / "photos" / "a b.png")


def test_fiftyone_has_numbers_of_classes_with_their_confidence(tmp_path: Path) -> None:
    content = written("fiftyone", tmp_path, tmp_path)
    assert content["classes"] == ["sea", "dog", "sky, grey"]
    assert content["labels"] == {
        str(tmp_path / "a b.png"): [{"label": 0, "confidence": 0.9}, {"label": 2, "confidence": 0.8}],
        str(tmp_path / "none.png"): [],
        str(tmp_path / "é.png"): [{"label": 1, "confidence": 0.7}, {"label": 0, "confidence": 0.6}],
    }


def test_label_studio_has_tasks_with_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    first, second, _ = written("label-studio", tmp_path / "photos", tmp_path)
    choice = {"from_name": "labels", "to_name": "image", "type": "choices", "value": {"choices": ["sea", "sky, grey"]}}
    assert first == {
        "data": {"image": "/data/local-files/?d=photos/a%20b.png", "confidence": 0.5},
        "predictions": [{"model_version": "labeldep", "score": 0.8, "result": [choice]}],
    }
    assert second["predictions"] == [{"model_version": "labeldep", "score": 0.6, "result": []}]
