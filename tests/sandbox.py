"""A workspace with a small data set of its own, in which tests run the commands."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from conftest import draw_image
from typer.testing import CliRunner, Result

from labeldep_cli.cli import app

LABELS = ("cat", "dog", "mat")
BACKBONE = ("--backbone", "squeezenet1_1", "--weights", "none")


@dataclass(frozen=True)
class Sandbox:
    """A workspace with a small data set of its own."""

    folder: Path

    @property
    def table(self) -> Path:
        return self.folder / "pets" / "labels.csv"

    def run(self, *words: object) -> Result:
        where = {"LABELDEP_DATA": str(self.folder / "data"), "LABELDEP_RUNS": str(self.folder / "runs")}
        return CliRunner().invoke(app, [str(word) for word in words], env=where)

    def json(self, *words: object, code: int = 0) -> dict[str, object]:
        result = self.run(*words, "--json")
        assert result.exit_code == code, result.stderr
        assert len(result.stdout.splitlines()) == 1, "one JSON object on one line"
        return json.loads(result.stdout)


def make_table(folder: Path, rows: int = 60) -> None:
    rng = np.random.default_rng(0)
    lines = ["path,split," + ",".join(LABELS)]
    for row in range(rows):
        draw_image(folder / "img" / f"{row}.png", row)
        y = rng.integers(0, 2, len(LABELS))
        split = "train" if row < rows * 0.6 else "val" if row < rows * 0.8 else "test"
        lines.append(f"img/{row}.png,{split},{','.join(map(str, y))}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found
