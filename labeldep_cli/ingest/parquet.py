"""Parquet files as Hugging Face writes them: a row for each image, with its bytes or its path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypedDict

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets.split_words import SPLIT_COLUMNS, split_of
from labeldep_cli.errors import DatasetError
from labeldep_cli.ingest.entries import Entry, Reading
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.label_values import LabelValues, Record
from labeldep_cli.ingest.words import LABEL_KEYS, PATH_KEYS, one_of
from labeldep_cli.schemas import conform, parse_json

if TYPE_CHECKING:
    from pyarrow import DataType

_ROWS = 64
"""Rows whose images are in memory at a time."""

_SIGNATURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"BM": ".bmp", b"RIFF": ".webp"}
_SIGNATURES |= {b"II*\0": ".tif", b"MM\0*": ".tif"}
"""How image files begin, for images without a name."""


class _Info(TypedDict, total=False):
    features: dict[str, Any]


class _Metadata(TypedDict, total=False):
    """What `datasets` writes into a schema."""

    info: _Info


def recognises(source: Path) -> bool:
    """Whether a file is a parquet, or a folder or its folder `data` has such files."""
    return bool(_files(source))


def read(source: Path, config: ImportConfig) -> Foreign:
    """Read a parquet, or all of a folder. Their names say the splits, as in train-00000-of-00002.parquet.

    Raises:
        DatasetError: pyarrow is not installed; a file is broken, or has no images or no labels.
    """
    reading = Reading(source, config)
    tables = [_Table(file, reading) for file in _files(source)]
    records, images = [], []
    for table in tables:
        for image, record in table.rows():
            images.append(image)
            records.append(record)
    if any(table.has_bytes for table in tables):
        images = _with_unique_paths(images)
    labels = LabelValues(reading, next(filter(None, (table.label_names for table in tables)), ()))
    for image, known in zip(images, labels.read(records), strict=True):
        if known is not None:
            reading.entries.append(replace(image, values=known.values, unsaid=known.unsaid))
    contents = _contents(tables, [image.path for image in images]) if any(t.has_bytes for t in tables) else None
    return reading.finish(source if source.is_dir() else source.parent, contents)


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.suffix.lower() == ".parquet" else []
    return sorted(source.glob("*.parquet")) or sorted(source.glob("data/*.parquet"))


class _Table:
    """One parquet file.

    Args:
        path: the file.
        reading: takes what there is to tell.
    """

    def __init__(self, path: Path, reading: Reading) -> None:
        try:
            from pyarrow import ArrowException
            from pyarrow.parquet import ParquetFile
        except ImportError:
            raise DatasetError(
                f"{path} is a parquet file, which pyarrow reads, and that is not installed",
                "Run: pip install 'labeldep[parquet]'",
            ) from None
        try:
            self._table = ParquetFile(path)
        except (ArrowException, OSError) as error:
            raise DatasetError(f"{path} is no readable parquet file: {error}", "Download it again.") from None
        self._path, self._reading = path, reading
        self._schema = self._table.schema_arrow
        self._image = self._image_column()
        self._columns = [f.name for f in self._schema if f.name == self._image or not _has_bytes(f.type)]
        reading.ignored += [name for name in self._schema.names if name not in self._columns]

    @property
    def has_bytes(self) -> bool:
        """Whether the images are in the file."""
        return _has_bytes(self._schema.field(self._image).type)

    @cached_property
    def label_names(self) -> tuple[str, ...]:
        """The names of label numbers, which `datasets` writes into the schema; empty if there are none."""
        metadata = (self._schema.metadata or {}).get(b"huggingface", b"{}")
        try:
            features = conform(parse_json(metadata), _Metadata).get("info", {}).get("features", {})
        except ValueError as error:
            raise DatasetError(
                f"{self._path}: its description of labels is damaged: {error}", "Download it again."
            ) from None
        key = self._reading.config.labels_column or one_of(self._schema.names, LABEL_KEYS)
        return tuple(map(str, _names_in(features.get(key or "")) or ()))

    def rows(self) -> Iterator[tuple[Entry, Record]]:
        """Each row: its image, whose path may be empty, and its other columns."""
        config = self._reading.config
        split_column = config.split_column or one_of(self._schema.names, SPLIT_COLUMNS)
        split = split_of(self._path.name.split("-")[0].split(".")[0])
        used = {self._image, split_column, config.group_column}
        finder = self._reading.finder([self._path.parent, self._path.parent / "images"])
        for number, row in enumerate(self._batches(self._columns)):
            where = f"{self._path}, row {number}"
            name = self._name(row[self._image], number)
            if name is None:
                raise DatasetError(f"{where}: there is no image in {self._image!r}", "Remove the row.")
            own = split_of(row[split_column]) if split_column in row else split
            group = row.get(config.group_column or "")
            path = name if self.has_bytes else finder.find(name)
            image = Entry(path, {}, split=own, group=None if group is None else str(group))
            yield image, Record(where, {key: value for key, value in row.items() if key not in used})

    def contents(self) -> Iterator[bytes]:
        """The bytes of each row's image."""
        for row in self._batches([self._image]):
            value = row[self._image]
            yield value["bytes"] if isinstance(value, dict) else value

    def _batches(self, columns: list[str]) -> Iterator[dict[str, Any]]:
        from pyarrow import ArrowException

        try:
            for batch in self._table.iter_batches(batch_size=_ROWS, columns=columns):
                yield from batch.to_pylist()
        except (ArrowException, OSError) as error:
            raise DatasetError(f"{self._path} is broken: {error}", "Download it again.") from None

    def _image_column(self) -> str:
        """The column with images: a struct of bytes and path, bytes, or paths."""
        wanted = self._reading.config.path_column
        for field in self._schema:
            if wanted in (None, field.name) and _has_bytes(field.type):
                return str(field.name)
        named = wanted or one_of(self._schema.names, PATH_KEYS)
        if named not in self._schema.names:
            raise DatasetError(
                f"{self._path} has no column with images; its columns are {', '.join(self._schema.names)}",
                "Name the column with --path-column.",
            )
        return str(named)

    def _name(self, value: object, number: int) -> str | None:
        """The name of an image: the last part of its path, or one made of the file's name and the row."""
        if not self.has_bytes:
            return value if isinstance(value, str) else None
        content, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if not isinstance(content, bytes):
            return None
        plain = PurePosixPath(str(path or "").replace("\\", "/")).name
        ending = next((suffix for start, suffix in _SIGNATURES.items() if content.startswith(start)), "")
        return plain or f"{self._path.stem}-{number:06d}{ending}"


def _has_bytes(kind: DataType) -> bool:
    """Whether values of a type are bytes, or bytes with a path."""
    from pyarrow import types

    held = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    return bool(held or types.is_binary(kind) or types.is_large_binary(kind))


def _names_in(feature: object) -> list[Any] | None:
    """The names of a ClassLabel, which may be within a Sequence or a List."""
    if isinstance(feature, list):
        return next(filter(None, map(_names_in, feature)), None)
    if isinstance(feature, Mapping):
        names = feature.get("names")
        return names if isinstance(names, list) else _names_in(feature.get("feature"))
    return None


def _with_unique_paths(images: Sequence[Entry]) -> list[Entry]:
    """The images, of which those with a name that was used before get a number: 1.jpg, 1-2.jpg."""
    used: set[str] = set()
    renamed = []
    for image in images:
        path, number = PurePosixPath(image.path), 1
        name = image.path
        while name.lower() in used:
            number += 1
            name = f"{path.stem}-{number}{path.suffix}"
        used.add(name.lower())
        renamed.append(replace(image, path=name))
    return renamed


def _contents(tables: Sequence[_Table], names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """The name and the bytes of each image."""
    contents = (content for table in tables for content in table.contents())
    yield from zip(names, contents, strict=True)
