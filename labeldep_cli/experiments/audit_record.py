"""The record of an audit, `audit.json`: what was audited, how many mistakes there may be, and a card for each image."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from labeldep_cli.config import Source, pick
from labeldep_cli.errors import LabeldepError
from labeldep_cli.evaluation.mistakes import Estimate
from labeldep_cli.evaluation.suspects import Card, CardRecord, Suspect
from labeldep_cli.files import write_json
from labeldep_cli.progress import Reporter
from labeldep_cli.schemas import Count, Names, Real, conform, parse_json, require_unchanged, sealed

RECORD = "audit.json"
"""The record's name in the folder of an audit."""

FORMAT = 1


class Verdict(NamedTuple):
    """What became of a suspect of an earlier audit.

    Attributes:
        path, label: what it was about.
        score: its score then.
        mistake: whether the reviewer has changed the label.
    """

    path: str
    label: str
    score: float
    mistake: bool


class Contradiction(NamedTuple):
    """Rows of the same image, or of the same ready features, whose annotations differ: one of them is a mistake.

    Attributes:
        paths: the rows.
        labels: names of the labels that are present on one and absent on another.
    """

    paths: tuple[str, ...]
    labels: tuple[str, ...]


class VerdictRecord(TypedDict):
    """`Verdict` in the file."""

    path: str
    label: str
    score: Real
    mistake: bool


class ContradictionRecord(TypedDict):
    """`Contradiction` in the file."""

    paths: Names
    labels: Names


class _Format(TypedDict):
    format: Count


class _Place(TypedDict):
    data_dir: str


class AuditFile(TypedDict):
    """The contents of the file; `dataset` has the settings of a Source, and `data_dir`."""

    dataset: dict[str, Any]
    of: str
    labels: Names
    estimate: Estimate
    n_decided: Count
    verdicts: list[VerdictRecord]
    contradictions: list[ContradictionRecord]
    cards: list[CardRecord]


@dataclass(frozen=True)
class AuditRecord:
    """What an audit has found, as `audit` writes it and `review` reads it.

    Attributes:
        source: the settings that open the data set; the path of a user's own data is absolute.
        data_dir: folder of the named data sets, absolute.
        of: the data set's name, or the run's folder.
        labels: names of all labels.
        estimate: how many of the annotated labels are mistakes.
        cards: the images with suspects, in the order in which a reviewer should see them.
        n_decided: number of audited images that a reviewer has decided on; they have no card.
        verdicts: what reviewers have decided on suspects of this audit's predecessors.
        contradictions: identical images with different labels.
    """

    source: Source
    data_dir: Path
    of: str
    labels: tuple[str, ...]
    estimate: Estimate
    cards: tuple[Card, ...]
    n_decided: int
    verdicts: tuple[Verdict, ...]
    contradictions: tuple[Contradiction, ...]

    def to_json(self) -> dict[str, Any]:
        """The contents of the file."""
        return {
            "format": FORMAT,
            "dataset": {**vars(self.source), "data_dir": str(self.data_dir)},
            "of": self.of,
            "labels": list(self.labels),
            "estimate": self.estimate.to_json(),
            "n_decided": self.n_decided,
            "verdicts": [verdict._asdict() for verdict in self.verdicts],
            "contradictions": [contradiction._asdict() for contradiction in self.contradictions],
            "cards": [card.to_json() for card in self.cards],
        }

    @staticmethod
    def from_json(value: object) -> AuditRecord:
        """Rebuild a record from the contents of the file.

        Raises:
            ValueError: they are not the contents of such a file; names the field.
        """
        record = conform(value, AuditFile)
        require_unchanged(conform(value, dict[str, Any]))
        _require_known(record)
        try:
            source = pick(Source, record["dataset"])
            data_dir = Path(conform(record["dataset"], _Place)["data_dir"])
        except ValueError as error:
            raise ValueError(f"dataset: {error}") from error
        return AuditRecord(
            source,
            data_dir,
            record["of"],
            tuple(record["labels"]),
            record["estimate"],
            tuple(Card.from_json(card) for card in record["cards"]),
            record["n_decided"],
            tuple(Verdict(one["path"], one["label"], one["score"], one["mistake"]) for one in record["verdicts"]),
            tuple(Contradiction(tuple(one["paths"]), tuple(one["labels"])) for one in record["contradictions"]),
        )

    def write(self, folder: Path) -> None:
        """Write the record into the folder of an audit, atomically.

        Raises:
            StorageError: the disk is full or read-only, or there is no permission.
        """
        write_json(folder / RECORD, sealed(self.to_json()))


def read_audit(folder: Path) -> AuditRecord:
    """Read the record of an audit.

    Args:
        folder: the folder of the audit, `audit --out`.

    Raises:
        LabeldepError: there is no record, it is damaged, or another version has written it.
    """
    found = _read(folder / RECORD)
    if isinstance(found, AuditRecord):
        return found
    raise LabeldepError(found, "Audit the data set again; no fold is trained twice:\nlabeldep audit DATASET")


def former_audit(folder: Path, of: str, reporter: Reporter) -> AuditRecord | None:
    """The record of an earlier audit of the same data in a folder; None if there is none that can be read."""
    if not (folder / RECORD).exists():
        return None
    found = _read(folder / RECORD)
    if isinstance(found, AuditRecord):
        return found if found.of == of else None
    reporter.note(f"{found}: what became of its suspects is not used for the estimate")
    return None


def _read(path: Path) -> AuditRecord | str:
    """The record in a file; or why there is none, in a sentence."""
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
        if conform(value, _Format)["format"] == FORMAT:
            return AuditRecord.from_json(value)
    except FileNotFoundError:
        return f"{path.parent} has no {RECORD}: it is no folder of an audit, or one of an older version"
    except (OSError, ValueError) as error:
        return f"{path} is damaged: {error}"
    return f"{path} has format {value['format']}, and this version reads format {FORMAT}"


def _require_known(record: AuditFile) -> None:
    """Require that every card is about labels of the audit; else ValueError."""
    known = set(record["labels"])
    for number, card in enumerate(record["cards"]):
        names = [*card["written"], *card["unknown"], *(suspect["label"] for suspect in card["suspects"])]
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"cards[{number}]: {unknown[0]!r} is none of its labels")


def verdicts(
    former: AuditRecord | None, decided: Collection[str], present: Collection[tuple[str, str]]
) -> tuple[Verdict, ...]:
    """What became of the suspects of an audit since then.

    Args:
        former: the audit; None if there was none.
        decided: paths of the images that are decided now.
        present: (path, label) of the labels that are present on them now.

    Returns:
        Also the former audit's own verdicts on images that are still decided.
    """
    if former is None:
        return ()
    kept = [verdict for verdict in former.verdicts if verdict.path in decided]
    known = {(verdict.path, verdict.label) for verdict in kept}

    def judged(card: Card, suspect: Suspect) -> Verdict:
        is_present = (card.path, suspect.label) in present
        return Verdict(card.path, suspect.label, suspect.score, is_present != suspect.written)

    cards = [card for card in former.cards if card.path in decided]
    found = [judged(card, suspect) for card in cards for suspect in card.suspects]
    return (*kept, *(verdict for verdict in found if (verdict.path, verdict.label) not in known))
