"""WebDataset shards: images and their labels in tars, which are indexed and read without unpacking."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from labeldep_cli.datasets.draw import Draw
from labeldep_cli.datasets.image_file import IMAGE_SUFFIXES, Member, Members
from labeldep_cli.datasets.rows import Rows, as_dataset, label_names
from labeldep_cli.datasets.shard_names import dataset_name, find, split_in
from labeldep_cli.datasets.split import SPLITS, Dataset, unknown_split
from labeldep_cli.errors import DatasetError
from labeldep_cli.progress import Reporter

_KEY = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)")
"""WebDataset's rule: a sample's key is the path up to the first dot of the base name."""

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd

_FORM = 'KEY.json holds ["sea", "sunset"] or {"labels": ["sea", "sunset"], "split": "train"}.'


class _Sample(NamedTuple):
    """An image with its labels; `split` is None if neither its labels nor its shard's name give one."""

    key: str
    offset: int
    size: int
    labels: list[str]
    split: str | None


def load(pattern: Path, draw: Draw, reporter: Reporter) -> Dataset:
    """Load a data set of WebDataset shards; splits that they do not name are drawn from train.

    A sample is an image (`KEY.jpg`, `KEY.png`, ...) and its labels: `KEY.json` (a list of names, or an object with
    `labels` and optionally `split`), else `KEY.txt` (names separated by `;` or line ends). Other files are ignored.
    The split of a sample is that of the object, else the one in the shard's name. The contents of images are not read.

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
    first: dict[str, int] = {}
    with reporter.bar("indexing", len(tars), "shards") as bar:
        for number, tar in enumerate(tars):
            for sample in _samples(tar):
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
        [sample.labels for sample in samples],
        _splits(samples, pattern),
        Members(tars, np.array(tar_of, np.int32), np.array(offsets, np.int64), np.array(sizes, np.int64)),
    )
    return as_dataset(rows, pattern, dataset_name(pattern), draw)


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


def _samples(tar: Path) -> list[_Sample]:
    """Index a shard: its samples in the order of their images.

    Raises:
        DatasetError: the shard cannot be read, or a sample is incomplete or is there twice.
    """
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, dict[str, bytes]] = {".json": {}, ".txt": {}}
    for member, stream in _files(tar):
        match = _KEY.fullmatch(member.name)
        if match is None:
            continue
        key, extension = match[1], f".{match[2].lower()}"
        if extension in IMAGE_SUFFIXES:
            if key in images:
                raise DatasetError(f"{tar}: the sample {key!r} has two images", "Keep one: a key names one image.")
            images[key] = (member.offset_data, member.size)
        elif extension in labels:
            if key in labels[extension]:
                raise DatasetError(f"{tar} holds {member.name!r} twice", "Keep one of them.")
            stream.seek(member.offset_data)
            labels[extension][key] = stream.read(member.size)
    for key in (*labels[".json"], *labels[".txt"]):
        if key not in images:
            raise DatasetError(
                f"{tar}: the sample {key!r} has labels but no image", "Add the image, or remove the labels."
            )
    if not images:
        raise DatasetError(f"{tar} holds no image", "Leave it out of the pattern, or write it again.")
    split = split_in(tar.name)
    return [_sample(tar, key, position, labels, split) for key, position in images.items()]


def _sample(
    tar: Path, key: str, position: tuple[int, int], labels: dict[str, dict[str, bytes]], shard_split: str | None
) -> _Sample:
    """Combine the position (offset and size) of an image with its labels."""
    for extension, parse in ((".json", _parse_json), (".txt", _parse_text)):
        if key in labels[extension]:
            names, split = parse(labels[extension][key], tar, f"{key}{extension}")
            return _Sample(key, *position, names, split or shard_split)
    raise DatasetError(
        f"{tar}: the image {key!r} has no labels", f"Add {key}.json ([] if no label is present) or {key}.txt."
    )


def _parse_json(content: bytes, tar: Path, name: str) -> tuple[list[str], str | None]:
    """Label names and split of a `.json`."""
    where = f"{tar}, {name}"
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or not text
        raise DatasetError(f"{where}: not valid JSON: {error}", _FORM) from None
    if not isinstance(parsed, dict):
        return label_names(parsed, where, _FORM), None
    if "labels" not in parsed:
        raise DatasetError(f"{where}: there is no 'labels'", _FORM)
    if "split" in parsed and parsed["split"] not in SPLITS:
        raise unknown_split(tar, name, parsed["split"])
    return label_names(parsed["labels"], where, _FORM), parsed.get("split")


def _parse_text(content: bytes, tar: Path, name: str) -> tuple[list[str], None]:
    """Label names of a `.txt`."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DatasetError(f"{tar}, {name}: not UTF-8", "Save it as UTF-8: names separated by ;") from None
    return [name.strip() for name in re.split(r"[;\r\n]", text) if name.strip()], None


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
