"""What a critic says of single labels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from labeldep_cli.evaluation import evidence
from labeldep_cli.evaluation.evidence import critic_evidence
from labeldep_cli.models.discriminator import seeded_critic
from labeldep_cli.models.kernel_critic import KernelCritic
from labeldep_cli.models.members import build_critic
from labeldep_cli.models.standardizing import Moments

L, F = 4, 6
SHAPE = {"width": 8, "projection": 5, "slope": 0.2}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def kernel_critic() -> KernelCritic:
    """A critic that knows 30 rows, with weights that are not zero."""
    labels = (drawn(30, L, seed=1) > 0.3).to(torch.int8)
    critic = KernelCritic.fitted(labels, Moments(torch.zeros(F), torch.ones(F)), drawn(12, F, seed=2))
    for seed, weights in enumerate(critic.parameters(), start=3):
        weights.data.copy_(drawn(*weights.shape, seed=seed))
    return critic


CRITICS = {
    "a linear critic": lambda: seeded_critic(L, F, {"layers": 0, **SHAPE}, seed=0),
    "one layer": lambda: seeded_critic(L, F, {"layers": 1, **SHAPE}, seed=0),
    "three layers": lambda: seeded_critic(L, F, {"layers": 3, **SHAPE}, seed=0),
    "without the image": lambda: seeded_critic(L, F, {"layers": 2, **SHAPE, "conditional": False}, seed=0),
    "three members": lambda: build_critic(L, F, {"layers": 2, **SHAPE, "members": 3}, seed=0),
    "a kernel critic": kernel_critic,
}


class Pairs:
    """D = 3 where labels 0 and 1 are together, else 0; label 2 is worth 1."""

    def flip_gains(self, y: Tensor, z: Tensor, labels: Tensor) -> Tensor:
        def score(sets: Tensor) -> Tensor:
            return 3 * sets[:, 0] * sets[:, 1] + sets[:, 2]

        flipped = [y.scatter(1, one, ~y.gather(1, one)) for one in labels.split(1, dim=1)]
        return torch.stack([score(one.int()) - score(y.int()) for one in flipped], dim=1)


def test_a_pair_by_hand() -> None:
    """Evidence hangs on the others alone."""
    sets = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 0, 0]], dtype=torch.bool)
    found = critic_evidence(Pairs(), sets, torch.zeros(3, 2), torch.arange(3).expand(3, -1))
    assert found.tolist() == [[3, 3, 1], [0, 3, 1], [0, 0, 1]]


@pytest.mark.parametrize("make", CRITICS.values(), ids=CRITICS)
def test_it_is_the_difference_of_two_scores(make, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every kind of critic, for labels in any order, and where images are taken in several blocks."""
    monkeypatch.setattr(evidence, "_CELLS", 3 * 5)
    critic, sets, z = make(), drawn(10, L, seed=7) > 0, drawn(10, F, seed=8)
    labels = torch.tensor([[3, 0, 1], [2, 2, 0]] * 5)
    found = critic_evidence(critic, sets, z, labels)
    assert found.abs().max() > 0.01
    for k in range(3):
        one = labels[:, k : k + 1]
        with_it, without = sets.scatter(1, one, True), sets.scatter(1, one, False)
        torch.testing.assert_close(found[:, k], critic(with_it.float(), z) - critic(without.float(), z))
