"""From 8-bit images to features: normalisation and backbone in one module."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from labeldep_cli.models.activation_checkpointing import checkpoint_blocks
from labeldep_cli.models.backbones import IMAGENET_MEAN, IMAGENET_STD, Channels


class Encoder(nn.Module):
    """uint8 images [B, 3, H, W] -> features [B, F], or regions [B, S, F] if its backbone gives regions.

    Frozen, unless made by `trainable_copy`. The backbone stays in eval mode even when `.train()` is called: no dropout,
    and batch norms use their running statistics (a trainable copy learns their affine part).

    Args:
        backbone: normalised images [B, 3, H, W] -> features.
        mean, std: of RGB in 0..1, from the backbone's row.
    """

    def __init__(self, backbone: nn.Module, mean: Channels = IMAGENET_MEAN, std: Channels = IMAGENET_STD) -> None:
        super().__init__()
        self.backbone = backbone
        # Not in the state dict: they are constants, and a checkpoint has the same keys as the backbone's weights file.
        self.scale: Tensor
        self.shift: Tensor
        centre, spread = torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * spread), persistent=False)
        self.register_buffer("shift", -centre / spread, persistent=False)
        self.train_bn = False
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Encoder:
        """Keep the backbone in eval mode; with `train_bn`, its batch norms follow `mode`."""
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
        """Normalise 8-bit images in one pass: (x / 255 - mean) / std."""
        maps = images.to(self.scale.dtype)
        if layout_on(images.device) == torch.contiguous_format:  # decoded images lie channels last
            maps = maps.contiguous()
        return torch.addcmul(self.shift, maps, self.scale)

    def trainable_copy(self, train_bn: bool, checkpointed: bool = False) -> Encoder:
        """A deep copy with trainable parameters; the original stays the critic's frozen f_ext (Sect. 4.1).

        Args:
            train_bn: update the running statistics of batch norms.
            checkpointed: compute activations again in the backward pass. Not with `train_bn`: the statistics would be
                updated twice.
        """
        twin = copy.deepcopy(self)
        twin.train_bn = train_bn
        if checkpointed:
            checkpoint_blocks(twin.backbone)
        return twin.requires_grad_(True)


def layout_on(device: torch.device) -> torch.memory_format:
    """The memory layout of maps: channels last, but on Apple's GPUs, where gradients of such maps have been wrong."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def pooled(features: Tensor) -> Tensor:
    """The critic's Z [B, F]: features [B, F] unchanged, or regions [B, S, F] averaged over their S positions."""
    return features.mean(dim=1) if features.dim() == 3 else features
