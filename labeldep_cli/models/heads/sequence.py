"""The base of the recurrent heads: a label set as a path of labels, its loss, and the search for the best path.

B images, K paths per image, L labels, H width of the recurrent state. A path ends with an end symbol. Its probability
is a product of softmaxes over the end symbol and the labels that are not yet picked.
"""

from __future__ import annotations

from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from labeldep_cli.models.heads.base import Head

State: TypeAlias = tuple[Tensor, Tensor]
"""Hidden and cell state of the LSTM, each [B, K, H]."""

BEAM_WIDTH = 5
_MARGIN = 1e-6
"""The probability of a step stays this far from 1, and that of a picked label from 0, so that p has a finite logit and
never rounds to 0.5."""
_LEAST = 1e-30
"""The probability of a label that is not picked may come closer to 0, since labels are ranked by it."""


class SequenceHead(Head):
    """Features -> a path of labels, one LSTM step per label.

    The softmax of a step runs over the end symbol and the labels that are not yet on the path, both in training and in
    the search. So no label is picked twice, and the probabilities of all paths sum to 1.
    """

    own_loss: ClassVar[str | None] = "sequence"
    waits: ClassVar[bool] = True  # the search stops when every image has its best path
    default_width: ClassVar[int] = 512
    embedding_dim: ClassVar[int] = 64  # as in Wang et al. 2016

    def __init__(self, feature_dim: int, n_labels: int, hidden: int = 0) -> None:
        super().__init__(feature_dim, n_labels, hidden)
        # The row after the labels: as an input it is the start of a path, as a prediction its end.
        self.embedding = nn.Embedding(n_labels + 1, self.embedding_dim)
        nn.init.normal_(self.embedding.weight, std=self.embedding_dim**-0.5)

    def begin(self, features: Tensor) -> tuple[Tensor, State]:
        """The inputs [B, ...] that all steps of an image share, and the state [B, 1, H] before the first step."""
        raise NotImplementedError

    def step(self, inputs: Tensor, state: State, last: Tensor) -> tuple[Tensor, State]:
        """One step of K paths.

        Args:
            inputs: as `begin` returns them.
            state: after the previous step, [B, K, H] each.
            last: the label picked in the previous step, int64 [B, K]; L at the start.

        Returns:
            Scores [B, K, L + 1] of the labels and the end symbol, and the state after this step.
        """
        raise NotImplementedError

    def next_label(self, log_p: Tensor, remaining: Tensor) -> Tensor:
        """The present label that a path takes next in training.

        Args:
            log_p: log probabilities [B, L + 1], without gradient.
            remaining: present labels that are not yet on the path, bool [B, L].

        Returns:
            int64 [B]; any value for an image with no remaining label.
        """
        raise NotImplementedError

    def set_loss(self, features: Tensor, y: Tensor) -> Tensor:
        """The negative log probability of a path of the present labels.

        The network reads the true path so far (teacher forcing). An unknown label is neither a target nor a part of any
        softmax.

        Args:
            features: [B, F], or regions [B, S, F].
            y: [B, L], 0 or 1; -1 where unknown.

        Returns:
            Scalar in nats, summed over the path and its end symbol, averaged over images.
        """
        remaining, barred = y > 0, y < 0  # [B, L]
        inputs, state = self.begin(features)
        last = self._start(len(y), 1, y.device)
        running = torch.ones(len(y), dtype=torch.bool, device=y.device)
        losses = []
        for _ in range(int(remaining.sum(dim=1).max()) + 1):
            scores, state = self.step(inputs, state, last)
            log_p = _log_probabilities(scores.squeeze(1), barred)  # [B, L + 1]
            target = torch.where(remaining.any(dim=1), self.next_label(log_p.detach(), remaining), self.n_labels)
            losses.append(-log_p.gather(1, target[:, None]).squeeze(1) * running)
            picked = one_hot(target, self.n_labels + 1)[:, :-1].bool()
            remaining, barred, running = remaining & ~picked, barred | picked, running & (target < self.n_labels)
            last = target[:, None]
        return torch.stack(losses).sum(dim=0).mean()

    def forward(self, features: Tensor) -> Tensor:
        """Logits [B, L]; the labels with p > 0.5 are the most probable path of a beam search. No gradient flows.

        A label on the path gets p = 0.5 + s / 2, where s is the softmax probability with which it was picked. Any other
        label gets p = s / 2, where s is the largest probability that any step of the path gave it.
        """
        with torch.no_grad():
            picked, s = self._search(features)
            on, off = s.clamp(_MARGIN, 1 - _MARGIN), s.clamp(_LEAST, 1 - _MARGIN)
            return torch.where(picked, torch.log1p(on) - torch.log1p(-on), torch.log(off) - torch.log(2 - off))

    def _start(self, n_images: int, n_paths: int, device: torch.device) -> Tensor:
        return torch.full((n_images, n_paths), self.n_labels, dtype=torch.int64, device=device)

    def _search(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Beam search for the most probable path.

        Probabilities decrease along a path. So the search stops when, for every image, no unfinished path is more
        probable than the best finished one.

        Returns:
            Which labels are on the best path, bool [B, L], and the probabilities s [B, L] of `forward`.
        """
        inputs, (hidden, cell) = self.begin(features)
        n, device = hidden.shape[0], hidden.device
        state = (hidden.expand(n, BEAM_WIDTH, -1), cell.expand(n, BEAM_WIDTH, -1))
        last = self._start(n, BEAM_WIDTH, device)
        # All paths but the first start with probability 0: they would be copies of it.
        total = torch.full((n, BEAM_WIDTH), -torch.inf, device=device).index_fill(1, last.new_zeros(1), 0)
        picked = torch.zeros(n, BEAM_WIDTH, self.n_labels, dtype=torch.bool, device=device)
        s = torch.zeros(n, BEAM_WIDTH, self.n_labels, device=device)
        best_total, best_picked, best_s = total.new_full((n,), -torch.inf), picked[:, 0], s[:, 0]
        rows = torch.arange(n, device=device)
        for _ in range(self.n_labels + 1):  # the longest path; without a limit, scores that are not finite never stop
            scores, state = self.step(inputs, state, last)
            log_p = _log_probabilities(scores, picked)  # [B, K, L + 1]
            p = log_p[..., :-1].exp()
            max_s = torch.maximum(s, p)  # once a label is picked, its p is 0
            ended, which = (total + log_p[..., -1]).max(dim=1)
            better = ended > best_total
            best_total = torch.where(better, ended, best_total)
            # Not torch.where: the runtime of an exported file does not support it for bool.
            best_picked = picked[rows, which] & better[:, None] | best_picked & ~better[:, None]
            best_s = torch.where(better[:, None], max_s[rows, which], best_s)

            total, flat = (total[..., None] + log_p[..., :-1]).flatten(1).topk(BEAM_WIDTH)
            # A traced graph cannot stop early: it takes every step, with the same result.
            if not torch.compiler.is_compiling() and bool((total[:, 0] <= best_total).all()):
                break
            parent, last = flat // self.n_labels, flat % self.n_labels
            state = (state[0][rows[:, None], parent], state[1][rows[:, None], parent])
            new = one_hot(last, self.n_labels).bool()
            s = torch.where(new, p[rows[:, None], parent], max_s[rows[:, None], parent])
            picked = picked[rows[:, None], parent] | new
        return best_picked, best_s


def run_cell(cell: nn.LSTMCell, inputs: Tensor, state: State) -> State:
    """One step of an LSTM cell over inputs [B, K, I] and states [B, K, H]."""
    hidden, memory = cell(inputs.flatten(0, 1), (state[0].flatten(0, 1), state[1].flatten(0, 1)))
    return hidden.view_as(state[0]), memory.view_as(state[1])


def _log_probabilities(scores: Tensor, barred: Tensor) -> Tensor:
    """Log-softmax [..., L + 1] of scores without the barred labels [..., L]; the end symbol is never barred."""
    end = torch.zeros_like(barred[..., :1])
    return scores.masked_fill(torch.cat([barred, end], dim=-1), -torch.inf).log_softmax(dim=-1)
