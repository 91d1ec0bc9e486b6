"""The weights of a backbone: published by torchvision or on the Hugging Face hub, of its row, of a file, or random."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass
from pathlib import Path

import torchvision

from labeldep_cli.errors import BackboneError
from labeldep_cli.files import expand_home, sha256
from labeldep_cli.models import hub
from labeldep_cli.models.backbones import Backbone, WeightsFile
from labeldep_cli.models.hub import Published
from labeldep_cli.models.timm_models import TimmModel

RANDOM_SEED = 0
"""Seed of the random weights of `--weights none`."""


@dataclass(frozen=True)
class Weights:
    """The source of a backbone's weights.

    Attributes:
        spec: "default", the name of torchvision weights, "none", or an absolute path.
        path: their file; None for random weights, and for weights of the hub that are not on this disk.
        sha256: SHA-256 of that file; for random weights, of the words that describe them. None while the file is not
            on this disk.
        url: where published weights are downloaded from; empty for other weights.
    """

    spec: str
    path: Path | None
    sha256: str | None
    url: str = ""


def locate_weights(row: Backbone, weights: str) -> Weights:
    """Find weights without loading them.

    Args:
        row: the backbone.
        weights: "default", the name of torchvision weights ("IMAGENET1K_V1"), "none", or the path of a state dict, or
            of a folder with one: a repository's, or models--OWNER--NAME of the hub's cache.

    Raises:
        BackboneError: the path does not exist; the backbone has no default weights; their file has another SHA-256.
    """
    if weights == "none":
        recipe = f"random weights of {row.name}, seed {RANDOM_SEED}"
        return Weights("none", None, hashlib.sha256(recipe.encode()).hexdigest())
    if weights == "default" and row.weights is not None:
        return _default_of(row, row.weights)
    if weights == "default" and row.timm is not None:
        return _published_by_timm(row, row.timm)
    published = (
        {entry.name: entry for entry in torchvision.models.get_model_weights(row.name)} if row.from_torchvision else {}
    )
    if weights in published or (weights == "default" and row.from_torchvision):
        entry = torchvision.models.get_model_weights(row.name).DEFAULT if weights == "default" else published[weights]
        path = hub.downloaded(entry.url)
        return Weights(weights, path, sha256(path) if path.is_file() else None, entry.url)
    if weights == "default":
        raise BackboneError(f"{row.name} has no default weights", "Name a weights file: --weights PATH")
    path = expand_home(Path(weights)).absolute()
    if path.is_dir():
        file = _file_in(path)
        return Weights(str(path), file, sha256(file))
    if not path.is_file():
        default = ("default",) if row.weights or row.build is None else ()
        raise BackboneError(
            f"there is no weights file {path}",
            f"--weights takes {', '.join((*default, 'none', *published))} or a path.",
        )
    return Weights(str(path), path, sha256(path))


def _file_in(folder: Path) -> Path:
    """The weights in a folder of the hub."""
    inside = hub.folder_of(folder)
    file = None if inside is None else hub.weights_in(inside)
    if file is None:
        raise BackboneError(
            f"the folder {folder} has none of the files {', '.join(hub.WEIGHTS)}",
            "Name the file of the weights: --weights PATH",
        )
    return file


def _published_by_timm(row: Backbone, model: TimmModel) -> Weights:
    published = model.published
    if published is None:
        raise BackboneError(
            f"{row.name} has no published weights",
            "Name another --backbone (labeldep backbones PATTERN), a weights file (--weights PATH), or --weights none.",
        )
    path = published.path
    return Weights("default", path, sha256(path) if path is not None and path.is_file() else None, published.url)


def _default_of(row: Backbone, file: WeightsFile) -> Weights:
    """The default weights of a row."""
    path = file.path or hub.downloaded(file.url)
    if not path.is_file():
        if not file.url:
            raise BackboneError(f"the weights of {row.name} are not at {path}", "Name the file: --weights PATH")
        return Weights("default", path, None, file.url)
    return Weights("default", path, _checked(row, file, path), file.url)


def _checked(row: Backbone, file: WeightsFile, path: Path) -> str:
    """The SHA-256 of a row's default weights; BackboneError if the row names another one."""
    digest = sha256(path)
    if file.sha256 not in (None, digest):
        raise BackboneError(
            f"{path} are not the weights of {row.name}: SHA-256 {digest[:12]}, not {str(file.sha256)[:12]}",
            f"Remove the file, and it is downloaded again: rm {shlex.quote(str(path))}"
            if file.url
            else "Put the right file there, or name it: --weights PATH",
        )
    return digest


def default_file(row: Backbone) -> Published | None:
    """The weights of `--weights default`; None if there are none. Nothing is read or downloaded."""
    if row.weights is not None:
        return Published(row.weights.path or hub.downloaded(row.weights.url), row.weights.url)
    if row.timm is not None:
        return row.timm.published
    if not row.from_torchvision:
        return None
    file = published_file(row)
    return Published(file.path, file.url)


@dataclass(frozen=True)
class PublishedFile:
    """The default weights that torchvision publishes for a backbone.

    Attributes:
        path: where they are, or would be downloaded to.
        url: where they are downloaded from.
        megabytes: size of the file in units of 1024 x 1024 bytes, according to torchvision; None if it does not say.
    """

    path: Path
    url: str
    megabytes: float | None


def published_file(row: Backbone) -> PublishedFile:
    """The place of a backbone's default weights; the file is not read."""
    entry = torchvision.models.get_model_weights(row.name).DEFAULT
    return PublishedFile(hub.downloaded(entry.url), entry.url, entry.meta.get("_file_size"))
