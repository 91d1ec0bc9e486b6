"""What a draw of splits does not divide, and which of it must stay so that no label is lost."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.split import Split
from labeldep_cli.datasets.stratification import LabelCounts


def unit_names(paths: Sequence[str], groups: Sequence[str] | None) -> Sequence[str]:
    """The unit of each row: its group, or the row itself if it has none."""
    return paths if groups is None else [group or path for path, group in zip(paths, groups, strict=True)]


def numbered(names: Sequence[str]) -> NDArray[np.int64]:
    """Number the different names 0, 1, ... in the order in which they first occur, int64 [N]."""
    number_of = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.fromiter((number_of[name] for name in names), np.int64, len(names))


def divided_groups(splits: Mapping[str, Split]) -> tuple[str, ...]:
    """A note on groups that the data set itself puts into several splits; empty if there are none."""
    splits_of: defaultdict[str, list[str]] = defaultdict(list)
    for name, split in splits.items():
        for group in set(split.groups or ()) - {""}:
            splits_of[group].append(name)
    divided = {group: names for group, names in splits_of.items() if len(names) > 1}
    if not divided:
        return ()
    group, names = min(divided.items())
    count = f"{len(divided)} group{' is' if len(divided) == 1 else 's are'}"
    return (f"{count} in several splits, such as {group!r} in {' and '.join(names)}: a score there may be too good",)


@dataclass(frozen=True)
class Units:
    """The U units of N rows.

    Attributes:
        of_row: int64 [N], the unit of each row, 0 to U - 1.
        hashes: uint64 [U], a keyed hash of each unit's name: a random number that does not depend on other units.
    """

    of_row: NDArray[np.int64]
    hashes: NDArray[np.uint64]

    @staticmethod
    def of(names: Sequence[str], seed: int, purpose: str) -> Units:
        """The units with these names.

        Args:
            names: the name of each row's unit.
            seed: seed of the draw.
            purpose: makes draws with the same seed independent ("val", "test").
        """
        key = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
        digests = b"".join(
            hashlib.blake2b(name.encode(), digest_size=8, key=key).digest() for name in dict.fromkeys(names)
        )
        return Units(numbered(names), np.frombuffer(digests, dtype=">u8").astype(np.uint64))

    def below(self, fraction: float) -> NDArray[np.bool_]:
        """The units, bool [U], that a draw without labels holds out: about this share."""
        drawn: NDArray[np.bool_] = self.hashes < int(fraction * 2**64)
        return drawn


def keepers(
    counts: LabelCounts, hashes: NDArray[np.uint64], held_out: NDArray[np.bool_], wanted: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The units that must stay although they were drawn, because a label would be lost without them.

    For each label it is the unit with the highest hash. So the choice for one label does not depend on other labels.

    Args:
        counts: the labels of U units.
        hashes: uint64 [U].
        held_out: bool [U], the units that were drawn.
        wanted: bool [L], the labels that must not be lost.

    Returns:
        bool [U]; a part of `held_out`.
    """
    lost = wanted & (counts.units_with_labels(~held_out) == 0)
    entries = np.flatnonzero(lost[counts.label])
    order = entries[np.lexsort((hashes[counts.unit[entries]], counts.label[entries]))]
    last_of_label = np.append(counts.label[order][1:] != counts.label[order][:-1], True)[: len(order)]
    kept = np.zeros(len(hashes), bool)
    kept[counts.unit[order[last_of_label]]] = True
    return kept
