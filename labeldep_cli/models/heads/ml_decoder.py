"""ML-Decoder (Ridnik et al. 2023): queries that attend to the regions, one for each label or group of labels."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from labeldep_cli.models.heads.base import Head

_MOST_QUERIES = 100
_MOST_ATTENTION_HEADS = 8


class MlDecoderHead(Head):
    """Regions [B, S, F] -> logits [B, L], by cross-attention from label queries.

    "ML-Decoder: Scalable and Versatile Classification Head", Ridnik, Sharir, Ben-Cohen, Ben-Baruch and Noy, WACV 2023.
    As in the paper and its authors' code: regions are projected to width 768 with a ReLU. min(L, 100) queries attend to
    them with 8 heads, without self-attention among the queries. A feed-forward layer 8/3 as wide follows. Both have a
    residual connection and a layer norm. A linear map for each query gives the logits of its ceil(L / queries) labels.

    Simplified: no dropout, so that a resumed run repeats an uninterrupted one bit by bit. The queries are learned; in
    the authors' code they keep their random values.
    """

    spatial: ClassVar[bool] = True
    default_width: ClassVar[int] = 768

    def __init__(self, feature_dim: int, n_labels: int, hidden: int = 0) -> None:
        super().__init__(feature_dim, n_labels, hidden)
        n_queries = min(n_labels, _MOST_QUERIES)
        group = math.ceil(n_labels / n_queries)
        wide = self.width * 8 // 3
        self.project = nn.Linear(feature_dim, self.width)
        self.queries = nn.Parameter(torch.randn(n_queries, self.width))
        n_heads = math.gcd(self.width, _MOST_ATTENTION_HEADS)
        self.attend = nn.MultiheadAttention(self.width, n_heads, batch_first=True)
        self.feed_forward = nn.Sequential(nn.Linear(self.width, wide), nn.ReLU(), nn.Linear(wide, self.width))
        self.norm_queries = nn.LayerNorm(self.width)
        self.norm_attended = nn.LayerNorm(self.width)
        self.norm_fed = nn.LayerNorm(self.width)
        self.group_weight = nn.Parameter(torch.empty(n_queries, self.width, group))
        nn.init.xavier_normal_(self.group_weight)
        self.bias = nn.Parameter(torch.zeros(n_labels))

    def forward(self, features: Tensor) -> Tensor:
        """Logits [B, L]."""
        regions = self.project(features).relu()  # [B, S, H]
        queries = self.norm_queries(self.queries).expand(regions.shape[0], -1, -1)  # [B, Q, H]
        attended = self.norm_attended(queries + self.attend(queries, regions, regions, need_weights=False)[0])
        fed = self.norm_fed(attended + self.feed_forward(attended))
        grouped = torch.einsum("bqh,qhg->bqg", fed, self.group_weight)
        return grouped.flatten(1)[:, : self.n_labels] + self.bias
