"""Small networks of timm's families, with random weights, as repositories of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import save_for_hf
from torch import nn

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("vit_tiny_patch16_224", {"embed_dim": 24, "depth": 2, "num_heads": 3}),
    "swin": ("swin_tiny_patch4_window7_224", {"embed_dim": 8, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 2, 4)}),
    "convnext": ("convnext_atto", {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}),
    "eva": ("eva02_tiny_patch14_224", {"embed_dim": 24, "depth": 2, "num_heads": 3}),
    "mixer": ("mixer_s32_224", {"mlp_ratio": (0.25, 0.25)}),
    "regnet": ("regnetx_002", {}),
    "hybrid": ("vit_tiny_r_s16_p8_224", {"embed_dim": 24, "depth": 2, "num_heads": 3}),
}
"""timm's name of a small network of each family, and the options that make it smaller."""

SIZES = {"eva": 28, "mixer": 224}
"""Image sizes at which a network is quick, if not 32: EVA's patches have 14 pixels, a mixer has one size only."""


def size_of(family: str) -> int:
    return SIZES.get(family, 32)


def network(family: str) -> nn.Module:
    architecture, options = FAMILIES[family]
    torch.manual_seed(2)
    return timm.create_model(architecture, num_classes=5, **options).eval()


def write(family: str, folder: Path) -> Path:
    """Write a repository with timm's own writer; that of the hybrid has a pickle of tensors."""
    save_for_hf(network(family), folder, model_args=FAMILIES[family][1], safe_serialization=family != "hybrid")
    return folder
