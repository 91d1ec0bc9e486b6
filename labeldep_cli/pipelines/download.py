"""`labeldep data --download`: a named data set, fetched into the layout that its loader reads."""

from __future__ import annotations

from pathlib import Path

from labeldep_cli.config import DownloadConfig, Source
from labeldep_cli.datasets import coco_archives, nuswide_photos, registry
from labeldep_cli.datasets.split import Draw
from labeldep_cli.errors import DatasetError
from labeldep_cli.files import lock, make_folder
from labeldep_cli.progress import Reporter, SilentReporter


def download(data_dir: Path, source: Source, how: DownloadConfig, reporter: Reporter) -> None:
    """Fetch what the data folder lacks of a named data set. What is there is kept, by a kill too, and gone on from.

    Raises:
        DatasetError: there is nothing to fetch for it; NUS-WIDE's lists are missing, or `how.urls` is not its list.
        DownloadError: the network, a server or an archive is not as it should be.
        StorageError: too little room, no permission, or another process is at it.
    """
    recipe = registry.DATASETS[source.dataset].download if source.dataset in registry.DATASETS else None
    if recipe is None:
        raise DatasetError(f"there is nothing to download for {source.dataset!r}", "Leave --download out.")
    root = data_dir / ("coco" if recipe == "archives" else "nuswide")
    make_folder(root)
    with lock(root / ".download.lock", str(root)):
        try:
            if recipe == "archives":
                coco_archives.download(root, how, reporter)
            else:
                _photos(root, data_dir, source, how, reporter)
        except KeyboardInterrupt:
            reporter.note(f"what came so far is kept in {root}: the same command goes on from there")
            raise


def _photos(root: Path, data_dir: Path, source: Source, how: DownloadConfig, reporter: Reporter) -> None:
    """Fetch the photos that carry a label: the others are left out of the data set, so nobody is asked for them."""
    if how.urls is None:
        raise DatasetError(
            f"{source.dataset} comes from the data set's own list of URLs, and none is named",
            f"Run: labeldep data {source.dataset} --download NUS-WIDE-urls.txt",
        )
    draw = Draw(source.val_fraction, source.test_fraction, source.split_seed)
    splits = registry.load(source.dataset, data_dir, draw, SilentReporter()).splits
    wanted = {path for split in splits.values() for path in split.paths}
    nuswide_photos.download(root, wanted, how.urls, how, reporter)
