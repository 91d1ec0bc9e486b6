"""The heads by their `--head` names."""

from __future__ import annotations

from collections.abc import Mapping

from labeldep_cli.compute.seeded import seeded
from labeldep_cli.config import HeadKind
from labeldep_cli.models.heads.att_rnn import AttRnnHead
from labeldep_cli.models.heads.base import Head
from labeldep_cli.models.heads.chain import ChainHead
from labeldep_cli.models.heads.cnn_rnn import CnnRnnHead
from labeldep_cli.models.heads.gcn import GcnHead
from labeldep_cli.models.heads.linear import LinearHead
from labeldep_cli.models.heads.ml_decoder import MlDecoderHead
from labeldep_cli.models.heads.powerset import PowersetHead
from labeldep_cli.models.heads.rlsd import RlsdHead

HEADS: Mapping[HeadKind, type[Head]] = {
    "linear": LinearHead,
    "cnn-rnn": CnnRnnHead,
    "att-rnn": AttRnnHead,
    "rlsd": RlsdHead,
    "ml-decoder": MlDecoderHead,
    "gcn": GcnHead,
    "powerset": PowersetHead,
    "chain": ChainHead,
}
"""Each is built as HEADS[kind](feature_dim, n_labels, hidden)."""


def seeded_head(kind: HeadKind, feature_dim: int, n_labels: int, hidden: int, seed: int) -> Head:
    """A head whose initial weights depend only on `seed`; torch's global random state is left unchanged."""
    with seeded(seed):
        return HEADS[kind](feature_dim, n_labels, hidden)
