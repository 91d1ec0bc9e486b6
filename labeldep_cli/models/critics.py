"""A run's critic from the shape in its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labeldep_cli.models.discriminator import Discriminator, seeded_critic
from labeldep_cli.models.kernel_critic import KernelCritic


def critic_of_shape(n_labels: int, feature_dim: int, shape: Mapping[str, Any]) -> Discriminator | KernelCritic:
    """A critic to be filled with a checkpoint's tensors.

    Args:
        n_labels: L.
        feature_dim: F.
        shape: `KernelCritic.shape`, or the further arguments of a `Discriminator`.
    """
    if shape.get("kind") == KernelCritic.KIND:
        return KernelCritic(n_labels, feature_dim, **{name: value for name, value in shape.items() if name != "kind"})
    return seeded_critic(n_labels, feature_dim, shape, seed=0)
