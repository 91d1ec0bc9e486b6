"""Files of the right form with a wrong value somewhere: each is read, or refused with its place and a remedy."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from foreign import draw_images, write_json

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.errors import DatasetError
from labeldep_cli.ingest.forms import FORMS

WRONG = (None, 7, -1, 0.5, float("nan"), float("inf"), 10**400, True, "x", "", [], {}, [[1]], [None], {"a": {"b": 1}})

CHOICES = {"from_name": "c", "type": "choices", "value": {"choices": ["sea"]}}

CONTENTS: dict[str, tuple[str, str, Any]] = {
    "COCO": (
        "coco",
        "a.json",
        {
            "images": [
                {"id": 1, "file_name": "0.jpg", "split": "train"},
                {"id": 2, "file_name": "1.jpg", "split": "val"},
            ],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1}],
            "categories": [{"id": 1, "name": "sea"}],
        },
    ),
    "LVIS with labels in images": (
        "coco",
        "a.json",
        {
            "images": [{"id": 1, "file_name": "0.jpg", "neg_category_ids": [1], "labels": [1, {"name": "dog"}]}],
            "categories": [{"id": 1, "name": "sea"}, {"id": 2, "name": "dog"}],
        },
    ),
    "Label Studio": (
        "label-studio",
        "a.json",
        [
            {"id": 1, "data": {"image": "0.jpg"}, "annotations": [{"result": [CHOICES], "was_cancelled": False}]},
            {"id": 2, "data": {"image": "1.jpg"}, "predictions": [{"result": [CHOICES], "model_version": "m"}]},
        ],
    ),
    "JSON-MIN": (
        "label-studio",
        "a.json",
        [{"id": 1, "image": "0.jpg", "choice": {"choices": ["sea"]}}, {"id": 2, "image": "1.jpg", "choice": "dog"}],
    ),
    "FiftyOne": (
        "fiftyone",
        "labels.json",
        {"classes": ["sea", "dog"], "labels": {"0": [0, 1], "1": {"label": 1, "confidence": 0.5}}},
    ),
    "FiftyOne's export": (
        "fiftyone",
        "samples.json",
        {
            "samples": [
                {
                    "filepath": "0.jpg",
                    "tags": ["train"],
                    "ground_truth": {"_cls": "Classifications", "classifications": [{"label": "sea"}]},
                }
            ]
        },
    ),
    "records": (
        "records",
        "a.json",
        [
            {"path": "0.jpg", "labels": ["sea"], "unknown": ["dog"], "split": "train", "group": "g", "fold": 1},
            {"path": "1.jpg", "labels": {"dog": 1, "sea": 0}, "split": "val", "group": "g", "fold": 0},
        ],
    ),
}


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of each value within a JSON value."""
    yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*place, key))


def changed(content: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    content = copy.deepcopy(content)
    holder = content
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = new
    return content


@pytest.mark.parametrize("name", CONTENTS)
def test_a_wrong_value_is_no_crash(tmp_path: Path, name: str) -> None:
    form, file_name, content = CONTENTS[name]
    draw_images(tmp_path, ["0.jpg", "1.jpg"])
    reader, file = FORMS[form].reader, tmp_path / file_name
    reader.read(write_json(file, content), ImportConfig())
    for place in places(content):
        for wrong in WRONG:
            file.write_text(json.dumps(changed(content, place, wrong)))
            reader.recognises(file)
            for drop_broken in (False, True):
                try:
                    reader.read(file, ImportConfig(drop_broken=drop_broken))
                except DatasetError as error:
                    assert str(file) in error.what and error.remedy, (place, wrong)
                except Exception as error:
                    raise AssertionError(f"{wrong!r} at {place}: {error!r}") from error


@pytest.mark.parametrize("text", ["1" * 5000, "[" * 100_000])
@pytest.mark.parametrize("ending", [".json", ".jsonl"])
def test_numbers_and_lists_without_an_end_are_no_crash(tmp_path: Path, text: str, ending: str) -> None:
    file = tmp_path / f"a{ending}"
    file.write_text(f'{{"path": "0.jpg", "labels": {text}')
    for form in FORMS.values():
        form.reader.recognises(file)
    with pytest.raises(DatasetError, match=re.escape(str(file))):
        FORMS["records"].reader.read(file, ImportConfig())


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, name: str) -> None:
    form, file_name, content = CONTENTS[name]
    text = json.dumps(content)
    for end in range(0, len(text), 7):
        (tmp_path / file_name).write_text(text[:end])
        FORMS[form].reader.recognises(tmp_path / file_name)
        with pytest.raises(DatasetError, match="not valid JSON"):
            FORMS[form].reader.read(tmp_path / file_name, ImportConfig())
