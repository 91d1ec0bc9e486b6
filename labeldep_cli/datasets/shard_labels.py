"""The labels of a sample in a WebDataset shard."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from labeldep_cli.datasets.rows import label_names, require_disjoint
from labeldep_cli.datasets.split import unknown_split
from labeldep_cli.datasets.split_words import SPLIT_COLUMNS, split_of
from labeldep_cli.errors import DatasetError

_FORM = 'KEY.json holds ["sea", "sunset"] or {"labels": ["sea", "sunset"], "split": "train"}.'


class SampleLabels(NamedTuple):
    """What a file says about a sample.

    Attributes:
        labels: the names of its labels.
        split: its split; None if the file does not tell.
        unknown: the names of labels that are unknown.
        group: its group; None if the file does not tell.
        ignored: the keys of the object that are not read.
    """

    labels: Sequence[str]
    split: str | None = None
    unknown: Sequence[str] = ()
    group: str | None = None
    ignored: tuple[str, ...] = ()


def parse_json(content: bytes, tar: Path, name: str) -> SampleLabels:
    """Read a `.json`: a list of names, or an object with `labels` and optionally `split`, `unknown` and `group`.

    Raises:
        DatasetError: it is malformed; names the shard and the file in it.
    """
    where = f"{tar}, {name}"
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or not text
        raise DatasetError(f"{where}: not valid JSON: {error}", _FORM) from None
    if not isinstance(parsed, dict):
        return SampleLabels(label_names(parsed, where, _FORM))
    if "labels" not in parsed:
        raise DatasetError(f"{where}: there is no 'labels'", _FORM)
    if "absent" in parsed:
        raise DatasetError(f"{where}: 'absent' is not read from shards", "List the unknown labels as 'unknown'.")
    labels = label_names(parsed["labels"], where, _FORM)
    unknown = label_names(parsed.get("unknown", []), where, _FORM, "unknown")
    require_disjoint(labels, unknown, "unknown", where)
    key = next((key for key in SPLIT_COLUMNS if key in parsed), None)
    split = None if key is None else split_of(parsed[key])
    if key is not None and split is None:
        raise unknown_split(tar, name, parsed[key])
    group = parsed.get("group")
    ignored = tuple(k for k in parsed if k not in ("labels", "unknown", "group", key))
    return SampleLabels(labels, split, unknown, None if group is None else str(group), ignored)


def parse_text(content: bytes, tar: Path, name: str) -> SampleLabels:
    """Read a `.txt`: names separated by `;` or line ends.

    Raises:
        DatasetError: it is not UTF-8.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DatasetError(f"{tar}, {name}: not UTF-8", "Save it as UTF-8: names separated by ;") from None
    return SampleLabels([name.strip() for name in re.split(r"[;\r\n]", text) if name.strip()])
