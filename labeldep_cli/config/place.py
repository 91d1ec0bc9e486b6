"""Settings for folders, data sets, the machine, downloads and feature extraction."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from labeldep_cli.config.choices import DEFAULT_BACKBONE, PAPER_BACKBONES, Resize
from labeldep_cli.config.cores import usable_cores
from labeldep_cli.config.reading import read_colour, read_size, read_value_range
from labeldep_cli.config.settings import like, setting


@dataclass(frozen=True)
class Workspace:
    """The folders of data sets, cached features and runs."""

    data_dir: Path = setting(Path("data"), "Folder of the data sets.", panel="Where", envvar="LABELDEP_DATA")
    runs_dir: Path = setting(Path("runs"), "Folder of the runs.", panel="Where", envvar="LABELDEP_RUNS")
    features_dir: Path | None = setting(
        None, "Folder of the cached features.", panel="Where", envvar="LABELDEP_FEATURES", default_text="DATA/features"
    )

    @property
    def features(self) -> Path:
        """The folder of the cached features: `--features-dir`, else `features` in the data folder."""
        return self.features_dir or self.data_dir / "features"


@dataclass(frozen=True)
class Scope:
    """The runs among which a stage, a part of a name or "@newest" is looked up.

    Attributes:
        dataset: name or path of the runs' data set; None for any.
        backbone: name of the runs' backbone; None for any.
    """

    dataset: str | None = None
    backbone: str | None = None

    @property
    def words(self) -> str:
        """The words to put after "there is no run": " of coco, resnet101"; empty for all runs."""
        parts = [part for part in (self.dataset, self.backbone) if part is not None]
        return f" of {', '.join(parts)}" if parts else ""


EVERYWHERE = Scope()
"""All runs."""


@dataclass(frozen=True)
class RunWorkspace:
    """The folder of the runs, and the new places of a run's data if they have moved.

    None means the place that is recorded in the run.

    Attributes:
        dataset: the run's own data set at a new place, or another data set; None for the recorded one.
        scope: the runs among which a stage or a part of a name is looked up.
    """

    runs_dir: Path = like(Workspace, "runs_dir")
    data_dir: Path | None = setting(
        None,
        "Folder of coco, nuswide or scenes, if it has moved since the run was trained.",
        panel="Where",
        default_text="the one recorded in the run",
    )
    features_dir: Path | None = like(
        Workspace, "features_dir", default_text="the one recorded in the run; with --data-dir, DATA/features"
    )
    dataset: str | None = setting(
        None,
        "Data set to score: the run's own at its new place, or another one that has some of the run's labels.",
        panel="What",
        complete="dataset",
        default_text="the run's own",
    )
    scope: Scope = EVERYWHERE


FRAME = ("image_size", "resize")
"""The settings of a Source that define how an image becomes the square that a backbone takes."""

BACKBONE = ("backbone", "weights", *FRAME)
"""The settings of a Source that define how images become features; ready features have none."""

DRAW = ("val_fraction", "test_fraction", "split_seed", "stratify", "fold")
"""The settings of a Source that define how missing splits are drawn."""

PIXELS = ("value_range", "background")
"""The settings of a Source that define how image files become 8-bit RGB."""

READING = (*DRAW, "corrections", *PIXELS)
"""The settings of a Source that define how a data set is read."""


@dataclass(frozen=True)
class Source:
    """The data set, its splits, and the backbone that computes its features.

    Attributes:
        backbone: None for the one with features or a run of the data set on this disk, else the data set's default.
            Ready features have no backbone.
        weights: None for those with features or a run on this disk, else "default" (the published ones), a name of
            torchvision's weights for that model ("IMAGENET1K_V1"), "none" (random), or the path of a state dict or of
            a folder with one.
        image_size: pixels; None for the backbone's own.
        resize: None for the backbone's own.
        split_seed: independent of the training seed.
        fold: number of the fold that is the test split; None for the data set's own test split, or a drawn one.
        value_range: "LOW,HIGH" (`reading.range_of`), for pixels with more than 8 bits; None for their type's own range.
        background: "white", "black" or "#rrggbb".
    """

    dataset: str = setting(
        "coco",
        "Data set: {datasets}; or a path: {formats}, folder with labels.csv, WebDataset shards ('x-{000..099}.tar').",
        panel="What",
        complete="dataset",
    )
    backbone: str | None = setting(
        None,
        f"Backbone: {', '.join(PAPER_BACKBONES)}, any torchvision classifier, timm:NAME or hf-hub:OWNER/NAME; see "
        "labeldep backbones.",
        panel="What",
        complete="backbone",
        default_text=f"the one with features or a run on this disk, else {DEFAULT_BACKBONE}",
    )
    weights: str | None = setting(
        None,
        "Weights of the backbone: default: the published ones (downloaded if missing); none: random; or the PATH of a "
        "state dict, or of a folder of the Hugging Face hub.",
        panel="What",
        default_text="those with features or a run on this disk, else default",
    )
    image_size: int | None = setting(
        None,
        "Height and width in pixels to which images are scaled for the backbone.",
        panel="What",
        min=1,
        default_text="the backbone's own",
    )
    resize: Resize | None = setting(
        None,
        "How an image becomes a square: stretch it; crop its centre; pad it with the background colour.",
        panel="What",
        default_text="as the backbone was trained; stretch for torchvision's",
    )
    val_fraction: float = setting(
        0.05, "Share of train held out for val, if the data set has no val split.", panel="What", min=0.0, max=0.9
    )
    test_fraction: float = setting(
        0.25, "Share of rows held out for test, if the data set has no test split.", panel="What", min=0.0, max=0.9
    )
    split_seed: int = setting(0, "Seed for the draw of missing splits.", panel="What")
    stratify: bool = setting(
        False,
        "Draw missing splits so that each gets its share of every label.",
        panel="What",
        flag="--stratify/--no-stratify",
    )
    fold: int | None = setting(
        None,
        "Fold to test on, for a table with the column `fold`.",
        panel="What",
        min=0,
        default_text="none: the test split",
    )
    corrections: bool = setting(
        True, "Apply the decisions of `labeldep review`.", panel="What", flag="--corrections/--no-corrections"
    )
    value_range: str | None = setting(
        None,
        "Darkest and brightest value of pixels with more than 8 bits, such as 0,4095 for 12 bits.",
        panel="What",
        parser=read_value_range,
        metavar="LOW,HIGH",
        default_text="the full range of 16 bits; 0 to 1 for floats",
    )
    background: str = setting(
        "white", "Colour behind transparent pixels: white, black or #rrggbb.", panel="What", parser=read_colour
    )


@dataclass(frozen=True)
class Machine:
    """The device, the decoding processes and the limits of a command.

    Attributes:
        workers: None for one per usable core. The processes that torchrun has started on this machine share the cores.
            0 decodes in the main process.
        max_memory: bytes for the cached features of all splits that a command keeps; None for no limit.
    """

    device: str = setting(
        "auto",
        "Device to compute on: auto (a CUDA GPU if there is one), cpu, cuda, cuda:N, or mps (Apple's GPU; not tried "
        "yet on a real one).",
    )
    workers: int | None = setting(
        None,
        "Number of processes that decode images; 0: decode in the main process.",
        min=0,
        default_text="one per usable core; fewer where shared memory is short",
    )
    max_skipped: float = setting(0.01, "Share of unreadable images above which the command stops.", min=0.0, max=1.0)
    max_memory: int | None = setting(
        None,
        "Limit of memory for cached features, in RAM or on the GPU, such as 300MB or 8GB; features beyond it are "
        "streamed.",
        parser=read_size,
        metavar="SIZE",
        default_text="no limit",
    )

    @property
    def n_workers(self) -> int:
        """The number of decoding processes."""
        if self.workers is not None:
            return self.workers
        return max(usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1)


@dataclass(frozen=True)
class DownloadConfig:
    """How a data set is downloaded.

    Attributes:
        urls: file with NUS-WIDE's list of URLs; None for a data set that comes in archives.
        mirror: base URL, for example "https://example.org/coco".
        timeout: seconds without a byte after which a connection counts as broken.
        tries: number of failed requests in a row after which an archive is given up. A request that brought some
            megabytes does not count as failed.
        photo_tries: the same for one photo.
        backoff: seconds before the second try, doubled for each further try, unless the server names a time.
        longest_wait: seconds; if a server asks for a longer wait, nothing more is requested from it.
        connections: number of photos that are requested at the same time, over all hosts.
        pause: seconds between the starts of two requests for photos; longer for a while after a server was too busy.
        failures: number of failed photos in a row after which the download stops: the host or the network is down.
    """

    urls: Path | None = None
    mirror: str | None = setting(
        None,
        "Base URL to download from, in place of the hosts that the URLs name.",
        panel="Download",
        metavar="URL",
    )
    keep_archives: bool = setting(False, "Keep coco's archives after they are unpacked.", panel="Download")
    retry_gone: bool = setting(
        False, "Request nuswide's photos again that were missing on the server before.", panel="Download"
    )
    timeout: float = 30.0
    tries: int = 8
    photo_tries: int = 3
    backoff: float = 1.0
    longest_wait: float = 600.0
    connections: int = 4
    pause: float = 0.1
    failures: int = 12
