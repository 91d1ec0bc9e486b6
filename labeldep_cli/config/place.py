"""Where things lie, what to compute on, which data, and how they get here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from labeldep_cli.config.choices import DEFAULT_BACKBONE, PAPER_BACKBONES, Precision
from labeldep_cli.config.reading import read_size
from labeldep_cli.config.settings import like, setting


@dataclass(frozen=True)
class Workspace:
    """Where data, caches and runs lie."""

    data_dir: Path = setting(Path("data"), "Folder of the data sets and caches.", panel="Where", envvar="LABELDEP_DATA")
    runs_dir: Path = setting(Path("runs"), "Folder of the runs.", panel="Where", envvar="LABELDEP_RUNS")
    features_dir: Path | None = setting(
        None, "Folder of the caches.", panel="Where", envvar="LABELDEP_FEATURES", default_text="DATA/features"
    )

    @property
    def features(self) -> Path:
        """The folder of the caches: `--features-dir`, else `features` in the data folder."""
        return self.features_dir or self.data_dir / "features"


@dataclass(frozen=True)
class Scope:
    """The runs that a word means which is no exact name: a stage, a part of a name, the newest.

    Attributes:
        dataset: the name or path of their data set; None for any.
        backbone: None for any.
    """

    dataset: str | None = None
    backbone: str | None = None

    @property
    def words(self) -> str:
        """What it adds to "there is no run": " of coco, resnet101"; empty for all runs."""
        given = [one for one in (self.dataset, self.backbone) if one is not None]
        return f" of {', '.join(given)}" if given else ""


EVERYWHERE = Scope()
"""All runs."""


@dataclass(frozen=True)
class RunWorkspace:
    """Where runs lie, and where a run's data lie now if they were moved; None for where the run says.

    Attributes:
        dataset: the run's own data set at another place, or another one; None for the run's own where it was.
        scope: where a word that names a run is looked up.
    """

    runs_dir: Path = like(Workspace, "runs_dir")
    data_dir: Path | None = setting(
        None,
        "Where coco, nuswide or scenes lie now, if they were moved.",
        panel="Where",
        default_text="where the run says",
    )
    features_dir: Path | None = like(
        Workspace, "features_dir", default_text="where the run says; with --data-dir, DATA/features"
    )
    dataset: str | None = setting(
        None,
        "Data set to score: where the run's own lies now, or any other that has some of the run's labels.",
        panel="What",
        complete="dataset",
        default_text="the run's own",
    )
    scope: Scope = EVERYWHERE


DRAW = ("val_fraction", "test_fraction", "split_seed")
"""The settings of a Source that say how missing splits are drawn."""


@dataclass(frozen=True)
class Source:
    """Which data, seen through which backbone.

    Attributes:
        backbone: None for the one that features or runs of the data set are there of, else the data set's own default;
            ready features have none.
        weights: None likewise, else "default" (torchvision's published ones), a name of torchvision's weights for that
            model ("IMAGENET1K_V1"), "none" (random), or the path of a state dict.
        split_seed: never the training seed.
    """

    dataset: str = setting(
        "coco",
        "{datasets}; or a path: {formats}, folder with labels.csv, WebDataset shards ('x-{000..099}.tar').",
        panel="What",
        complete="dataset",
    )
    backbone: str | None = setting(
        None,
        f"{', '.join(PAPER_BACKBONES)}, or any torchvision classifier.",
        panel="What",
        complete="backbone",
        default_text=f"the one that features or runs are there of, else {DEFAULT_BACKBONE}",
    )
    weights: str | None = setting(
        None,
        "default: torchvision's (downloaded if missing); none: random; or the PATH of a state dict.",
        panel="What",
        default_text="those that features or runs are there of, else default",
    )
    val_fraction: float = setting(
        0.05, "Share of train held out where the data set has no val split.", panel="What", min=0.0, max=0.9
    )
    test_fraction: float = setting(
        0.25, "Share held out where the data set has no test split.", panel="What", min=0.0, max=0.9
    )
    split_seed: int = setting(0, "Seed of the draws that make missing splits.", panel="What")


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@dataclass(frozen=True)
class Machine:
    """What to compute on.

    Attributes:
        workers: None for one a core, at most 8, the cores being shared with the other processes that torchrun has
            started on this machine; 0 decodes in the main process.
        max_memory: bytes, for the cached features of all splits that a command holds; None for no limit.
    """

    device: str = setting("auto", "Device to compute on: auto, cpu, cuda or cuda:N.")
    workers: int | None = setting(
        None, "Processes that decode images; 0: none but the main one.", min=0, default_text="one a core, at most 8"
    )
    max_skipped: float = setting(0.01, "Share of unreadable images above which the command stops.", min=0.0, max=1.0)
    max_memory: int | None = setting(
        None,
        "Most memory for cached features, in RAM or on the GPU: 300MB, 8GB; larger ones are streamed.",
        parser=read_size,
        metavar="SIZE",
        default_text="no limit",
    )

    @property
    def n_workers(self) -> int:
        """The number of decoding processes."""
        if self.workers is not None:
            return self.workers
        return min(max(usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1), 8)


@dataclass(frozen=True)
class DownloadConfig:
    """How a data set is fetched.

    Attributes:
        urls: NUS-WIDE's own list of URLs; None for a data set that comes in archives.
        mirror: "https://example.org/coco", for one.
        timeout: seconds without a byte after which a connection counts as broken.
        tries: requests for an archive that may fail one after the other before it is given up; a request that brought
            some megabytes is none of them.
        photo_tries: the same for one photo.
        backoff: seconds before the second try, doubled with each further one, where the server names none.
        longest_wait: seconds; a server that asks for a longer wait is left alone.
        connections: photos that are asked for at a time, of all hosts together.
        pause: seconds between the starts of two requests for photos; more for a while after a server was too busy.
        failures: photos that may fail one after the other before all is given up: a host or the network is gone.
    """

    urls: Path | None = None
    mirror: str | None = setting(
        None,
        "Put this before the paths of the URLs, instead of the hosts that they name.",
        panel="Download",
        metavar="URL",
    )
    keep_archives: bool = setting(False, "Leave coco's archives beside their folders.", panel="Download")
    retry_gone: bool = setting(False, "Ask again for nuswide's photos that were gone before.", panel="Download")
    timeout: float = 30.0
    tries: int = 8
    photo_tries: int = 3
    backoff: float = 1.0
    longest_wait: float = 600.0
    connections: int = 4
    pause: float = 0.1
    failures: int = 12


@dataclass(frozen=True)
class ExtractConfig:
    """How features are cached.

    Attributes:
        views: 1 is the test transform alone.
        precision: features are stored in float16, so a GPU computes in it.
        draft: the scales are 1, 1/2, 1/4 and 1/8.
        group: images that pass the backbone together and are written together; fixed, so that a run that was killed and
            resumed computes the same bytes.
    """

    views: int = setting(
        1, "Views of each image; 21: every crop of the training augmentation, for train.", choices=(1, 21)
    )
    spatial: bool = setting(False, "Keep the last feature map's regions, for --head att-rnn, rlsd, ml-decoder.")
    precision: Precision = setting(
        "auto",
        "What the backbone computes in; auto: as the caches that are there, else float16 on a GPU, float32 on a CPU.",
    )
    compile: bool = setting(False, "Compile the backbone first: takes up to a minute, pays for large data sets.")
    draft: bool | None = setting(
        None,
        "Decode large JPEGs at reduced scale, never below the side that is wanted.",
        flag="--draft/--no-draft",
        default_text="as for the caches that are there, else no",
    )
    group: int = 32
