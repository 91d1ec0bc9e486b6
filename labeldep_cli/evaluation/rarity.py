"""Tells labels that the image contradicts from labels that are only in rare company.

N rows, L labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.label_space import UNKNOWN
from labeldep_cli.evaluation.suspects import Kind

CONTRADICTED = float(np.log(2))
"""Log-odds from which an image contradicts what is written: it at least doubles the odds against it."""

STEPS = 30
"""Newton steps of the calibration; ten are enough for a label with two examples."""


def image_evidence(logits: NDArray[np.float32], labels: NDArray[np.int8]) -> NDArray[np.float64]:
    """How much more likely the image makes each label than the label's share in the data does, as log-odds [N, L].

    Each label has a calibration of its own, logit p = slope * logit(p_G) + offset, fitted on its held-out rows
    (Platt 1999). A label that G cannot see gets a slope near 0, so its images are no evidence.

    Args:
        logits: of G, held out, [N, L].
        labels: annotated labels [N, L]; -1 where unknown. Unknown labels are ignored.

    Returns:
        Positive where the image supports the label; 0 for a label that is nowhere present or nowhere absent.
    """
    known, present = labels != UNKNOWN, labels > 0
    z = logits.astype(np.float64)
    n = known.sum(axis=0)
    positives = present.sum(axis=0)
    share = np.clip((positives + 0.5) / (n + 1), 1e-6, 1 - 1e-6)
    base = np.log(share / (1 - share))
    scale = np.maximum(z.std(axis=0), 1e-6)
    x = (z - z.mean(axis=0)) / scale
    slope, offset = np.zeros(z.shape[1]), base.copy()
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-(slope * x + offset)))
        residual, curvature = known * (present - p), known * p * (1 - p)
        gradient = np.stack([(residual * x).sum(axis=0) - slope, residual.sum(axis=0) - (offset - base)])
        a, b, c = (curvature * x * x).sum(axis=0) + 1, (curvature * x).sum(axis=0), curvature.sum(axis=0) + 1
        determinant = a * c - b * b
        slope = slope + (c * gradient[0] - b * gradient[1]) / determinant
        offset = offset + (a * gradient[1] - b * gradient[0]) / determinant
    return np.asarray(np.maximum(slope, 0) * x + offset - base)


def kind_of(against: float) -> Kind:
    """What a suspect is, by the log-odds with which the image speaks against what is written."""
    return "mistake" if against > CONTRADICTED else "rare combination"
