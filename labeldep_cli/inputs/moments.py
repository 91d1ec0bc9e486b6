"""Mean and standard deviation of each feature, read block by block. F feature width."""

from __future__ import annotations

import torch
from torch import Tensor

from labeldep_cli.compute.transfer import in_double
from labeldep_cli.inputs.batches import Inputs, in_order
from labeldep_cli.models.standardizing import Moments


class RunningMoments:
    """Moments of rows that come block by block, in one pass and in double precision (Chan, Golub and LeVeque 1983)."""

    def __init__(self) -> None:
        self.count = 0
        self.device = torch.device("cpu")  # of the last rows
        self.mean = torch.zeros(())
        self.squares = torch.zeros(())  # summed squared distances from the mean

    def add(self, block: Tensor) -> None:
        """Add rows [B, F]."""
        self.device = block.device
        rows = in_double(block)
        mean = rows.mean(dim=0)
        self.count += len(rows)
        apart, share = mean - self.mean.to(mean), len(rows) / self.count
        self.mean = self.mean.to(mean) + share * apart
        within = (rows - mean).square().sum(dim=0)
        self.squares = self.squares.to(mean) + within + len(rows) * (1 - share) * apart.square()

    def result(self) -> Moments:
        """The moments of all rows so far, at least one.

        A feature whose deviation float32 cannot tell from 0 beside its mean is constant: its scale is 1.
        """
        scale = (self.squares / self.count).sqrt()
        constant = scale <= self.mean.abs() * torch.finfo(torch.float32).eps
        of_moments = (self.mean.float(), torch.where(constant, 1.0, scale).float())
        return Moments(*(value.to(self.device) for value in of_moments))


@torch.no_grad()
def moments_of(inputs: Inputs) -> Moments:
    """Mean and deviation of each feature [B, F] over all rows."""
    running = RunningMoments()
    for batch in in_order(inputs):
        running.add(batch.x)
    return running.result()
