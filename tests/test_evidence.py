"""What a critic says of single labels."""

from __future__ import annotations

import torch

from labeldep_cli.evaluation import evidence, rerank
from labeldep_cli.evaluation.evidence import critic_evidence
from labeldep_cli.models.discriminator import Discriminator


def test_a_pair_by_hand():
    """D = 3 where labels 0 and 1 are together, else 0; label 2 is worth 1. Evidence hangs on the others alone."""

    def score(y, z):
        return 3 * y[..., 0] * y[..., 1] + y[..., 2]

    sets = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 0, 0]], dtype=torch.bool)
    found = critic_evidence(score, sets, torch.zeros(3, 2))
    assert found.tolist() == [[3, 3, 1], [0, 3, 1], [0, 0, 1]]


def test_it_is_the_difference_of_two_scores(monkeypatch):
    """For a real critic, and where images are taken in several blocks."""
    monkeypatch.setattr(evidence, "BLOCK", 15)
    assert rerank.BLOCK != evidence.BLOCK
    draws = torch.Generator().manual_seed(0)
    critic = Discriminator(4, 6, layers=2, width=8, projection=5, slope=0.2)
    sets, z = torch.rand(10, 4, generator=draws) > 0.5, torch.randn(10, 6, generator=draws)
    found = critic_evidence(critic, sets, z)
    for label in range(4):
        with_it, without = sets.clone(), sets.clone()
        with_it[:, label], without[:, label] = True, False
        expected = critic(with_it.float(), z) - critic(without.float(), z)
        assert torch.allclose(found[:, label], expected, atol=1e-6)
