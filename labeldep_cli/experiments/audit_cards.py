"""From the outputs of cross-fitted networks to cards: an image with all its suspects, what a reviewer sees first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.label_space import UNKNOWN
from labeldep_cli.evaluation.audit import EvidenceWeights, most_suspicious, suspicion
from labeldep_cli.evaluation.evaluate import probabilities
from labeldep_cli.evaluation.metrics import average_precision
from labeldep_cli.evaluation.mistakes import mistake_odds
from labeldep_cli.evaluation.pair_counts import cooccurrence_counts
from labeldep_cli.evaluation.rarity import image_evidence, kind_of
from labeldep_cli.evaluation.suspects import Card, Pair, Suspect
from labeldep_cli.experiments.cross_fitting import HeldOutScores


@dataclass(frozen=True)
class Evidence:
    """All that is known of the annotated labels of the audited rows; N rows, L audited labels.

    Attributes:
        names: names of all labels.
        held_out: the outputs of G and D.
        weights: the weights of G and D in the scores.
    """

    names: Sequence[str]
    held_out: HeldOutScores
    weights: EvidenceWeights

    @cached_property
    def labels(self) -> NDArray[np.int8]:
        """The annotated labels that are audited, int8 [N, L]."""
        return self.held_out.labels

    @property
    def n_left_out(self) -> int:
        """The number of labels that are not audited: the rarest ones, where there are very many."""
        return len(self.names) - len(self.held_out.audited)

    @cached_property
    def log_odds(self) -> NDArray[np.float64]:
        """Log-odds [N, L] that a label is present, given the image and the other labels."""
        return self.weights.log_odds(self.held_out.logits, self.held_out.evidence)

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """Log-odds [N, L] that an annotated label is wrong; -inf where it is unknown."""
        return suspicion(self.log_odds, self.labels)

    @cached_property
    def against(self) -> NDArray[np.float64]:
        """Log-odds [N, L] by which the image speaks against what is written; -inf where it is unknown."""
        return suspicion(image_evidence(self.held_out.logits, self.labels), self.labels)

    @cached_property
    def priorities(self) -> NDArray[np.float64]:
        """The lower [N, L] of a mistake's log-odds by the rates of mistakes and by the image; -inf where unknown.

        So a suspect comes first only if the image and the label set agree, and if such mistakes are frequent here.
        """
        return np.minimum(mistake_odds(self.log_odds, self.labels), self.against)

    @cached_property
    def together(self) -> NDArray[np.int64]:
        """Number of rows [L, L] on which two labels are both written; the diagonal has those of single labels."""
        return np.rint(cooccurrence_counts(self.labels > 0)).astype(np.int64)

    @cached_property
    def same_sets(self) -> NDArray[np.int64]:
        """Number of rows [N] with the same label set."""
        sets = np.packbits(self.held_out.sets > 0, axis=1)
        _, inverse, counts = np.unique(sets, axis=0, return_inverse=True, return_counts=True)
        return counts[inverse.reshape(-1)]

    @cached_property
    def precisions(self) -> list[float | None]:
        """Held-out average precision of each label among its known rows; None without a positive."""
        columns = zip(self.held_out.logits.T, self.labels.T, strict=True)
        return [average_precision(z[y != UNKNOWN], y[y != UNKNOWN]) if (y > 0).any() else None for z, y in columns]

    @property
    def mean_ap(self) -> float:
        """Mean of the precisions; 0 if no label has a positive."""
        precisions = [precision for precision in self.precisions if precision is not None]
        return float(np.mean(precisions)) if precisions else 0.0

    def cards(self, decided: Collection[str] = ()) -> tuple[Card, ...]:
        """A card for each row with a suspect; likely mistakes before rare combinations, the highest priority first.

        Args:
            decided: paths of rows that a reviewer has decided on; they are left out.
        """
        suspects: dict[int, list[Suspect]] = {}
        for row, label in most_suspicious(self.scores):
            if self.held_out.paths[row] not in decided:
                suspects.setdefault(row, []).append(self._suspect(row, label))
        cards = [self._card(row, found) for row, found in suspects.items()]
        return tuple(sorted(cards, key=lambda card: (card.kind != "mistake", -card.score)))

    def present(self, paths: Collection[str]) -> set[tuple[str, str]]:
        """The labels that are written on some rows, each as (path, label)."""
        rows = zip(self.held_out.paths, self.held_out.sets, strict=True)
        return {(path, self.names[int(k)]) for path, y in rows if path in paths for k in np.flatnonzero(y > 0)}

    def _name(self, label: int) -> str:
        """The name of an audited label."""
        return self.names[int(self.held_out.audited[label])]

    def _card(self, row: int, suspects: list[Suspect]) -> Card:
        labels = self.held_out.sets[row]
        return Card(
            self.held_out.paths[row],
            self.held_out.splits[row],
            tuple(self.names[int(k)] for k in np.flatnonzero(labels > 0)),
            tuple(self.names[int(k)] for k in np.flatnonzero(labels == UNKNOWN)),
            tuple(sorted(suspects, key=lambda suspect: (suspect.kind != "mistake", -suspect.priority))),
        )

    def _suspect(self, row: int, label: int) -> Suspect:
        held_out = self.held_out
        against = float(self.against[row, label])
        return Suspect(
            self._name(label),
            bool(self.labels[row, label] > 0),
            float(self.scores[row, label]),
            float(probabilities(held_out.logits[row, label])),
            None if held_out.evidence is None else self.weights.critic * float(held_out.evidence[row, label]),
            float(self.priorities[row, label]),
            kind_of(against),
            against,
            self.precisions[label],
            int(self.same_sets[row]),
            self._pair(row, label),
        )

    def _pair(self, row: int, label: int) -> Pair | None:
        """The other written label on whose images a present label is rarest, or an absent one most frequent."""
        others = [int(k) for k in np.flatnonzero(self.labels[row] > 0) if k != label]
        if not others:
            return None
        shares = self.together[label, others] / self.together[others, others]
        is_present = self.labels[row, label] > 0
        other = others[int(shares.argmin() if is_present else shares.argmax())]
        return Pair(self._name(other), int(self.together[label, other]), int(self.together[other, other]))
