"""Att-RNN (Chen et al. 2018): labels are predicted one after the other, in the order that the network prefers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from labeldep_cli.models.heads.sequence import SequenceHead, State, run_cell


class AttRnnHead(SequenceHead):
    """Regions [B, S, F] -> logits [B, L], by a path of labels with attention over the regions before each label.

    "Order-Free RNN with Visual Attention for Multi-Label Classification", Chen, Chen, Yeh and Wang, AAAI 2018. As in
    the paper: the hidden state weighs the regions by soft attention. An LSTM gets their weighted mean and the last
    label. Training has no fixed order of labels: the next one is the present label, not yet on the path, that the
    network currently gives the highest probability. Prediction is the most probable path of a beam search.

    Simplified: the paper's network starts from a first prediction of all labels; this one starts from the mean of the
    regions. A path ends with an end symbol. Attention and LSTM share one linear projection of the regions.
    """

    spatial: ClassVar[bool] = True

    def __init__(self, feature_dim: int, n_labels: int, hidden: int = 0) -> None:
        super().__init__(feature_dim, n_labels, hidden)
        self.project = nn.Linear(feature_dim, self.width)
        self.first_state = nn.Linear(self.width, self.width)
        self.question = nn.Linear(self.width, self.width, bias=False)
        self.relevance = nn.Linear(self.width, 1, bias=False)
        self.cell = nn.LSTMCell(self.width + self.embedding_dim, self.width)
        self.score = nn.Linear(2 * self.width, n_labels + 1)

    def begin(self, features: Tensor) -> tuple[Tensor, State]:
        """The projected regions [B, S, H], and a state computed from their mean."""
        regions: Tensor = self.project(features)
        hidden = torch.tanh(self.first_state(regions.mean(dim=1, keepdim=True)))
        return regions, (hidden, torch.zeros_like(hidden))

    def step(self, inputs: Tensor, state: State, last: Tensor) -> tuple[Tensor, State]:
        """Attend to the regions, read the last label, score the next one."""
        query = torch.tanh(inputs[:, None] + self.question(state[0])[:, :, None])  # [B, K, S, H]
        attention = self.relevance(query).squeeze(-1).softmax(dim=-1)  # [B, K, S]
        context = attention @ inputs  # [B, K, H]
        state = run_cell(self.cell, torch.cat([context, self.embedding(last)], dim=-1), state)
        scores: Tensor = self.score(torch.cat([state[0], context], dim=-1))
        return scores, state

    def next_label(self, log_p: Tensor, remaining: Tensor) -> Tensor:
        """The most probable remaining label."""
        return log_p[:, :-1].masked_fill(~remaining, -torch.inf).argmax(dim=1)
