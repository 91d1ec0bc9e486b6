"""Extraction: read -> map -> write."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labeldep_cli.datasets.split import Split
from labeldep_cli.distributed import ALONE, World
from labeldep_cli.errors import DatasetError
from labeldep_cli.features.cache import CacheWriter, skipped_rows
from labeldep_cli.features.decode import decode
from labeldep_cli.features.images import Reason
from labeldep_cli.progress import Bar


@dataclass
class Pace:
    """How fast it went.

    Attributes:
        rows: all that were written.
        images: those of them after the first group, and
        seconds: the time that these took: start-up is not counted.
    """

    rows: int = 0
    images: int = 0
    seconds: float = 0.0

    @staticmethod
    def in_turn(paces: Iterable[Pace]) -> Pace:
        """Of pieces of work that one process did one after the other."""
        done = list(paces)
        return Pace(sum(p.rows for p in done), sum(p.images for p in done), sum(p.seconds for p in done))

    @staticmethod
    def at_once(paces: Iterable[Pace]) -> Pace:
        """Of processes that worked side by side: as long as the longest."""
        done = list(paces)
        return Pace(sum(p.rows for p in done), sum(p.images for p in done), max(p.seconds for p in done))


@dataclass(frozen=True)
class Limit:
    """How many images of a split may be unreadable.

    Attributes:
        share: of the split's rows.
        named: the data set is a row of DATASETS, so that missing files are counted apart.
        whole: rows of the whole split, where what is looked at is only a part of it; None where it is all.
    """

    share: float
    named: bool
    whole: int | None = None

    def passed(self, count: int, n: int) -> bool:
        """Whether so many are too many, of n rows or of the whole split."""
        return count > self.share * (self.whole or n)

    def counted(self, reasons: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The reasons that count against the share, 0 elsewhere."""
        return np.where(reasons == Reason.MISSING, 0, reasons).astype(np.uint8) if self.named else reasons

    def require(self, split: Split, reasons: NDArray[np.uint8], again: str = "") -> None:
        """Stop where too many images cannot be used.

        Args:
            split: the rows.
            reasons: uint8 [N].
            again: the command to run once they are mended, where it is not the same one.

        Raises:
            DatasetError: says how many, and names the first three.
        """
        counted = self.counted(reasons)
        count = int(np.count_nonzero(counted))
        if self.passed(count, len(split)):
            some = skipped_rows(split.paths, counted, self.named)[:3]
            first = ", ".join(f"{skip.path} ({skip.reason})" for skip in some)
            share, rows = f"more than --max-skipped {self.share:g}", self.whole or len(split)
            raise DatasetError(
                f"{count} of {rows} images of the {split.name} split cannot be used, {share}: {first}",
                f"Mend them (labeldep data DATASET lists all){f' and run: {again}' if again else ''}\n"
                "or allow more: --max-skipped 0.1",
            )


def try_unread_again(writers: Sequence[CacheWriter], limit: Limit, n: int, world: World = ALONE) -> None:
    """Forget the unreadable images of a split if there are too many: it stopped on these; they may be mended since.

    Args:
        writers: of this process's parts of the split.
        limit: how many may be unreadable.
        n: rows of the split.
        world: the processes that hold its other parts.

    Raises:
        StorageError: a cache cannot be written.
    """
    unread = [limit.counted(writer.reasons) > 0 for writer in writers]
    if limit.passed(sum(world.gather(int(sum(rows.sum() for rows in unread)))), n):
        for writer, rows in zip(writers, unread, strict=True):
            writer.forget(rows)


def extract_split(
    split: Split,
    encoder: nn.Module,
    writer: CacheWriter,
    *,
    side: int,
    group: int,
    workers: int,
    limit: Limit,
    device: torch.device,
    bar: Bar,
) -> Pace:
    """Fill a cache, group by group; groups that are already there are not computed again.

    Args:
        split: the rows.
        encoder: uint8 images [B, 3, side, side] -> features [B, F] or regions [B, S, F], frozen, on the device.
        writer: the cache in work.
        side: pixels a side of a view.
        group: rows that pass the encoder together. Groups never shift: a skipped row leaves a hole in its own.
        workers: decoding processes.
        limit: how many images may be unreadable.
        device: where the encoder is.
        bar: advanced by rows.

    Returns:
        How fast it went.

    Raises:
        DatasetError: too many unreadable images; what is written stays.
        StorageError: the disk is full; what is written stays.
    """
    done = writer.done
    reasons = np.where(done, writer.reasons, 0).astype(np.uint8)
    bar.advance(int(done.sum()))
    starts = [start for start in range(0, len(split), group) if not done[start : start + group].all()]
    views = tuple(range(writer.origin.views))
    batches = ([(row, views) for row in range(start, min(start + group, len(split)))] for start in starts)
    pace, begun = Pace(), 0.0
    for start, decoded in zip(starts, decode(split.file, batches, side, workers, device.type == "cuda"), strict=True):
        skipped = decoded.reasons.numpy().astype(np.uint8)
        features = _encode(encoder, decoded.images, skipped, device, (len(skipped), len(views), *writer.shape))
        writer.write(start, features, skipped)
        reasons[start : start + len(skipped)] = skipped
        limit.require(split, reasons)
        bar.advance(len(skipped))
        pace.rows += len(skipped)
        now = time.perf_counter()
        if begun:
            pace.images, pace.seconds = pace.images + len(skipped), now - begun
        begun = begun or now
    return pace


@torch.inference_mode()
def _encode(
    encoder: nn.Module, images: Tensor, skipped: NDArray[np.uint8], device: torch.device, shape: tuple[int, ...]
) -> NDArray[np.float16]:
    """Features float16 of `shape`; zero for skipped rows. A row that 16 bits cannot hold becomes a skipped one."""
    features = np.zeros(shape, dtype=np.float16)
    if skipped.all():
        return features
    for view, seen in enumerate(_by_view(images)):  # one view at a time: memory does not grow with their number
        with np.errstate(over="ignore"):
            features[:, view] = encoder(seen.to(device, non_blocking=True)).float().cpu().numpy().astype(np.float16)
    broken = ~np.isfinite(features.reshape(len(features), -1)).all(axis=1)
    skipped[broken & (skipped == 0)] = Reason.NOT_FINITE
    features[skipped != 0] = 0
    return features


def _by_view(images: Tensor) -> Iterator[Tensor]:
    return (images[:, view].contiguous() for view in range(images.shape[1]))
