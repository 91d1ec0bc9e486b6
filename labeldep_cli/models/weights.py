"""The weights of a backbone: from torchvision, from its row in BACKBONES, from a file, or random."""

from __future__ import annotations

import hashlib
import math
import pickle
import shlex
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from labeldep_cli.compute.seeded import seeded
from labeldep_cli.errors import BackboneError
from labeldep_cli.files import expand_home, lock, make_folder, sha256
from labeldep_cli.models.backbones import Backbone, WeightsFile, classifier, to_backbone
from labeldep_cli.models.regions import RegionFeatures
from labeldep_cli.progress import Reporter

RANDOM_SEED = 0
"""Seed of the random weights of `--weights none`."""


@dataclass(frozen=True)
class Weights:
    """The source of a backbone's weights.

    Attributes:
        spec: "default", the name of torchvision weights, "none", or an absolute path.
        path: their file; None for random weights.
        sha256: SHA-256 of that file; for random weights, of the words that describe them. None while the file is not
            on this disk.
        url: where published weights are downloaded from; empty for other weights.
    """

    spec: str
    path: Path | None
    sha256: str | None
    url: str = ""


@dataclass(frozen=True)
class LoadedBackbone:
    """A backbone with its weights and without its classifier.

    Attributes:
        module: normalised images [B, 3, side, side] -> features [B, F], or regions [B, S, F].
        shape: shape of one image's features: (F,) or (S, F).
        weights_sha256: as in `Weights`.
    """

    module: nn.Module
    shape: tuple[int, ...]
    weights_sha256: str

    @property
    def feature_dim(self) -> int:
        """F."""
        return self.shape[-1]

    def with_regions(self, row: Backbone) -> LoadedBackbone:
        """The same network, with its last feature map as output, as regions.

        Raises:
            BackboneError: it has no such map.
        """
        regions = RegionFeatures(self.module, row)
        return LoadedBackbone(regions, regions.shape, self.weights_sha256)


def locate_weights(row: Backbone, weights: str) -> Weights:
    """Find weights without loading them.

    Args:
        row: the backbone.
        weights: "default", the name of torchvision weights ("IMAGENET1K_V1"), "none", or the path of a state dict.

    Raises:
        BackboneError: the path does not exist; the backbone has no default weights; their file has another SHA-256.
    """
    if weights == "none":
        recipe = f"random weights of {row.name}, seed {RANDOM_SEED}"
        return Weights("none", None, hashlib.sha256(recipe.encode()).hexdigest())
    if weights == "default" and row.weights is not None:
        return _default_of(row, row.weights)
    published = {} if row.build else {entry.name: entry for entry in torchvision.models.get_model_weights(row.name)}
    if weights in published or (weights == "default" and row.build is None):
        entry = torchvision.models.get_model_weights(row.name).DEFAULT if weights == "default" else published[weights]
        path = _downloaded(entry.url)
        return Weights(weights, path, sha256(path) if path.is_file() else None, entry.url)
    if weights == "default":
        raise BackboneError(f"{row.name} has no default weights", "Name a weights file: --weights PATH")
    path = expand_home(Path(weights)).absolute()
    if not path.is_file():
        default = ("default",) if row.weights or row.build is None else ()
        raise BackboneError(
            f"there is no weights file {path}",
            f"--weights takes {', '.join((*default, 'none', *published))} or a path.",
        )
    return Weights(str(path), path, sha256(path))


def _default_of(row: Backbone, file: WeightsFile) -> Weights:
    """The default weights of a row."""
    path = file.path or _downloaded(file.url)
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
    return PublishedFile(_downloaded(entry.url), entry.url, entry.meta.get("_file_size"))


def _downloaded(url: str) -> Path:
    """The path of a downloaded file, whether it exists or not."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]


def load_backbone(row: Backbone, weights: Weights, reporter: Reporter) -> LoadedBackbone:
    """Build a backbone, load its weights strictly, and remove its classifier.

    Missing published weights are downloaded first, with a note to the reporter.

    Raises:
        BackboneError: the weights are of another architecture, or a pickle that would run code; the download fails.
    """
    with seeded(RANDOM_SEED):
        module = classifier(row)
    digest = weights.sha256
    if weights.path is not None:
        if weights.url and not weights.path.is_file():
            _download(row, weights, weights.path, reporter)
        digest = digest or sha256(weights.path)
        _load_strictly(module, weights.path, row.name)
    feature_dim = to_backbone(row, module)
    if row.feature_dim not in (None, feature_dim):
        raise BackboneError(
            f"{row.name} has {feature_dim} features here, not {row.feature_dim} as its row in BACKBONES says",
            "Use another version of torchvision, or correct the row.",
        )
    return LoadedBackbone(module.eval(), (feature_dim,), str(digest))


def _download(row: Backbone, weights: Weights, path: Path, reporter: Reporter) -> None:
    """Download weights. If several processes on a machine do so, one downloads and the others wait."""
    with lock(path.with_name(f".{path.name}.lock"), str(path), patience=math.inf):
        if not path.is_file():
            _fetch(row, weights, path, reporter)


def _fetch(row: Backbone, weights: Weights, path: Path, reporter: Reporter) -> None:
    reporter.note(f"downloading the weights of {row.name} from {weights.url} to {path}")
    try:
        if row.weights is not None and row.weights.url == weights.url:
            make_folder(path.parent)
            torch.hub.download_url_to_file(weights.url, str(path), hash_prefix=row.weights.sha256, progress=False)
        else:
            torch.hub.load_state_dict_from_url(weights.url, progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong hash is a RuntimeError
        raise BackboneError(
            f"cannot download the weights of {row.name}: {getattr(error, 'reason', error)}",
            f"Download {weights.url} where there is a network and name the file: --weights PATH\n"
            f"(or put it at {path}). Random weights: --weights none",
        ) from error


def _load_strictly(module: nn.Module, path: Path, name: str) -> None:
    state = read_state_dict(path)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        problems = [line.strip() for line in str(error).splitlines()[1:]]
        raise BackboneError(
            f"{path} is no state dict of {name}: {problems[0][:160] if problems else error}",
            "Name weights of exactly this architecture, with its classifier, or another --backbone.",
        ) from None


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict without running any code in it.

    Args:
        path: a .safetensors file, or a file of torch.save; the state dict may be under the key "state_dict".

    Raises:
        BackboneError: the file is broken, holds no tensors, or is a pickle that would run code.
    """
    remedy = "Name a file with a plain state dict: torch.save(model.state_dict(), PATH)"
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's warnings on the pickle's protocol; the error below is enough
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BackboneError(f"there is no weights file {path}", "Name its present place: --weights PATH") from None
    except pickle.UnpicklingError as error:
        raise BackboneError(
            f"{path} holds more than tensors (or is broken) and was not loaded: a pickle can run code", remedy
        ) from error
    except Exception as error:  # torch and safetensors raise many kinds of exceptions for broken files
        raise BackboneError(f"{path} is no readable weights file", remedy) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BackboneError(f"{path} holds no state dict", remedy)
    return state
