"""Mean and standard deviation of each feature, read batch by batch. F feature width."""

from __future__ import annotations

import torch

from labeldep_cli.inputs.batches import Inputs, in_order
from labeldep_cli.models.standardizing import Moments


@torch.no_grad()
def moments_of(inputs: Inputs) -> Moments:
    """Mean and deviation of each feature [B, F] over all rows, in two passes and in double precision.

    A feature whose deviation float32 cannot tell from 0 beside its mean is constant: its scale is 1.
    """
    count = len(inputs.labels)
    mean = sum(batch.x.double().sum(dim=0) for batch in in_order(inputs)) / count
    variance = sum((batch.x.double() - mean).square().sum(dim=0) for batch in in_order(inputs)) / count
    scale = torch.as_tensor(variance).sqrt()
    mean = torch.as_tensor(mean)
    constant = scale <= mean.abs() * torch.finfo(torch.float32).eps
    return Moments(mean.float(), torch.where(constant, 1.0, scale).float())
