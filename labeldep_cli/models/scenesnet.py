"""The small backbone for the data set `scenes`, shipped with its weights so that everything runs without a download."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class _Residual(nn.Module):
    """Two convolutions with a residual connection, [B, C, H, W] -> [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(maps + self.second(self.first(maps)))


class ScenesNet(nn.Module):
    """A residual CNN of 0.37 M parameters; the classifier is not part of it.

    The features are the channels' means and maxima over the image: the mean is useful for the kind of place, the
    maximum for an object of a few pixels. `scripts/train_scenesnet.py` trained its weights.
    """

    def __init__(self) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.stem = nn.Sequential(_convolution(3, 24, stride=2), _convolution(24, 48, stride=2))  # [B, 48, 24, 24]
        self.middle = nn.Sequential(_Residual(48), _convolution(48, 96, stride=2), _Residual(96))  # [B, 96, 12, 12]
        self.top = _convolution(96, 128, stride=2)  # [B, 128, 6, 6]

    def forward(self, images: Tensor) -> Tensor:
        """Features of images.

        Args:
            images: [B, 3, 96, 96], normalised as its row in BACKBONES says.

        Returns:
            Features [B, 256], all >= 0.
        """
        maps = self.top(self.middle(self.stem(images)))
        return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)
