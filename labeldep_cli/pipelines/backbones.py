"""`labeldep backbones`: which backbones there are, their sizes, and whether their weights are on this disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from importlib.util import find_spec
from typing import Any, Literal

import torch
import torchvision

from labeldep_cli.config import PAPER_BACKBONES, Resize
from labeldep_cli.errors import BackboneError, nearest
from labeldep_cli.models import timm_models
from labeldep_cli.models.backbones import BACKBONES, Backbone, classifier, find_backbone, to_backbone
from labeldep_cli.models.timm_models import BY_NAME
from labeldep_cli.models.weights import default_file

MOST_MEASURED = 40
"""Above this number of backbones only names are listed: to count parameters, each network is built without values."""

Origin = Literal["paper", "labeldep", "torchvision", "timm"]


@dataclass(frozen=True)
class BackboneSummary:
    """One backbone.

    Attributes:
        name: as `--backbone` takes it.
        source: where it comes from.
        features: F; None if it was not measured.
        parameters: their number without the classifier; None if it was not measured.
        image_size: height and width of its images in pixels, unless `--image-size` changes them.
        resize: how an image becomes a square, unless `--resize` changes it.
        published: whether it has weights for `--weights default`.
        on_disk: whether these are on this disk.
    """

    name: str
    source: Origin
    features: int | None
    parameters: int | None
    image_size: int
    resize: Resize
    published: bool
    on_disk: bool

    def to_json(self) -> dict[str, Any]:
        """One object."""
        return asdict(self)


@dataclass(frozen=True)
class BackboneList:
    """The backbones that were asked for.

    Attributes:
        rows: the backbones.
        with_timm: whether timm is installed; else its models are not listed.
    """

    rows: tuple[BackboneSummary, ...]
    with_timm: bool

    @property
    def measured(self) -> bool:
        """Whether the sizes of the networks are known."""
        return len(self.rows) <= MOST_MEASURED

    def to_json(self) -> dict[str, Any]:
        """One object."""
        return {"backbones": [row.to_json() for row in self.rows], "timm": self.with_timm}


def list_backbones(pattern: str | None) -> BackboneList:
    """The paper's backbones, those of this package and some recommended ones; or all whose name matches a pattern.

    Args:
        pattern: a part of a name, or a whole name with * and ?, in any case; None for the selection.

    Raises:
        BackboneError: nothing matches.
    """
    with_timm = find_spec("timm") is not None
    names = list(_selection(with_timm) if pattern is None else _matching(pattern, with_timm))
    rows = []
    for name in names:
        try:
            rows.append(_summary(name, measured=len(names) <= MOST_MEASURED))
        except BackboneError:  # a network for something else than square RGB images
            continue
    if not rows:
        raise BackboneError(f"no backbone matches {pattern!r}", nearest(str(pattern), _all(with_timm)))
    return BackboneList(tuple(rows), with_timm)


def _selection(with_timm: bool) -> Iterable[str]:
    yield from dict.fromkeys((*PAPER_BACKBONES, *BACKBONES))
    if with_timm:
        known = set(_of_timm())
        yield from (name for name in timm_models.RECOMMENDED if name in known)  # an older timm has fewer


def _all(with_timm: bool) -> Iterable[str]:
    yield from dict.fromkeys((*BACKBONES, *torchvision.models.list_models(module=torchvision.models)))
    if with_timm:
        yield from _of_timm()


def _of_timm() -> Iterable[str]:
    """The names of timm's models: one for each set of weights, and one for a model without any."""
    import timm

    tagged = timm.list_pretrained()
    weighted = {name.partition(".")[0] for name in tagged}
    plain = [name for name in timm.list_models() if name not in weighted]
    return [f"{BY_NAME}{name}" for name in (*tagged, *plain)]


def _matching(pattern: str, with_timm: bool) -> Iterable[str]:
    wanted = pattern.lower()
    whole = any(sign in wanted for sign in "*?")
    for name in _all(with_timm):
        low = name.lower()
        if (fnmatchcase(low, wanted) or fnmatchcase(low.removeprefix(BY_NAME), wanted)) if whole else wanted in low:
            yield name


def _summary(name: str, measured: bool) -> BackboneSummary:
    row = find_backbone(name)
    features, parameters = _measured(row) if measured else (row.feature_dim, None)
    file = default_file(row)
    return BackboneSummary(
        name,
        _origin(row),
        features,
        parameters,
        row.side,
        row.framing.resize,
        file is not None,
        file is not None and file.path is not None and file.path.is_file(),
    )


def _origin(row: Backbone) -> Origin:
    if row.name in PAPER_BACKBONES:
        return "paper"
    if row.timm is not None:
        return "timm"
    return "torchvision" if row.from_torchvision else "labeldep"


def _measured(row: Backbone) -> tuple[int | None, int | None]:
    """F, and the number of parameters without the classifier; None if the network needs values to be built."""
    try:
        with torch.device("meta"):
            network = classifier(row)
            features = to_backbone(row, network)
    except (BackboneError, RuntimeError, NotImplementedError):
        return row.feature_dim, None
    return features, sum(parameter.numel() for parameter in network.parameters())
