"""What a command has made: its output and all files, without what may differ between two unbroken runs."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from labeldep_cli.features.store.known_files import NAME as KNOWN_FILES
from labeldep_cli.pipelines.tune import SECONDS as TRIAL_SECONDS

VOLATILE = {
    "started": "the clock at the start",
    "seconds": "time spent",
    "images_per_second": "speed",
    "computed": "images that this call encoded, not those that a killed one did",
}
"""Keys of JSON whose values may differ, and what they tell."""


def files_of(folder: Path) -> dict[str, bytes]:
    """All files of a folder by name, hidden ones too.

    Of the values in VOLATILE nothing is left, nor of the seconds that trials of `tune` took. The database of known
    files is its rows, without times: it marks files that changed just before they were read. Segments of a feature
    store are the features of each image: how images are divided over segments depends on where a kill fell.
    """
    found: dict[str, bytes] = {}
    features: dict[str, dict[bytes, bytes]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            found[name + "/"] = b""
        elif path.name == KNOWN_FILES:
            found[name] = _known(path)
        elif path.suffix == ".h5" and (path.parent / "kind.json").exists():
            features.setdefault(f"{name.rpartition('-')[0]}-*.h5", {}).update(_features(path))
        else:
            content = path.read_bytes()
            content = repr(sorted(json.loads(content))).encode() if path.name == TRIAL_SECONDS else content
            found[name] = steady(content) if path.suffix in (".json", ".jsonl") else content
    return found | {name: repr(sorted(rows.items())).encode() for name, rows in features.items()}


def steady(content: bytes) -> bytes:
    """JSON documents without the values that may differ; other content as it is."""
    try:
        documents = [json.loads(content)]
    except ValueError:
        try:
            documents = [json.loads(line) for line in content.splitlines()]
        except ValueError:
            return content
    return json.dumps([_without(document) for document in documents]).encode()


def _without(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _without(item) for key, item in value.items() if key not in VOLATILE}
    return [_without(item) for item in value] if isinstance(value, list) else value


def _known(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {name: "key, size, sha256" if name == "files" else "*" for name in tables}
        rows = {name: sorted(database.execute(f"SELECT {columns[name]} FROM {name}")) for name in sorted(tables)}
    return repr(rows).encode()


def _features(path: Path) -> dict[bytes, bytes]:
    with h5py.File(path, "r") as file:
        contents, features, reasons = (np.asarray(file[name][:]) for name in ("contents", "features", "skipped"))
    return {
        one.tobytes(): row.tobytes() + bytes([reason])
        for one, row, reason in zip(contents, features, reasons, strict=True)
    }
