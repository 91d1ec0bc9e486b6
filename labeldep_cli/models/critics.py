"""A run's critic from its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from labeldep_cli.models.kernel_critic import KernelCritic
from labeldep_cli.models.members import AdversarialCritic, build_critic

Critic = AdversarialCritic | KernelCritic
"""Everything that scores label sets of an image."""


def critic_of_shape(n_labels: int, feature_dim: int, shape: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Critic:
    """A critic with room for the tensors of a checkpoint.

    Args:
        n_labels: L.
        feature_dim: F.
        shape: `KernelCritic.shape`, or what `build_critic` takes.
        tensors: those of the checkpoint.
    """
    if shape.get("kind") == KernelCritic.KIND:
        return KernelCritic(n_labels, feature_dim, **{name: value for name, value in shape.items() if name != "kind"})
    critic = build_critic(n_labels, feature_dim, shape, seed=0)
    critic.make_room("critic", tensors)
    return critic
