"""Random draws keyed by (seed, purpose, step).

No draw is taken from a running generator: what step 1000 draws does not depend on whether the run was interrupted.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import torch
from torch import Tensor

from labeldep_cli.features.views import N_DRAWS, N_VIEWS, view_of_draw


def keyed(seed: int, purpose: str, step: int) -> torch.Generator:
    """A CPU generator that belongs to one purpose at one step."""
    digest = hashlib.blake2b(f"{seed} {purpose} {step}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


def uniform(shape: tuple[int, ...], seed: int, purpose: str, step: int) -> Tensor:
    """Uniform float32 noise on [0, 1)."""
    return torch.rand(shape, generator=keyed(seed, purpose, step))


@lru_cache(maxsize=2)
def _order(n: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=keyed(seed, "order", epoch))


def epoch_rows(n: int, batch_size: int, seed: int, step: int) -> Tensor:
    """The generator's rows at a step: epochs are permutations of 0..n-1, cut into ceil(n / batch_size) batches.

    Returns:
        int64 [B]; the last batch of an epoch may be smaller.
    """
    epoch, batch = divmod(step, -(-n // batch_size))
    return _order(n, seed, epoch)[batch * batch_size : (batch + 1) * batch_size]


def random_rows(n: int, batch_size: int, seed: int, purpose: str, step: int) -> Tensor:
    """Rows drawn with replacement: the critic's batches (Sect. 4.1 samples three for each of its steps).

    Returns:
        int64 [min(n, batch_size)].
    """
    return torch.randint(n, (min(n, batch_size),), generator=keyed(seed, purpose, step))


def random_views(count: int, n_views: int, seed: int, purpose: str, step: int) -> Tensor:
    """One view a row: of all crops as the paper draws them (one of five sizes, one of five positions), or view 0.

    Returns:
        int64 [count].
    """
    if n_views == 1:
        return torch.zeros(count, dtype=torch.int64)
    if n_views != N_VIEWS:
        return torch.randint(n_views, (count,), generator=keyed(seed, purpose, step))
    views: Tensor = view_of_draw(torch.randint(N_DRAWS, (count,), generator=keyed(seed, purpose, step)))
    return views


def mismatched_rows(labels: Tensor, rows: Tensor, seed: int, purpose: str, step: int) -> Tensor:
    """Rows whose label sets y' are put to the images of `rows`.

    A y' equal to the image's own y would be a real pair called false: it is drawn again, at most 10 times.

    Args:
        labels: int8 [N, L] of all training rows.
        rows: int64 [B].

    Returns:
        int64 [B].
    """
    generator = keyed(seed, purpose, step)
    others = torch.randint(len(labels), rows.shape, generator=generator)
    own = labels[rows]
    for _ in range(10):
        # As the critic sees them: an unknown label of the image is left out of both sets, one of y' counts as absent.
        equal = ((labels[others].clamp(min=0) == own) | (own < 0)).all(dim=1)
        if not equal.any():
            break
        others = torch.where(equal, torch.randint(len(labels), rows.shape, generator=generator), others)
    return others
