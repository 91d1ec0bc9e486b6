"""Cards: the images of a data set that a person looks at, with their labels, the suspects, and what was decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labeldep_cli.datasets.corrections import content_of, is_content, label_set, replay
from labeldep_cli.datasets.decisions import Decision, LabelSet, settled
from labeldep_cli.datasets.image_file import ImageFile
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import SPLITS, Dataset, Split
from labeldep_cli.evaluation.suspects import Card, Suspect
from labeldep_cli.review.words import sentences
from labeldep_cli.text import visible


@dataclass(frozen=True)
class ReviewCard:
    """An image to decide on.

    Attributes:
        split: the split of the row, with the labels as the table has them.
        row: number of the row there.
        suspects: the labels that an audit found suspicious; none for a data set that was not audited.
        stack: the standing decisions on the image, oldest first.
    """

    split: Split
    row: int
    suspects: tuple[Suspect, ...] = ()
    stack: tuple[Decision, ...] = ()

    @property
    def path(self) -> str:
        """The image, as the table names it."""
        return self.split.paths[self.row]

    @property
    def file(self) -> ImageFile:
        """The file of the image."""
        return self.split.file(self.row)

    @property
    def content(self) -> str:
        """Digest of the row's ready features; empty for an image."""
        return content_of(self.split, self.row)

    @property
    def labels(self) -> LabelSet:
        """The labels as the decisions leave them."""
        return self._after(self.stack)

    def _after(self, stack: Sequence[Decision]) -> LabelSet:
        space, y = self.split.space, self.split.labels[self.row]
        return label_set(space, replay(space, y, stack)[0] if stack else y)

    @property
    def conflicts(self) -> list[str]:
        """Earlier corrections that do not fit the table any more, in words."""
        if not self.stack:
            return []
        _, conflicts = replay(self.split.space, self.split.labels[self.row], self.stack)
        return [f"{visible(conflict.label)}: {conflict.reason}" for conflict in conflicts]

    @property
    def rank(self) -> int:
        """0 if the image waits for a decision, 1 if it was skipped, 2 if it was decided."""
        if settled(self.stack) and not self.conflicts:
            return 2
        return 1 if self.stack and not self.conflicts else 0

    def to_json(self) -> dict[str, Any]:
        """The card as the page reads it.

        `states` are the labels of the table and those after each standing decision, the current ones last.
        The page knows a label by its number.
        """
        numbers = self.split.space.numbers
        states = []
        for n in range(len(self.stack) + 1):
            labels, last = self._after(self.stack[:n]), self.stack[n - 1] if n else None
            state: dict[str, Any] = _numbers(labels, numbers)
            if last is not None:
                state["decision"] = {"kind": last.decision, "who": last.who, "time": last.time}
            states.append(state)
        found: dict[str, Any] = {"path": self.path, "split": self.split.name, "states": states}
        if self.suspects:
            found["suspects"] = [
                {
                    "label": numbers[suspect.label],
                    "present": not suspect.written,
                    "rare": suspect.kind != "mistake",
                    "words": sentences(suspect),
                }
                for suspect in self.suspects
            ]
        if conflicts := self.conflicts:
            found["conflicts"] = conflicts
        return found


def _numbers(labels: LabelSet, numbers: Mapping[str, int]) -> dict[str, Any]:
    return {
        "present": [numbers[name] for name in labels.present],
        "unknown": [numbers[name] for name in labels.unknown],
    }


def labels_of(state: Mapping[str, Any], space: LabelSpace) -> LabelSet:
    """The label set of a state as the page sends it.

    Raises:
        ValueError: it is no state, or names a label that there is not.
    """
    parts = []
    for key in ("present", "unknown"):
        numbers = state.get(key)
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < len(space) for n in numbers):
            raise ValueError(f"{key} is no list of label numbers")
        parts.append(tuple(space.names[n] for n in sorted(set(numbers))))
    if set(parts[0]) & set(parts[1]):
        raise ValueError("a label is present and unknown")
    return LabelSet(*parts)


def cards_of(
    dataset: Dataset, audited: Iterable[Card] | None, decisions: Mapping[str, tuple[Decision, ...]]
) -> tuple[list[ReviewCard], int]:
    """The cards of a data set: undecided ones first, then skipped ones, decided ones last.

    Args:
        dataset: the data set as its table has it, without corrections.
        audited: the cards of an audit in their order; None for all images, split by split.
        decisions: the standing decisions by path.

    Returns:
        The cards, and the number of audited images that the data set no longer has.
    """
    rows = {path: (split, row) for split in _splits(dataset) for row, path in enumerate(split.paths)}
    suspects = dict.fromkeys(rows, ()) if audited is None else {card.path: card.suspects for card in audited}
    found = [_card(*rows[path], of_path, decisions.get(path, ())) for path, of_path in suspects.items() if path in rows]
    return sorted(found, key=lambda card: card.rank), len(suspects) - len(found)


def _splits(dataset: Dataset) -> list[Split]:
    return [dataset.splits[name] for name in (("train",) if dataset.undivided else SPLITS)]


def _card(split: Split, row: int, suspects: tuple[Suspect, ...], stack: tuple[Decision, ...]) -> ReviewCard:
    """The card of a row. Suspects that the table has lost or corrected since the audit are left out."""
    stack = stack if not stack or is_content(split, row, stack[-1]) else ()
    present = label_set(split.space, split.labels[row]).present if suspects else ()
    known = (suspect for suspect in suspects if suspect.label in split.space.names)
    left = tuple(suspect for suspect in known if stack or (suspect.label in present) == suspect.written)
    return ReviewCard(split, row, left, stack)
