"""The findings of an audit as a table and as a page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labeldep_cli.datasets.cell_text import csv_line, list_cell, path_cell, text_cell
from labeldep_cli.evaluation.suspects import Card, Suspect

COLUMNS = ("path", "split", "label", "written", "suggested", "score", "probability", "critic", "other_labels")
"""The first columns of the table; `priority`, `kind` and `image` follow."""


def finding(card: Card, suspect: Suspect) -> dict[str, Any]:
    """A suspect with its row, as one JSON object."""
    beside = {"path": card.path, "split": card.split}
    return {**beside, **suspect.to_json(), "other_labels": list(card.others(suspect))}


def by_score(cards: Iterable[Card]) -> list[tuple[Card, Suspect]]:
    """All suspects of all cards, the highest score first."""
    found = [(card, suspect) for card in cards for suspect in card.suspects]
    return sorted(found, key=lambda pair: -pair[1].score)


def table(cards: Iterable[Card]) -> str:
    """The suspects as CSV, the highest score first; the other labels are separated by `;`.

    A spreadsheet computes no cell: see `cell_text`.
    """
    header = (*COLUMNS, "priority", "kind", "image")
    lines = [header]
    for card, suspect in by_score(cards):
        numbers = {
            name: _short(getattr(suspect, name)) for name in ("score", "probability", "critic", "priority", "image")
        }
        names = {
            "path": path_cell(card.path),
            "label": text_cell(suspect.label),
            "other_labels": list_cell(card.others(suspect)),
        }
        cells = {**finding(card, suspect), **numbers, **names}
        lines.append(tuple(cells[name] for name in header))
    return "".join(map(csv_line, lines))


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
