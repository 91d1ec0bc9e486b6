"""Where things lie, what to compute on, which data, and how they get here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from labeldep_cli.config.choices import Precision


@dataclass(frozen=True)
class Workspace:
    """Where data, caches and runs lie."""

    data_dir: Path = Path("data")
    runs_dir: Path = Path("runs")
    features_dir: Path | None = None

    @property
    def features(self) -> Path:
        """The folder of the caches: `--features-dir`, else `features` in the data folder."""
        return self.features_dir or self.data_dir / "features"


@dataclass(frozen=True)
class Place:
    """Where runs lie, and where a run's data lie now if they were moved; None for where the run says."""

    runs_dir: Path = Workspace.runs_dir
    data_dir: Path | None = None
    features_dir: Path | None = None


DRAW = ("val_fraction", "test_fraction", "split_seed")
"""The settings of a Source that say how missing splits are drawn."""


@dataclass(frozen=True)
class Source:
    """Which data, seen through which backbone.

    Attributes:
        dataset: a name of DATASETS or a path.
        backbone: a name of BACKBONES or of a torchvision classification model; None for the data set's own default.
        weights: "default" (torchvision's published ones), a name of torchvision's weights for that model
            ("IMAGENET1K_V1"), "none" (random), or the path of a state dict.
        val_fraction, test_fraction: what is drawn where the data set brings no such split.
        split_seed: of those draws; never the training seed.
    """

    dataset: str = "coco"
    backbone: str | None = None
    weights: str = "default"
    val_fraction: float = 0.05
    test_fraction: float = 0.25
    split_seed: int = 0


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@dataclass(frozen=True)
class Machine:
    """What to compute on.

    Attributes:
        device: auto, cpu, cuda or cuda:N.
        workers: processes that decode images; None for one a core, at most 8, the cores being shared with the other
            processes that torchrun has started on this machine; 0 decodes in the main process.
        max_skipped: the share of unreadable images above which a command stops.
        max_memory: bytes, in RAM or on the GPU, for the cached features of all splits that a command holds; what is
            larger is streamed. None for no limit.
    """

    device: str = "auto"
    workers: int | None = None
    max_skipped: float = 0.01
    max_memory: int | None = None

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
        mirror: what stands before the path of each URL instead of the host named there ("https://example.org/coco").
        keep_archives: leave the archives beside what was unpacked from them.
        retry_gone: ask again for photos that were gone at an earlier call.
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
    mirror: str | None = None
    keep_archives: bool = False
    retry_gone: bool = False
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
        views: 1 (the test transform) or 21 (every crop of the training augmentation; for the train split).
        spatial: keep the last feature map's regions instead of pooled features.
        precision: the dtype that the backbone computes in; "auto": that of the caches that are there, else float16 on a
            GPU (features are stored so) and float32 on a CPU.
        compile: with torch.compile, which pays for large data sets.
        draft: decode JPEGs at the smallest scale (1, 1/2, 1/4, 1/8) that is not below the side that is wanted; None:
            as for the caches that are there, else no.
        group: images that pass the backbone together and are written together; fixed, so that a run that was killed and
            resumed computes the same bytes.
    """

    views: int = 1
    spatial: bool = False
    precision: Precision = "auto"
    compile: bool = False
    draft: bool | None = None
    group: int = 32
