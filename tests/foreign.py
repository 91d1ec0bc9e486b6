"""What the tests of foreign forms share: images, reading, and a readable form of what was read."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from conftest import draw_image

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.errors import DatasetError
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.forms import FORMS


def draw_images(folder: Path, names: list[str]) -> Path:
    """Small images of these names in a folder, each with bytes of its own."""
    for seed, name in enumerate(names):
        draw_image(folder / name, seed)
    return folder


def write_json(file: Path, value: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))
    return file


def read(form: str, source: Path, **flags: Any) -> Foreign:
    """Read a source that the form recognises."""
    assert FORMS[form].reader.recognises(source)
    return FORMS[form].reader.read(source, ImportConfig(**flags))


def labels_of(foreign: Foreign) -> dict[str, str]:
    """For each image, by name: "a b ?c" where a and b are present and c is unknown."""
    mark = {1: "", -1: "?"}
    return {
        Path(path).name: " ".join(f"{mark[v]}{n}" for n, v in zip(foreign.rows.names, y, strict=True) if v in mark)
        for path, y in zip(foreign.rows.paths, foreign.rows.labels.tolist(), strict=True)
    }


def splits_of(foreign: Foreign) -> dict[str, str]:
    """The split of each image, by name."""
    assert foreign.rows.splits is not None
    return {Path(path).name: split for path, split in zip(foreign.rows.paths, foreign.rows.splits, strict=True)}


def all_are_files(foreign: Foreign) -> bool:
    """Whether every path is that of a file."""
    return all((foreign.root / path).is_file() for path in foreign.rows.paths)


def refusal(form: str, source: Path, **flags: Any) -> DatasetError:
    """The error of a source that cannot be read as it is. Its commands are for the same source."""
    with pytest.raises(DatasetError) as caught:
        FORMS[form].reader.read(source, ImportConfig(**flags))
    for line in commands(caught.value):
        assert line[:3] == ["labeldep", "import", str(source)]
    return caught.value


def commands(error: DatasetError) -> list[list[str]]:
    """The commands of a remedy, in words."""
    return [shlex.split(line) for line in error.remedy.splitlines() if line.startswith("labeldep ")]
