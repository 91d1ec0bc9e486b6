"""`labeldep data --download`: download a named data set into the layout that its loader reads."""

from __future__ import annotations

from pathlib import Path

from labeldep_cli.config import DownloadConfig, Source
from labeldep_cli.datasets import coco_archives, nuswide_photos, registry
from labeldep_cli.errors import DatasetError
from labeldep_cli.files import lock, make_folder
from labeldep_cli.progress import Reporter, SilentReporter


def download(data_dir: Path, source: Source, how: DownloadConfig, reporter: Reporter) -> None:
    """Download the files of a named data set that are missing in the data folder.

    Existing files are kept. After an interruption, also by a kill, the same command continues.

    Raises:
        DatasetError: the data set has no download, NUS-WIDE's lists are missing, or `how.urls` is not its list.
        DownloadError: a problem with the network, a server or an archive.
        StorageError: too little space, no permission, or another process is downloading into the folder.
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
            reporter.note(f"what was downloaded so far is kept in {root}: the same command continues from there")
            raise


def _photos(root: Path, data_dir: Path, source: Source, how: DownloadConfig, reporter: Reporter) -> None:
    """Download the photos that have a label. Photos without a label are not part of the data set."""
    if how.urls is None:
        raise DatasetError(
            f"{source.dataset} is downloaded from the data set's own list of URLs, and no list is named",
            f"Run: labeldep data {source.dataset} --download NUS-WIDE-urls.txt",
        )
    splits = registry.load_source(source, data_dir, SilentReporter()).splits
    paths = {path for split in splits.values() for path in split.paths}
    nuswide_photos.download(root, paths, how.urls, how, reporter)
