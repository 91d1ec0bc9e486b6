"""The checks of `LabelDependencyLoss`: settings, shapes and values with which it would train nothing, or wrongly.

B batch, L labels, F feature width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from labeldep_cli.config import AdversarialConfig, Sampling
from labeldep_cli.errors import TrainingError


def require_fitting(logits: Tensor, features: Tensor, n_labels: int, feature_dim: int, device: torch.device) -> None:
    """Refuse tensors with shapes or devices that do not fit the critic.

    Args:
        logits: [B, L].
        features: [B, F].
        n_labels, feature_dim: L and F of the critic.
        device: device of the critic.

    Raises:
        ValueError: names the shapes, or the devices.
    """
    if features.shape != (len(logits), feature_dim) or logits.shape[1:] != (n_labels,):
        raise ValueError(
            f"logits {tuple(logits.shape)} and features {tuple(features.shape)}: this critic takes "
            f"[B, {n_labels}] and [B, {feature_dim}]"
        )
    if logits.device != device or features.device != device:
        raise ValueError(
            f"logits on {logits.device}, features on {features.device}, the critic on {device}: "
            "move it with .to(device)"
        )


def checked_labels(y: Tensor, logits: Tensor) -> Tensor:
    """Labels [B, L] in the precision and on the device of their logits [B, L].

    Raises:
        ValueError: the shapes differ, there are no rows, or a value is not 0, 1 or -1.
    """
    if y.shape != logits.shape or not len(y):
        raise ValueError(f"labels {tuple(y.shape)} for logits {tuple(logits.shape)}; at least one row")
    y = y.to(logits)
    if not ((y == 0) | (y == 1) | (y == -1)).all():
        raise ValueError("labels must be 0, 1, or -1 if unknown; there are other values")
    return y


def require_finite(tensors: dict[str, Tensor]) -> None:
    """Refuse tensors with values that are not finite. All are checked together, so the host waits only once.

    Raises:
        TrainingError: names the first of these tensors.
    """
    finite = torch.stack([tensor.isfinite().all() for tensor in tensors.values()]).tolist()
    if not all(finite):
        raise TrainingError(
            f"LabelDependencyLoss.step: the {list(tensors)[finite.index(False)]} are not finite",
            "Leave such a batch out, lower the learning rate, or compute in more than 16 bits.",
        )


def require_sensible(config: AdversarialConfig, positive: Sequence[str]) -> None:
    """Refuse settings with which the critic would train nothing, or wrongly.

    Args:
        config: all settings.
        positive: names of further settings that must be above 0 for this kind of critic.

    Raises:
        ValueError: names the setting.
    """
    if config.sampling not in get_args(Sampling):
        raise ValueError(f"sampling {config.sampling!r}: one of {', '.join(get_args(Sampling))}")
    positive = ("critic_steps", "critic_width", "critic_projection", *positive)
    for name in (*positive, "alpha", "inverse_temperature", "critic_lr"):
        value = getattr(config, name)
        if not 0 < value < math.inf:
            raise ValueError(f"{name} {value}: a number above 0")
    for name in ("lambda_gp", "critic_layers"):
        if not 0 <= getattr(config, name) < math.inf:
            raise ValueError(f"{name} {getattr(config, name)}: a number from 0 on")
