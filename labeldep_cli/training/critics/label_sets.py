"""Label sets as input of the critic. B batch, L labels, K samples per image.

A label that is unknown for an image (-1) is left out of every label set of that image, real or generated. So the critic
learns nothing from it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from labeldep_cli.config import Sampling
from labeldep_cli.training import losses


def present(y: Tensor) -> Tensor:
    """The real label set [B, L]: 1 where a label is present, 0 where it is absent or unknown."""
    return y.clamp(min=0)


def known(y: Tensor) -> Tensor:
    """1 where a label is known, 0 where it is unknown, [B, L]."""
    return (y >= 0).to(y.dtype)


def sampled(logits: Tensor, y: Tensor, noise: Tensor, inverse_temperature: float, sampling: Sampling) -> Tensor:
    """y_hat: one label set per image, drawn from G in the same way as in G's training (Sect. 3.2).

    Args:
        logits: of G, [B, L].
        y: labels [B, L]; -1 where unknown.
        noise: uniform [B, L].
        inverse_temperature, sampling: as for `losses.sample`.

    Returns:
        Label sets [B, L] in [0, 1], differentiable with respect to the logits.
    """
    return known(y) * losses.sample(logits, noise, inverse_temperature, sampling)


def real_and_sampled(logits: Tensor, y: Tensor, noise: Tensor, drawn: Tensor | None = None) -> Tensor:
    """The real label set of each image, followed by K sets of zeros and ones that are drawn from G.

    Args:
        logits: of G, [B, L].
        y: labels [B, L]; -1 where unknown.
        noise: uniform [B, K, L].
        drawn: the sets that a joint head drew with the noise, [B, K, L]; None to draw independent labels.

    Returns:
        Label sets [B, 1 + K, L].
    """
    sets = losses.hard_samples(logits, noise) if drawn is None else drawn.to(y.dtype)
    hard = known(y)[:, None, :] * sets  # [B, K, L]
    return torch.cat([present(y)[:, None], hard], dim=1)
