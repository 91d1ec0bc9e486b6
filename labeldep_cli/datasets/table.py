"""A user's own data in one file: a table of labels, or ready features."""

from __future__ import annotations

from pathlib import Path

from labeldep_cli.datasets.draw import Draw
from labeldep_cli.datasets.formats import FORMATS
from labeldep_cli.datasets.rows import as_dataset, name_with_digest
from labeldep_cli.datasets.split import Dataset
from labeldep_cli.errors import DatasetError, nearest


def load(path: Path, draw: Draw) -> Dataset:
    """Load a user's own data set; splits that it does not define are drawn from train.

    Args:
        path: a CSV (`path[,split],label,label,...` multi-hot, or `path[,split],labels` with `;` between names), a JSONL
            (one `{"path": ..., "labels": [...]}` per line), a COCO-format JSON, an `.npz` or `.h5` of ready features
            (`X` [N, F], `Y` [N, L], `label_names`, optional `split`), or a folder that contains `labels.csv`. Image
            paths are relative to the file.
        draw: how to draw missing splits.

    Raises:
        DatasetError: the file is missing or malformed; names the file, the line and the problem.
    """
    file = _find(path)
    row = FORMATS.get(file.suffix.lower())
    if row is None:
        raise DatasetError(
            f"{file}: labeldep does not read files with the suffix {file.suffix!r}", f"It reads {', '.join(FORMATS)}."
        )
    return as_dataset(row.read(file), file, dataset_name(file), draw)


def dataset_name(file: Path) -> str:
    """Name a user's data set: its folder if the file is called `labels.*`, else its stem, plus six hex digits."""
    resolved = file.resolve()
    return name_with_digest(resolved.parent.name if resolved.stem == "labels" else resolved.stem, resolved)


def _find(path: Path) -> Path:
    """The file to read: the path itself, or `labels.csv` if it is a folder."""
    if path.is_dir():
        if not (path / "labels.csv").is_file():
            others = sorted(p.name for p in path.iterdir() if p.suffix.lower() in FORMATS)
            remedy = f"Name the file: {', '.join(others[:5])}." if others else "Put the table there as labels.csv."
            if any(path.glob("*.tar")):
                remedy = f"Name its shards: '{path}/*.tar'"
            raise DatasetError(f"the folder {path} holds no labels.csv", remedy)
        return path / "labels.csv"
    if not path.is_file():
        if not path.parent.is_dir():
            raise DatasetError(f"there is no file {path}", f"Its folder {path.parent} does not exist either.")
        siblings = sorted(p.name for p in path.parent.iterdir() if p.is_dir() or p.suffix.lower() in FORMATS)
        raise DatasetError(f"there is no file {path}", nearest(path.name, siblings) if siblings else "Check the path.")
    return path
