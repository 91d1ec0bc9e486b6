"""From a generator and inputs to logits and scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labeldep_cli.compute.distributed import ALONE, World
from labeldep_cli.errors import DatasetError
from labeldep_cli.evaluation.metrics import ApVariant, Scores, score
from labeldep_cli.evaluation.posterior import SetPosterior, joined, own_posterior
from labeldep_cli.evaluation.thresholds import tune, tune_per_label
from labeldep_cli.features.reasons import Reason
from labeldep_cli.inputs.batches import Inputs, in_order
from labeldep_cli.models.encoder import pooled
from labeldep_cli.models.generator import Generator

_CELLS = 2**22
"""Cells of a block of rows: 34 MB in 64 bits."""


@torch.inference_mode()
def collect_logits(generator: Generator, inputs: Inputs, world: World = ALONE) -> NDArray[np.float32]:
    """Logits of all rows with the test transform, float32 [N, L]; several processes share the rows."""
    was_training = generator.training
    generator.eval()
    logits = torch.zeros(len(inputs.labels), len(inputs.space), device=inputs.device)
    for batch in in_order(inputs, world):
        logits[batch.rows] = generator(batch.x)
    generator.train(was_training)
    world.add([logits])  # the other processes' rows are zeros here
    return logits.float().cpu().numpy()


@torch.inference_mode()
def collect_posterior(generator: Generator, inputs: Inputs, count: int) -> SetPosterior:
    """A joint head's most probable label sets of all rows with the test transform, at most `count` per row."""
    return joined([own_posterior(generator, generator.features(batch.x), count) for batch in in_order(inputs)])


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sigmoid of logits of any shape in double precision, float64; exactly 0.5 where the logit is 0."""
    if np.ndim(logits) < 2:
        return _sigmoid(logits)
    p = np.empty(logits.shape)
    for rows in row_blocks(logits):
        p[rows] = _sigmoid(logits[rows])
    return p


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    x = logits.astype(np.float64)
    p: NDArray[np.float64] = np.where(x >= 0, 1.0, np.exp(np.minimum(x, 0))) / (1 + np.exp(-np.abs(x)))
    return p


def row_blocks(table: NDArray[Any]) -> Iterator[slice]:
    """Blocks of rows of a table [N, L] for work that needs several copies in 64 bits; at least one block."""
    step = max(_CELLS // max(table.shape[1], 1), 1)
    for start in range(0, max(len(table), 1), step):
        yield slice(start, start + step)


@torch.inference_mode()
def collect_features(inputs: Inputs) -> Tensor:
    """The critic's image features of all rows with the test transform, float32 [N, F].

    Raises:
        DatasetError: those of an image are not finite: no set could be told from another. Stored features always are.
    """
    z = torch.cat([pooled(inputs.encoder(batch.x).float()) for batch in in_order(inputs)])
    finite = z.isfinite().all(dim=1)
    if not finite.all():
        path = inputs.paths[int(finite.int().argmin())]
        raise DatasetError(
            f"{path}: {Reason.NOT_FINITE.text}",
            "Extract features first (labeldep extract): they leave such images out, and so does full mode then.",
        )
    return z


def evaluate(
    logits: NDArray[np.float32], predicted: NDArray[np.bool_], inputs: Inputs, ap: ApVariant = "step"
) -> Scores:
    """Score logits [N, L] and the label sets [N, L] decided from them against the labels of the inputs."""
    return score(logits, predicted, inputs.labels.numpy(), inputs.space.names, ap=ap)


def tuned_thresholds(logits: NDArray[np.float32], inputs: Inputs) -> dict[str, float | list[float]]:
    """Thresholds tuned on these rows, which must be validation rows.

    Returns:
        "tuned": the one threshold with the best OF1; "tuned-per-label": for each label the threshold with its best F1.
    """
    return thresholds_for(probabilities(logits), inputs.labels.numpy())


def thresholds_for(p: NDArray[np.float64], labels: NDArray[np.int8]) -> dict[str, float | list[float]]:
    """The same from probabilities [N, L] and labels int8 [N, L]."""
    shared = tune(p, labels)
    return {"tuned": shared, "tuned-per-label": [float(t) for t in tune_per_label(p, labels, fallback=shared)]}
