"""WebDataset shards: images and their labels in tars, indexed once and read where they lie."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from labeldep_cli.datasets.image_file import IMAGE_SUFFIXES, Members
from labeldep_cli.datasets.rows import Rows, as_dataset, label_names
from labeldep_cli.datasets.shard_names import dataset_name, find, split_in
from labeldep_cli.datasets.split import SPLITS, Dataset, Draw, unknown_split
from labeldep_cli.errors import DatasetError
from labeldep_cli.progress import Reporter

_KEY = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)")
"""WebDataset's rule: a sample's key is the path up to the first dot of the base name."""

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd

_FORM = 'KEY.json holds ["sea", "sunset"] or {"labels": ["sea", "sunset"], "split": "train"}.'


class _Sample(NamedTuple):
    """An image and what is said of it; `split` is None where neither its labels nor its shard's name say one."""

    key: str
    offset: int
    size: int
    labels: list[str]
    split: str | None


def load(pattern: Path, draw: Draw, reporter: Reporter) -> Dataset:
    """Load a data set of WebDataset shards; splits that they do not name are drawn from train.

    A sample is an image (`KEY.jpg`, `KEY.png`, ...) and its labels: `KEY.json` (a list of names, or an object with
    `labels` and, if it likes, `split`), else `KEY.txt` (names between `;` or line ends). Other files are passed over.
    Its split is the object's, else the one in the shard's name. The contents of images are sought over, not read.

    Args:
        pattern: a tar, or many: `{000..099}`, `{a,b}`, `*`.
        draw: how to draw the splits that are lacking.
        reporter: takes the progress over shards.

    Raises:
        DatasetError: a shard is missing, damaged or compressed, or a sample is incomplete or stands twice.
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
                        f"the sample {sample.key!r} stands in two shards, {tars[first[sample.key]]} and {tar}",
                        "Keys name the rows: give each image its own.",
                    )
                first[sample.key] = number
                samples.append(sample)
                tar_of.append(number)
            bar.advance()
    offsets, sizes = ([getattr(sample, what) for sample in samples] for what in ("offset", "size"))
    rows = Rows.of_label_sets(
        [sample.key for sample in samples],
        [sample.labels for sample in samples],
        _splits(samples, pattern),
        Members(tars, np.array(tar_of, np.int32), np.array(offsets, np.int64), np.array(sizes, np.int64)),
    )
    return as_dataset(rows, pattern, dataset_name(pattern), draw)


def _splits(samples: Sequence[_Sample], pattern: Path) -> list[str] | None:
    """The split of each sample; None where no sample has one."""
    splits = [sample.split for sample in samples if sample.split is not None]
    if splits and len(splits) < len(samples):
        without = next(sample.key for sample in samples if sample.split is None)
        raise DatasetError(
            f"{pattern}: only some samples have a split; {without!r} has none",
            "Give every sample one, in its .json or by its shard's name (train, val, test), or none of them.",
        )
    return splits or None


def _samples(tar: Path) -> list[_Sample]:
    """Index a shard: its samples in the order of their images.

    Raises:
        DatasetError: the shard cannot be read, or a sample is incomplete or stands twice.
    """
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, dict[str, bytes]] = {".json": {}, ".txt": {}}
    for member, stream in _files(tar):
        named = _KEY.fullmatch(member.name)
        if named is None:
            continue
        key, extension = named[1], f".{named[2].lower()}"
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
            raise DatasetError(f"{tar}: the sample {key!r} has labels but no image", "Add the image, or take it out.")
    if not images:
        raise DatasetError(f"{tar} holds no image", "Leave it out of the pattern, or write it again.")
    split = split_in(tar.name)
    return [_sample(tar, key, place, labels, split) for key, place in images.items()]


def _sample(
    tar: Path, key: str, place: tuple[int, int], labels: dict[str, dict[str, bytes]], split: str | None
) -> _Sample:
    """Bring an image's place and its labels together; `split` is its shard's."""
    for extension, parse in ((".json", _parse_json), (".txt", _parse_text)):
        if key in labels[extension]:
            names, own = parse(labels[extension][key], tar, f"{key}{extension}")
            return _Sample(key, *place, names, own or split)
    raise DatasetError(
        f"{tar}: the image {key!r} has no labels", f"Add {key}.json ([] where it shows none of them) or {key}.txt."
    )


def _parse_json(content: bytes, tar: Path, name: str) -> tuple[list[str], str | None]:
    """Label names and split of a `.json`."""
    where = f"{tar}, {name}"
    try:
        said = json.loads(content)
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, or no text
        raise DatasetError(f"{where}: not valid JSON: {error}", _FORM) from None
    if not isinstance(said, dict):
        return label_names(said, where, _FORM), None
    if "labels" not in said:
        raise DatasetError(f"{where}: there is no 'labels'", _FORM)
    if "split" in said and said["split"] not in SPLITS:
        raise unknown_split(tar, name, said["split"])
    return label_names(said["labels"], where, _FORM), said.get("split")


def _parse_text(content: bytes, tar: Path, name: str) -> tuple[list[str], None]:
    """Label names of a `.txt`."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DatasetError(f"{tar}, {name}: not UTF-8", "Save it as UTF-8: names, with ; between.") from None
    return [name.strip() for name in re.split(r"[;\r\n]", text) if name.strip()], None


def _files(tar: Path) -> Iterator[tuple[tarfile.TarInfo, BinaryIO]]:
    """Yield the regular files of a tar, in order, each with the tar's own stream.

    Raises:
        DatasetError: it is compressed, cut short, damaged, no tar, or cannot be read.
    """
    try:
        with tar.open("rb") as stream:
            if stream.read(6).startswith(_COMPRESSED):
                raise DatasetError(
                    f"{tar} is compressed: its images cannot be read where they lie",
                    "Unpack it to a plain .tar (gunzip, unzstd, ...); JPEGs gain next to nothing by compression.",
                )
            length = stream.seek(0, os.SEEK_END)
            stream.seek(0)
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                while (member := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined]  # it would remember every member it has seen
                    if not 0 <= member.size <= length - member.offset_data:
                        raise tarfile.ReadError(f"{member.name!r} does not end within it")
                    if member.isfile():
                        yield member, stream
                # tarfile takes a damaged header, or none, for the end; a tar ends in blocks of zeros.
                stream.seek(archive.offset)
                end = stream.read(tarfile.BLOCKSIZE)
                if len(end) < tarfile.BLOCKSIZE or any(end):
                    raise tarfile.ReadError(f"no end where byte {archive.offset} is")
    except tarfile.TarError as error:
        raise DatasetError(
            f"{tar} is damaged, cut short or no tar: {error}",
            "Fetch or write it again (tar tf lists what it has).",
        ) from None
    except OSError as error:
        raise DatasetError(f"{tar} cannot be read: {error.strerror}", "Check the file and its permissions.") from None
