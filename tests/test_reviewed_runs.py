"""A data set that was reviewed: every command opens it with the decisions, and runs notice them as edited labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sandbox import BACKBONE, LABELS, Sandbox, make_table

from labeldep_cli.config import Source
from labeldep_cli.datasets import registry
from labeldep_cli.datasets.corrections import Place, content_of, label_set
from labeldep_cli.datasets.decision_file import append
from labeldep_cli.datasets.decisions import Decision, LabelSet
from labeldep_cli.progress import SilentReporter


def flip(table: Path, *rows: tuple[str, int]) -> None:
    """Decide that the first label of rows, each a split and a number, is the opposite of what is written."""
    dataset = registry.load_source(Source(str(table), corrections=False), table.parent, SilentReporter())
    place = Place.of(table)
    for name, row in rows:
        split = dataset.splits[name]
        before = label_set(split.space, split.labels[row])
        first = split.space.names[0]
        others = tuple(label for label in before.present if label != first)
        after = LabelSet(others if first in before.present else (first, *others))
        line = Decision("t", "ada", place.table, split.paths[row], "edit", before, after, content_of(split, row))
        append(place.file, [line])


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """Images with a run; then two train rows and a test row are corrected."""
    sandbox = Sandbox(tmp_path_factory.mktemp("reviewed"))
    make_table(sandbox.table.parent)
    train = ("--dataset", sandbox.table, *BACKBONE, "--steps", 5)
    sandbox.json("pretrain", *train, "--out", sandbox.folder / "runs" / "before")
    flip(sandbox.table, ("train", 0), ("train", 3), ("test", 1))
    return sandbox


def test_a_run_notices_them_as_edited_labels(reviewed: Sandbox) -> None:
    result = reviewed.run("eval", "before")
    assert "has changed since" in result.stderr
    assert "train: 2 labels of 2 rows differ; test: 1 label of 1 row differs" in result.stderr
    found = reviewed.json("eval", "before")
    assert found["provenance"]["labels_changed"]["test"]["cells"] == 1


def test_training_again_computes_no_features_and_learns_the_decided_labels(reviewed: Sandbox) -> None:
    train = ("pretrain", "--dataset", reviewed.table, *BACKBONE, "--steps", 5)
    refused = reviewed.run(*train, "--out", reviewed.folder / "runs" / "before")
    assert refused.exit_code == 1, "the run is of the labels before"
    result = reviewed.run(*train, "--out", reviewed.folder / "runs" / "after")
    assert result.exit_code == 0, result.stderr
    assert "3 images decided, 3 labels of 3 images corrected" in result.stderr
    assert "to compute" not in result.stderr
    plain = reviewed.run(*train, "--no-corrections", "--out", reviewed.folder / "runs" / "plain")
    assert plain.exit_code == 0 and "corrected" not in plain.stderr
    weights = [reviewed.folder / "runs" / name / "best.safetensors" for name in ("before", "after", "plain")]
    bytes_of = [np.frombuffer(file.read_bytes(), np.uint8) for file in weights]
    assert not np.array_equal(bytes_of[0], bytes_of[1])
    told = [reviewed.run("eval", name).stderr for name in ("after", "plain")]
    assert ["has changed since" in one for one in told] == [False, False], "each opens the data set as it was trained"


def test_an_audit_of_decided_rows_of_features_is_trained_again(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 4)).astype(np.float32), rng.integers(0, 2, (40, 3)).astype(np.int8)
    np.savez(tmp_path / "x.npz", X=x, Y=y, label_names=np.array(LABELS))
    audit = ("audit", tmp_path / "x.npz", "--folds", 2, "--repeats", 1, "--steps", 3, "--out", tmp_path / "a")
    assert sandbox.run(*audit).exit_code == 0
    flip(tmp_path / "x.npz", ("train", 0))
    result = sandbox.run(*audit)
    assert result.exit_code == 0, result.stderr
    assert "its folds are trained again" in result.stderr
