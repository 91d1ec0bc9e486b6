"""The page of an audit for somebody without labeldep: cards, images and the decisions in one file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from labeldep_cli.datasets.corrections import Place
from labeldep_cli.datasets.split import Dataset
from labeldep_cli.evaluation.suspects import Card
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.progress import Reporter
from labeldep_cli.reports.thumbnails import thumbnails
from labeldep_cli.review.cards import ReviewCard, cards_of

SIDES = (640, 480, 320, 240, 160)
"""Lengths of a picture's longer side in pixels; the largest is used at which all pictures fit."""

PICTURES = 8_000_000
"""Maximum length of all pictures together, in characters; an e-mail takes the page."""


def page_data(dataset: Dataset, cards: Sequence[Card], rules: PixelRules, reporter: Reporter) -> dict[str, Any]:
    """What the page's script reads: the cards of an audit, with their pictures as data URIs.

    Args:
        dataset: the audited data set.
        cards: the cards to show, in order.
        rules: how image files become 8-bit RGB.
        reporter: shows progress over the pictures.
    """
    shown, _ = cards_of(dataset, cards, {})
    pictures = _pictures(dataset, shown, rules, reporter)
    records = [card.to_json() for card in shown]
    for card, record in zip(shown, records, strict=True):
        if card.content:
            record["content"] = card.content
    identity = hashlib.sha256(json.dumps([dataset.name, dataset.space.names, records]).encode()).hexdigest()
    for record, picture in zip(records, pictures, strict=False):
        record["image"] = picture
    return {
        "id": identity[:16],
        "table": "" if dataset.place is None else Place.of(dataset.place).table,
        "labels": list(dataset.space.names),
        "images": not dataset.has_features,
        "cards": records,
    }


def _pictures(dataset: Dataset, cards: Sequence[ReviewCard], rules: PixelRules, reporter: Reporter) -> list[str]:
    if dataset.has_features:
        return []
    return thumbnails([card.file for card in cards], rules, PICTURES, reporter, SIDES)
