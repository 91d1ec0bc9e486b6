"""From 8-bit images to features: normalisation and backbone in one module."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from labeldep_cli.models.activation_checkpointing import checkpoint_blocks
from labeldep_cli.models.backbones import IMAGENET_MEAN, IMAGENET_STD, Channels


class Encoder(nn.Module):
    """uint8 images [B, 3, H, W] -> features [B, F], or regions [B, S, F] where its backbone gives those.

    Frozen, unless made by `trainable_copy`. Its backbone stays in eval mode whatever `.train()` is called around it: no
    dropout, batch norms on their running statistics (a trainable copy learns their affine part).

    Args:
        backbone: normalised images [B, 3, H, W] -> features.
        mean, std: of its row; of RGB in 0..1.
    """

    def __init__(self, backbone: nn.Module, mean: Channels = IMAGENET_MEAN, std: Channels = IMAGENET_STD) -> None:
        super().__init__()
        self.backbone = backbone
        # Not in the state dict: they are constants, and the checkpoint's backbone is the weights' own.
        self.scale: Tensor
        self.shift: Tensor
        centre, spread = torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * spread), persistent=False)
        self.register_buffer("shift", -centre / spread, persistent=False)
        self.train_bn = False
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Encoder:
        """Keep the backbone in eval mode; with `train_bn`, let its batch norms follow `mode`."""
        super().train(False)
        if mode and self.train_bn:
            for module in self.backbone.modules():
                if isinstance(module, _BatchNorm):
                    module.train()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Normalise and encode images: uint8 [B, 3, H, W] -> [B, F] or [B, S, F]."""
        features: Tensor = self.backbone(self.normalised(images))
        return features

    def normalised(self, images: Tensor) -> Tensor:
        """8-bit images as floats, in one pass: (x / 255 - mean) / std."""
        return torch.addcmul(self.shift, images.to(self.scale.dtype), self.scale)

    def trainable_copy(self, train_bn: bool, checkpointed: bool = False) -> Encoder:
        """A deep copy whose parameters learn; the original stays the critic's frozen f_ext (Sect. 4.1).

        Args:
            train_bn: update the batch norms' running statistics.
            checkpointed: compute activations anew in the backward pass. Not with `train_bn`: the statistics would be
                updated twice.
        """
        twin = copy.deepcopy(self)
        twin.train_bn = train_bn
        if checkpointed:
            checkpoint_blocks(twin.backbone)
        return twin.requires_grad_(True)


def pooled(features: Tensor) -> Tensor:
    """Z as the critic sees it: features [B, F] as they are, regions [B, S, F] averaged over their places."""
    return features.mean(dim=1) if features.dim() == 3 else features
