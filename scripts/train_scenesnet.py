"""Train ScenesNet, the backbone shipped for the data set `scenes`, and write its weights.

    python scripts/train_scenesnet.py

The images are drawn with PRETRAINING_SEED, so none of them is in the data set. The classifier trained on top is thrown
away. On two cores this takes about ten minutes; equal arguments and thread counts give equal weights on one machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from labeldep_cli.datasets.scenes.draw import LABELS, PRETRAINING_SEED, draw
from labeldep_cli.models.backbones import find_backbone
from labeldep_cli.models.scenesnet import ScenesNet

_ROW = find_backbone("scenesnet")
_MEAN = torch.tensor(_ROW.mean).view(3, 1, 1)
_DEVIATION = torch.tensor(_ROW.std).view(3, 1, 1)
_MARGIN = 6  # pixels an image is shifted by at most, either way


def _draw_small(index: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    image, labels = draw(seed, index)
    small = image.resize((_ROW.side, _ROW.side), Image.Resampling.BILINEAR)
    return np.asarray(small), labels


def draw_images(seed: int, count: int, workers: int) -> tuple[Tensor, Tensor]:
    """Draw `count` scenes: images [N, 3, S, S] of uint8 and labels [N, L] of float32."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pairs = pool.map(partial(_draw_small, seed=seed), range(count), chunksize=64)
    images = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2).contiguous()
    return images, torch.from_numpy(np.stack([labels for _, labels in pairs])).float()


def _augment(images: Tensor, chance: torch.Generator) -> Tensor:
    """Flip half of the images and shift the batch; uint8 in, normalised float32 out."""
    flip = torch.rand(len(images), generator=chance) < 0.5
    images = torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images).float() / 255
    down, right = (int(shift) for shift in torch.randint(0, 2 * _MARGIN + 1, (2,), generator=chance))
    padded = nn.functional.pad(images, (_MARGIN,) * 4, mode="replicate")
    images = padded[:, :, down : down + _ROW.side, right : right + _ROW.side]
    gain = 1 + 0.1 * torch.randn(len(images), 1, 1, 1, generator=chance)
    return (images * gain - _MEAN) / _DEVIATION


def train(images: Tensor, labels: Tensor, epochs: int, batch_size: int, rate: float, seed: int) -> ScenesNet:
    """Train by binary cross-entropy under a one-cycle rate; returns the network without its classifier."""
    torch.manual_seed(seed)
    chance = torch.Generator().manual_seed(seed)
    network = ScenesNet().to(memory_format=torch.channels_last)
    classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(_ROW.feature_dim or 0, len(LABELS)))
    parameters = [*network.parameters(), *classifier.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.02)
    steps = len(images) // batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps, pct_start=0.15)
    for epoch in range(epochs):
        start, total = time.perf_counter(), 0.0
        order = torch.randperm(len(images), generator=chance)
        for rows in order[: steps * batch_size].view(steps, batch_size):
            batch = _augment(images[rows], chance).contiguous(memory_format=torch.channels_last)
            loss = nn.functional.binary_cross_entropy_with_logits(classifier(network(batch)), labels[rows])
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{epochs}  loss {total / steps:.4f}  {time.perf_counter() - start:.0f} s", flush=True)
    return network.eval()


def main() -> None:
    """Read the flags, draw, train, write."""
    parser = argparse.ArgumentParser(description="Train ScenesNet on drawn scenes and write its weights.")
    parser.add_argument("--images", type=int, default=12_000, help="scenes to draw")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw")
    parser.add_argument("--threads", type=int, default=2, help="threads that train")
    parser.add_argument("--out", type=Path, default=_ROW.weights and _ROW.weights.path)
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    torch.use_deterministic_algorithms(True)
    images, labels = draw_images(PRETRAINING_SEED, flags.images, flags.workers)
    print(f"drew {len(images)} scenes, {labels.sum(1).mean():.2f} labels each", flush=True)
    network = train(images, labels, flags.epochs, flags.batch_size, flags.rate, flags.seed)
    state = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, flags.out)
    print(f"wrote {flags.out} ({flags.out.stat().st_size / 1e6:.2f} MB)")


if __name__ == "__main__":
    main()
