"""How JPEGs are decoded, as part of the identity of features. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from labeldep_cli.config import Jpegs

WORDS: Mapping[Jpegs, str] = {"full": "", "draft": "JPEG at reduced scale, ", "gpu": "JPEG by nvJPEG, "}
"""The beginning of `Backbone.preprocessing`."""


def jpegs_of(preprocessing: str) -> Jpegs:
    """How JPEGs were decoded, by the preprocessing that a store or a run has recorded."""
    return next((jpegs for jpegs, words in WORDS.items() if words and preprocessing.startswith(words)), "full")
