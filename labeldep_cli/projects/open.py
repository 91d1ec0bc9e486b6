"""Opening a data set with a backbone on a machine."""

from __future__ import annotations

from dataclasses import replace

from labeldep_cli.compute.devices import pick_device, set_up_device
from labeldep_cli.compute.distributed import join
from labeldep_cli.config import (
    DEFAULT_BACKBONE,
    ExtractConfig,
    Machine,
    Source,
    Workspace,
)
from labeldep_cli.datasets import registry
from labeldep_cli.datasets.split import Dataset, Draw
from labeldep_cli.errors import BackboneError
from labeldep_cli.models.backbones import find_backbone
from labeldep_cli.models.weights import Weights, locate_weights
from labeldep_cli.progress import Reporter
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
) -> Project:
    """Load the data set and find the backbone's row and weights (unless given); the weights are not loaded yet.

    Args:
        workspace, source, machine: what is asked for.
        reporter: takes notes and progress.
        weights: found already; None to look for the source's.
        spatial: features are to be the last feature map's regions.
        dataset: loaded already, by another project of the same source; None to load it.
        extraction: how images are to be seen; None for as in the caches that are there.

    Raises:
        DatasetError: the data set is missing or malformed.
        BackboneError: unknown backbone, missing weights file, or a backbone for ready features.
    """
    device = pick_device(machine.device)
    set_up_device(device)
    world = join(device)
    named = find_backbone(source.backbone) if source.backbone else None  # a misspelt name is told before data are read
    draw = Draw(source.val_fraction, source.test_fraction, source.split_seed)
    dataset = dataset or registry.load(source.dataset, workspace.data_dir, draw, reporter)
    if dataset.has_features:
        if named is not None:
            raise BackboneError(
                f"{source.dataset} holds ready features: they take no backbone", "Leave --backbone out."
            )
        return Project(workspace, source, machine, dataset, None, None, device, reporter, world=world)
    row = named or find_backbone(dataset.backbone or DEFAULT_BACKBONE)
    return Project(
        workspace,
        replace(source, backbone=row.name),
        machine,
        dataset,
        row,
        weights or locate_weights(row, source.weights),
        device,
        reporter,
        spatial,
        extraction or ExtractConfig(),
        world,
    )
