"""CNN-RNN (Wang et al. 2016): labels are predicted one after the other, from the most frequent to the rarest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from labeldep_cli.models.heads.sequence import SequenceHead, State, run_cell


class CnnRnnHead(SequenceHead):
    """Features [B, F] -> logits [B, L], by a path of labels in the order of their frequency.

    "CNN-RNN: A Unified Framework for Multi-label Image Classification", Wang, Yang, Mao, Huang, Huang and Xu, CVPR
    2016. As in the paper: labels have embeddings of 64 numbers. An LSTM of width 512 reads the embeddings of the path.
    Image features and recurrent output are projected into the space of the embeddings and added. The scores of a step
    are the products with the embeddings. Training orders a label set from frequent to rare labels. Prediction is the
    most probable path of a beam search.

    Simplified: no dropout and no weight decay. The sum of the two projections passes through a tanh. A label that is
    already on the path takes no part in the softmax.
    """

    def __init__(self, feature_dim: int, n_labels: int, hidden: int = 0) -> None:
        super().__init__(feature_dim, n_labels, hidden)
        self.cell = nn.LSTMCell(self.embedding_dim, self.width)
        self.project_image = nn.Linear(feature_dim, self.embedding_dim)
        self.project_recurrent = nn.Linear(self.width, self.embedding_dim, bias=False)
        self.rank: Tensor
        self.register_buffer("rank", torch.arange(n_labels))

    def fit_to_labels(self, labels: Tensor) -> None:
        """Rank labels by frequency: 0 for the most frequent; labels with equal counts keep their order."""
        order = (labels > 0).sum(dim=0).argsort(descending=True, stable=True)
        self.rank.copy_(order.argsort())

    def begin(self, features: Tensor) -> tuple[Tensor, State]:
        """The projected image [B, 1, 64] and a state of zeros."""
        image: Tensor = self.project_image(features)[:, None]
        zeros = features.new_zeros(features.shape[0], 1, self.width)
        return image, (zeros, zeros)

    def step(self, inputs: Tensor, state: State, last: Tensor) -> tuple[Tensor, State]:
        """Scores: products of the label embeddings with the sum of projected image and recurrent output."""
        hidden, cell = run_cell(self.cell, self.embedding(last), state)
        point = torch.tanh(inputs + self.project_recurrent(hidden))  # [B, K, 64]
        return point @ self.embedding.weight.T, (hidden, cell)

    def next_label(self, log_p: Tensor, remaining: Tensor) -> Tensor:
        """The most frequent remaining label."""
        return torch.where(remaining, self.rank, self.n_labels).argmin(dim=1)
