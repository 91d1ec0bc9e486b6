"""Fixtures shared by the tests: the real data beside the checkout, and a NUS-WIDE folder in the official layout."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

# Two test processes with a thread for each core would wait for each other. Read by torch when it is first imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from PIL import Image

from labeldep_cli.datasets.draw import Draw

# A shell starts what it runs in the background with Ctrl-C ignored, and so would every process of the tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The benchmarks are not installed. Last in the path, so that an installed package stays the one tested.
sys.path.append(str(Path(__file__).parents[1]))

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

SLOW = {
    "test_api",
    "test_audit",
    "test_bad_input",
    "test_care",
    "test_cases",
    "test_cli",
    "test_compare",
    "test_corrected_labels",
    "test_crowds",
    "test_dependency",
    "test_devices",
    "test_download",
    "test_export",
    "test_extraction",
    "test_features_clean",
    "test_fold_runs",
    "test_fresh",
    "test_fuzz",
    "test_full_mode",
    "test_gpu_decode",
    "test_graphs",
    "test_hdf5_header",
    "test_head_runs",
    "test_interruption",
    "test_kill",
    "test_kills",
    "test_logging",
    "test_mps",
    "test_mute",
    "test_next_command",
    "test_on_device",
    "test_plain_torch",
    "test_pixel_commands",
    "test_planted",
    "test_predict",
    "test_prepared",
    "test_regions",
    "test_report",
    "test_reproduce",
    "test_review_page",
    "test_reviewed_runs",
    "test_rerank",
    "test_rivals",
    "test_scenes",
    "test_seen",
    "test_several_gpus",
    "test_sharding",
    "test_shards",
    "test_shared_memory",
    "test_standardizing",
    "test_streaming",
    "test_timm",
    "test_training",
    "test_tune",
    "test_users_lines",
    "test_worlds",
}
"""Files whose tests train networks, start processes or kill them: all of them are marked `slow`."""


LONGEST = ("test_worlds", "test_users_lines", "test_on_device", "test_timm", "test_audit", "test_graphs", "test_kill")
"""Files that take minutes. They come first: the last file runs alone while the other test processes have ended."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `pytest -m "not slow"` leaves out, and put the longest files first."""
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


def draw_image(path: Path, seed: int, size: tuple[int, int] = (48, 32)) -> Path:
    """Write a small image of smooth colours, different for each seed; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR).save(path)
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data (../shared/data) is not beside this checkout")
    return SHARED_DATA


@pytest.fixture
def draw() -> Draw:
    """How the command line draws splits where no flag says otherwise."""
    return Draw(val_fraction=0.05, test_fraction=0.25, seed=0)


@pytest.fixture(scope="session")
def nuswide_folder(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    r"""A DATA folder whose nuswide/ has the official layout, full-length lists and the real labels, but 12 images.

    The image names are invented (`concept\0001_1000.jpg`); every fifth image is in the official test list. The images
    on the disk are the first four rows each of train, val and test as `nuswide` draws them with split seed 0.
    """
    archive = np.load(shared_data / "labels" / "nuswide_all.npz")
    labels, names = archive["Y"], [str(name) for name in archive["names"]]
    data_dir = tmp_path_factory.mktemp("nus")
    root = data_dir / "nuswide"
    for folder in ("ImageList", "ConceptsList", "Groundtruth/AllLabels"):
        (root / folder).mkdir(parents=True)
    (root / "ConceptsList" / "Concepts81.txt").write_text("\n".join(names) + "\n")
    digits = np.full((len(labels), 2), ord("\n"), dtype=np.uint8)
    for column, name in enumerate(names):
        digits[:, 0] = labels[:, column] + ord("0")
        (root / "Groundtruth" / "AllLabels" / f"Labels_{name}.txt").write_bytes(digits.tobytes())
    folders = np.where(labels.any(axis=1), labels.argmax(axis=1), len(names))
    images = [f"{[*names, 'other'][k]}\\{row % 9999 + 1:04d}_{1000 + row}.jpg" for row, k in enumerate(folders)]
    for name, lines in (
        ("Imagelist.txt", images),
        ("TrainImagelist.txt", [image for row, image in enumerate(images) if row % 5]),
        ("TestImagelist.txt", images[::5]),
    ):
        (root / "ImageList" / name).write_text("\r\n".join(lines) + "\r\n")

    from labeldep_cli.datasets import nuswide

    splits = nuswide.load(data_dir, Draw(val_fraction=0.05, test_fraction=0.25, seed=0)).splits
    for seed, (split, row) in enumerate((split, row) for split in splits.values() for row in range(4)):
        draw_image(split.file(row), seed)
    return data_dir


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """A headless Chromium that is on this machine."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()
