"""Time and memory of every command on many labels, and on many rows.

The data sets are ready features, all SIMULATED: 64 normal numbers a row, and labels whose frequencies fall as 1 / rank
(Zipf), about 5 labels a row, drawn in topics so that some labels go together. Commands run as a user runs them, each in
a process of its own, with few training steps: the time of a step is told elsewhere (`scale`). Peak memory is that of
the process alone. A command that takes too long is stopped, and the table says so.
"""

from __future__ import annotations

import json as json_module
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks import one_process
from benchmarks.show import Table, show

FEATURES = 64
LABELS_PER_ROW = 5
LIMIT = 600.0  # seconds a command
_TOPICS = 100


@dataclass(frozen=True)
class Shape:
    """Rows and labels of a data set."""

    rows: int
    labels: int

    @staticmethod
    def of(text: str) -> Shape:
        """Read "ROWSxLABELS"."""
        rows, _, labels = text.partition("x")
        return Shape(int(rows), int(labels))

    @property
    def words(self) -> str:
        """The shape as text, such as 20,000 x 9,600."""
        return f"{self.rows:,} x {self.labels:,}"


_CRITIC = "adversarial --dataset {data} --from {runs}/base"

COMMANDS: dict[str, str] = {
    "data": "data {data}",
    "pretrain": "pretrain --dataset {data} --steps 20 --out {runs}/base",
    "adversarial": f"{_CRITIC} --steps 20 --out {{runs}}/gan",
    "adversarial nce": f"{_CRITIC} --critic nce --freeze-generator --steps 20 --out {{runs}}/nce",
    "adversarial kernel": f"{_CRITIC} --critic kernel --steps 20 --out {{runs}}/kernel",
    "eval": "eval {runs}/base",
    "eval rerank, nce": "eval {runs}/nce --decision rerank",
    "eval rerank, kernel": "eval {runs}/kernel --decision rerank",
    "eval all": "eval {runs}/nce --decision all",
    "compare": "compare {runs}/base {runs}/nce",
    "dependency": "dependency {runs}/nce",
    "report": "report {runs}/base {runs}/nce --out {runs}/report.html",
    "audit RUN": "audit {runs}/nce --out {runs}/audit",
    "audit DATASET": "audit {data} --folds 2 --repeats 1 --steps 20 --out {runs}/audited",
    "export": "export {runs}/base --format torch --out {runs}/base.pt2",
    "runs": "runs --runs-dir {runs}",
}
"""Command lines by name; those that read a run stand behind the one that makes it."""


def command(
    shapes: Annotated[str, typer.Option(help="ROWSxLABELS, between commas.")] = "20000x500,20000x9600,1000000x20",
    only: Annotated[str, typer.Option(help="Commands whose name contains one of these words, between commas.")] = "",
    limit: Annotated[float, typer.Option(min=1, help="Seconds after which a command is stopped.")] = LIMIT,
    work: Annotated[Path | None, typer.Option(help="Folder of data and runs; finished runs there are kept.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Seconds and peak memory of every command on data sets with many labels or many rows (SIMULATED)."""
    words = [word.strip() for word in only.split(",") if word.strip()]
    if work is None:
        with tempfile.TemporaryDirectory() as folder:
            found = run([Shape.of(text) for text in shapes.split(",")], words, limit, Path(folder))
    else:
        found = run([Shape.of(text) for text in shapes.split(",")], words, limit, work)
    show(found, [_table(found)], json)


def run(shapes: list[Shape], words: list[str], limit: float, work: Path) -> dict[str, Any]:
    """Draw each data set, and run the commands on it.

    Args:
        shapes: rows and labels of the data sets.
        words: only commands whose name contains one of them; all if there are none.
        limit: seconds a command.
        work: gets the data and the runs.

    Returns:
        `simulated`, and by shape and command: `seconds`, `peak_gb`, `code` (None if it was stopped), `told`: the last
        line on stderr of one that failed.
    """
    chosen = {name: line for name, line in COMMANDS.items() if not words or any(word in name for word in words)}
    taken: dict[str, dict[str, Any]] = {}
    for shape in shapes:
        folder = work / f"{shape.rows}x{shape.labels}"
        data = _drawn(shape, folder)
        taken[shape.words] = {}
        for name, line in chosen.items():
            asked = line.format(data=data, runs=folder).split()
            taken[shape.words][name] = _measured(asked, limit, folder)
            print(f"{shape.words}, {name}: {taken[shape.words][name]}", file=sys.stderr)
    return {"benchmark": "size", "simulated": True, "features": FEATURES, "limit": limit, "taken": taken}


def _drawn(shape: Shape, folder: Path) -> Path:
    """The data set's file; drawn if it is not there."""
    file = folder / "drawn.npz"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        names = np.array([f"label {k}" for k in range(shape.labels)])
        x = np.random.default_rng(0).standard_normal((shape.rows, FEATURES), dtype=np.float32)
        np.savez(file, X=x, Y=draw_labels(shape, seed=1), label_names=names)
    return file


def draw_labels(shape: Shape, seed: int) -> NDArray[np.int8]:
    """Draw label sets: a topic a row, and about LABELS_PER_ROW labels by frequency, half of them from the topic."""
    random = np.random.default_rng(seed)
    p = 1 / np.arange(1, shape.labels + 1)
    topics = random.integers(_TOPICS, size=shape.rows)
    y = np.zeros((shape.rows, shape.labels), dtype=np.int8)
    for k in range(LABELS_PER_ROW):
        chosen = random.choice(shape.labels, shape.rows, p=p / p.sum())
        if k % 2:  # of the topic: the label whose number has the same remainder
            chosen = (chosen - chosen % _TOPICS + topics) % shape.labels
        y[np.arange(shape.rows), chosen] = 1
    return y


def _measured(words: list[str], limit: float, folder: Path) -> dict[str, Any]:
    """Run a command line of labeldep, and wait for it."""
    line = [sys.executable, one_process.__file__, str(limit), sys.executable, "-m", "labeldep_cli", *words]
    with (folder / "stderr").open("wb") as err:
        done = subprocess.run(line, stdout=subprocess.PIPE, stderr=err, check=True)
    found: dict[str, Any] = json_module.loads(done.stdout)
    last = (folder / "stderr").read_text(errors="replace").strip().splitlines()[-1:] if found["code"] else []
    return {**found, "told": "".join(last)}


def _table(found: dict[str, Any]) -> Table:
    shapes = list(found["taken"])
    names = list(found["taken"][shapes[0]])
    rows = [[name, *(_cell(found["taken"][shape][name], found["limit"]) for shape in shapes)] for name in names]
    return Table("seconds / peak GB (SIMULATED data)", ("command", *shapes), rows)


def _cell(one: dict[str, Any], limit: float) -> str:
    measured = f"{one['seconds']:.1f} / {one['peak_gb']:.1f}"
    if one["code"] is None:
        return f"stopped at {limit:.0f} s / {one['peak_gb']:.1f}"
    return measured if one["code"] in (0, 3) else f"{measured}, exit {one['code']}: {one['told']}"
