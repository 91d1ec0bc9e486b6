"""Loads a backbone: built, given its weights strictly, and without its classifier."""

from __future__ import annotations

import math
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from labeldep_cli.compute.interruption import unbroken
from labeldep_cli.compute.seeded import seeded
from labeldep_cli.errors import BackboneError
from labeldep_cli.files import lock, make_folder, sha256
from labeldep_cli.models import hub
from labeldep_cli.models.backbones import Backbone, classifier, to_backbone, unsuitable_size
from labeldep_cli.models.regions import RegionFeatures
from labeldep_cli.models.weights import RANDOM_SEED, Weights
from labeldep_cli.progress import Reporter
from labeldep_cli.text import is_utf8

_NESTED = ("state_dict", "model")
"""Keys under which training scripts save the state dict."""


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


def load_backbone(row: Backbone, weights: Weights, reporter: Reporter) -> LoadedBackbone:
    """Build a backbone, load its weights strictly, and remove its classifier.

    Missing published weights are downloaded first, with a note to the reporter.

    Raises:
        BackboneError: the weights are of another architecture, or a pickle that would run code; the download fails; the
            network cannot take images of the row's size.
    """
    path = _on_disk(row, weights, reporter)
    digest = weights.sha256 if path is None else weights.sha256 or sha256(path)
    with seeded(RANDOM_SEED):
        module = classifier(row) if path is None else _with_weights(row, path)
    feature_dim = to_backbone(row, module)
    if row.feature_dim not in (None, feature_dim):
        raise BackboneError(
            f"{row.name} has {feature_dim} features here, not {row.feature_dim} as its row in BACKBONES says",
            "Use another version of torchvision, or correct the row.",
        )
    _require_features(module.eval(), row, feature_dim)
    return LoadedBackbone(module, (feature_dim,), str(digest))


def _require_features(module: nn.Module, row: Backbone, feature_dim: int) -> None:
    """Refuse a network that gives no vector of features for an image of the row's size."""
    try:
        with torch.inference_mode():
            shape = tuple(module(torch.zeros(1, 3, row.side, row.side)).shape)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise unsuitable_size(row, error) from error
    if shape != (1, feature_dim):
        raise BackboneError(
            f"{row.name} gives features of shape {list(shape[1:])} for an image, not {feature_dim} numbers",
            "Name another --backbone: labeldep backbones",
        )


def _on_disk(row: Backbone, weights: Weights, reporter: Reporter) -> Path | None:
    """The file of the weights, downloaded if it is missing; None for random weights."""
    if weights.path is not None:
        if weights.url and not weights.path.is_file():
            _download(row, weights, weights.path, reporter)
        return weights.path
    published = row.timm.published if weights.url and row.timm is not None else None
    if published is None:
        return None
    reporter.note(f"downloading the weights of {row.name} from {published.url}")
    return hub.find_file(published.repository, published.names)  # its client locks the file


def _with_weights(row: Backbone, path: Path) -> nn.Module:
    """The network with its classifier and the weights of a file."""
    state = read_state_dict(path)
    if row.timm is None:
        module = classifier(row)
        _load_strictly(module, state, path, row)
        return module
    try:
        return row.timm.build(row.side, state)
    except Exception as error:  # timm's rules for checkpoints raise many kinds for weights of another network
        raise _no_state_dict_of(row, path, error) from None


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


def _load_strictly(module: nn.Module, state: dict[str, Tensor], path: Path, row: Backbone) -> None:
    embedding = "encoder.pos_embedding"
    if isinstance(module, VisionTransformer) and embedding in state:
        own, stored = module.encoder.pos_embedding.shape, state[embedding].shape
        if own[1] != stored[1]:
            state = dict(interpolate_embeddings(row.side, module.patch_size, state))
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise _no_state_dict_of(row, path, error) from None


def _no_state_dict_of(row: Backbone, path: Path, error: Exception) -> BackboneError:
    first, *problems = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
    return BackboneError(
        f"{path} is no state dict of {row.name}: {(problems or [first])[0][:160]}",
        "Name weights of exactly this architecture, with its classifier, or another --backbone.",
    )


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict without running any code in it.

    Args:
        path: a .safetensors file, or a file of torch.save; the state dict may be under one of the keys `_NESTED`.

    Raises:
        BackboneError: the file is broken, holds no tensors, or is a pickle that would run code.
    """
    remedy = "Name a file with a plain state dict: torch.save(model.state_dict(), PATH)"
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load, load_file

            with unbroken():
                return load_file(path) if is_utf8(str(path)) else load(path.read_bytes())
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
    for key in _NESTED:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BackboneError(f"{path} holds no state dict", remedy)
    return state
