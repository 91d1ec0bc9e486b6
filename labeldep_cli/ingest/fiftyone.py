"""FiftyOne's image classification directory (`data/` and `labels.json`), and its own export (`samples.json`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets.split_words import split_of
from labeldep_cli.errors import DatasetError
from labeldep_cli.ingest.again import import_again
from labeldep_cli.ingest.entries import Entry, Reading
from labeldep_cli.ingest.find_images import ImageFinder
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.json_text import first_key, head_of, read_json
from labeldep_cli.ingest.words import some

_LABELS, _SAMPLES = "labels.json", "samples.json"
_SHOWN = 'labels.json is {"classes": [...], "labels": {"image": [0, 2]}}.'
_KINDS = {
    "Classification": None,
    "Classifications": "classifications",
    "Detections": "detections",
    "Polylines": "polylines",
    "Keypoints": "keypoints",
}
"""The fields of a sample that have labels, and the key of their list; None for a single label."""


def recognises(source: Path) -> bool:
    """Whether a folder or its folders hold such files, or a JSON file is one."""
    return bool(_files(source)) and all(_is_form(file) for file in _files(source))


def read(source: Path, config: ImportConfig) -> Foreign:
    """Read a directory, its JSON file, or a folder with a directory for each split.

    Raises:
        DatasetError: the file has another form; or samples have several fields with labels, and none is named.
    """
    reading = Reading(source, config)
    files = _files(source)
    for file in files:
        content = read_json(file, config.encoding)
        finder = reading.finder([file.parent / "data", file.parent])
        split = split_of(file.parent.name) if source.is_dir() and file.parent != source else None
        if isinstance(content, dict) and isinstance(content.get("samples"), list):
            _read_samples(content["samples"], file, finder, reading)
        elif isinstance(content, dict) and isinstance(content.get("labels"), dict):
            _read_labels(content, file, finder, split, reading)
        else:
            raise DatasetError(f"{file} has neither 'labels' nor 'samples'", _SHOWN)
    return reading.finish(files[0].parent if len(files) == 1 else source)


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    names = (_LABELS, _SAMPLES)
    here = [source / name for name in names if (source / name).is_file()]
    return here[:1] or sorted(path for name in names for path in source.glob(f"*/{name}") if split_of(path.parent.name))


def _is_form(file: Path) -> bool:
    head = head_of(file)
    if first_key(head) == "samples":
        return '"filepath"' in head
    return first_key(head) in ("classes", "labels") and '"images"' not in head


def _read_labels(
    content: Mapping[str, Any], file: Path, finder: ImageFinder, split: str | None, reading: Reading
) -> None:
    classes = content.get("classes") or []
    if not isinstance(classes, list):
        raise DatasetError(f"{file}: 'classes' is no list", _SHOWN)
    reading.declared += [str(name) for name in classes if str(name) not in reading.declared]
    blank = []
    for name, target in content["labels"].items():
        if target is None:
            blank.append(name)
            if reading.config.blank != "absent":
                continue
        labels = [
            _label(item, classes) for item in (target if isinstance(target, list) else [target]) if item is not None
        ]
        if None in labels:
            reading.drop(f"{file}: {name!r} has the label {target!r}, but there are {len(classes)} classes")
            continue
        reading.entries.append(Entry(finder.find(name), dict.fromkeys(filter(None, labels), 1), split=split))
    if blank:
        meaning = "have no label" if reading.config.blank == "absent" else "are left out as not labelled (--blank)"
        reading.understood.append(f"images whose labels are null {meaning}: {some(blank)}")


def _label(item: object, classes: list[Any]) -> str | None:
    """The label of a target: a number, a name, or an object with one of them; None if the number has no name."""
    value = item.get("label") if isinstance(item, dict) else item
    if isinstance(value, int) and not isinstance(value, bool):
        return str(classes[value]) if 0 <= value < len(classes) else None
    return str(value).strip() or None


def _read_samples(samples: list[Any], file: Path, finder: ImageFinder, reading: Reading) -> None:
    kept = [sample for sample in samples if isinstance(sample, dict) and isinstance(sample.get("filepath"), str)]
    if len(kept) < len(samples):
        reading.drop(f"{file}: {len(samples) - len(kept)} samples have no filepath")
    key = _field(kept, file, reading)
    unlabelled = []
    for sample in kept:
        labels = _labels_in(sample.get(key))
        if labels is None:
            unlabelled.append(sample["filepath"])
            continue
        tags = sample.get("tags")
        splits = {split_of(tag) for tag in (tags if isinstance(tags, list) else ())} - {None}
        if len(splits) > 1:
            reading.drop(f"{file}: {sample['filepath']!r} has the tags of two splits", "Remove one of the tags")
            continue
        path = finder.find(sample["filepath"])
        reading.entries.append(Entry(path, dict.fromkeys(labels, 1), split=next(iter(splits), None)))
    if unlabelled:
        reading.understood.append(f"samples without {key!r}, left out: {some(unlabelled)}")


def _labels_in(field: object) -> list[str] | None:
    """The labels in the field of a sample; None if it has none of the kinds of labels."""
    if not isinstance(field, dict) or str(field.get("_cls")) not in _KINDS:
        return None
    listed = _KINDS[field["_cls"]]
    items = field.get(listed) if listed else [field]
    labels = [item.get("label") for item in (items if isinstance(items, list) else ()) if isinstance(item, dict)]
    return [label.strip() for label in labels if isinstance(label, str) and label.strip()]


def _field(samples: list[Any], file: Path, reading: Reading) -> str:
    """The field of the samples that has the labels."""
    found = {
        key for s in samples for key, v in s.items() if isinstance(v, dict) and str(v.get("_cls")) in _KINDS
    }  # fmt: skip
    wanted = reading.config.labels_column or ("ground_truth" if "ground_truth" in found else None)
    if wanted is None and len(found) == 1:
        (wanted,) = found
    if wanted not in found:
        line = import_again(reading.source, reading.config, labels_column=min(found)) if found else ""
        raise DatasetError(
            f"{file}: the samples have labels in {', '.join(sorted(found)) or 'no field'}",
            f"Name the field:\n{line}" if found else "Export a dataset with a field of classifications.",
        )
    if others := sorted(found - {wanted}):
        reading.ignored += others
    return str(wanted)
