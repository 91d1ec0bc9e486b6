"""The critic's evidence for single labels: how much its score rises when one label is added to the set."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

_CELLS = 2**16
"""Labels that are flipped together; for each the critic has a few hundred numbers."""


class Flips(Protocol):
    """A critic that can tell what one label more or less changes."""

    def flip_gains(self, y: Tensor, z: Tensor, labels: Tensor) -> Tensor:
        """How much D rises when one label is flipped: sets [B, L], features [B, F], int64 [B, M] -> [B, M]."""


@torch.inference_mode()
def critic_evidence(critic: Flips, sets: Tensor, z: Tensor, labels: Tensor) -> Tensor:
    """D(y with the label, x) - D(y without it, x) for some labels of each image, with the other labels unchanged.

    A density-ratio critic (`--critic nce`) estimates log p(y|x) / p_G(y|x). Then this difference is what the other
    labels add to the logit of the label, so beta times the difference and G's logit are on one scale.

    Args:
        critic: D.
        sets: label sets bool [N, L].
        z: image features that D takes, [N, F].
        labels: numbers of the labels, int64 [N, M]; an image's labels may repeat.

    Returns:
        float [N, M]; positive where the label fits the others.
    """
    rows = max(_CELLS // max(labels.shape[1], 1), 1)
    parts = []
    for y, features, asked in zip(*(torch.split(part, rows) for part in (sets, z, labels)), strict=True):
        gain = critic.flip_gains(y, features, asked)
        parts.append(torch.where(y.gather(1, asked), -gain, gain))
    return torch.cat(parts)
