"""`python -m benchmarks size`: its drawn labels, and how a measured command is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import size


def test_labels_are_frequent_by_rank_and_go_together() -> None:
    y = size.draw_labels(size.Shape(20_000, 500), seed=0)
    assert 3.0 < y.sum(axis=1).mean() <= size.LABELS_PER_ROW
    counts = y.sum(axis=0)
    assert counts[0] > 3 * counts[100:].max(), "the first label is drawn for itself, too"
    together = (y.astype(float).T @ y)[150]
    assert together[250] > 3 * together[[248, 249, 251, 252]].mean(), "labels of one topic"


def test_a_command_that_takes_too_long_is_stopped_and_one_that_fails_is_told(tmp_path: Path) -> None:
    stopped = size._measured(["data", str(tmp_path / "none.csv")], 0.05, tmp_path)
    assert stopped["code"] is None
    failed = size._measured(["data", str(tmp_path / "none.csv")], 60, tmp_path)
    assert failed["code"] == 1 and failed["told"] and 0 < failed["peak_gb"] < 8
    found = {"taken": {"1 x 1": {"a": stopped, "b": failed}}, "limit": 0.05}
    (_, cell), (_, other) = size._table(found).rows
    assert cell.startswith("stopped at 0 s") and "exit 1" in other


def test_it_runs_as_a_command(tmp_path: Path) -> None:
    line = [
        sys.executable,
        "-m",
        "benchmarks",
        "size",
        "--shapes",
        "80x6",
        "--only",
        "data",
        "--json",
        "--work",
        tmp_path,
    ]
    done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    (taken,) = json.loads(done.stdout)["taken"].values()
    assert taken["data"]["code"] in (0, 3)
    assert np.load(tmp_path / "80x6" / "drawn.npz")["Y"].shape == (80, 6)
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([*line[:4], "--shapes", "many"], capture_output=True, check=True, cwd=Path(__file__).parents[1])
