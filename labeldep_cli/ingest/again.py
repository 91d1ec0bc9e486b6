"""The command that reads a source once more, with an answer to the question that stopped it."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets.doubts.doubt import Answer, Doubt
from labeldep_cli.datasets.doubts.remedies import import_command
from labeldep_cli.errors import DatasetError

_ADDED = ("ignore_columns", "nothing")
"""Flags whose values are added to those that were given."""


def given(config: ImportConfig) -> dict[str, object]:
    """The flags that were given, by their names in `ImportConfig`."""
    return {f.name: getattr(config, f.name) for f in fields(config) if getattr(config, f.name) != f.default}


def import_again(source: Path, config: ImportConfig, **answers: object) -> str:
    """The `labeldep import` line with the flags that were given and with answers, ready to be pasted.

    Args:
        source: the file or folder.
        config: the flags that were given.
        answers: fields of `ImportConfig` to change.
    """
    return import_command(source, **{**given(config), **answers})


def question(doubt: Doubt, source: Path, config: ImportConfig) -> DatasetError:
    """The error that asks, whose command lines repeat the flags that were given."""
    answers = []
    for answer in doubt.answers:
        flags = dict(answer.flags)
        for name in _ADDED:
            if isinstance(value := flags.get(name), tuple):
                flags[name] = tuple(dict.fromkeys((*getattr(config, name), *value)))
        answers.append(Answer(answer.words, flags))
    return replace(doubt, answers=tuple(answers)).error(source, **given(config))
