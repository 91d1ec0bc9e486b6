"""Initial weights from a seed, without a change to the global random state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU's random draws in this block; afterwards the global generator continues from its previous state.

    `torch.manual_seed` is not used, since it reseeds the generators of all GPUs too. Then a user's dropout on a GPU
    would repeat its masks, and `fork_rng` over the CPU does not restore the generators of GPUs.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
