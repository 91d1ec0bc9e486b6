"""A person's session: the cards, and the decisions that are written down as they are taken."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from labeldep_cli.datasets.corrections import Place
from labeldep_cli.datasets.decision_file import append
from labeldep_cli.datasets.decisions import KINDS, Decision, LabelSet, now
from labeldep_cli.datasets.split import Dataset
from labeldep_cli.evaluation.suspects import Card
from labeldep_cli.review.cards import ReviewCard, cards_of, labels_of


class Outdated(Exception):
    """The image was decided by somebody else, in another window or process, since it was shown."""


@dataclass
class Session:
    """The cards of a data set, and what one person decides.

    Attributes:
        dataset: the data set as its table has it, without corrections.
        place: the file of decisions.
        who: the person's name.
        cards: the images to look at, in order.
        n_gone: number of audited images that the data set no longer has.
        made: number of decisions of this session, by kind.
    """

    dataset: Dataset
    place: Place
    who: str
    cards: list[ReviewCard]
    n_gone: int
    made: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _seen: tuple[int, int] = (0, 0)
    _keys: set[str] = field(default_factory=set)

    @staticmethod
    def of(dataset: Dataset, place: Place, who: str, audited: Iterable[Card] | None) -> Session:
        """Begin a session; decisions that are there already are read.

        Args:
            dataset: the data set as its table has it, without corrections.
            place: the file of decisions.
            who: the person's name.
            audited: the cards of an audit; None to look at all images.

        Raises:
            DatasetError: the file of decisions cannot be read, or is none of decisions.
        """
        seen = _state(place.file)
        cards, n_gone = cards_of(dataset, audited, place.decisions())
        return Session(dataset, place, who, cards, n_gone, _seen=seen)

    @property
    def n_decided(self) -> int:
        """The number of cards that are decided."""
        return sum(card.rank == 2 for card in self.cards)

    def to_json(self) -> dict[str, Any]:
        """All cards, with the names of the labels, as the page reads them."""
        with self._lock:
            self._refresh()
            return {
                "dataset": self.dataset.name,
                "table": self.place.table,
                "labels": list(self.dataset.space.names),
                "who": self.who,
                "images": not self.dataset.has_features,
                "cards": [card.to_json() for card in self.cards],
                "recent": self._recent(),
            }

    def _recent(self) -> list[int]:
        """The cards whose last decision is this person's, the last decided one last: what an undo takes back."""
        numbers = {card.path: number for number, card in enumerate(self.cards) if card.stack}
        decisions = self.place.decisions()
        return [numbers[path] for path, stack in decisions.items() if path in numbers and stack[-1].who == self.who]

    def card_json(self, number: int) -> dict[str, Any]:
        """One card as the page reads it."""
        return self.cards[number].to_json()

    def decide(
        self, number: int, kind: str, before: Mapping[str, Any], after: Mapping[str, Any], key: str = ""
    ) -> dict[str, Any]:
        """Write down a decision, and return the card as it is then. The decision is on the disk when this returns.

        Args:
            number: of the card.
            kind: one of KINDS.
            before: the labels that the person saw, as a state of the page.
            after: the labels that are right; for a skip and an undo, those of `before` are taken.
            key: names this decision among all of the session. One that is sent again, because no answer came, is
                written once.

        Raises:
            ValueError: this is no decision.
            Outdated: the labels are no longer those that the person saw.
            StorageError: the decision cannot be written.
        """
        with self._lock:
            self._refresh()
            if not 0 <= number < len(self.cards) or kind not in KINDS:
                raise ValueError("no such card or decision")
            if key in self._keys:
                return self.card_json(number)
            card = self.cards[number]
            seen, right = (labels_of(state, self.dataset.space) for state in (before, after))
            if not seen.same(card.labels) or (kind == "undo" and not card.stack):
                raise Outdated
            known_kind = next(known for known in KINDS if known == kind)
            stack = card.stack[:-1] if known_kind == "undo" else card.stack
            undone = replace(card, stack=stack)
            right = undone.labels if known_kind == "undo" else seen if known_kind == "skip" else right
            decision = self._decision(card, known_kind, seen, right)
            written, state = append(self.place.file, [decision]), _state(self.place.file)
            if state[0] == self._seen[0] + written:  # otherwise others have written too, which is read the next time
                self._seen = state
            self.cards[number] = undone if known_kind == "undo" else replace(card, stack=(*stack, decision))
            self.made[known_kind] += 1
            if key:
                self._keys.add(key)
            return self.card_json(number)

    def _decision(self, card: ReviewCard, kind: Any, before: LabelSet, after: LabelSet) -> Decision:  # noqa: ANN401
        return Decision(now(), self.who, self.place.table, card.path, kind, before, after, card.content)

    def _refresh(self) -> None:
        """Read what others have decided meanwhile; cards keep their order."""
        seen = _state(self.place.file)
        if seen != self._seen:
            decisions = self.place.decisions()
            self.cards = [replace(card, stack=decisions.get(card.path, ())) for card in self.cards]
            self._seen = seen


def _state(file: Path) -> tuple[int, int]:
    """Size and time of the last change of a file; zeros if it is not there."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_size, status.st_mtime_ns
