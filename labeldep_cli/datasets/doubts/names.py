"""Names of labels that may be something else: several names in one, no label at all, or one label in two spellings.

Suspicion is counted over a whole file: a single odd name proves nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

from labeldep_cli.datasets.doubts.doubt import Answer, Doubt, some
from labeldep_cli.datasets.label_cells import SEPARATOR, split_names

SEPARATORS = ("|", ";", ",", "\t", "/", "+", " ")
"""What people write between names, in the order in which it is looked for."""

_RARE_IN_NAMES = {"|", ";", ",", "\t"}

_SPOKEN = {" ": "a blank", "\t": "a tabulator"}

NOTHING = frozenset(
    {"nan", "none", "null", "nil", "na", "n/a", "n.a.", "<na>", "\\n", "-", "--", "?", "nothing", "empty", "no label"}
    | {"no labels", "unlabeled", "unlabelled", "no finding", "no findings", "no_finding", "nofinding"}
)
"""Words, in lower case, that programs and people write where an image has no label."""


def names_doubt(counts: Mapping[str, int], separated: bool, separator: str = SEPARATOR) -> Doubt | None:
    """Ask about the names in lists of labels.

    Args:
        counts: the number of rows with each name, over the whole file.
        separated: whether some row has two names, so that the separator is known.
        separator: what the names were separated at; empty if they were not separated, such as items of a JSON list.

    Returns:
        One question about all that is suspicious, with all flags in each answer; None if nothing is.
    """
    between = suspected_separator(counts, separated, separator)
    names = Counter(dict(counts)) if between is None else _split(counts, between)
    nothing = [name for name in names if name.casefold() in NOTHING]
    alike = groups_alike([name for name in names if name not in nothing])
    said: list[str] = []
    answer: dict[str, object] = {}
    if between is not None:
        example = next(name for name in counts if len(split_names(name, between)) > 1)
        said.append(f"{_spoken(between)} seems to stand between the names of labels, as in {example!r}")
        answer["label_separator"] = {"\t": "tab"}.get(between, between)
    if nothing:
        said.append(f"{some(nothing)} may be no label: {_rows(sum(names[name] for name in nothing))}")
        answer["nothing"] = tuple(nothing)
    if alike:
        said.append(f"{_pairs(alike)} may be one label in several spellings")
        answer["merge_alike"] = True
    if not said:
        return None
    answers = [Answer("If so", answer)]
    if between is not None:
        kept = {**answer, "label_separator": separator or "tab"}  # no name of a JSON list has a tabulator
        answers.append(Answer(f"If {_spoken(between)} is part of names", kept))
    otherwise = "If they are labels of their own, rename them in the file." if nothing or alike else ""
    return Doubt("; ".join(said), tuple(answers), otherwise)


def columns_doubt(names: Iterable[str]) -> Doubt | None:
    """Ask about labels that are columns and whose names are alike; None if no two are."""
    alike = groups_alike(names)
    if not alike:
        return None
    spare = tuple(name for group in alike for name in group[1:])
    return Doubt(
        f"the columns {_pairs(alike)} may be one label in several spellings",
        (
            Answer("If so, make one of them", {"merge_alike": True}),
            Answer("To leave out the later ones", {"ignore_columns": spare}),
        ),
        "If they are labels of their own, rename them in the file.",
    )


def suspected_separator(counts: Mapping[str, int], separated: bool, used: str = SEPARATOR) -> str | None:
    """Find a separator within names.

    A separator is suspected if at least half of the names with it consist of parts that are known as names: they stand
    alone in some row, or, if nothing has separated names so far, they are also part of another name with it. A blank,
    "/" or "+", which names often have, must also leave fewer names than before. Numbers with anything between them are
    always suspicious.

    Returns:
        The first suspected one of SEPARATORS; None if there is none.
    """
    for separator in SEPARATORS:
        if separator == used:
            continue
        parts = {name: split_names(name, separator) for name in counts if separator in name}
        joint = {name: found for name, found in parts.items() if len(found) > 1}
        if not joint:
            continue
        alone = set(counts) - set(joint)
        times = Counter(part for found in joint.values() for part in set(found))
        known = alone if separated else alone | {part for part, n in times.items() if n > 1}
        suspicious = sum(all(part in known for part in found) for found in joint.values())
        fewer = separator in _RARE_IN_NAMES or len(alone | set(times)) < len(counts)
        if all(part.isdecimal() for part in times) or (2 * suspicious >= len(joint) and fewer):
            return separator
    return None


def groups_alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of different names that are equal up to case, blanks, invisible characters and Unicode form."""
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        groups.setdefault(_plain(name).casefold(), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def merged_names(counts: Mapping[str, int]) -> dict[str, str]:
    """For names that are alike, the name that each of them becomes; other names are left out.

    It is the spelling in lower case if there is one, else the one in most rows; with plain blanks, and no characters
    that cannot be seen.

    Args:
        counts: the number of rows with each name.
    """
    merged: dict[str, str] = {}
    for group in groups_alike(counts):
        best = min(group, key=lambda name: (_plain(name) != _plain(name).lower(), -counts[name], name))
        merged |= dict.fromkeys(group, _plain(best))
    return merged


def _plain(name: str) -> str:
    """A name in its composed Unicode form, with single blanks and without characters that cannot be seen."""
    normal = unicodedata.normalize("NFKC", name)
    seen = "".join(c for c in normal if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf"))
    return re.sub(r"\s+", " ", seen).strip()


def _split(counts: Mapping[str, int], separator: str) -> Counter[str]:
    names: Counter[str] = Counter()
    for name, n in counts.items():
        for part in dict.fromkeys(split_names(name, separator)):
            names[part] += n
    return names


def _pairs(groups: list[tuple[str, ...]]) -> str:
    more = f" and {len(groups) - 2} more pairs" if len(groups) > 2 else ""
    return (
        " and ".join(
            "/".join(ascii(name) if not name.isprintable() else repr(name) for name in group) for group in groups[:2]
        )
        + more
    )


def _spoken(separator: str) -> str:
    return _SPOKEN.get(separator, repr(separator))


def _rows(n: int) -> str:
    return f"{n} rows have it" if n > 1 else "one row has it"
