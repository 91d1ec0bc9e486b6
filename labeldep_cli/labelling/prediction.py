"""The label set of one image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from labeldep_cli.datasets.split import Skipped
from labeldep_cli.features.decode import Decoded
from labeldep_cli.features.reasons import Reason
from labeldep_cli.labelling.labeller import Labeller


@dataclass(frozen=True)
class Prediction:
    """The label set of one image.

    Attributes:
        path: the path as the user wrote it.
        labels: (name, probability 0..1) of each label in the set, most probable first.
        probabilities: the probabilities of all labels, in label order.
        confidence: the probability that the whole set is exactly right, 0..1.
        accepted: whether the confidence reaches the limit that the user has set; None if there is no limit.
    """

    path: str
    labels: tuple[tuple[str, float], ...]
    probabilities: dict[str, float]
    confidence: float
    accepted: bool | None = None


def record(outcome: Prediction | Skipped, everything: bool) -> dict[str, Any]:
    """The JSON object of an image, as `predict --json` prints it.

    Args:
        outcome: its prediction, or why it was skipped.
        everything: add the probabilities of all labels.
    """
    if isinstance(outcome, Skipped):
        return {"path": outcome.path, "skipped": outcome.reason}
    labels = [{"label": label, "probability": p} for label, p in outcome.labels]
    result: dict[str, Any] = {"path": outcome.path, "labels": labels, "confidence": outcome.confidence}
    if outcome.accepted is not None:
        result["accepted"] = outcome.accepted
    return {**result, "probabilities": outcome.probabilities} if everything else result


def label(labeller: Labeller, paths: Sequence[str], decoded: Decoded) -> Iterator[Prediction | Skipped]:
    """Label a batch of decoded images.

    Args:
        labeller: the networks and the decision.
        paths: B paths, as the user wrote them; may be empty.
        decoded: the same B images.

    Yields:
        For each image its prediction, or why it was skipped.
    """
    good = decoded.reasons == 0
    rows = iter(zip(*labeller.label(_readable_images(decoded)), strict=True)) if good.any() else iter(())
    names = labeller.run.space.names
    for path, reason in zip(paths, decoded.reasons.tolist(), strict=True):
        if reason:
            yield Skipped(path, Reason(reason).text)
            continue
        p, chosen, confidence = next(rows)
        if np.isnan(p).any():
            yield Skipped(path, Reason.NOT_FINITE.text)
            continue
        accepted = None if labeller.limit is None else bool(confidence >= labeller.limit)
        yield replace(prediction_of(path, names, p, chosen, float(confidence)), accepted=accepted)


def _readable_images(decoded: Decoded) -> Tensor:
    """The readable images, uint8 [B', 3, side, side]. If all are readable, they stay in pinned memory for a GPU."""
    images, good = decoded.images[:, 0], decoded.reasons == 0
    return images if good.all() else images[good]


def prediction_of(
    path: str, names: Sequence[str], p: NDArray[np.float64], chosen: NDArray[np.bool_], confidence: float
) -> Prediction:
    """Make a `Prediction` from an image's probabilities [L], its label set [L] and the set's confidence."""
    ranked = sorted(map(int, np.flatnonzero(chosen)), key=lambda k: (-p[k], k))
    return Prediction(
        path,
        tuple((names[k], float(p[k])) for k in ranked),
        {name: float(value) for name, value in zip(names, p, strict=True)},
        confidence,
    )
