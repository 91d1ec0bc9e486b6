"""Several critics as one: D is the mean of their scores."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from labeldep_cli.models.discriminator import Discriminator, seeded_critic
from labeldep_cli.models.standardizing import Moments


class MembersCritic(nn.Module):
    """(label sets [B, L] or [B, K, L], image features [B, F]) -> the members' mean scores [B] or [B, K].

    For density ratios the mean of logarithms is the logarithm of a geometric mean: what one member alone claims
    counts less.

    Args:
        members: critics of one shape, which differ in their weights.
    """

    def __init__(self, members: Sequence[Discriminator]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """The mean score of each set."""
        return torch.stack([member(y, z) for member in self.members]).mean(dim=0)

    def flip_gains(self, y: Tensor, z: Tensor, labels: Tensor) -> Tensor:
        """The mean of `Discriminator.flip_gains` over the members."""
        return torch.stack([member.flip_gains(y, z, labels) for member in members_of(self)]).mean(dim=0)

    def standardize_by(self, moments: Moments) -> None:
        """Let every member standardise its features."""
        for member in members_of(self):
            member.standardize_by(moments)

    def make_room(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Get the buffers that a checkpoint has for the members."""
        for number, member in enumerate(members_of(self)):
            member.make_room(f"{prefix}.members.{number}", tensors)


AdversarialCritic = Discriminator | MembersCritic
"""D of the paper's kind: one network, or several."""


def members_of(critic: AdversarialCritic) -> list[Discriminator]:
    """The networks that a critic consists of."""
    if isinstance(critic, MembersCritic):
        return [member for member in critic.members if isinstance(member, Discriminator)]
    return [critic]


def build_critic(n_labels: int, feature_dim: int, shape: Mapping[str, Any], seed: int) -> AdversarialCritic:
    """A critic whose initial weights depend only on `seed`.

    Args:
        n_labels: L.
        feature_dim: F.
        shape: the arguments of `Discriminator`; and "members", if there are several.
        seed: the first member has the weights of a critic without others. The seeds of further members are hashes, so
            that critics of neighbouring seeds share none.
    """
    of_one = {name: value for name, value in shape.items() if name != "members"}
    count = int(shape.get("members", 1))
    members = [seeded_critic(n_labels, feature_dim, of_one, _seed(seed, number)) for number in range(count)]
    return members[0] if count == 1 else MembersCritic(members)


def _seed(seed: int, number: int) -> int:
    if number == 0:
        return seed
    return int.from_bytes(hashlib.blake2b(f"{seed} member {number}".encode(), digest_size=7).digest(), "big")
