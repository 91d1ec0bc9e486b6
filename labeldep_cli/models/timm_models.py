"""Networks of timm: found by name or on the Hugging Face hub, built, and loaded with timm's own rules for checkpoints.

timm is imported when a name asks for it: it is an extra, and its import takes a second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from labeldep_cli.config import Resize
from labeldep_cli.errors import BackboneError, nearest
from labeldep_cli.features.framing import SIDE, Framing, Interpolation
from labeldep_cli.models import hub
from labeldep_cli.models.hub import Published

if TYPE_CHECKING:
    from torch import Tensor, nn

BY_NAME = "timm:"
"""The beginning of the name of one of timm's own models."""

RECOMMENDED = (
    "timm:mobilenetv4_conv_small.e2400_r224_in1k",
    "timm:tf_efficientnetv2_s.in21k_ft_in1k",
    "timm:convnextv2_tiny.fcmae_ft_in22k_in1k",
    "timm:swin_small_patch4_window7_224.ms_in22k_ft_in1k",
    "timm:convnext_tiny.dinov3_lvd1689m",
    "timm:vit_small_patch16_dinov3.lvd1689m",
    "timm:vit_base_patch16_dinov3.lvd1689m",
    "timm:vit_small_patch14_dinov2.lvd142m",
    "timm:vit_base_patch14_dinov2.lvd142m",
    "timm:vit_base_patch16_siglip_224.v2_webli",
    "timm:vit_so400m_patch16_siglip_384.v2_webli",
    "timm:vit_base_patch16_clip_224.openai",
    "timm:eva02_base_patch14_448.mim_in22k_ft_in22k_in1k",
)
"""A choice of timm's models, from small ones for a CPU to large ones."""

_SQUARES: Mapping[str, Resize] = {"center": "crop", "squash": "stretch", "border": "pad"}
"""timm's crop modes."""


@dataclass(frozen=True)
class TimmModel:
    """What timm needs to build a network, and how its images are prepared. A run records it.

    Attributes:
        architecture: timm's name of the network.
        config: timm's pretrained config.
        options: arguments of the builder, from the config of a repository.
    """

    architecture: str
    config: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def framing(self) -> Framing:
        """Image size, resizing and interpolation that the weights were trained for.

        Raises:
            BackboneError: it takes no square RGB images.
        """
        data = self._data
        channels, height, width = data["input_size"]
        if channels != 3 or height != width:
            raise BackboneError(
                f"{self.architecture} takes inputs of {channels} x {height} x {width}, not square RGB images",
                "Name another --backbone: labeldep backbones",
            )
        named = str(data["interpolation"])
        interpolation = cast(Interpolation, "bicubic" if named == "random" else named)
        return Framing(height, _SQUARES[data["crop_mode"]], interpolation, float(data["crop_pct"]))

    @property
    def channels(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Mean and standard deviation of RGB in 0..1, for the normalisation of images."""
        data = self._data
        mean, std = (cast(tuple[float, float, float], tuple(map(float, data[name]))) for name in ("mean", "std"))
        return mean, std

    @property
    def _data(self) -> dict[str, Any]:
        from timm.data import resolve_data_config

        config = dict(self.config) or {"input_size": (3, SIDE, SIDE)}
        resolved: dict[str, Any] = resolve_data_config(pretrained_cfg=config)
        return resolved

    def build(self, side: int, state: Mapping[str, Tensor] | None = None) -> nn.Module:
        """The network with its classifier.

        Args:
            side: height and width of its images. Position embeddings of loaded weights are interpolated to it.
            state: the weights of a checkpoint, in any form that timm understands; None for random ones.

        Raises:
            RuntimeError, TypeError, AssertionError and others: the network has no such size, or does not fit the
                weights.
        """
        import timm
        from timm.models import PretrainedCfg

        known = {entry.name for entry in fields(PretrainedCfg)}  # a newer timm may have recorded more
        config = {key: value for key, value in self.config.items() if key in known}
        options = dict(self.options)
        if config.get("fixed_input_size"):
            options["img_size"] = side
        overlay = {} if state is None else {"state_dict": dict(state), "source": "timm"}
        network: nn.Module = timm.create_model(
            self.architecture,
            pretrained=state is not None,
            pretrained_cfg=config,
            pretrained_cfg_overlay=overlay,
            **options,
        )
        if state is not None:
            cast(Any, network).pretrained_cfg.pop("state_dict")  # a copy of all weights
        return network

    @property
    def published(self) -> Published | None:
        """Its published weights; None if there are none. Nothing is read or downloaded."""
        repository, url = self.config.get("hf_hub_id"), self.config.get("url")
        if repository:
            named = self.config.get("hf_hub_filename")
            return hub.published(f"{hub.PREFIX}{repository}", (named,) if named else hub.WEIGHTS)
        return Published(hub.downloaded(url), url) if url else None

    def to_json(self) -> dict[str, Any]:
        """One object, which `TimmModel(**record)` reads."""
        return {"architecture": self.architecture, "config": dict(self.config), "options": dict(self.options)}


def remove_classifier(network: nn.Module) -> int:
    """Remove the classifier of a network of timm in place; its output is the pooled feature then.

    Returns:
        F.
    """
    model = cast(Any, network)
    model.reset_classifier(0)
    return int(getattr(model, "head_hidden_size", None) or model.num_features)


def find(name: str, weights: str | None = None) -> TimmModel:
    """The model that a backbone's name means.

    Args:
        name: timm:NAME[.TAG], or hf-hub:OWNER/NAME[@REVISION].
        weights: as for `--weights`. A folder with a config.json describes the model of a repository, so that nothing is
            downloaded.

    Raises:
        BackboneError: timm is not installed; there is no such model; the repository cannot be read.
    """
    if find_spec("timm") is None:
        raise BackboneError(
            f"the backbone {name} needs timm, which is not installed", "Run: pip install 'labeldep[timm]'"
        )
    if name.startswith(hub.PREFIX):
        return _of_repository(name, weights)
    import timm

    wanted = name.removeprefix(BY_NAME)
    base, _, tag = wanted.partition(".")
    if not timm.is_model(base):
        near = nearest(base, timm.list_models())
        search = "Search for a part of its name: labeldep backbones PATTERN"
        raise BackboneError(
            f"there is no backbone {name!r}", search if near.startswith("Known") else f"{near}\n{search}"
        )
    tags = timm.list_pretrained(f"{base}.*")
    if tag and wanted not in tags:
        raise BackboneError(f"{BY_NAME}{base} has no weights {tag!r}", nearest(wanted, tags))
    config = timm.get_pretrained_cfg(wanted)
    return TimmModel(base, {} if config is None else _plain(config.to_dict()))


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config as JSON would give it back, so that a recorded one is the same."""
    return dict(json.loads(json.dumps({key: value for key, value in config.items() if value is not None})))


def _of_repository(name: str, weights: str | None) -> TimmModel:
    from timm.models._hub import load_model_config_from_path

    folder = None if weights is None else hub.folder_of(Path(weights).expanduser())
    if folder is None or not (folder / hub.CONFIG).is_file():
        folder = hub.find_file(name, (hub.CONFIG,)).parent
    try:
        config, architecture, options = load_model_config_from_path(folder)
    except (ValueError, KeyError, OSError) as error:
        raise BackboneError(
            f"{folder / hub.CONFIG} describes no model of timm: {type(error).__name__} {error}",
            "Name a repository of a timm model, such as those of https://huggingface.co/timm",
        ) from None
    for key in ("file", "source"):
        config.pop(key, None)
    config["hf_hub_id"] = name.removeprefix(hub.PREFIX)
    return TimmModel(architecture, _plain(config), _plain(options))
