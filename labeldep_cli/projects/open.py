"""Opening a data set with a backbone on a machine."""

from __future__ import annotations

from dataclasses import replace

from labeldep_cli.compute.devices import pick_device, set_up_device
from labeldep_cli.compute.distributed import join
from labeldep_cli.config import (
    DEFAULT_BACKBONE,
    DEFAULT_WEIGHTS,
    ExtractConfig,
    Machine,
    Source,
    Workspace,
)
from labeldep_cli.datasets import registry
from labeldep_cli.datasets.split import Dataset
from labeldep_cli.errors import BackboneError
from labeldep_cli.features.coverage import SplitFiles
from labeldep_cli.models.backbones import Backbone, find_backbone
from labeldep_cli.models.weights import Weights, locate_weights
from labeldep_cli.progress import Reporter
from labeldep_cli.projects.findings import Findings
from labeldep_cli.projects.prepared import settle
from labeldep_cli.projects.project import Project


def open_project(
    workspace: Workspace,
    source: Source,
    machine: Machine,
    reporter: Reporter,
    weights: Weights | None = None,
    spatial: bool = False,
    dataset: Dataset | None = None,
    extraction: ExtractConfig | None = None,
    row: Backbone | None = None,
) -> Project:
    """Load the data set and locate the backbone and its weights; the weights are not loaded yet.

    If the source names no backbone or no weights, those with features or a run of the data set are taken (`prepared`).

    Args:
        workspace, source, machine: the settings.
        reporter: takes notes and progress.
        weights: weights that are located already; None to locate the source's.
        spatial: whether features are the regions of the last feature map.
        dataset: the data set, if it is loaded already; None to load it.
        extraction: how features are computed; None for the settings of the existing cache.
        row: the backbone, if it is known already; None to look the source's up.

    Raises:
        DatasetError: the data set is missing or malformed.
        BackboneError: unknown backbone, missing weights file, or a backbone named for ready features.
    """
    device = pick_device(machine.device)
    set_up_device(device)
    world = join(device)
    if source.backbone and row is None:
        find_backbone(source.backbone, source.weights)  # reports a misspelt name before the data set is read
    dataset = dataset or registry.load_source(source, workspace.data_dir, reporter)
    if dataset.has_features:
        if source.backbone:
            raise BackboneError(
                f"{source.dataset} has ready features, which need no backbone",
                "Leave --backbone out, in the command's own table of labeldep.toml too.",
            )
        if (source.image_size, source.resize) != (None, None):
            raise BackboneError(
                f"{source.dataset} has ready features, no images that --image-size and --resize could be about",
                "Leave both out, in the command's own table of labeldep.toml too.",
            )
        source = replace(source, weights=source.weights or DEFAULT_WEIGHTS)
        return Project(workspace, source, machine, dataset, None, None, device, reporter, world=world)
    files: dict[str, SplitFiles] = {}
    if weights is None:
        source = world.broadcast(settle(workspace, source, dataset, files, reporter) if world.first else source)
    if row is None:
        own = find_backbone(source.backbone or dataset.backbone or DEFAULT_BACKBONE, source.weights)
        source = _without_its_own(source, own)
        row = own.framed(source.image_size, source.resize)
    return Project(
        workspace,
        replace(source, backbone=row.name, weights=source.weights or DEFAULT_WEIGHTS),
        machine,
        dataset,
        row,
        weights or locate_weights(row, source.weights or DEFAULT_WEIGHTS),
        device,
        reporter,
        spatial,
        extraction or ExtractConfig(),
        world,
        findings=Findings(files),
    )


def _without_its_own(source: Source, row: Backbone) -> Source:
    """The source without an image size or a resizing that the backbone has anyway: it is the same project."""
    size = None if source.image_size == row.side else source.image_size
    resize = None if source.resize == row.framing.resize else source.resize
    return replace(source, image_size=size, resize=resize)
