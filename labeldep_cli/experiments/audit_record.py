"""The record of an audit, `audit.json`: what was audited, how many mistakes there may be, and a card for each image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labeldep_cli.config import Source, pick
from labeldep_cli.errors import LabeldepError
from labeldep_cli.evaluation.mistakes import Estimate
from labeldep_cli.evaluation.suspects import Card
from labeldep_cli.files import write_json

RECORD = "audit.json"
"""The record's name in the folder of an audit."""

FORMAT = 1


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
    """

    source: Source
    data_dir: Path
    of: str
    labels: tuple[str, ...]
    estimate: Estimate
    cards: tuple[Card, ...]

    def to_json(self) -> dict[str, Any]:
        """The contents of the file."""
        return {
            "format": FORMAT,
            "dataset": {**vars(self.source), "data_dir": str(self.data_dir)},
            "of": self.of,
            "labels": list(self.labels),
            "estimate": self.estimate.to_json(),
            "cards": [card.to_json() for card in self.cards],
        }

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> AuditRecord:
        """Rebuild a record from the contents of the file."""
        return AuditRecord(
            pick(Source, record["dataset"]),
            Path(record["dataset"]["data_dir"]),
            record["of"],
            tuple(record["labels"]),
            Estimate.from_json(record["estimate"]),
            tuple(Card.from_json(card) for card in record["cards"]),
        )

    def write(self, folder: Path) -> None:
        """Write the record into the folder of an audit, atomically.

        Raises:
            StorageError: the disk is full or read-only, or there is no permission.
        """
        write_json(folder / RECORD, self.to_json())


def read_audit(folder: Path) -> AuditRecord:
    """Read the record of an audit.

    Args:
        folder: the folder of the audit, `audit --out`.

    Raises:
        LabeldepError: there is no record, it is damaged, or another version has written it.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] == FORMAT:
            return AuditRecord.from_json(record)
        what = f"{path} has format {record['format']}, and this version reads format {FORMAT}"
    except FileNotFoundError:
        what = f"{folder} has no {RECORD}: it is no folder of an audit, or one of an older version"
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        what = f"{path} is damaged"
    raise LabeldepError(what, "Audit the data set again; no fold is trained twice:\nlabeldep audit DATASET")
