"""The commands that are killed, and the workshop that each starts from."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.fuzz import workshop
from benchmarks.kills import download
from benchmarks.processes import run_command

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "labeldep_cli")


@dataclass(frozen=True)
class Case:
    """A command that is killed.

    Attributes:
        name: of the row in the table.
        command: its words.
        start: runs it in this process.
        by_launcher: torchrun starts it, whose exit code after a signal is its own.
        changes: its moments may be aimed at changes of files, in this process.
    """

    name: str
    command: str
    start: Callable[[list[str]], None] = run_command
    by_launcher: bool = False
    changes: bool = True


def under_torchrun(words: list[str]) -> None:
    """Become torchrun, which starts the command in two processes."""
    with suppress(KeyError):
        del os.environ["OMP_PROC_BIND"]
    os.execv(sys.executable, [sys.executable, *TORCHRUN, *words])


_ROWS = f"--dataset {workshop.FEATURES}"
_PHOTOS = "--dataset photos/labels.csv"

_CASES = (
    Case("pretrain", f"pretrain {_ROWS} --steps 80 --batch-size 8 --out runs/new --json"),
    Case(
        "pretrain, streamed",
        f"pretrain {_PHOTOS} --backbone scenesnet --steps 60 --batch-size 4 --max-memory 10kB --out runs/new --json",
    ),
    Case("adversarial", f"adversarial {_ROWS} --steps 20 --batch-size 8 --critic-width 16 --out runs/new --json"),
    Case("tune", f"tune {_ROWS} --trials 1 --json"),
    Case("extract", "extract --dataset photos/labels.csv --backbone scenesnet --views 21 --workers 1 --fresh --json"),
    Case("data", "data photos/labels.csv --workers 2 --json"),
    Case("data --download", "data coco --download --data-dir coco-data --workers 0 --json", download.run_command),
    Case("import", "import photos --out imported.csv --draw-splits --fresh --json"),
    Case("audit DATASET", f"audit {workshop.FEATURES} --steps 6 --folds 2 --repeats 1 --out audit --json"),
    Case("audit RUN", "audit photos --out audit --json"),
    Case("compare", "compare base critic --json"),
    Case("report", "report base critic --out report.html --json"),
    Case("predict --out", "predict photos --run photos --workers 1 --out predicted.csv"),
    Case("predict --sidecars", "predict photos --run photos --workers 1 --sidecars --json"),
    Case("predict --annotate", "predict photos --run photos --workers 1 --annotate drawn --json"),
    Case("export", "export photos --format torch --json"),
    Case("reproduce", f"reproduce {_ROWS} --seeds 1 --steps 4 --no-rivals --no-test-time --out paper --json"),
    Case(
        "torchrun, pretrain",
        f"pretrain {_ROWS} --steps 300 --batch-size 8 --out runs/new --json",
        under_torchrun,
        by_launcher=True,
        changes=False,
    ),
    Case(
        "torchrun, extract",
        "extract --dataset many/labels.csv --backbone squeezenet1_1 --weights none --workers 1 --json",
        under_torchrun,
        by_launcher=True,
        changes=False,
    ),
)

CASES = {case.name: case for case in _CASES}


def make(folder: Path) -> None:
    """Make the workshop: that of `fuzz`, and photos enough for two processes."""
    workshop.make(folder)
    (folder / "many").mkdir()
    draws = np.random.default_rng(1)
    lines = ["path,split,cat,dog"]
    for row in range(160):
        pixels = draws.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 48)).save(folder / "many" / f"{row}.jpg")
        lines.append(f"{row}.jpg,{('train', 'train', 'val', 'test')[row % 4]},{row % 2},{row // 2 % 2}")
    (folder / "many" / "labels.csv").write_text("\n".join(lines) + "\n")
