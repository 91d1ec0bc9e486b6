"""`labeldep review`: a person decides on the labels of images."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labeldep_cli.config import BACKBONE, ReviewConfig, Source
from labeldep_cli.datasets import registry
from labeldep_cli.datasets.corrections import Place
from labeldep_cli.datasets.decision_file import read, require_writable
from labeldep_cli.datasets.split import Dataset
from labeldep_cli.errors import DatasetError, LabeldepError, StorageError, nearest
from labeldep_cli.evaluation.suspects import Card
from labeldep_cli.experiments.audit_record import RECORD, AuditRecord, read_audit
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.progress import Reporter
from labeldep_cli.review.server import ReviewServer
from labeldep_cli.review.session import Session
from labeldep_cli.review.taking import Taken, take


@dataclass(frozen=True)
class Review:
    """A data set that is open for decisions.

    Attributes:
        source: the settings that open the data set.
        data_dir: the folder of the named data sets.
        dataset: the data set as its table has it, without corrections.
        place: the file of decisions.
        cards: the cards of its audit; None without one.
        who: the person's name.
        label: the label to filter by first; empty for none.
    """

    source: Source
    data_dir: Path
    dataset: Dataset
    place: Place
    cards: tuple[Card, ...] | None
    who: str
    label: str

    def serve(self, port: int | None) -> ReviewServer:
        """The server of the page, with a session; it does not run yet.

        Raises:
            LabeldepError: the port cannot be used.
            DatasetError: the decisions that are there cannot be read.
        """
        session = Session.of(self.dataset, self.place, self.who, self.cards)
        return ReviewServer(session, port or 0, self.label, PixelRules.of(self.source))

    def take(self, file: Path) -> Taken:
        """Take over the decisions of a file.

        Raises:
            DatasetError: there is no such file, it is none of decisions, or none of them is on this data set.
            StorageError: the decisions cannot be written.
        """
        if not file.is_file():
            raise DatasetError(f"there is no file {file}", "Name the file that was saved from an audit's page.")
        decisions = read(file)
        tables = sorted({decision.table for decision in decisions} - {self.place.table})
        if tables and len(tables) == len({decision.table for decision in decisions}):
            raise DatasetError(
                f"{file} has decisions on {', '.join(tables)}, not on {self.place.table}",
                "Name the data set that was audited.",
            )
        return take(self.dataset, self.place, decisions, self.who)


def open_review(what: str, source: Source, data_dir: Path, config: ReviewConfig, reporter: Reporter) -> Review:
    """Open a data set, or that of an audit, for decisions.

    Args:
        what: the data set, or the folder of an audit, which names its own data set and settings.
        source: the settings that open the data set.
        data_dir: the folder of the named data sets.
        config: whose audit, which label, who decides.
        reporter: takes notes.

    Raises:
        DatasetError: the data set or its decisions cannot be read, or it has no such label.
        LabeldepError: the record of the audit is damaged or of another version.
        StorageError: decisions cannot be written beside the data set.
    """
    source, record = replace(source, dataset=what), None
    if is_audit(what):
        record = read_audit(Path(what))
        source, data_dir = record.source, record.data_dir
    elif is_audit(config.audit):
        record = _of_dataset(read_audit(config.audit), what, config.audit, reporter)
        if record is not None:
            source = replace(source, **{name: getattr(record.source, name) for name in BACKBONE})
    dataset = registry.load_source(replace(source, corrections=False), data_dir, reporter)
    if dataset.place is None:
        raise LabeldepError(
            f"{dataset.name} has no place for decisions", "Review a data set that was read from a file."
        )
    if config.label is not None and config.label not in dataset.space.names:
        raise DatasetError(f"there is no label {config.label!r}", nearest(config.label, dataset.space.names))
    place = Place.of(dataset.place)
    _require_writable(place.file)
    who = config.who or _login()
    cards = None if record is None else record.cards
    return Review(source, data_dir, dataset, place, cards, who, config.label or "")


def is_audit(folder: str | Path) -> bool:
    """Whether a folder has the record of an audit."""
    return (Path(folder) / RECORD).is_file()


def _of_dataset(record: AuditRecord, what: str, folder: Path, reporter: Reporter) -> AuditRecord | None:
    """The record, if it is of that data set; otherwise None, with a note."""
    audited = record.source.dataset
    if audited == what or (what not in registry.DATASETS and _file(audited) == _file(what)):
        return record
    reporter.note(f"{folder} is an audit of {audited}: all images of {what} are shown")
    return None


def _file(dataset: str) -> Path:
    path = Path(dataset)
    return (path / "labels.csv" if path.is_dir() else path).resolve()


def _require_writable(file: Path) -> None:
    try:
        require_writable(file)
    except StorageError as error:
        raise StorageError(
            f"decisions cannot be written: {error.what}",
            "Ask for permission, or review a copy of the table in a folder of your own.",
        ) from None


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name, as in some containers
        return ""


def closing_json(review: Review, session: Session) -> Mapping[str, Any]:
    """What a session has done, as JSON."""
    return {
        "dataset": review.dataset.name,
        "corrections": str(review.place.file),
        "cards": len(session.cards),
        "decided": session.n_decided,
        "made": dict(session.made),
    }
