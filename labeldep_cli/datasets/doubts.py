"""Questions about a file that only its owner can answer, each with the command lines that answer it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labeldep_cli.datasets.remedies import import_command
from labeldep_cli.errors import DatasetError


@dataclass(frozen=True)
class Answer:
    """An answer to a question.

    Attributes:
        words: the answer, as the start of a sentence that a command line ends: "If -1 means absent".
        flags: settings of `ImportConfig`, by field name.
    """

    words: str
    flags: Mapping[str, object]


@dataclass(frozen=True)
class Doubt:
    """A question about a file.

    Attributes:
        what: what was seen and what is asked, without the file's name.
        answers: the possible answers.
        otherwise: what else can be done, in a sentence.
    """

    what: str
    answers: tuple[Answer, ...] = ()
    otherwise: str = ""

    def error(self, source: Path, **given: object) -> DatasetError:
        """The error that asks.

        Args:
            source: the file or folder.
            given: settings of `ImportConfig` that are known already; each line repeats them.
        """
        lines = []
        for answer in self.answers:
            lines += [f"{answer.words}:", import_command(source, **{**given, **answer.flags})]
        return DatasetError(f"{source}: {self.what}", "\n".join([*lines, *filter(None, [self.otherwise])]))


def some(names: list[str] | tuple[str, ...], shown: int = 3) -> str:
    """The first names of a list: "'a', 'b', 'c' and 2 more"."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(repr(name) for name in names[:shown]) + more
