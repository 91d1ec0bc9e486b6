"""Suspects: annotated labels that look wrong, and what speaks against each. Cards: images with all their suspects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

from msgspec import Meta

from labeldep_cli.schemas import Count, Names, Real, Share

Kind = Literal["mistake", "rare combination"]
"""What a suspect is likelier to be: a wrong label, or a right one in a rare label set."""

STATES = {True: "present", False: "absent"}
"""What an annotation says of a label, in words."""


class Pair(NamedTuple):
    """The other written label of an image that says most about a suspect.

    Attributes:
        label: its name.
        images: number of images on which both labels are written.
        of: number of images on which the other label is written.
    """

    label: str
    images: int
    of: int


class PairRecord(TypedDict):
    """`Pair` in `audit.json`."""

    label: str
    images: Count
    of: Count


class SuspectRecord(TypedDict):
    """`Suspect` in `audit.json`; what is written is a word of STATES."""

    label: str
    written: Literal["absent", "present"]
    score: Real
    probability: Share
    critic: Real | None
    priority: Real
    kind: Kind
    image: Real
    label_ap: Share | None
    same_set: Count
    pair: PairRecord | None


class CardRecord(TypedDict):
    """`Card` in `audit.json`."""

    path: str
    split: Literal["train", "val", "test"]
    written: Names
    unknown: Names
    suspects: Annotated[list[SuspectRecord], Meta(min_length=1)]


@dataclass(frozen=True)
class Suspect:
    """An annotated label that is likelier wrong than right, given the image and the other labels.

    Attributes:
        label: name of the label.
        written: whether the annotation says that it is present.
        score: log-odds that the annotation is wrong; above 0.
        probability: G's probability that the label is present, from the image alone.
        critic: what D adds to the label's log-odds given the others, times its weight in the score; None without D.
        priority: log-odds of a mistake by the rates of mistakes in this data set (`mistakes.mistake_odds`), or by the
            image alone if these are less: what a reviewer should see first.
        kind: whether the image speaks against the label too, or only the label set is rare.
        image: log-odds by which the image makes the annotation less likely than the label's share in the data does;
            below 0 if the image supports what is written.
        label_ap: held-out average precision of the label, 0 to 1: how well G ranks it; None without a positive.
        same_set: number of audited images with the same label set, this one counted in.
        pair: the other written label that fits worst to a present label, or best to an absent one; None without others.
    """

    label: str
    written: bool
    score: float
    probability: float
    critic: float | None
    priority: float
    kind: Kind
    image: float
    label_ap: float | None
    same_set: int
    pair: Pair | None

    @property
    def suggested(self) -> str:
        """The opposite of the annotation: "absent" or "present"."""
        return STATES[not self.written]

    def to_json(self) -> dict[str, Any]:
        """The record in `audit.json`."""
        return {
            "label": self.label,
            "written": STATES[self.written],
            "suggested": self.suggested,
            "score": self.score,
            "probability": self.probability,
            "critic": self.critic,
            "priority": self.priority,
            "kind": self.kind,
            "image": self.image,
            "label_ap": self.label_ap,
            "same_set": self.same_set,
            "pair": None if self.pair is None else self.pair._asdict(),
        }

    @staticmethod
    def from_json(record: SuspectRecord) -> Suspect:
        """Rebuild a suspect from its record."""
        pair = record["pair"]
        return Suspect(
            record["label"],
            record["written"] == STATES[True],
            record["score"],
            record["probability"],
            record["critic"],
            record["priority"],
            record["kind"],
            record["image"],
            record["label_ap"],
            record["same_set"],
            None if pair is None else Pair(pair["label"], pair["images"], pair["of"]),
        )


@dataclass(frozen=True)
class Card:
    """An image with all its suspects.

    Attributes:
        path, split: the row.
        written: names of the labels that are annotated as present.
        unknown: names of the labels that are not annotated.
        suspects: mistakes before rare combinations, of each the highest priority first.
    """

    path: str
    split: str
    written: tuple[str, ...]
    unknown: tuple[str, ...]
    suspects: tuple[Suspect, ...]

    @property
    def kind(self) -> Kind:
        """The kind of its first suspect: one likely mistake makes the image one with a mistake."""
        return self.suspects[0].kind

    @property
    def score(self) -> float:
        """The priority of its first suspect; cards of one kind are in its order."""
        return self.suspects[0].priority

    def concerns(self, label: str) -> bool:
        """Whether one of its suspects is the label of that name."""
        return any(suspect.label == label for suspect in self.suspects)

    def others(self, suspect: Suspect) -> tuple[str, ...]:
        """The labels that are annotated as present beside a suspect."""
        return tuple(name for name in self.written if name != suspect.label)

    def to_json(self) -> dict[str, Any]:
        """The record in `audit.json`."""
        return {
            "path": self.path,
            "split": self.split,
            "written": list(self.written),
            "unknown": list(self.unknown),
            "score": self.score,
            "kind": self.kind,
            "suspects": [suspect.to_json() for suspect in self.suspects],
        }

    @staticmethod
    def from_json(record: CardRecord) -> Card:
        """Rebuild a card from its record."""
        return Card(
            record["path"],
            record["split"],
            tuple(record["written"]),
            tuple(record["unknown"]),
            tuple(Suspect.from_json(suspect) for suspect in record["suspects"]),
        )
