"""Published weights: files of the Hugging Face hub and of torch, in their caches, in a folder, or downloaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labeldep_cli.errors import BackboneError

PREFIX = "hf-hub:"
"""The beginning of a repository's name: hf-hub:OWNER/NAME[@REVISION]."""

CONFIG = "config.json"
"""The file of a repository that describes its model."""

WEIGHTS = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)
"""The files of a repository that may hold the weights, in the order in which they are tried."""


def downloaded(url: str) -> Path:
    """The path of a file that torch downloads, whether it exists or not."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]


def folder_of(path: Path) -> Path | None:
    """The folder that holds a model's files, for a path that `--weights` takes; None if there is none.

    Args:
        path: a file in that folder, the folder, or the folder models--OWNER--NAME of the hub's cache.
    """
    if path.is_file():
        return path.parent
    if not path.is_dir():
        return None
    snapshots = path / "snapshots"
    if not snapshots.is_dir():
        return path
    main = path / "refs" / "main"
    if main.is_file() and (snapshots / main.read_text(encoding="utf-8").strip()).is_dir():
        return snapshots / main.read_text(encoding="utf-8").strip()
    return max(snapshots.iterdir(), key=lambda folder: folder.stat().st_mtime, default=None)


def weights_in(folder: Path) -> Path | None:
    """The weights in a folder; None if it has none."""
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


@dataclass(frozen=True)
class Published:
    """The published weights of a model.

    Attributes:
        path: their file; None for a file of the hub that is not on this disk, whose place is not known before.
        url: where they come from.
        repository: name of their repository, as "hf-hub:OWNER/NAME"; empty for a plain URL.
        names: the files in the repository that are tried.
    """

    path: Path | None
    url: str
    repository: str = ""
    names: tuple[str, ...] = WEIGHTS


def published(repository: str, names: tuple[str, ...] = WEIGHTS) -> Published:
    """The weights in a repository; nothing is read or downloaded.

    Raises:
        BackboneError: the repository's name is malformed.
    """
    return Published(_cached(repository, names), _address(repository), repository, names)


def _address(repository: str) -> str:
    return f"https://huggingface.co/{repository.removeprefix(PREFIX).partition('@')[0]}"


def _cached(repository: str, names: Iterable[str]) -> Path | None:
    """A file of a repository in the hub's cache, without a network; None if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    owner_name, _, revision = repository.removeprefix(PREFIX).partition("@")
    for name in names:
        try:
            found = try_to_load_from_cache(owner_name, name, revision=revision or None)
        except ValueError as error:  # the hub's own check of the name
            raise BackboneError(
                f"{owner_name!r} is no name of a repository: {error}", "Name it as hf-hub:OWNER/NAME"
            ) from None
        if isinstance(found, str):
            return Path(found)
    return None


def find_file(repository: str, names: tuple[str, ...]) -> Path:
    """A file of a repository: from the hub's cache, else downloaded into it.

    Args:
        repository: hf-hub:OWNER/NAME[@REVISION].
        names: the file's possible names; the first that exists is taken.

    Raises:
        BackboneError: the repository has none of them, or cannot be reached.
    """
    found = _cached(repository, names)
    if found is not None:
        return found
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    owner_name, _, revision = repository.removeprefix(PREFIX).partition("@")
    for name in names:
        try:
            return Path(hf_hub_download(owner_name, name, revision=revision or None))
        except LocalEntryNotFoundError as error:  # a kind of EntryNotFoundError: there is no network
            raise _unreachable(repository, names, error) from None
        except EntryNotFoundError:
            continue
        except Exception as error:  # the hub's client raises many kinds: of HTTP, of names, of the disk
            raise _unreachable(repository, names, error) from None
    raise BackboneError(
        f"{_address(repository)} has no file {' or '.join(names)}", "Name the file of the weights: --weights PATH"
    )


def _unreachable(repository: str, names: tuple[str, ...], error: Exception) -> BackboneError:
    why = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return BackboneError(
        f"cannot download {names[0]} of {_address(repository)}: {why[:200]}",
        "Download the repository where there is a network and name its folder: --weights FOLDER (with config.json and "
        f"{WEIGHTS[0]})\nor put it into the hub's cache, which the variable HF_HUB_CACHE names. "
        "Random weights: --weights none",
    )
