"""ML-GCN (Chen et al. 2019): label classifiers that are computed on a graph of label co-occurrence."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from labeldep_cli.models.heads.base import Head

_EMBEDDING = 300
_LEAST_PROBABILITY = 0.4
_NEIGHBOURS_WEIGHT = 0.2
_SLOPE = 0.2  # of the LeakyReLU


class GcnHead(Head):
    """Features [B, F] -> logits [B, L]: products with classifiers [L, F] that a graph network computes.

    "Multi-Label Image Recognition with Graph Convolutional Networks", Chen, Wei, Wang and Guo, CVPR 2019. As in the
    paper: there is an edge from label i to label j if P(j|i) is at least 0.4 in the training labels. The neighbours of
    a label have a weight of 0.2 together, the label itself 0.8. The graph is normalised by its degrees. Two graph
    convolutions of width 1024, with a LeakyReLU of slope 0.2 between them, map 300 numbers per label to its classifier.

    The logits are linear in the features, as with independent sigmoids: given the image, its labels are independent.
    The gain is in training, where a rare label shares weights with its neighbours.

    Simplified: the paper's labels have GloVe word vectors, which are not available here; the 300 numbers are learned
    from a random start. Each label has a bias, since features need not be positive as the paper's maxima are. The graph
    is the paper's; the authors' code uses its transpose.
    """

    default_width: ClassVar[int] = 1024

    def __init__(self, feature_dim: int, n_labels: int, hidden: int = 0) -> None:
        super().__init__(feature_dim, n_labels, hidden)
        self.embedding = nn.Parameter(torch.randn(n_labels, _EMBEDDING))
        self.first = nn.Linear(_EMBEDDING, self.width, bias=False)
        self.second = nn.Linear(self.width, feature_dim, bias=False)
        nn.init.normal_(self.second.weight, std=0.003 * self.width**0.5)  # logits begin near 0 at any width
        self.bias = nn.Parameter(torch.zeros(n_labels))
        self.graph: Tensor
        self.register_buffer("graph", torch.eye(n_labels))

    def fit_to_labels(self, labels: Tensor) -> None:
        """Compute the graph from the training labels."""
        self.graph.copy_(label_graph(labels))

    def forward(self, features: Tensor) -> Tensor:
        """Logits [B, L]."""
        shared = leaky_relu(self.graph @ self.first(self.embedding), _SLOPE)
        # With this factor, a step of Adam at 1e-3 changes a logit over 2048 features by about 0.3, as for a linear
        # head. Without it, the change is 100.
        classifiers = self.graph @ self.second(shared) * (3 / self.width)  # [L, F]
        logits: Tensor = features @ classifiers.T + self.bias
        return logits


def label_graph(labels: Tensor) -> Tensor:
    """The normalised graph of label co-occurrence.

    Args:
        labels: int8 [N, L]; -1 where unknown. P(j|i) is counted over images where i is present and j is known.

    Returns:
        [L, L]: D^-1/2 A D^-1/2. Row i of A has 0.8 at i, and 0.2 divided equally among all j with P(j|i) >= 0.4. D has
        the sums of A's rows.
    """
    present, known = (labels > 0).float(), (labels >= 0).float()
    conditional = present.T @ present / (present.T @ known).clamp(min=1)  # P(j|i) at [i, j]
    edges = (conditional >= _LEAST_PROBABILITY).float().fill_diagonal_(0)
    shares = _NEIGHBOURS_WEIGHT * edges / edges.sum(dim=1, keepdim=True).clamp(min=1)
    weights = shares + (1 - _NEIGHBOURS_WEIGHT) * torch.eye(len(edges), device=labels.device)
    scale = weights.sum(dim=1).rsqrt()
    return scale[:, None] * weights * scale
