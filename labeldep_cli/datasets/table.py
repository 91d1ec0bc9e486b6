"""A user's own data in one file: a table of labels, or ready features."""

from __future__ import annotations

from pathlib import Path

from labeldep_cli.datasets.doubts.doubt import TO_IMPORT, Doubt
from labeldep_cli.datasets.doubts.remedies import import_command
from labeldep_cli.datasets.draw import Draw
from labeldep_cli.datasets.formats import FORMATS
from labeldep_cli.datasets.rows import as_dataset, name_with_digest
from labeldep_cli.datasets.split import Dataset
from labeldep_cli.errors import DatasetError, nearest

_SAVED_AS = {
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), "Save the sheet as CSV in UTF-8."),
    **dict.fromkeys((".pkl", ".pickle", ".pt", ".pth", ".npy"), "Save it as CSV, or features as .npz: numpy.savez."),
    **dict.fromkeys((".zip", ".7z", ".rar"), "Unpack it, and name the file or folder in it."),
    **dict.fromkeys((".mat", ".arff"), "Save the arrays with numpy.savez(file, X=..., Y=..., label_names=...)."),
}
"""What to do with files that no command reads, by suffix."""


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
        raise _unknown_suffix(file)
    return as_dataset(row.read(file), file, dataset_name(file), draw)


def _unknown_suffix(file: Path) -> DatasetError:
    what = f"labeldep does not read files with the suffix {file.suffix!r}"
    otherwise = _SAVED_AS.get(file.suffix.lower())
    if otherwise is not None:
        return DatasetError(f"{file}: {what}", otherwise)
    return Doubt(what, (TO_IMPORT,), f"It reads {', '.join(FORMATS)}.").error(file)


def dataset_name(file: Path) -> str:
    """Name a user's data set: its folder if the file is called `labels.*`, else its stem, plus six hex digits."""
    resolved = file.resolve()
    return name_with_digest(resolved.parent.name if resolved.stem == "labels" else resolved.stem, resolved)


def _no_table(folder: Path) -> DatasetError:
    what = f"the folder {folder} holds no labels.csv"
    if any(folder.glob("*.tar")):
        return DatasetError(what, f"Name its shards: '{folder}/*.tar'")
    others = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in FORMATS)
    otherwise = f"Name the file: {', '.join(others[:5])}." if others else "Put the table there as labels.csv."
    if not any(folder.iterdir()):
        return DatasetError(what, otherwise)
    return DatasetError(what, f"{otherwise}\nOr import the folder:\n{import_command(folder)}")


def _find(path: Path) -> Path:
    """The file to read: the path itself, or `labels.csv` if it is a folder."""
    if path.is_dir():
        tables = [file for file in sorted(path.iterdir()) if file.name.lower() == "labels.csv" and file.is_file()]
        if len(tables) != 1:
            raise _no_table(path)
        return tables[0]
    if not path.is_file():
        if not path.parent.is_dir():
            raise DatasetError(f"there is no file {path}", f"Its folder {path.parent} does not exist either.")
        siblings = sorted(p.name for p in path.parent.iterdir() if p.is_dir() or p.suffix.lower() in FORMATS)
        raise DatasetError(f"there is no file {path}", nearest(path.name, siblings) if siblings else "Check the path.")
    return path
