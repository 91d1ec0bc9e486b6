"""Records in JSON, JSONL or NDJSON: an object for each image. Hugging Face's `metadata.jsonl` is one of these."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets.split_words import SPLIT_COLUMNS, split_of
from labeldep_cli.errors import DatasetError
from labeldep_cli.ingest.entries import Entry, Reading
from labeldep_cli.ingest.find_images import ImageFinder
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.json_text import first_values, head_of, read_json, unique_keys
from labeldep_cli.ingest.label_values import LabelValues, Record
from labeldep_cli.ingest.split_column import splits_meant
from labeldep_cli.ingest.words import PATH_KEYS, one_of

_METADATA = "metadata.jsonl"
_LINES = (".jsonl", ".ndjson")
_SHOWN = 'A record is {"path": "a.jpg", "labels": ["sea", "sunset"]}.'


def recognises(source: Path) -> bool:
    """Whether a file has a JSON object with the path of an image for each image, or a folder has `metadata.jsonl`."""
    if source.is_dir():
        return bool(_metadata(source))
    if source.suffix.lower() not in (".json", *_LINES):
        return False
    head = head_of(source)
    values = first_values(head)
    if len(values) == 1 and isinstance(values[0], dict) and head.lstrip().startswith("{") and _is_mapping(values[0]):
        return True
    named = [v for v in values if isinstance(v, dict) and one_of(v, PATH_KEYS) is not None]
    return 2 * len(named) > len(values)


def read(source: Path, config: ImportConfig) -> Foreign:
    """Read a list of records, a record a line, an object of paths and labels, or a folder with `metadata.jsonl`.

    Raises:
        DatasetError: names the entry or line; or asks what the labels mean.
    """
    reading = Reading(source, config)
    files = _metadata(source) if source.is_dir() else [source]
    if not files:
        raise DatasetError(f"{source} has no {_METADATA}", "Name the file with the records.")
    images: list[Entry] = []
    records: list[Record] = []
    for file in files:
        finder = reading.finder([file.parent, file.parent / "images"])
        split = split_of(file.parent.name) if source.is_dir() and file.parent != source else None
        found = list(_records(file, reading))
        meant = _splits_meant([record for _, record in found], config)
        for where, record in found:
            if image := _image(record, where, finder, split, meant, reading):
                images.append(image)
                records.append(Record(where, {key: record[key] for key in record if key not in _used(record, config)}))
    for image, known in zip(images, LabelValues(reading).read(records), strict=True):
        if known is not None:
            reading.entries.append(replace(image, values=known.values, unsaid=known.unsaid))
    return reading.finish(source if source.is_dir() else source.parent)


def _metadata(folder: Path) -> list[Path]:
    here = folder / _METADATA
    below = (path for path in folder.glob(f"*/{_METADATA}") if split_of(path.parent.name))
    return [here] if here.is_file() else sorted(below)


def _is_mapping(value: Mapping[str, Any]) -> bool:
    """Whether an object has paths as keys, and their labels as values."""
    return bool(value) and all("." in key and isinstance(labels, (list, dict)) for key, labels in value.items())


def _records(file: Path, reading: Reading) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each record with its place."""
    if file.suffix.lower() in _LINES:
        yield from _lines(file, reading)
        return
    content = read_json(file, reading.config.encoding)
    if isinstance(content, dict):
        if not _is_mapping(content):
            raise DatasetError(f"{file} is no list of records", f"{_SHOWN} pandas writes them with orient='records'.")
        content = [{"path": path, "labels": labels} for path, labels in content.items()]
    if not isinstance(content, list):
        raise DatasetError(f"{file} is no list of records", _SHOWN)
    for number, record in enumerate(content, start=1):
        where = f"{file}, entry {number}"
        if isinstance(record, dict):
            yield where, record
        else:
            reading.drop(f"{where}: {record!r} is no object", _SHOWN.rstrip("."))


def _lines(file: Path, reading: Reading) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with file.open(encoding=reading.config.encoding or "utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                where = f"{file}, line {number}"
                try:
                    record = json.loads(line, object_pairs_hook=unique_keys(where)) if line.strip() else None
                except (ValueError, RecursionError) as error:
                    reading.drop(f"{where}: not valid JSON: {error}", _SHOWN.rstrip("."))
                    continue
                if isinstance(record, dict):
                    yield where, record
                elif line.strip():
                    reading.drop(f"{where}: no JSON object", _SHOWN.rstrip("."))
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}", "Check the file and its permissions.") from None
    except (UnicodeError, LookupError):
        raise DatasetError(
            f"{file} is not text in {reading.config.encoding or 'UTF-8'}",
            "Name its encoding, such as --encoding utf-16.",
        ) from None


def _used(record: Mapping[str, Any], config: ImportConfig) -> set[str | None]:
    """The keys of a record that are read besides those of labels."""
    return {
        config.path_column or one_of(record, PATH_KEYS),
        _split_key(record, config),
        config.group_column or "group",
        "fold",
    }


def _splits_meant(records: Sequence[Mapping[str, Any]], config: ImportConfig) -> dict[str, str | None]:
    """The splits that the values of the records' key for splits mean."""
    keyed = [(_split_key(record, config), record) for record in records]
    return splits_meant(config.split_column or "split", {str(record[key]) for key, record in keyed if key in record})


def _split_key(record: Mapping[str, Any], config: ImportConfig) -> str:
    found = config.split_column or one_of(record, SPLIT_COLUMNS) or ""
    return "" if found in config.ignore_columns else found


def _image(
    record: Mapping[str, Any],
    where: str,
    finder: ImageFinder,
    split: str | None,
    meant: Mapping[str, str | None],
    reading: Reading,
) -> Entry | None:
    """The image of a record, without its labels; None if it is left out."""
    config = reading.config
    path = record.get(config.path_column or one_of(record, PATH_KEYS) or "")
    if not isinstance(path, str) or not path.strip():
        reading.drop(f"{where}: no path of an image in {', '.join(record)}", "Name its key with --path-column")
        return None
    split_key = _split_key(record, config)
    if split_key in record:
        split = meant[str(record[split_key])]
        if split is None:
            reading.drop(f"{where}: the split is {record[split_key]!r}", "A split is train, val or test")
            return None
    group, fold = record.get(config.group_column or "group"), record.get("fold")
    if fold is not None and (isinstance(fold, bool) or not isinstance(fold, int) or fold < 0):
        reading.drop(f"{where}: the fold is {fold!r}", "Folds are counted from 0")
        return None
    return Entry(finder.find(path), {}, split=split, group=None if group is None else str(group), fold=fold)
