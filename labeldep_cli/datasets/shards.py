"""WebDataset shards: images and their labels in tars, which are indexed and read without unpacking."""

from __future__ import annotations

import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import numpy as np

from labeldep_cli.datasets.doubts.names import names_doubt
from labeldep_cli.datasets.draw import Draw
from labeldep_cli.datasets.image_file import IMAGE_SUFFIXES, Member, Members
from labeldep_cli.datasets.rows import Rows, as_dataset
from labeldep_cli.datasets.shard_labels import SampleLabels, parse_json, parse_text
from labeldep_cli.datasets.shard_names import dataset_name, find, split_in
from labeldep_cli.datasets.split import Dataset
from labeldep_cli.errors import DatasetError
from labeldep_cli.progress import Reporter

_KEY = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)")
"""WebDataset's rule: a sample's key is the path up to the first dot of the base name."""

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd


class _Sample(NamedTuple):
    """An image with its labels; `split` is None if neither its labels nor its shard's name give one."""

    key: str
    offset: int
    size: int
    labels: SampleLabels
    split: str | None


class _Shard(NamedTuple):
    """The samples of a shard, and its images with a further dot in their names that have no labels."""

    samples: list[_Sample]
    passed_over: list[str]


def load(pattern: Path, draw: Draw, reporter: Reporter) -> Dataset:
    """Load a data set of WebDataset shards; splits that they do not name are drawn from train.

    A sample is an image (`KEY.jpg`, `KEY.png`, ...) and its labels: `KEY.json` (a list of names, or an object with
    `labels` and optionally `split`, `unknown`, `group`), else `KEY.txt` (names separated by `;` or line ends). Other
    files are ignored. The split of a sample is that of the object, else the one in the shard's name. The contents of
    images are not read.

    Args:
        pattern: a tar, or many: `{000..099}`, `{a,b}`, `*`.
        draw: how to draw missing splits.
        reporter: shows the progress over shards.

    Raises:
        DatasetError: a shard is missing, damaged or compressed, or a sample is incomplete or is there twice.
    """
    tars = find(pattern)
    samples: list[_Sample] = []
    tar_of: list[int] = []
    passed_over: list[str] = []
    first: dict[str, int] = {}
    with reporter.bar("indexing", len(tars), "shards") as bar:
        for number, tar in enumerate(tars):
            shard = _read_shard(tar)
            passed_over += shard.passed_over
            for sample in shard.samples:
                if sample.key in first:
                    raise DatasetError(
                        f"the sample {sample.key!r} is in two shards, {tars[first[sample.key]]} and {tar}",
                        "Keys name the rows: give each image its own.",
                    )
                first[sample.key] = number
                samples.append(sample)
                tar_of.append(number)
            bar.advance()
    offsets, sizes = ([getattr(sample, field) for sample in samples] for field in ("offset", "size"))
    rows = Rows.of_label_sets(
        [sample.key for sample in samples],
        [sample.labels.labels for sample in samples],
        _splits(samples, pattern),
        Members(tars, np.array(tar_of, np.int32), np.array(offsets, np.int64), np.array(sizes, np.int64)),
        [sample.labels.unknown for sample in samples],
    )
    groups = None
    if any(sample.labels.group is not None for sample in samples):
        groups = [sample.labels.group or sample.key for sample in samples]
    ignored = tuple(dict.fromkeys(key for sample in samples for key in sample.labels.ignored))
    rows = replace(rows, notes=_notes(samples, passed_over), groups=groups, ignored=ignored)
    return as_dataset(rows, pattern, dataset_name(pattern), draw)


def _notes(samples: Sequence[_Sample], passed_over: Sequence[str]) -> tuple[str, ...]:
    """What a user should know about the names of images and labels."""
    notes = []
    if passed_over:
        images = "1 image" if len(passed_over) == 1 else f"{len(passed_over)} images"
        notes.append(f"{images} with a further dot in the name, but no labels with it, passed over: {passed_over[0]}")
    counts = Counter(name for sample in samples for name in set(sample.labels.labels))
    doubt = names_doubt(counts, any(len(sample.labels.labels) > 1 for sample in samples), separator="")
    if doubt is not None:
        notes.append(f"check the labels: {doubt.what}")
    return tuple(notes)


def image_members(tar: Path) -> list[Member]:
    """The images within a tar as it is now, recognised by their names, with or without labels.

    Raises:
        DatasetError: the tar cannot be read.
    """
    return [
        Member(tar, entry.name, entry.offset_data, entry.size)
        for entry, _ in _files(tar)
        if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES
    ]


def _splits(samples: Sequence[_Sample], pattern: Path) -> list[str] | None:
    """The split of each sample; None if no sample has one.

    Raises:
        DatasetError: only some samples have one.
    """
    splits = [sample.split for sample in samples if sample.split is not None]
    if splits and len(splits) < len(samples):
        without = next(sample.key for sample in samples if sample.split is None)
        raise DatasetError(
            f"{pattern}: only some samples have a split; {without!r} has none",
            "Give a split to every sample, in its .json or by its shard's name (train, val, test), or to none.",
        )
    return splits or None


def _read_shard(tar: Path) -> _Shard:
    """Index a shard: its samples in the order of their images.

    A further dot in a name is part of the key if image and labels share it, as in `a.v1.jpg` and `a.v1.json`.

    Raises:
        DatasetError: the shard cannot be read, or a sample is incomplete or is there twice.
    """
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, dict[str, bytes]] = {".json": {}, ".txt": {}}
    dotted: dict[str, tuple[int, int]] = {}
    for member, stream in _files(tar):
        match = _KEY.fullmatch(member.name)
        if match is None:
            continue
        key, extension = match[1], f".{match[2].lower()}"
        if "." in match[2]:
            key, extension = _whole_key(member.name), PurePosixPath(member.name).suffix.lower()
        if "." in match[2] and extension in IMAGE_SUFFIXES:
            dotted[member.name] = (member.offset_data, member.size)
        elif extension in IMAGE_SUFFIXES:
            if key in images:
                raise DatasetError(f"{tar}: the sample {key!r} has two images", "Keep one: a key names one image.")
            images[key] = (member.offset_data, member.size)
        elif extension in labels:
            if key in labels[extension]:
                raise DatasetError(f"{tar} holds {member.name!r} twice", "Keep one of them.")
            stream.seek(member.offset_data)
            labels[extension][key] = stream.read(member.size)
    passed_over = []
    for name, position in dotted.items():
        key = _whole_key(name)
        if key not in images and any(key in of_key for of_key in labels.values()):
            images[key] = position
        else:
            passed_over.append(name)
    for key in (*labels[".json"], *labels[".txt"]):
        if key not in images and "." not in PurePosixPath(key).name:
            raise DatasetError(
                f"{tar}: the sample {key!r} has labels but no image", "Add the image, or remove the labels."
            )
    if not images:
        raise DatasetError(f"{tar} holds no image", "Leave it out of the pattern, or write it again.")
    split = split_in(tar.name)
    return _Shard([_sample(tar, key, position, labels, split) for key, position in images.items()], passed_over)


def _whole_key(name: str) -> str:
    """The name of a file up to its last dot."""
    return str(PurePosixPath(name).with_suffix(""))


def _sample(
    tar: Path, key: str, position: tuple[int, int], labels: dict[str, dict[str, bytes]], shard_split: str | None
) -> _Sample:
    """Combine the position (offset and size) of an image with its labels."""
    for extension, parse in ((".json", parse_json), (".txt", parse_text)):
        if key in labels[extension]:
            read = parse(labels[extension][key], tar, f"{key}{extension}")
            return _Sample(key, *position, read, read.split or shard_split)
    raise DatasetError(
        f"{tar}: the image {key!r} has no labels", f"Add {key}.json ([] if no label is present) or {key}.txt."
    )


def _files(tar: Path) -> Iterator[tuple[tarfile.TarInfo, BinaryIO]]:
    """Yield the regular files of a tar in order, each with the stream of the tar.

    Raises:
        DatasetError: the tar is compressed, truncated, damaged, not a tar, or cannot be read.
    """
    try:
        with tar.open("rb") as stream:
            if stream.read(6).startswith(_COMPRESSED):
                raise DatasetError(
                    f"{tar} is compressed: its images cannot be read without unpacking",
                    "Decompress it to a plain .tar (gunzip, unzstd, ...); compression saves almost nothing on JPEGs.",
                )
            length = stream.seek(0, os.SEEK_END)
            stream.seek(0)
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                while (member := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined]  # it would keep every member in memory
                    if not 0 <= member.size <= length - member.offset_data:
                        raise tarfile.ReadError(f"{member.name!r} does not end within it")
                    if member.isfile():
                        yield member, stream
                # tarfile takes a damaged or missing header for the end. A tar ends with blocks of zeros.
                stream.seek(archive.offset)
                end = stream.read(tarfile.BLOCKSIZE)
                if len(end) < tarfile.BLOCKSIZE or any(end):
                    raise tarfile.ReadError(f"no end where byte {archive.offset} is")
    except tarfile.TarError as error:
        raise DatasetError(
            f"{tar} is damaged, truncated or not a tar: {error}",
            "Fetch or write it again (tar tf lists what it has).",
        ) from None
    except OSError as error:
        raise DatasetError(f"{tar} cannot be read: {error.strerror}", "Check the file and its permissions.") from None
