"""Data sets with a known answer: drawn from a law, with simulated evidence, written as ready features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.planted.law import (
    Answer,
    IndependentLaw,
    Law,
    SetLaw,
    counted,
    evidence,
    frustrated,
    log_ratios,
    shuffled,
    strengths,
)
from labeldep_cli.errors import DatasetError
from labeldep_cli.files import make_folder

CaseName = Literal["coco", "coco-shuffled", "ising", "ising-shuffled"]

STRENGTH = {"coco": (0.5, 1.5), "ising": (0.3, 0.9)}
"""Evidence strengths s_l are drawn between these: errors of a single label, seen alone, between 31 % and 7 % at even
odds (COCO), and between 38 % and 18 % (Ising)."""

ISING_LABELS, ISING_COUPLING = 8, 3.0
"""Few enough labels that `--decision rerank` tries every set: its fraction measures the critic, not the search."""

_LAW_SEED = 3
"""Of strengths and couplings: the law is one and the same for all training seeds."""


@dataclass(frozen=True)
class Sizes:
    """Rows of each split."""

    train: int = 40_000
    val: int = 1_000
    test: int = 4_000


@dataclass(frozen=True)
class Case:
    """A drawn data set, and the truth about its test rows.

    Attributes:
        file: ready features, the `--dataset` of every run.
        labels: int8 [N, L] of the test rows.
        truth: the answer of the true law for them.
        tuning: marginals [M, L] and labels int8 [M, L] of the val rows, for thresholds on true marginals.
        by_counts: the answer for the test rows of a law made of the training sets' counts; None for shuffled labels.
    """

    file: Path
    labels: NDArray[np.int8]
    truth: Answer
    tuning: tuple[NDArray[np.float64], NDArray[np.int8]]
    by_counts: Answer | None


def draw(name: CaseName, labels: Path, sizes: Sizes, seed: int, folder: Path) -> Case:
    """Draw a case, and write it into a folder.

    Args:
        name: which.
        labels: an .npz with Y [N, L] and names [L], COCO's label sets; not read for an Ising model.
        sizes: rows.
        seed: of draws and evidence, not of the law.
        folder: gets NAME-SEED.npz.

    Raises:
        DatasetError: there is no such file of labels.
    """
    kind, _, shuffle = name.partition("-")
    names, law = LAWS[kind](labels)
    s = strengths(len(names), *STRENGTH[kind], seed=_LAW_SEED)
    rng = np.random.default_rng(seed)
    parts = {split: law.draw(n, rng) for split, n in vars(sizes).items()}
    true_law: Law = law
    if shuffle:
        parts = {split: shuffled(y, rng) for split, y in parts.items()}
        true_law = IndependentLaw(law.marginals())
    x = {split: evidence(y, s, rng) for split, y in parts.items()}
    make_folder(folder)
    file = folder / f"{name}-{seed}.npz"
    _write(file, x, parts, names)  # the same bytes each time; runs on other rows refuse them by their fingerprint
    ratios = log_ratios(x["test"], s)
    return Case(
        file,
        parts["test"],
        true_law.answer(ratios),
        (true_law.answer(log_ratios(x["val"], s)).marginals, parts["val"]),
        None if shuffle else counted(parts["train"]).answer(ratios),
    )


def _write(
    file: Path,
    x: Mapping[str, NDArray[np.float32]],
    y: Mapping[str, NDArray[np.int8]],
    names: tuple[str, ...],
) -> None:
    split = np.concatenate([np.full(len(rows), name) for name, rows in y.items()])
    np.savez(
        file,
        X=np.concatenate(list(x.values())),
        Y=np.concatenate(list(y.values())),
        label_names=np.array(names, dtype=str),
        split=split,
    )


def _coco(labels: Path) -> tuple[tuple[str, ...], SetLaw]:
    if not labels.is_file():
        raise DatasetError(f"there are no label sets at {labels}", "Name an .npz with Y [N, L] and names [L]: --labels")
    with np.load(labels, allow_pickle=False) as archive:
        return tuple(map(str, archive["names"])), counted(archive["Y"])


def _ising(labels: Path) -> tuple[tuple[str, ...], SetLaw]:
    return tuple(f"spin {k}" for k in range(ISING_LABELS)), frustrated(ISING_LABELS, ISING_COUPLING, _LAW_SEED)


LAWS: Mapping[str, Callable[[Path], tuple[tuple[str, ...], SetLaw]]] = {"coco": _coco, "ising": _ising}
"""Label names and law by kind."""
