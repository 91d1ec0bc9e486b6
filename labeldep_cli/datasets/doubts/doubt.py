"""A question about a file, its answers, and the error that asks it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from labeldep_cli.datasets.doubts.remedies import import_command
from labeldep_cli.errors import DatasetError

_MOST = 6
"""Answers to several questions at once; beyond it, only the first answer to a further question is shown."""


@dataclass(frozen=True)
class Answer:
    """An answer to a question.

    Attributes:
        words: the answer, as the start of a sentence that a command line ends: "If -1 means absent".
        flags: settings of `ImportConfig`, by field name.
    """

    words: str
    flags: Mapping[str, object]


TO_IMPORT = Answer("To import it", {})
"""The import line without a flag: the form of a file shows how it is read, or the command asks."""


@dataclass(frozen=True)
class Doubt:
    """A question about a file.

    Attributes:
        what: what was seen and what is asked, without the file's name.
        answers: the possible answers.
        otherwise: what else can be done, in a sentence.
        place: the place within the file, such as "line 3".
    """

    what: str
    answers: tuple[Answer, ...] = ()
    otherwise: str = ""
    place: str = ""

    def error(self, source: Path, **given: object) -> DatasetError:
        """The error that asks.

        Args:
            source: the file or folder.
            given: settings of `ImportConfig` that are known already; each line repeats them.
        """
        lines = []
        for answer in self.answers:
            lines += [f"{answer.words}:", import_command(source, **{**given, **answer.flags})]
        where = f"{source}, {self.place}" if self.place else str(source)
        return DatasetError(f"{where}: {self.what}", "\n".join([*lines, *filter(None, [self.otherwise])]))


def combined(doubts: Iterable[Doubt | None]) -> Doubt | None:
    """One question in place of several: each answer answers them all, so that one command line is enough."""
    asked = [doubt for doubt in doubts if doubt is not None]
    if len(asked) < 2:
        return asked[0] if asked else None
    answers: tuple[Answer, ...] = (Answer("", {}),)
    for doubt in asked:
        further = doubt.answers if len(answers) * len(doubt.answers) <= _MOST else doubt.answers[:1]
        answers = tuple(_both(first, second) for first in answers for second in further) or answers
    otherwise = " ".join(filter(None, (doubt.otherwise for doubt in asked)))
    what = [f"{doubt.place}: {doubt.what}" if doubt.place else doubt.what for doubt in asked[1:]]
    return Doubt("; ".join([asked[0].what, *what]), answers, otherwise, asked[0].place)


def _both(first: Answer, second: Answer) -> Answer:
    words = f"{first.words}, and {second.words[0].lower()}{second.words[1:]}" if first.words else second.words
    flags = {**first.flags, **second.flags}
    for name in first.flags.keys() & second.flags.keys():
        one, other = first.flags[name], second.flags[name]
        if isinstance(one, tuple) and isinstance(other, tuple):
            flags[name] = tuple(dict.fromkeys((*one, *other)))
    return Answer(words, flags)


def some(names: list[str] | tuple[str, ...], shown: int = 3) -> str:
    """The first names of a list: "'a', 'b', 'c' and 2 more"."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(repr(name) for name in names[:shown]) + more
