"""What the recurrent heads share: a set as a path of labels, its loss, and the search for the best path.

B images, K paths an image, L labels, H width of the recurrent state. A path ends with an end symbol, so its probability
is a product of softmaxes over the labels not yet picked and the end.
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
"""A step's probability keeps this far from 1, and a picked one from 0: p has a finite logit and never rounds to 0.5."""
_LEAST = 1e-30
"""A probability that is not picked may come nearer to 0: labels are ranked by it."""


class SequenceHead(Head):
    """Features -> a path of labels, one LSTM step a label.

    A step's softmax runs over the labels not on the path yet and the end, in training as in the search, so that no
    label comes twice and the probabilities of all paths sum to 1.
    """

    sequential: ClassVar[bool] = True
    default_width: ClassVar[int] = 512
    embedding_dim: ClassVar[int] = 64  # as in Wang et al. 2016

    def __init__(self, feature_dim: int, n_labels: int, hidden: int = 0) -> None:
        super().__init__(feature_dim, n_labels, hidden)
        # The row past the labels is the start of a path where it is read, and its end where it is predicted.
        self.embedding = nn.Embedding(n_labels + 1, self.embedding_dim)
        nn.init.normal_(self.embedding.weight, std=self.embedding_dim**-0.5)

    def begin(self, features: Tensor) -> tuple[Tensor, State]:
        """What all steps of an image see, [B, ...], and the state [B, 1, H] before the first one."""
        raise NotImplementedError

    def step(self, seen: Tensor, state: State, last: Tensor) -> tuple[Tensor, State]:
        """One step of K paths.

        Args:
            seen: of `begin`.
            state: after the step before, [B, K, H] each.
            last: the label picked in the step before, int64 [B, K]; L at the start.

        Returns:
            Scores [B, K, L + 1] of the labels and the end, and the state after it.
        """
        raise NotImplementedError

    def next_label(self, log_p: Tensor, remaining: Tensor) -> Tensor:
        """Which present label a path in training takes next.

        Args:
            log_p: log probabilities [B, L + 1], without gradient.
            remaining: present labels that are not on the path yet, bool [B, L].

        Returns:
            int64 [B]; anything where none remains.
        """
        raise NotImplementedError

    def sequence_loss(self, features: Tensor, y: Tensor) -> Tensor:
        """Minus the log probability of a path through the present labels.

        The state is fed the true path so far (teacher forcing). An unknown label is neither a target nor a competitor
        in any softmax.

        Args:
            features: [B, F], or regions [B, S, F].
            y: [B, L], 0 or 1; -1 where unknown.

        Returns:
            Scalar in nats, summed over the path with its end, averaged over images.
        """
        remaining, barred = y > 0, y < 0  # [B, L]
        seen, state = self.begin(features)
        last = self._start(len(y), 1, y.device)
        running = torch.ones(len(y), dtype=torch.bool, device=y.device)
        losses = []
        for _ in range(int(remaining.sum(dim=1).max()) + 1):
            scores, state = self.step(seen, state, last)
            log_p = _log_probabilities(scores.squeeze(1), barred)  # [B, L + 1]
            target = torch.where(remaining.any(dim=1), self.next_label(log_p.detach(), remaining), self.n_labels)
            losses.append(-log_p.gather(1, target[:, None]).squeeze(1) * running)
            picked = one_hot(target, self.n_labels + 1)[:, :-1].bool()
            remaining, barred, running = remaining & ~picked, barred | picked, running & (target < self.n_labels)
            last = target[:, None]
        return torch.stack(losses).sum(dim=0).mean()

    def forward(self, features: Tensor) -> Tensor:
        """Logits [B, L] whose p > 0.5 is the most probable path that a beam search finds; no gradient flows.

        A label on it gets p = 0.5 + s / 2, s the softmax probability with which it was picked. Another label gets
        p = s / 2, s the largest probability that any step of the path gave it.
        """
        with torch.no_grad():
            picked, s = self._search(features)
            on, off = s.clamp(_MARGIN, 1 - _MARGIN), s.clamp(_LEAST, 1 - _MARGIN)
            return torch.where(picked, torch.log1p(on) - torch.log1p(-on), torch.log(off) - torch.log(2 - off))

    def _start(self, n_images: int, n_paths: int, device: torch.device) -> Tensor:
        return torch.full((n_images, n_paths), self.n_labels, dtype=torch.int64, device=device)

    def _search(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Beam search for the path with the greatest probability.

        Probabilities fall along a path. So once no path that goes on is as probable as the best that has ended, for
        every image, the search is over: no longer path can win.

        Returns:
            Which labels are on the best path, bool [B, L], and the probabilities s [B, L] of `forward`.
        """
        seen, (hidden, cell) = self.begin(features)
        n, device = hidden.shape[0], hidden.device
        state = (hidden.expand(n, BEAM_WIDTH, -1), cell.expand(n, BEAM_WIDTH, -1))
        last = self._start(n, BEAM_WIDTH, device)
        # All paths but one begin impossible: they would be copies of it.
        total = torch.full((n, BEAM_WIDTH), -torch.inf, device=device).index_fill(1, last.new_zeros(1), 0)
        picked = torch.zeros(n, BEAM_WIDTH, self.n_labels, dtype=torch.bool, device=device)
        s = torch.zeros(n, BEAM_WIDTH, self.n_labels, device=device)
        best_total, best_picked, best_s = total.new_full((n,), -torch.inf), picked[:, 0], s[:, 0]
        rows = torch.arange(n, device=device)
        for _ in range(self.n_labels + 1):  # no path is longer; scores that are not finite would never end it
            scores, state = self.step(seen, state, last)
            log_p = _log_probabilities(scores, picked)  # [B, K, L + 1]
            p = log_p[..., :-1].exp()
            seen_s = torch.maximum(s, p)  # a picked label's p is 0 from then on
            ended, which = (total + log_p[..., -1]).max(dim=1)
            better = ended > best_total
            best_total = torch.where(better, ended, best_total)
            # Not torch.where, which an exported file's runtime does not know for truth values.
            best_picked = picked[rows, which] & better[:, None] | best_picked & ~better[:, None]
            best_s = torch.where(better[:, None], seen_s[rows, which], best_s)

            total, flat = (total[..., None] + log_p[..., :-1]).flatten(1).topk(BEAM_WIDTH)
            # A traced graph takes every step, to the same result: it cannot stop at what it sees.
            if not torch.compiler.is_compiling() and bool((total[:, 0] <= best_total).all()):
                break
            parent, last = flat // self.n_labels, flat % self.n_labels
            state = (state[0][rows[:, None], parent], state[1][rows[:, None], parent])
            new = one_hot(last, self.n_labels).bool()
            s = torch.where(new, p[rows[:, None], parent], seen_s[rows[:, None], parent])
            picked = picked[rows[:, None], parent] | new
        return best_picked, best_s


def run_cell(cell: nn.LSTMCell, given: Tensor, state: State) -> State:
    """An LSTM cell over inputs [B, K, I] and states [B, K, H]."""
    hidden, memory = cell(given.flatten(0, 1), (state[0].flatten(0, 1), state[1].flatten(0, 1)))
    return hidden.view_as(state[0]), memory.view_as(state[1])


def _log_probabilities(scores: Tensor, barred: Tensor) -> Tensor:
    """Log-softmax [..., L + 1] of scores in which barred labels [..., L] take no part; the end always does."""
    end = torch.zeros_like(barred[..., :1])
    return scores.masked_fill(torch.cat([barred, end], dim=-1), -torch.inf).log_softmax(dim=-1)
