"""Label Studio's JSON export, in full and as JSON-MIN."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets.label_space import UNKNOWN
from labeldep_cli.datasets.split_words import split_of
from labeldep_cli.errors import DatasetError
from labeldep_cli.ingest.entries import Entry, Reading
from labeldep_cli.ingest.find_images import ImageFinder
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.json_text import first_values, head_of, read_json
from labeldep_cli.ingest.words import some

_OF_EXPORT = {"annotation_id", "annotator", "lead_time", "created_at", "updated_at"}
"""Keys that JSON-MIN adds to those of the task."""

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded file."""

Labels = frozenset[tuple[str, str]]
"""What one annotator chose: (name of the control, label)."""


def recognises(source: Path) -> bool:
    """Whether a JSON file is a list of tasks."""
    if not source.is_file() or source.suffix.lower() not in (".json", ".jsonl", ".ndjson"):
        return False
    values = [value for value in first_values(head_of(source)) if isinstance(value, dict)]
    return any(_is_task(value) for value in values) or any(_is_short(value) for value in values)


def read(source: Path, config: ImportConfig) -> Foreign:
    """Read an export of a labelling project with choices, a taxonomy or regions.

    A task that an annotator skipped, or that has no annotation, is left out. Where annotators disagree, a label is
    unknown. If no task has an annotation but some have predictions, these are read.

    Raises:
        DatasetError: the file is not an export, or it has labels of several controls of which none is named.
    """
    tasks = read_json(source, config.encoding)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise DatasetError(f"{source} is no list of tasks", "Export the project as JSON or JSON-MIN.")
    reading = Reading(source, config)
    finder = ImageFinder(config, [source.parent, source.parent / "images", source.parent / "upload"])
    opinions = _opinions(tasks, reading)
    spelled = _spelled_out({pair for _, sets in opinions for labels in sets for pair in labels}, reading)
    disputed = 0
    for task, sets in opinions:
        data = task["data"] if isinstance(task.get("data"), dict) else task
        image = _image(data, source, task)
        counts = Counter(spelled[pair] for labels in sets for pair in labels if pair in spelled)
        values = {label: 1 if count == len(sets) else UNKNOWN for label, count in counts.items()}
        disputed += sum(value == UNKNOWN for value in values.values())
        reading.entries.append(Entry(finder.find(*file_names(image)), values, split=split_of(data.get("split"))))
    if disputed:
        reading.understood.append(f"labels that are unknown, since annotators disagree: {disputed}")
    return reading.finish(source.parent)


def _is_task(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("data"), dict) and bool(value.keys() & {"annotations", "completions", "predictions"})


def _is_short(value: Mapping[str, Any]) -> bool:
    chosen = any(isinstance(cell, dict) and cell.keys() == {"choices"} for cell in value.values())
    return "id" in value and (chosen or len(value.keys() & _OF_EXPORT) > 1)


def _objects(task: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    listed = task.get(key)
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []


def _opinions(tasks: list[dict[str, Any]], reading: Reading) -> list[tuple[dict[str, Any], list[Labels]]]:
    """Each labelled task with the labels that each of its annotators chose."""
    if not any(_is_task(task) for task in tasks):
        return _short_opinions(tasks, reading)
    opinions = [(task, [_chosen(a.get("result")) for a in _valid(task)]) for task in tasks]
    if not any(sets for _, sets in opinions) and any(task.get("predictions") for task in tasks):
        models = sorted({str(p.get("model_version")) for task in tasks for p in _objects(task, "predictions")})
        reading.understood.append(f"no task has an annotation: predictions are taken as labels, of {some(models)}")
        opinions = [(task, [_chosen(p.get("result")) for p in _objects(task, "predictions")]) for task in tasks]
    if unlabelled := [str(task.get("id")) for task, sets in opinions if not sets]:
        reading.understood.append(f"tasks that were skipped or have no annotation, left out: {some(unlabelled)}")
    return [(task, sets) for task, sets in opinions if sets]


def _valid(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The annotations that count: those marked as ground truth, else all that were not cancelled."""
    made = _objects(task, "annotations") or _objects(task, "completions")
    kept = [
        a for a in made if isinstance(a.get("result"), list) and not a.get("was_cancelled") and not a.get("skipped")
    ]
    return [a for a in kept if a.get("ground_truth")] or kept


def _chosen(result: object) -> Labels:
    """The labels of an annotation. A region's label counts for the image; text and ratings do not count."""
    found = set()
    for item in result if isinstance(result, list) else ():
        kind = str(item.get("type")) if isinstance(item, dict) else ""
        value = item.get("value") if kind in ("choices", "taxonomy") or kind.endswith("labels") else None
        listed = value.get(kind) if isinstance(value, dict) else None
        found |= {(str(item.get("from_name")), label) for label in _spelled(listed)}
    return frozenset(found)


def _spelled(listed: object) -> list[str]:
    """The labels of a list; that of a taxonomy is a path, such as animal/dog."""
    words = (
        "/".join(map(str, v)) if isinstance(v, list) else str(v) for v in (listed if isinstance(listed, list) else ())
    )
    return [word.strip() for word in words if word.strip()]


def _short_opinions(tasks: list[dict[str, Any]], reading: Reading) -> list[tuple[dict[str, Any], list[Labels]]]:
    """The same for JSON-MIN, which has an entry for each annotation, and a bare word for a single choice."""
    by_task: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number, task in enumerate(tasks, start=1):
        by_task[str(task.get("id", f"entry {number}"))].append(task)
    control = _control(tasks, reading)
    if without := [str(task.get("id")) for task in tasks if task.get(control) is None]:
        meaning = "have no label" if reading.config.blank != "unknown" else "are left out"
        reading.understood.append(f"tasks without {control!r}, which {meaning}: {some(without)}")
        if reading.config.blank == "unknown":
            by_task = {key: [t for t in group if t.get(control) is not None] for key, group in by_task.items()}
    return [(group[0], [_short(task.get(control), control) for task in group]) for group in by_task.values() if group]


def _short(cell: object, control: str) -> Labels:
    listed = cell.get("choices") if isinstance(cell, dict) else cell
    return frozenset((control, label) for label in _spelled([listed] if isinstance(listed, str) else listed))


def _control(tasks: list[dict[str, Any]], reading: Reading) -> str:
    """The key of JSON-MIN that has the choices."""
    if reading.config.labels_column:
        return reading.config.labels_column
    listed = Counter(key for t in tasks for key, v in t.items() if isinstance(v, dict) and v.keys() == {"choices"})
    usual = [key for key in ("choice", "choices", "labels", "label") if any(key in task for task in tasks)]
    found = list(listed) or usual[:1]
    if len(found) != 1:
        raise DatasetError(
            f"{reading.source}: choices may be in {', '.join(found) or 'any key'}",
            f"Name the key with --labels-column: it has {', '.join(sorted({key for task in tasks for key in task}))}.",
        )
    return found[0]


def _spelled_out(pairs: set[tuple[str, str]], reading: Reading) -> dict[tuple[str, str], str]:
    """The name of each label. Those of --labels-column alone, if given; with their control if a name is in two."""
    wanted = reading.config.labels_column
    kept = {(control, label) for control, label in pairs if wanted in (None, control)}
    used = Counter(label for _, label in kept)
    controls = sorted({control for control, _ in kept})
    if len(controls) > 1:
        reading.understood.append(f"labels of several controls, --labels-column names one: {some(controls)}")
    return {(control, label): f"{control}: {label}" if used[label] > 1 else label for control, label in kept}


def _image(data: Mapping[str, Any], source: Path, task: Mapping[str, Any]) -> str:
    """The image of a task: the value of `image`, or the only one that looks like a file."""
    named = [
        data[key] for key in ("image", "img", "url", "path", "ocr", "captioning") if isinstance(data.get(key), str)
    ]
    files = [value for value in data.values() if isinstance(value, str) and re.search(r"\.\w{3,4}($|\?)", value)]
    if not named and len(set(files)) != 1:
        raise DatasetError(
            f"{source}: task {task.get('id')!r} names no image; its data are {', '.join(data)}",
            "Call the image's key `image` and export again.",
        )
    return str((named or files)[0])


def file_names(image: str) -> Iterator[str]:
    """The names under which the file of a task may be found."""
    parts = urlsplit(image)
    local = parse_qs(parts.query).get("d", [])
    yield from (written for path in local for written in (path, f"/{path}"))
    yield image if not local else parts.path
    plain = (local[0] if local else parts.path).rsplit("/", 1)[-1]
    yield plain
    if _UPLOADED.match(plain):
        yield _UPLOADED.sub("", plain)
