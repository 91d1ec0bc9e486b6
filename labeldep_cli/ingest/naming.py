"""The names of labels in a foreign source: questions about them, and the answers put to work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets.doubts.doubt import Answer
from labeldep_cli.datasets.doubts.names import NOTHING, columns_doubt, groups_alike, merged_names, names_doubt
from labeldep_cli.datasets.label_cells import split_names
from labeldep_cli.ingest.again import given

Values = Mapping[str, int]
"""The value of each label that a source speaks of in an image."""

NamesOf = Literal["lists", "cells", "columns"]
"""Where names stand: several in a list; each alone in a cell; or each above its column, where nobody writes `nan`."""

_TAB = "\t"


def settled(
    source: Path, config: ImportConfig, values: Sequence[Values], separator: str, names_of: NamesOf = "lists"
) -> dict[str, tuple[str, ...]]:
    """The labels that each name of a source stands for.

    Args:
        source: the file or folder.
        config: its answers are `label_separator`, `nothing` and `merge_alike`.
        values: of each image.
        separator: what the names were separated at when they were read; empty if the source has lists.
        names_of: where the names stand, which decides what may be wrong with them.

    Returns:
        For each name no label, itself, or others.

    Raises:
        DatasetError: the names leave a question open.
    """
    between = {"tab": _TAB}.get(config.label_separator or "", config.label_separator)
    names = {name for image in values for name in image}
    meaning = {name: tuple(split_names(name, between)) if between else (name,) for name in names}
    meaning = {name: tuple(part for part in parts if part not in config.nothing) for name, parts in meaning.items()}
    counts = Counter(part for image in values for name, value in image.items() if value == 1 for part in meaning[name])
    if config.merge_alike:
        one = merged_names({**dict.fromkeys((part for parts in meaning.values() for part in parts), 0), **counts})
        meaning = {name: tuple(one.get(part, part) for part in parts) for name, parts in meaning.items()}
        counts = Counter(part for image in values for name, v in image.items() if v == 1 for part in meaning[name])
    asked: Mapping[str, int] = counts
    if names_of == "columns":
        if doubt := columns_doubt(counts):
            raise doubt.error(source, **given(config))
        return meaning
    if between or names_of == "cells":  # there is no question about separators
        odd = {name for name in counts if name.casefold() in NOTHING}.union(*groups_alike(counts))
        asked = {name: counts[name] for name in odd}
    separated = any(sum(value == 1 for value in image.values()) > 1 for image in values)
    if doubt := names_doubt(asked, separated, between or separator):
        answers = [Answer(answer.words, _with_former(answer.flags, config)) for answer in doubt.answers]
        different = tuple(a for k, a in enumerate(answers) if a.flags not in [b.flags for b in answers[:k]])
        raise replace(doubt, answers=different).error(source, **given(config))
    return meaning


def of_labels(values: Values, meaning: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The values of an image by labels instead of names. A label with two names is present if one of them is."""
    found: dict[str, int] = {}
    for name, value in values.items():
        for label in meaning[name]:
            found[label] = max(value, found.get(label, value))
    return found


def _with_former(flags: Mapping[str, object], config: ImportConfig) -> dict[str, object]:
    """The flags of an answer, whose words for nothing are added to those that were given."""
    nothing = flags.get("nothing")
    return {**flags, "nothing": (*config.nothing, *nothing)} if isinstance(nothing, tuple) else dict(flags)
