"""The decisions of `labeldep review`: who decided what about the labels of an image, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from labeldep_cli.files import counted

Kind = Literal["accept", "reject", "edit", "skip", "undo"]
"""What was decided: the suggestion is right, the written labels are right, other labels are right, nothing yet; or the
image's last decision is taken back."""

KINDS: tuple[Kind, ...] = get_args(Kind)


class LabelSet(NamedTuple):
    """The labels of an image by name; all labels that are named in neither part are absent.

    Attributes:
        present: labels that the image has.
        unknown: labels of which nobody knows.
    """

    present: tuple[str, ...]
    unknown: tuple[str, ...] = ()

    def value(self, name: str) -> int:
        """1 if the label is present, 0 if it is absent, -1 if it is unknown."""
        return 1 if name in self.present else -1 if name in self.unknown else 0

    def same(self, other: LabelSet) -> bool:
        """Whether both are the same labels, in whatever order."""
        return set(self.present) == set(other.present) and set(self.unknown) == set(other.unknown)


@dataclass(frozen=True)
class Decision:
    """A line of the file.

    Attributes:
        time: in UTC, ISO 8601.
        who: the person's name.
        table: name of the table, or of the folder of a named data set.
        path: the image, as the table names it.
        decision: what was decided.
        before, after: the labels that were shown, and those that are right.
        content: digest of the row's ready features; empty for an image.
    """

    time: str
    who: str
    table: str
    path: str
    decision: Kind
    before: LabelSet
    after: LabelSet
    content: str = ""

    @property
    def settles(self) -> bool:
        """Whether it says which labels are right."""
        return self.decision not in ("skip", "undo")


def now() -> str:
    """The current time, as decisions have it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def standing(decisions: Iterable[Decision]) -> dict[str, tuple[Decision, ...]]:
    """The decisions on each image that nobody took back, oldest first; the image that was decided last comes last."""
    by_path: dict[str, list[Decision]] = {}
    for decision in decisions:
        if decision.decision != "undo":
            by_path[decision.path] = [*by_path.pop(decision.path, []), decision]
        elif by_path.get(decision.path):
            by_path[decision.path].pop()
    return {path: tuple(stack) for path, stack in by_path.items() if stack}


def settled(stack: Sequence[Decision]) -> Decision | None:
    """The last of an image's decisions that says which labels are right; None if there is none."""
    return next((decision for decision in reversed(stack) if decision.settles), None)


def changed_labels(decision: Decision) -> dict[str, tuple[int, int]]:
    """The labels that a decision changed, each with its values before and after: 1, 0 or -1."""
    if not decision.settles:
        return {}
    before, after = decision.before, decision.after
    names = dict.fromkeys((*before.present, *before.unknown, *after.present, *after.unknown))
    values = {name: (before.value(name), after.value(name)) for name in names}
    return {name: (was, becomes) for name, (was, becomes) in values.items() if was != becomes}


@dataclass(frozen=True)
class Conflict:
    """A correction that is not applied, because the table has changed since.

    Attributes:
        path, label: what it is about.
        reason: in a few words.
    """

    path: str
    label: str
    reason: str

    def to_json(self) -> dict[str, str]:
        """The fields, as JSON."""
        return {"path": self.path, "label": self.label, "reason": self.reason}


@dataclass(frozen=True)
class Corrections:
    """What the decisions on a data set have changed.

    Attributes:
        file: the decisions.
        decided: the images whose labels were decided and that are as they were decided, by path.
        images, labels: the number of images with a corrected label, and of these labels.
        conflicts: corrections that are not applied.
        gone: decided images that the data set no longer has.
        skipped: number of images that were looked at without a decision.
        renamed: if there is no decision on this table, the tables of the file's decisions that are gone.
    """

    file: Path
    decided: frozenset[str] = frozenset()
    images: int = 0
    labels: int = 0
    conflicts: tuple[Conflict, ...] = ()
    gone: tuple[str, ...] = ()
    skipped: int = 0
    renamed: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The JSON of `corrections` in `labeldep data`."""
        return {
            "file": str(self.file),
            "decided": len(self.decided),
            "images": self.images,
            "labels": self.labels,
            "conflicting": [conflict.to_json() for conflict in self.conflicts],
            "gone": list(self.gone),
            "skipped": self.skipped,
            "renamed": list(self.renamed),
        }

    @property
    def words(self) -> str:
        """What happened, in a sentence; empty if nobody has decided anything."""
        if self.renamed:
            return (
                f"{self.file}: all decisions are on {', '.join(self.renamed)}, which is gone, and none is applied; "
                "if you have renamed the table, write its new name into the file's column table"
            )
        if not (self.decided or self.conflicts or self.gone):
            return ""
        parts = [f"{counted(len(self.decided), 'image')} decided"]
        parts.append(f"{counted(self.labels, 'label')} of {counted(self.images, 'image')} corrected")
        if self.conflicts:
            parts.append(f"{counted(len(self.conflicts), 'correction')} left out, since the table has changed")
        if self.gone:
            parts.append(f"{counted(len(self.gone), 'image')} gone")
        return f"{self.file}: {', '.join(parts)}"
