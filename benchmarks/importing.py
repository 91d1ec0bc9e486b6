"""Time and memory of `labeldep import`, without its images: tables as large as CheXpert's and OpenImages'.

Each table is read in a process of its own, so that its peak of memory (of Linux) is its own. Time is that of the
processor, which other work on the machine hardly changes.
"""

from __future__ import annotations

import json as json_module
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.show import Table, show

_READ = """
import json, re, sys, time
from pathlib import Path
from labeldep_cli.config import ImportConfig
from labeldep_cli.datasets.canonical import write_table
from labeldep_cli.ingest.forms import form_of

source, out = Path(sys.argv[1]), Path(sys.argv[2])
begun = time.process_time()
rows = form_of(source, ImportConfig()).reader.read(source, ImportConfig()).rows
read = time.process_time()
write_table(rows, out)
written = time.process_time()
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
print(json.dumps({"images": len(rows.paths), "labels": len(rows.names), "seconds_reading": read - begun,
                  "seconds_writing": written - read, "peak_bytes": peak}))
"""


def command(
    scale: Annotated[float, typer.Option(help="Share of the full number of rows.", min=0.001, max=1.0)] = 1.0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time and memory of `labeldep import` for large tables."""
    found = {name: measured(write, scale) for name, write in TABLES.items()}
    rows = [
        [
            name,
            f"{one['images']:,}",
            str(one["labels"]),
            f"{one['seconds_reading']:.1f}",
            f"{one['seconds_writing']:.1f}",
            f"{one['peak_bytes'] / 1e6:.0f}",
        ]
        for name, one in found.items()
    ]
    header = ("table", "images", "labels", "s reading", "s writing", "peak MB")
    show({"tables": found}, [Table("processor seconds, without the images", header, rows)], json)


def measured(write: Callable[[Path, float], None], scale: float) -> dict[str, Any]:
    """Write a table to a temporary folder and read it in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "train.csv"
        write(source, scale)
        words = [sys.executable, "-c", _READ, str(source), str(Path(folder) / "labels.csv")]
        result = subprocess.run(words, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json_module.loads(result.stdout)
    return found


def chexpert(file: Path, scale: float) -> None:
    """A row for each of 220,000 images, with 14 findings, most of them blank."""
    rng = np.random.default_rng(0)
    findings = ",".join(f"finding {k}" for k in range(14))
    cells = np.array(["", "1.0", "0.0", "-1.0"])[
        rng.choice(4, p=[0.6, 0.25, 0.1, 0.05], size=(int(220_000 * scale), 14))
    ]
    with file.open("w") as stream:
        stream.write(f"Path,Sex,Age,Frontal/Lateral,AP/PA,{findings}\n")
        for number, row in enumerate(cells):
            image = f"CheXpert-v1.0-small/train/patient{number // 3:05d}/study{number % 3}/view1_frontal.jpg"
            stream.write(f"{image},Female,68,Frontal,AP,{','.join(row)}\n")


def openimages(file: Path, scale: float) -> None:
    """1,000,000 rows: eight of 600 labels for each of 125,000 images, half of them absent."""
    rng = np.random.default_rng(0)
    with file.open("w") as stream:
        stream.write("ImageID,Source,LabelName,Confidence\n")
        for number in range(int(125_000 * scale)):
            for label in rng.choice(600, size=8, replace=False):
                stream.write(f"{number:016x},verification,/m/{label:05x},{rng.integers(2)}\n")


TABLES = {"CheXpert": chexpert, "OpenImages": openimages}
