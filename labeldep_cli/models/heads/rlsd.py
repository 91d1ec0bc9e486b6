"""RLSD (Zhang et al. 2018): labels that depend on each other within a region."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from labeldep_cli.models.heads.base import Head


class RlsdHead(Head):
    """Regions [B, S, F] -> logits [B, L]: an LSTM over latent labels in every region, then the maximum over regions.

    "Multi-Label Image Classification with Regional Latent Semantic Dependencies", Zhang, Wu, Shen, Zhang and Lu, IEEE
    Transactions on Multimedia 2018. As in the paper: the same LSTM reads every region, first its features and then,
    step by step, its labels. The score of a label in the image is the maximum over regions and steps.

    Simplified: the paper finds its regions with a fully convolutional localisation network, which is not available
    here; the regions are the positions of the last feature map, whose receptive fields are wide. A step reads the
    softmax of the scores of the step before, mapped by label embeddings, so that no label has to be assigned to a
    region. Each region takes 3 steps. The loss is that of any head that gives logits.
    """

    spatial: ClassVar[bool] = True
    default_width: ClassVar[int] = 256
    steps: ClassVar[int] = 3

    def __init__(self, feature_dim: int, n_labels: int, hidden: int = 0) -> None:
        super().__init__(feature_dim, n_labels, hidden)
        self.project = nn.Linear(feature_dim, self.width)
        self.cell = nn.LSTMCell(self.width, self.width)
        self.score = nn.Linear(self.width, n_labels)
        self.embed = nn.Linear(n_labels, self.width, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Logits [B, L]."""
        inputs = self.project(features.flatten(0, 1))  # [B * S, H]
        state = (torch.zeros_like(inputs), torch.zeros_like(inputs))
        scores = []
        for _ in range(self.steps):
            state = self.cell(inputs, state)
            scores.append(self.score(state[0]))  # [B * S, L]
            inputs = self.embed(scores[-1].softmax(dim=1))
        best = torch.stack(scores).amax(dim=0)
        return best.view(*features.shape[:2], self.n_labels).amax(dim=1)
