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
from labeldep_cli.errors import DatasetError
from labeldep_cli.features.cache import skipped_rows
from labeldep_cli.features.decode import Decoded, Identity, decode
from labeldep_cli.features.images import Reason
from labeldep_cli.features.store.known_files import KnownFiles
from labeldep_cli.features.store.segment import CONTENT, Part
from labeldep_cli.features.store.write import Appender
from labeldep_cli.features.views import N_VIEWS
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


@dataclass(frozen=True)
class Made:
    """What an extraction learnt of the rows that it looked at.

    Attributes:
        rows: int64 [R], of the split, in the order in which they were looked at.
        contents: CONTENT [R], which image each is; empty for one whose bytes could not be read.
        reasons: uint8 [R]; 0 for a good image.
        pace: how fast it went.
    """

    rows: NDArray[np.int64]
    contents: NDArray[np.bytes_]
    reasons: NDArray[np.uint8]
    pace: Pace


def extract_rows(
    split: Split,
    rows: NDArray[np.int64],
    part: Part,
    encoder: nn.Module,
    appender: Appender,
    shape: tuple[int, ...],
    known: KnownFiles,
    reasons: NDArray[np.uint8],
    *,
    side: int,
    group: int,
    workers: int,
    limit: Limit,
    device: torch.device,
    bar: Bar,
    draft: bool = False,
) -> Made:
    """Encode images and append their features to a store.

    Images pass the encoder in groups of one size, the last of them filled up, so that an image's features are the same
    bits whichever others are encoded with it.

    Args:
        split: the rows.
        rows: int64 [R], which of them to encode, in this order.
        part: which views.
        encoder: uint8 images [B, 3, side, side] -> features [B, F] or regions [B, S, F], frozen, on the device.
        appender: to the store.
        shape: of one view's features.
        known: the memory of files.
        reasons: uint8 [N], why rows of the split are known to be unusable.
        side: pixels a side of a view.
        group: images that pass the encoder together.
        workers: decoding processes.
        limit: how many images may be unreadable.
        device: where the encoder is.
        bar: advanced by rows.
        draft: decode JPEGs at reduced scale.

    Raises:
        DatasetError: too many unreadable images; what is written stays.
        StorageError: the disk is full; what is written stays.
    """
    views = (0,) if part == "test" else tuple(range(1, N_VIEWS))
    starts = range(0, len(rows), group)
    batches = ([(int(row), views) for row in rows[start : start + group]] for start in starts)
    reasons = reasons.copy()
    contents = np.zeros(len(rows), CONTENT)
    pace, begun = Pace(), 0.0
    on_gpu = device.type == "cuda"
    images = decode(split.file, batches, side, workers, on_gpu, draft, identify=True)
    encoded = (_encode(encoder, decoded, device, group) for decoded in images)
    for start, done in zip(starts, _ahead(encoded) if on_gpu else encoded, strict=True):
        features, skipped = done.read((len(views), *shape))
        own = rows[start : start + len(skipped)]
        for k, identity in enumerate(done.identities):
            contents[start + k] = b"" if identity is None else identity.sha256
        _keep(appender, known, done.identities, contents[start : start + len(skipped)], features, skipped)
        reasons[own] = skipped
        limit.require(split, reasons)
        bar.advance(len(skipped))
        pace.rows += len(skipped)
        now = time.perf_counter()
        if begun:
            pace.images, pace.seconds = pace.images + len(skipped), now - begun
        begun = begun or now
    return Made(rows, contents, reasons[rows], pace)


def _keep(
    appender: Appender,
    known: KnownFiles,
    identities: Sequence[Identity | None],
    contents: NDArray[np.bytes_],
    features: NDArray[np.float16],
    skipped: NDArray[np.uint8],
) -> None:
    """Append what was encoded, and remember what was read; features first, so that a kill leaves no promise unkept."""
    encoded = np.flatnonzero((skipped == 0) | (skipped == Reason.NOT_FINITE))
    encoded = encoded[contents[encoded] != b""]
    if len(encoded):
        appender.append(contents[encoded], features[encoded], skipped[encoded])
    unusable = [
        (identity.sha256, int(reason))
        for identity, reason in zip(identities, skipped, strict=True)
        if identity is not None and reason not in (0, Reason.NOT_FINITE)
    ]
    known.remember([identity for identity in identities if identity is not None], unusable)


@dataclass(frozen=True)
class _Encoded:
    """A group under way.

    Attributes:
        features: float16 [B, *] of each view, on the CPU once the copy has ended.
        reasons: int [B]; 0 for a good image.
        copied: tells when a GPU's copy has ended; None on a CPU.
        identities: what each image is known by.
    """

    features: Sequence[Tensor]
    reasons: Tensor
    copied: torch.cuda.Event | None
    identities: Sequence[Identity | None]

    def read(self, shape: tuple[int, ...]) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
        """Features float16 [B, *shape] and why rows are skipped, uint8 [B].

        A skipped row's features are 0; a row that 16 bits cannot hold becomes a skipped one.
        """
        if self.copied is not None:
            self.copied.synchronize()
        skipped = self.reasons.numpy().astype(np.uint8)
        features = np.zeros((len(skipped), *shape), dtype=np.float16)
        for view, encoded in enumerate(self.features):
            features[:, view] = encoded.numpy()
        broken = ~np.isfinite(features.reshape(len(features), -1)).all(axis=1)
        skipped[broken & (skipped == 0)] = Reason.NOT_FINITE
        features[skipped != 0] = 0
        return features, skipped


@torch.inference_mode()
def _encode(encoder: nn.Module, decoded: Decoded, device: torch.device, group: int) -> _Encoded:
    """Encode a group; on a GPU only start to, so that its copies wait for no one."""
    if decoded.reasons.all():
        return _Encoded((), decoded.reasons, None, decoded.identities)
    features = []
    on_gpu = device.type == "cuda"  # elsewhere no event would tell when a copy has ended
    n = len(decoded.reasons)
    for view in range(decoded.images.shape[1]):  # one at a time: memory does not grow with their number
        images = decoded.images[:, view].to(device, non_blocking=True)
        if n < group:
            images = torch.cat([images, images.new_zeros(group - n, *images.shape[1:])])
        features.append(encoder(images)[:n].half().to("cpu", non_blocking=on_gpu))
    if not on_gpu:
        return _Encoded(features, decoded.reasons, None, decoded.identities)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record(torch.cuda.current_stream(device))
    return _Encoded(features, decoded.reasons, copied, decoded.identities)


def _ahead(groups: Iterator[_Encoded]) -> Iterator[_Encoded]:
    """The same groups, each given once the next one has been started: a GPU computes while a group is written."""
    ready = next(groups, None)
    while ready is not None:
        started = next(groups, None)
        yield ready
        ready = started
