"""Feature extraction: read images, encode them, write their features."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labeldep_cli.compute.transfer import copies_ahead, to_device
from labeldep_cli.config import Jpegs
from labeldep_cli.datasets.split import Split
from labeldep_cli.errors import DatasetError
from labeldep_cli.features.cache import skipped_rows
from labeldep_cli.features.decode import Decoded, Identity
from labeldep_cli.features.framing import Framing
from labeldep_cli.features.pixel_rules import USUAL_RULES, PixelRules
from labeldep_cli.features.reading import read_batches
from labeldep_cli.features.reasons import ABSENT, Reason
from labeldep_cli.features.store.known_files import KnownFiles
from labeldep_cli.features.store.segment import CONTENT, Part
from labeldep_cli.features.store.write import Appender
from labeldep_cli.features.value_ranges import measured, shown, suggested_range
from labeldep_cli.features.views import N_VIEWS
from labeldep_cli.progress import Bar


@dataclass
class Pace:
    """The speed of an extraction.

    Attributes:
        rows: all rows that were processed.
        images: the rows after the first group, which are timed.
        seconds: the time that `images` took. Start-up is not counted.
    """

    rows: int = 0
    images: int = 0
    seconds: float = 0.0

    @staticmethod
    def in_turn(paces: Iterable[Pace]) -> Pace:
        """The pace of several extractions that ran one after the other: all numbers are summed."""
        parts = list(paces)
        return Pace(sum(p.rows for p in parts), sum(p.images for p in parts), sum(p.seconds for p in parts))

    @staticmethod
    def at_once(paces: Iterable[Pace]) -> Pace:
        """The pace of several processes that ran at the same time: rows are summed, the longest time counts."""
        parts = list(paces)
        return Pace(sum(p.rows for p in parts), sum(p.images for p in parts), max(p.seconds for p in parts))


@dataclass(frozen=True)
class SkipLimit:
    """How many images of a split may be unreadable.

    Attributes:
        share: the largest allowed share of the split's rows.
        named: the data set is a row of DATASETS; missing files then do not count.
        command: a command that reads the data set, to be shown with a value range.
    """

    share: float
    named: bool
    command: str = ""

    def exceeded(self, count: int, n: int) -> bool:
        """Whether `count` unreadable images of n are too many."""
        return count > self.share * n

    def counted(self, reasons: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The reasons that count against the share, 0 elsewhere."""
        return np.where(np.isin(reasons, ABSENT), 0, reasons).astype(np.uint8) if self.named else reasons

    def require(self, split: Split, reasons: NDArray[np.uint8], again: str = "") -> None:
        """Stop if too many images cannot be used.

        Args:
            split: the rows.
            reasons: uint8 [N]; 0 for a good image, else a `Reason`.
            again: the command to run after the images are repaired, if it is not the current one.

        Raises:
            DatasetError: too many images are unusable; the message has their number and names the first three.
        """
        counted = self.counted(reasons)
        count = int(np.count_nonzero(counted))
        if self.exceeded(count, len(split)):
            first = skipped_rows(split.paths, counted, self.named)[:3]
            examples = ", ".join(f"{skip.path} ({skip.reason})" for skip in first)
            share = f"more than --max-skipped {self.share:g}"
            raise DatasetError(
                f"{count} of {len(split)} images of the {split.name} split cannot be used, {share}: {examples}",
                self.range_remedy(split, reasons)
                or f"Repair them (labeldep data DATASET lists all){f' and run: {again}' if again else ''}\n"
                "or allow more: --max-skipped 0.1",
            )

    def range_remedy(self, split: Split, reasons: NDArray[np.uint8]) -> str:
        """How to name the value range of images that need one; empty if none does. A few of them are read again."""
        rows = np.flatnonzero(reasons == Reason.NO_VALUE_RANGE)
        values = measured([split.file(int(row)) for row in rows], USUAL_RULES)
        if values is None:
            return ""
        return (
            f"More than 8 bits: values go from {shown(values.low)} to {shown(values.high)}. Name their range in every "
            "command of this data set, or once in labeldep.toml:\n"
            f"{self.command} --value-range {suggested_range(values)}"
        )


@dataclass(frozen=True)
class ExtractionResult:
    """The result of an extraction, for the rows that it processed.

    Attributes:
        rows: int64 [R], rows of the split in the order of processing.
        contents: CONTENT [R], the SHA-256 of each image; empty if its bytes could not be read.
        reasons: uint8 [R]; 0 for a good image, else a `Reason`.
        pace: the speed.
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
    framing: Framing,
    rules: PixelRules,
    group: int,
    workers: int,
    limit: SkipLimit,
    device: torch.device,
    bar: Bar,
    jpegs: Jpegs,
    note: Callable[[str], None],
) -> ExtractionResult:
    """Encode images and append their features to a store.

    The encoder gets groups of a fixed size; the last group is padded. So the features of an image are the same bits
    whatever other images are encoded with it.

    Args:
        split: the rows.
        rows: int64 [R], which of them to encode, in this order.
        part: which views to encode.
        encoder: uint8 images [B, 3, side, side] -> features [B, F] or regions [B, S, F]; frozen, on `device`.
        appender: writes to the store.
        shape: of one view's features.
        known: the record of files that were read before.
        reasons: uint8 [N], why rows of the split are known to be unusable; else 0.
        framing: how an image becomes a square.
        rules: how image files become 8-bit RGB.
        group: number of images that are encoded together.
        workers: number of decoding processes.
        limit: how many images may be unreadable.
        device: the encoder's device.
        bar: advanced by one for each row.
        jpegs: how JPEGs are decoded.
        note: takes notes.

    Raises:
        DatasetError: too many images are unreadable; rows that are written stay.
        StorageError: the disk is full; rows that are written stay.
    """
    views = (0,) if part == "test" else tuple(range(1, N_VIEWS))
    starts = range(0, len(rows), group)
    batches = ([(int(row), views) for row in rows[start : start + group]] for start in starts)
    reasons = reasons.copy()
    contents = np.zeros(len(rows), CONTENT)
    pace, timed_from = Pace(), 0.0
    images = read_batches(split.file, batches, framing, rules, jpegs, workers, device, note, identify=True)
    encoded = (_encode(encoder, decoded, device, group) for decoded in images)
    for start, done in zip(starts, _ahead(encoded) if copies_ahead(device) else encoded, strict=True):
        features, skipped = done.read((len(views), *shape))
        group_rows = rows[start : start + len(skipped)]
        for k, identity in enumerate(done.identities):
            contents[start + k] = b"" if identity is None else identity.sha256
        _keep(appender, known, done.identities, contents[start : start + len(skipped)], features, skipped)
        reasons[group_rows] = skipped
        limit.require(split, reasons)
        bar.advance(len(skipped))
        pace.rows += len(skipped)
        now = time.perf_counter()
        if timed_from:
            pace.images, pace.seconds = pace.images + len(skipped), now - timed_from
        timed_from = timed_from or now
    return ExtractionResult(rows, contents, reasons[rows], pace)


def _keep(
    appender: Appender,
    known: KnownFiles,
    identities: Sequence[Identity | None],
    contents: NDArray[np.bytes_],
    features: NDArray[np.float16],
    skipped: NDArray[np.uint8],
) -> None:
    """Append features to the store and record the files that were read.

    Features come first: if the process is killed in between, no file is recorded whose features are missing.
    """
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
    """A group of images that is being encoded.

    Attributes:
        features: float16 [B, *] for each view; on the CPU when the copy has ended.
        reasons: int [B]; 0 for a good image, else a `Reason`.
        copied: the event that marks the end of a copy that was not waited for; None for one that was.
        identities: of each image.
    """

    features: Sequence[Tensor]
    reasons: Tensor
    copied: torch.cuda.Event | None
    identities: Sequence[Identity | None]

    def read(self, shape: tuple[int, ...]) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
        """Wait for the copy; return features, float16 [B, *shape], and reasons for skipped rows, uint8 [B].

        The features of a skipped row are 0. A row whose features are not finite in 16 bits is skipped.
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
    """Encode a group. On CUDA this only starts the work, so that it runs while the CPU goes on."""
    if decoded.reasons.all():
        return _Encoded((), decoded.reasons, None, decoded.identities)
    features = []
    ahead = copies_ahead(device)
    n = len(decoded.reasons)
    for view in range(decoded.images.shape[1]):  # one view at a time: memory does not grow with their number
        images = to_device(decoded.images[:, view], device)
        if n < group:
            images = torch.cat([images, images.new_zeros(group - n, *images.shape[1:])])
        features.append(encoder(images)[:n].half().to("cpu", non_blocking=ahead))
    if not ahead:
        return _Encoded(features, decoded.reasons, None, decoded.identities)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record(torch.cuda.current_stream(device))
    return _Encoded(features, decoded.reasons, copied, decoded.identities)


def _ahead(groups: Iterator[_Encoded]) -> Iterator[_Encoded]:
    """Yield each group after the next one has been started, so that a GPU computes while a group is written."""
    ready = next(groups, None)
    while ready is not None:
        started = next(groups, None)
        yield ready
        ready = started
