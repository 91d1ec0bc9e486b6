"""Takes over the decisions of a file that somebody saved from an audit's page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from labeldep_cli.datasets.corrections import Place, is_content, label_set, replay
from labeldep_cli.datasets.decision_file import append
from labeldep_cli.datasets.decisions import Conflict, Decision, LabelSet, settled, standing
from labeldep_cli.datasets.split import Dataset


@dataclass(frozen=True)
class Taken:
    """What became of the decisions of a file, image by image.

    Attributes:
        appended: the images whose decisions are taken over.
        known: number of images that were decided here in the same way.
        conflicts: images that were decided otherwise here, or whose labels have changed since; left as they are.
        gone: images that the data set does not have.
        elsewhere: number of decisions on other tables.
    """

    appended: tuple[str, ...]
    known: int
    conflicts: tuple[Conflict, ...]
    gone: tuple[str, ...]
    elsewhere: int

    def to_json(self) -> dict[str, Any]:
        """The fields, as JSON."""
        return {
            "appended": list(self.appended),
            "known": self.known,
            "conflicting": [conflict.to_json() for conflict in self.conflicts],
            "gone": list(self.gone),
            "elsewhere": self.elsewhere,
        }


def take(dataset: Dataset, place: Place, decisions: Iterable[Decision], who: str) -> Taken:
    """Append the decisions of a file to those on a data set.

    Args:
        dataset: the data set as its table has it, without corrections.
        place: the decisions on it.
        decisions: those of the file.
        who: the name for decisions without one.

    Raises:
        DatasetError: the decisions that are there cannot be read.
        StorageError: the new ones cannot be written.
    """
    every = tuple(decisions)
    own = [replace(decision, who=decision.who or who) for decision in every if decision.table == place.table]
    here = place.decisions()
    rows = {path: (split, row) for split in dataset.splits.values() for row, path in enumerate(split.paths)}
    taken: dict[str, list[Decision]] = {}
    conflicts: list[Conflict] = []
    gone: list[str] = []
    known = 0
    for path, stack in standing(own).items():
        settling = [decision for decision in stack if decision.settles]
        if not settling:
            continue
        if path not in rows or not is_content(*rows[path], settling[-1]):
            gone.append(path)
            continue
        split, row = rows[path]
        labels, conflicting = replay(split.space, split.labels[row], settling)
        last = settled(here.get(path, ()))
        if last is None:
            conflicting = conflicting or _changed_since(
                path, settling[0].before, label_set(split.space, split.labels[row])
            )
            conflicts += conflicting
            if not conflicting:
                taken[path] = settling
        elif label_set(split.space, labels).same(
            label_set(split.space, replay(split.space, split.labels[row], here[path])[0])
        ):
            known += 1
        else:
            conflicts.append(Conflict(path, "", f"decided otherwise by {last.who}, {last.time}"))
    append(place.file, [decision for settling in taken.values() for decision in settling])
    return Taken(tuple(taken), known, tuple(conflicts), tuple(gone), len(every) - len(own))


def _changed_since(path: str, seen: LabelSet, now: LabelSet) -> list[Conflict]:
    """The labels that are not as the person saw them, who may have found them right: one of them stands for all."""
    names = (*seen.present, *seen.unknown, *now.present, *now.unknown)
    name = next((name for name in names if seen.value(name) != now.value(name)), None)
    return [] if name is None else [Conflict(path, name, "not in the table as it was when the image was decided")]
