"""Extraction: read -> map -> write."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labeldep_cli.compute.distributed import ALONE, World
from labeldep_cli.datasets.split import Split
from labeldep_cli.errors import DatasetError
from labeldep_cli.features.cache import CacheWriter, skipped_rows
from labeldep_cli.features.decode import Decoded, decode
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
    draft: bool = False,
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
        draft: decode JPEGs at reduced scale.

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
    on_gpu = device.type == "cuda"
    images = decode(split.file, batches, side, workers, on_gpu, draft)
    encoded = (_encode(encoder, decoded, device) for decoded in images)
    for start, group_encoded in zip(starts, _ahead(encoded) if on_gpu else encoded, strict=True):
        features, skipped = group_encoded.read((len(views), *writer.shape))
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


@dataclass(frozen=True)
class _Encoded:
    """A group under way.

    Attributes:
        features: float16 [B, *] of each view, on the CPU once the copy has ended.
        reasons: int [B]; 0 for a good image.
        copied: tells when a GPU's copy has ended; None on a CPU.
    """

    features: Sequence[Tensor]
    reasons: Tensor
    copied: torch.cuda.Event | None

    def read(self, shape: tuple[int, ...]) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
        """Features float16 [B, *shape] and why rows are skipped, uint8 [B].

        A skipped row's features are 0; a row that 16 bits cannot hold becomes a skipped one.
        """
        if self.copied is not None:
            self.copied.synchronize()
        skipped = self.reasons.numpy().astype(np.uint8)
        features = np.zeros((len(skipped), *shape), dtype=np.float16)
        for view, seen in enumerate(self.features):
            features[:, view] = seen.numpy()
        broken = ~np.isfinite(features.reshape(len(features), -1)).all(axis=1)
        skipped[broken & (skipped == 0)] = Reason.NOT_FINITE
        features[skipped != 0] = 0
        return features, skipped


@torch.inference_mode()
def _encode(encoder: nn.Module, decoded: Decoded, device: torch.device) -> _Encoded:
    """Encode a group; on a GPU only start to, so that its copies wait for no one."""
    if decoded.reasons.all():
        return _Encoded((), decoded.reasons, None)
    features = []
    on_gpu = device.type == "cuda"  # elsewhere no event would tell when a copy has ended
    for view in range(decoded.images.shape[1]):  # one at a time: memory does not grow with their number
        seen = decoded.images[:, view].to(device, non_blocking=True)
        features.append(encoder(seen).half().to("cpu", non_blocking=on_gpu))
    if not on_gpu:
        return _Encoded(features, decoded.reasons, None)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record(torch.cuda.current_stream(device))
    return _Encoded(features, decoded.reasons, copied)


def _ahead(groups: Iterator[_Encoded]) -> Iterator[_Encoded]:
    """The same groups, each given once the next one has been started: a GPU computes while a group is written."""
    ready = next(groups, None)
    while ready is not None:
        started = next(groups, None)
        yield ready
        ready = started
