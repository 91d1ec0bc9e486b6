"""Initial weights by a seed of their own, that touch nobody else's random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw what this block draws on the CPU from `seed`; afterwards the global generator goes on where it was.

    Not by torch.manual_seed, which starts every GPU's generator anew as well: a user's dropout there would repeat its
    masks, and a fork of the CPU's generator does not give them back.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
