"""A data set that was corrected, that grew or that moved since a run was trained on it; and other data sets."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_image
from sandbox import BACKBONE, LABELS, Sandbox, make_table, only

from labeldep_cli.datasets import table
from labeldep_cli.datasets.alignment import aligned, undivided
from labeldep_cli.datasets.draw import Draw
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import Dataset, Split
from labeldep_cli.errors import CheckpointError
from labeldep_cli.runs.changes import SplitChange, changes, same_dataset, trained_on, validated_on
from labeldep_cli.runs.rows import NO_ROWS, RowIds, Rows, SplitRows, read_rows, row_ids, save_rows

DRAW = Draw(0.2, 0.25, 0)


def split_of(name: str, paths: str, labels: list[list[int]], names: tuple[str, ...] = ("a", "b")) -> Split:
    y = np.array(labels, dtype=np.int8).reshape(-1, len(names))
    return Split(name, tuple(paths), y, LabelSpace(names), Path("/nowhere"))


def dataset_of(train: Split, val: Split, test: Split) -> Dataset:
    return Dataset("pets", {"train": train, "val": val, "test": test}, named=False)


SMALL = dataset_of(
    split_of("train", "pqr", [[1, 0], [0, -1], [1, 1]]), split_of("val", "s", [[0, 0]]), split_of("test", "t", [[1, 0]])
)


# Rows


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    save_rows(tmp_path, Rows.of(SMALL))
    kept, now = read_rows(tmp_path), Rows.of(SMALL)
    assert kept is not None and kept.space == SMALL.space and not kept.has_features
    for name in ("train", "val", "test"):
        assert kept.splits[name].ids.names.tolist() == now.splits[name].ids.names.tolist()
        assert kept.splits[name].labels.tolist() == SMALL.splits[name].labels.tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["rows.safetensors"]
    before = (tmp_path / "rows.safetensors").read_bytes()
    save_rows(tmp_path, Rows.of(SMALL))
    assert (tmp_path / "rows.safetensors").read_bytes() == before


def test_a_split_without_rows_and_a_broken_file(tmp_path: Path) -> None:
    save_rows(tmp_path, Rows.of(replace(SMALL, splits={**SMALL.splits, "test": split_of("test", "", [])})))
    kept = read_rows(tmp_path)
    assert kept is not None and kept.splits["test"].labels.shape == (0, 2)
    (tmp_path / "rows.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match=r"rows.safetensors is no labeldep checkpoint"):
        read_rows(tmp_path)


def test_rows_stay_small(tmp_path: Path) -> None:
    """16 bytes of ids and 11 bytes of 81 bits a row: NUS-WIDE's 209,347 rows take 6 MB."""
    n, names = 20_000, tuple(map(str, range(81)))
    rows = Split("train", tuple(map(str, range(n))), np.ones((n, 81), np.int8), LabelSpace(names), Path())
    empty = replace(rows, paths=(), labels=rows.labels[:0])
    dataset, none = dataset_of(rows, empty, empty), np.zeros(0, np.int64)
    save_rows(tmp_path, Rows.of(dataset, {"train": np.arange(1, n + 1), "val": none, "test": none}))
    assert (tmp_path / "rows.safetensors").stat().st_size < n * 27 + 2000


def test_rows_that_are_alike_have_ids_of_their_own() -> None:
    """Features are known by their numbers, wherever they stand."""
    x = np.array([[1, 2], [3, 4], [1, 2], [1, 2]], dtype=np.float32)
    whole = Split("train", tuple("abcd"), np.zeros((4, 2), np.int8), LabelSpace(("a", "b")), Path(), x)
    ids = row_ids(whole).names
    assert len(set(ids.tolist())) == 4
    assert row_ids(whole.subset("train", np.array([1, 0]))).names.tolist() == ids[[1, 0]].tolist()
    assert ids[2] == ids[0] + 1 and ids[3] == ids[0] + 2


def test_changes_by_hand() -> None:
    """In train q's first label differs and r has gone; in test u has come; val is as it was."""
    now = dataset_of(
        split_of("train", "qp", [[0, -1], [1, 0]]),
        SMALL.splits["val"],
        split_of("test", "ut", [[1, 1], [1, 0]]),
    )
    assert changes(Rows.of(SMALL), Rows.of(SMALL)) == {}
    corrected = replace(now.splits["train"], labels=np.array([[1, -1], [1, 0]], dtype=np.int8))
    found = changes(Rows.of(SMALL), Rows.of(dataset_of(corrected, now.splits["val"], now.splits["test"])))
    assert found == {"train": SplitChange(1, 1, 0, 1), "test": SplitChange(0, 0, 1, 0)}
    assert found["train"].words == "1 label of 1 row differs, 1 row less"


def test_labels_are_compared_by_name() -> None:
    turned = {name: replace(one, labels=one.labels[:, ::-1]) for name, one in SMALL.splits.items()}
    other = {name: replace(one, space=LabelSpace(("b", "a"))) for name, one in turned.items()}
    assert changes(Rows.of(SMALL), Rows.of(replace(SMALL, splits=other))) == {}
    assert changes(Rows.of(SMALL), Rows.of(replace(SMALL, splits=turned)))["train"].cells == 4


def test_a_leak_by_hand() -> None:
    """q was trained on and is test now; s was val, which is no leak, but its checkpoint was chosen on it."""
    now = dataset_of(
        split_of("train", "pr", [[1, 0], [1, 1]]), SMALL.splits["val"], split_of("test", "sqt", [[0, 0]] * 3)
    )
    then, here = Rows.of(SMALL), Rows.of(now)
    assert trained_on(then, here, "test").tolist() == [False, True, False]
    assert validated_on(then, here, "test").tolist() == [True, False, False]
    for name in ("val", "train"):
        assert not trained_on(then, here, name).any() and not validated_on(then, here, name).any()


def test_rows_that_were_alike_from_the_beginning_are_no_leak() -> None:
    """d equals a, which was trained on; another copy of a that comes into test later is a leak."""
    x = np.array([[1, 2], [3, 4], [5, 6], [1, 2]], dtype=np.float32)
    whole = Split("train", tuple("abcd"), np.zeros((4, 2), np.int8), LabelSpace(("a", "b")), Path(), x)
    parts = [whole.subset(name, np.array(rows)) for name, rows in (("train", [0, 1]), ("val", [2]), ("test", [3]))]
    rows = Rows.of(dataset_of(*parts))
    assert not trained_on(rows, rows, "test").any()
    assert len(rows.trained_only()) == 1, "a run that starts from it inherits b alone"
    parts = [whole.subset(name, np.array(rows)) for name, rows in (("train", [0, 3]), ("val", [1]), ("test", [2]))]
    copied = [*parts[:2], whole.subset("test", np.array([2, 0, 3]))]
    assert trained_on(Rows.of(dataset_of(*parts)), Rows.of(dataset_of(*copied)), "test").tolist() == [False, True, True]


def ids(names: list[int], contents: list[int]) -> RowIds:
    return RowIds(np.array(names, np.int64), np.array(contents, np.int64))


def test_rows_by_name_and_content() -> None:
    """Content decides where both sides know it, else the name; 0 is unknown."""
    then = ids([1, 2, 3, 4], [10, 20, 0, 40])
    now = ids([1, 2, 3, 4, 5, 6], [10, 99, 30, 0, 20, 77])
    assert now.among(then).tolist() == [True, False, True, True, True, False]
    assert then.among(now).tolist() == [True, True, True, True]
    assert now[np.arange(4)].equal(then).tolist() == [True, False, True, True]
    mine, theirs = then.pairs(now)
    assert sorted(zip(mine.tolist(), theirs.tolist(), strict=True)) == [(0, 0), (1, 4), (2, 2), (3, 3)]
    assert len(NO_ROWS.among(then)) == 0 and not then.among(NO_ROWS).any()


def test_copies_of_an_image_are_paired_once() -> None:
    mine, theirs = ids([1, 2, 3], [7, 7, 7]).pairs(ids([4, 5], [7, 7]))
    assert len(set(mine.tolist())) == len(set(theirs.tolist())) == 2


def test_a_check_of_many_rows_is_fast() -> None:
    n = 200_000
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (n, 81)).astype(np.int8)
    names, contents = rng.permutation(10 * n)[:n] + 1, rng.permutation(10 * n)[:n] + 1
    space = LabelSpace(tuple(map(str, range(81))))
    cuts = {"train": slice(0, n // 2), "val": slice(n // 2, n // 2 + 10_000), "test": slice(n // 2 + 10_000, n)}
    splits = {name: SplitRows(RowIds(names[cut], contents[cut]), labels[cut]) for name, cut in cuts.items()}
    then, now = Rows(space, splits, False), Rows(space, splits, False)
    start = time.process_time()
    assert same_dataset(then, now) and changes(then, now) == {} and not trained_on(then, now, "test").any()
    assert time.process_time() - start < 1.0


def test_the_same_data_set_has_most_of_the_rows() -> None:
    grown = dataset_of(split_of("train", "pqrvwxyz", [[1, 0]] * 8), SMALL.splits["val"], SMALL.splits["test"])
    other = dataset_of(split_of("train", "pqvw", [[1, 0]] * 4), split_of("val", "x", [[1, 0]]), SMALL.splits["test"])
    foreign = replace(other, splits={**other.splits, "test": split_of("test", "y", [[1, 0]])})
    assert same_dataset(Rows.of(SMALL), Rows.of(grown))
    assert same_dataset(Rows.of(SMALL), Rows.of(other)), "three of five"
    assert not same_dataset(Rows.of(SMALL), Rows.of(foreign)), "two of five"


# Other data sets


def test_labels_in_the_order_of_a_run() -> None:
    found, notes = aligned(SMALL, LabelSpace(("b", "c", "a")), "the run x")
    assert found.splits["train"].labels.tolist() == [[0, -1, 1], [-1, -1, 0], [1, -1, 1]]
    assert notes == ("pets lacks 1 of the 3 labels of the run x, which are unknown here: c",)
    found, notes = aligned(SMALL, LabelSpace(("b",)), "the run x")
    assert found.splits["train"].labels.tolist() == [[0], [-1], [1]]
    assert notes == ("the run x does not know 1 of the 2 labels of pets: a",)


@pytest.mark.parametrize("ready", [False, True])
def test_all_rows_of_what_is_not_divided(tmp_path: Path, ready: bool) -> None:
    if ready:
        x = np.arange(24, dtype=np.float32).reshape(12, 2)
        np.savez(
            tmp_path / "x.npz", X=x, Y=np.eye(2, dtype=np.int8)[np.arange(12) % 2], label_names=np.array(["a", "b"])
        )
        drawn = table.load(tmp_path / "x.npz", DRAW)
    else:
        lines = [f"{row}.png,{row % 2},1" for row in range(12)]
        (tmp_path / "x.csv").write_text("\n".join(["path,a,b", *lines]))
        drawn = table.load(tmp_path / "x.csv", DRAW)
    found = undivided(drawn)
    assert [len(split) for split in found.splits.values()] == [12, 12, 12] and found.undivided
    if ready:
        (block,) = found.splits["test"].feature_blocks()
        assert sorted(block[:, 0].tolist()) == list(range(0, 24, 2))
        assert (found.splits["test"].labels[:, 1] == block[:, 0] // 2 % 2).all()
    divided = replace(drawn, drawn=frozenset({"val"}))
    assert undivided(divided) is divided


# Commands


class Pets:
    """A table of images, which can be edited row by row."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.header, *self.rows = list(csv.reader(file.open()))

    def flip(self, split: str, n: int = 1) -> None:
        """Correct the first label of the first rows of a split."""
        for row in [row for row in self.rows if row[1] == split][:n]:
            row[2] = "10"[int(row[2])]

    def add(self, split: str, n: int = 1) -> None:
        for _ in range(n):
            row = len(self.rows)
            draw_image(self.file.parent / "img" / f"{row}.png", 1000 + row)
            self.rows.append([f"img/{row}.png", split, "1", "0", "1"])

    def move(self, here: str, there: str, n: int = 1) -> None:
        for row in [row for row in self.rows if row[1] == here][:n]:
            row[1] = there

    def copy(self, here: str, there: str, n: int = 1) -> None:
        """Under other names."""
        for row in [row for row in self.rows if row[1] == here][:n]:
            name = f"img/copy-{len(self.rows)}.png"
            shutil.copy(self.file.parent / row[0], self.file.parent / name)
            self.rows.append([name, there, *row[2:]])

    def write(self) -> None:
        self.file.write_text("\n".join(",".join(row) for row in [self.header, *self.rows]) + "\n")


class Ready:
    """The same for ready features."""

    def __init__(self, file: Path) -> None:
        self.file = file
        with np.load(file) as arrays:
            self.x, self.y, self.split = arrays["X"], arrays["Y"], arrays["split"]

    def flip(self, split: str, n: int = 1) -> None:
        rows = np.flatnonzero(self.split == split)[:n]
        self.y[rows, 0] = 1 - self.y[rows, 0]

    def add(self, split: str, n: int = 1) -> None:
        """In front, so that all other rows have another place."""
        rng = np.random.default_rng(len(self.x))
        self.x = np.concatenate([rng.normal(size=(n, self.x.shape[1])).astype(np.float32), self.x])
        self.y = np.concatenate([np.ones((n, self.y.shape[1]), np.int8), self.y])
        self.split = np.concatenate([np.array([split] * n), self.split])

    def move(self, here: str, there: str, n: int = 1) -> None:
        self.split[np.flatnonzero(self.split == here)[:n]] = there

    def copy(self, here: str, there: str, n: int = 1) -> None:
        rows = np.flatnonzero(self.split == here)[:n]
        self.x, self.y = np.concatenate([self.x, self.x[rows]]), np.concatenate([self.y, self.y[rows]])
        self.split = np.concatenate([self.split, np.array([there] * n)])

    def write(self) -> None:
        np.savez(self.file, X=self.x, Y=self.y, split=self.split, label_names=np.array(LABELS))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A run on images and one on ready features, of 60 rows each: 36, 12 and 12."""
    sandbox = Sandbox(tmp_path_factory.mktemp("corrected"))
    make_table(sandbox.table.parent)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    split = np.array(["train"] * 36 + ["val"] * 12 + ["test"] * 12)
    (sandbox.folder / "ready").mkdir()
    file = sandbox.folder / "ready" / "x.npz"
    np.savez(file, X=x, Y=(x[:, :3] > 0).astype(np.int8), split=split, label_names=np.array(LABELS))
    sandbox.json(
        "pretrain", "--dataset", sandbox.table, *BACKBONE, "--steps", 3, "--out", sandbox.folder / "runs" / "images"
    )
    sandbox.json("pretrain", "--dataset", file, "--steps", 3, "--out", sandbox.folder / "runs" / "ready")
    return sandbox


KINDS = pytest.mark.parametrize("kind", ["images", "ready"])


def file_of(sandbox: Sandbox, kind: str) -> Path:
    return sandbox.table if kind == "images" else sandbox.folder / "ready" / "x.npz"


Edit = Callable[[str], "Pets | Ready"]


@pytest.fixture
def edit(trained: Sandbox) -> Iterator[Edit]:
    """Opens a data set to be edited; afterwards it is as it was."""
    files = [file_of(trained, kind) for kind in ("images", "ready")]
    before = [file.read_bytes() for file in files]
    yield lambda kind: Pets(files[0]) if kind == "images" else Ready(files[1])
    for file, content in zip(files, before, strict=True):
        file.write_bytes(content)


def words_of(sandbox: Sandbox, kind: str) -> tuple[object, ...]:
    backbone = BACKBONE if kind == "images" else ()
    return ("--dataset", file_of(sandbox, kind), *backbone, "--steps", 3)


@KINDS
def test_a_data_set_as_it_was_is_not_spoken_of(trained: Sandbox, kind: str) -> None:
    result = trained.run("eval", kind, "--json")
    assert result.exit_code == 0 and "changed" not in result.stderr
    assert json.loads(result.stdout)["provenance"]["labels_changed"] == {}


@KINDS
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_corrected_label(trained: Sandbox, edit: Edit, kind: str, split: str) -> None:
    data = edit(kind)
    data.flip(split, 2)
    data.write()
    result = trained.run("eval", kind, "--json")
    assert result.exit_code == 0, result.stderr
    (note,) = [line for line in result.stderr.splitlines() if "changed" in line]
    assert re.search(
        rf"has changed since .*{kind} was trained; its current state is used: {split}: 2 labels of 2 rows", note
    )
    found = json.loads(result.stdout)
    assert found["provenance"]["labels_changed"] == {split: {"rows": 2, "cells": 2, "added": 0, "removed": 0}}
    assert found["n_images"] == 12


def test_scores_are_those_of_the_corrected_labels(trained: Sandbox, edit: Edit) -> None:
    before = trained.json("eval", "ready")
    data = edit("ready")
    data.flip("test", 12)
    data.write()
    after = trained.json("eval", "ready")
    counts = [[label["count"] for label in found["per_label"]] for found in (before, after)]
    assert counts[1] == [12 - counts[0][0], *counts[0][1:]]


@KINDS
def test_rows_that_came(trained: Sandbox, edit: Edit, kind: str) -> None:
    data = edit(kind)
    data.add("train", 3)
    data.add("test", 2)
    data.write()
    found = trained.json("eval", kind)
    assert found["n_images"] == 14
    assert found["provenance"]["labels_changed"] == {
        "train": {"rows": 0, "cells": 0, "added": 3, "removed": 0},
        "test": {"rows": 0, "cells": 0, "added": 2, "removed": 0},
    }


@KINDS
def test_rows_that_it_was_trained_on_are_left_out(trained: Sandbox, edit: Edit, kind: str) -> None:
    data = edit(kind)
    data.move("train", "test", 3)
    data.write()
    what = rf"3 of 15 rows of test are left out: .*{kind} was trained on them, for example '(img/0.png|row-0)'"
    for command in (("eval", kind), ("dependency", kind), ("audit", kind, "--out", trained.folder / "audit")):
        result = trained.run(*command, "--json")
        assert result.exit_code == 0 and re.search(what, result.stderr), result.stderr
        report = json.loads(result.stdout)
        if command[0] != "audit":
            assert report["provenance"]["labels_changed"]["test"] == {
                "rows": 0,
                "cells": 0,
                "added": 3,
                "removed": 0,
                "trained_on": 3,
            }
    assert trained.json("eval", kind)["n_images"] == 12
    assert trained.json("eval", kind, "--split", "train")["n_images"] == 33
    assert trained.json("eval", kind, "--split", "val")["n_images"] == 12


@KINDS
def test_a_split_of_training_rows_is_refused(trained: Sandbox, edit: Edit, kind: str) -> None:
    data = edit(kind)
    data.move("train", "test", 13)
    data.write()
    result = trained.run("eval", kind)
    assert result.exit_code == 1 and "--split train" in result.stderr
    assert re.search(rf"13 of the 25 rows of test are rows that .*{kind} was trained on", result.stderr)


@KINDS
def test_copies_of_training_rows_are_left_out(trained: Sandbox, edit: Edit, kind: str) -> None:
    """Appended copies do not lock the run, whatever their names are."""
    before = trained.json("eval", kind)
    data = edit(kind)
    data.copy("train", "test", 5)
    data.write()
    after = trained.json("eval", kind)
    assert after["provenance"]["labels_changed"]["test"]["trained_on"] == 5
    assert after["n_images"] == 12 and after["CF1"] == before["CF1"]


@KINDS
def test_val_rows_that_become_test_rows_are_counted(trained: Sandbox, edit: Edit, kind: str) -> None:
    data = edit(kind)
    data.move("val", "test", 4)
    data.write()
    result = trained.run("eval", kind)
    assert result.exit_code == 0
    assert re.search(rf"4 of 16 rows of test were val when .*{kind} was trained: its best evaluation", result.stderr)
    data.move("test", "val", 1)
    data.write()
    assert "of test were val" not in trained.run("eval", kind, "--split", "val").stderr


def test_dependency_audit_and_export_go_on(trained: Sandbox, edit: Edit) -> None:
    data = edit("images")
    data.flip("val")
    data.write()
    for command in (("dependency", "images"), ("audit", "images", "--out", trained.folder / "audit")):
        result = trained.run(*command)
        assert result.exit_code == 0, result.stderr
        assert result.stderr.count("its current state is used: val: 1 label of 1 row differs") == 1
    out = ("--format", "torch", "--out", trained.folder / "images.pt2")
    assert trained.json("export", "images", *out)["checked"]["from"] == "images of its test split"


@KINDS
def test_a_data_set_that_moved(trained: Sandbox, tmp_path: Path, kind: str) -> None:
    """It is known by its rows; nothing is encoded again, though its name is another one."""
    file = file_of(trained, kind)
    before = trained.json("eval", kind)
    shutil.move(file.parent, tmp_path / "new")
    try:
        result = trained.run("eval", kind)
        assert result.exit_code == 1 and "name its new place: --dataset NEW" in result.stderr
        result = trained.run("eval", kind, "--dataset", tmp_path / "new" / file.name, "--json")
        compared = trained.json("compare", kind, kind, "--dataset", tmp_path / "new" / file.name)
    finally:
        shutil.move(tmp_path / "new", file.parent)
    assert result.exit_code == 0, result.stderr
    assert f"is the data set that {trained.folder / 'runs' / kind} was trained on" in result.stderr
    assert "computing" not in result.stderr and "extracting" not in result.stderr
    after = json.loads(result.stdout)
    assert after["dataset"] != before["dataset"]
    assert {**after, "dataset": before["dataset"]} == before
    assert compared["n_images"] == 12


def test_another_data_set_of_images(trained: Sandbox, tmp_path: Path) -> None:
    """It has no splits, one of the labels under the same name, and one that the run does not know: all rows count."""
    make_table(tmp_path / "birds", rows=20)
    lines = [line.split(",") for line in (tmp_path / "birds" / "labels.csv").read_text().splitlines()[1:]]
    for row, _ in enumerate(lines):
        draw_image(tmp_path / "birds" / "img" / f"bird-{row}.png", 500 + row)
    rows = [f"img/bird-{row}.png,{line[2]},{line[3]}" for row, line in enumerate(lines)]
    (tmp_path / "birds" / "labels.csv").write_text("\n".join(["path,owl,dog", *rows]))
    result = trained.run("eval", "images", "--dataset", tmp_path / "birds", "--json")
    assert result.exit_code == 0, result.stderr
    assert "lacks 2 of the 3 labels of the run images, which are unknown here: cat, mat" in result.stderr
    assert "the run images does not know 1 of the 2 labels of birds-" in result.stderr
    assert "is not the data set that" in result.stderr and "all of its rows are scored" in result.stderr
    found = json.loads(result.stdout)
    assert found["n_images"] == 20 and found["skipped_labels"] == 2
    assert [label["count"] for label in found["per_label"]] == [0, sum(line[3] == "1" for line in lines), 0]
    assert found["provenance"]["labels_changed"] is None
    audited = trained.json("audit", "images", "--dataset", tmp_path / "birds", "--out", tmp_path / "audit")
    assert audited["n_images"] == 20, "each row once"


def test_another_data_set_with_the_labels_in_another_order(trained: Sandbox, tmp_path: Path) -> None:
    """The same rows twice, once with the columns turned round: the scores are the same."""
    x = np.random.default_rng(7).normal(size=(30, 4)).astype(np.float32)
    y = (x[:, :3] > 0).astype(np.int8)
    np.savez(tmp_path / "plain.npz", X=x, Y=y, label_names=np.array(LABELS))
    np.savez(tmp_path / "turned.npz", X=x, Y=y[:, ::-1], label_names=np.array(LABELS[::-1]))
    plain, turned = (
        trained.json("eval", "ready", "--dataset", tmp_path / f"{name}.npz") for name in ("plain", "turned")
    )
    assert plain["n_images"] == 30
    assert turned["per_label"] == plain["per_label"]
    compared = trained.json("compare", "ready", "ready", "--dataset", tmp_path / "plain.npz")
    assert compared["n_images"] == 30
    assert trained.json("dependency", "ready", "--dataset", tmp_path / "plain.npz")["dataset"] == plain["dataset"]
    page = trained.json("report", "ready", "--dataset", tmp_path / "plain.npz", "--out", tmp_path / "page.html")
    assert page["n_images"] == 30


def test_another_data_set_with_splits_of_its_own(trained: Sandbox, tmp_path: Path) -> None:
    x = np.random.default_rng(8).normal(size=(30, 4)).astype(np.float32)
    split = np.array(["train"] * 10 + ["val"] * 8 + ["test"] * 12)
    np.savez(tmp_path / "x.npz", X=x, Y=(x[:, :3] > 0).astype(np.int8), split=split, label_names=np.array(LABELS))
    assert trained.json("eval", "ready", "--dataset", tmp_path / "x.npz")["n_images"] == 12
    assert trained.json("eval", "ready", "--dataset", tmp_path / "x.npz", "--split", "train")["n_images"] == 10


def test_a_data_set_that_does_not_fit(trained: Sandbox, tmp_path: Path) -> None:
    x = np.random.default_rng(9).normal(size=(30, 4)).astype(np.float32)
    y = (x[:, :3] > 0).astype(np.int8)
    np.savez(tmp_path / "strange.npz", X=x, Y=y, label_names=np.array(["owl", "elk", "emu"]))
    np.savez(tmp_path / "narrow.npz", X=x[:, :2], Y=y, label_names=np.array(LABELS))
    for run, dataset, what in (
        ("ready", tmp_path / "strange.npz", "has none of the labels of the run ready: it has owl, elk, emu"),
        ("ready", tmp_path / "narrow.npz", "trained on ready features, 4 a row, but .* has ready features, 2 a row"),
        ("images", tmp_path / "narrow.npz", "trained on images, but .* has ready features"),
        ("ready", trained.table, "trained on ready features, 4 a row, but .* has images"),
        ("ready", tmp_path / "gone.npz", "there is no file"),
    ):
        result = trained.run("eval", run, "--dataset", dataset)
        assert result.exit_code == 1 and re.search(what, result.stderr), result.stderr
    result = trained.run("audit", trained.table, "--dataset", trained.table)
    assert result.exit_code == 2 and "--dataset" in result.stderr


def test_part_of_the_rows_as_a_data_set_of_its_own(trained: Sandbox, edit: Edit, tmp_path: Path) -> None:
    """Test rows alone: all of them are scored. Rows that it was trained on are refused under another name, too."""
    data = edit("ready")
    for name, mask in (("held.npz", data.split == "test"), ("learnt.npz", data.split == "train")):
        rows = np.flatnonzero(mask)[:12]
        np.savez(tmp_path / name, X=data.x[rows], Y=data.y[rows], label_names=np.array(LABELS))
    held = trained.json("eval", "ready", "--dataset", tmp_path / "held.npz")
    assert held["n_images"] == 12 and held["CF1"] == pytest.approx(trained.json("eval", "ready")["CF1"])
    result = trained.run("eval", "ready", "--dataset", tmp_path / "learnt.npz")
    assert result.exit_code == 1 and "12 of the 12 rows of test are rows that" in result.stderr
    assert trained.json("eval", "ready", "--dataset", tmp_path / "learnt.npz", "--split", "train")["n_images"] == 12


def test_other_rows_in_the_same_place(trained: Sandbox, edit: Edit) -> None:
    data = edit("ready")
    data.x = data.x + 1
    data.write()
    result = trained.run("eval", "ready")
    assert result.exit_code == 1
    assert re.search(r"is no longer the data set that .*ready was trained on: 0 of 60 rows are the same", result.stderr)
    result = trained.run("eval", "ready", "--dataset", data.file)
    assert result.exit_code == 0 and "is not the data set that" in result.stderr


# Before and after


@KINDS
def test_before_and_after_are_compared(trained: Sandbox, edit: Edit, kind: str, tmp_path: Path) -> None:
    data = edit(kind)
    data.flip("train")
    data.add("train", 4)
    data.flip("test", 2)
    data.write()
    trained.json("pretrain", *words_of(trained, kind), "--out", tmp_path / "after")
    result = trained.run("compare", kind, tmp_path / "after", "--json")
    assert result.exit_code == 0, result.stderr
    note = (
        f"{kind} and after: trained on other rows: {kind} 36, after 40; trained on other labels: 1 label of 1 row; "
        "their test had other labels: 2 labels of 2 rows; both are scored on the present ones"
    )
    assert note in result.stderr.splitlines()
    assert json.loads(result.stdout)["n_images"] == 12
    page = trained.run("report", kind, tmp_path / "after", "--out", tmp_path / "page.html")
    assert page.exit_code == 0 and note in page.stderr


@KINDS
def test_test_rows_that_came_are_compared(trained: Sandbox, edit: Edit, kind: str, tmp_path: Path) -> None:
    """Both runs are scored on the rows of now; what they recorded need not be equal."""
    data = edit(kind)
    data.add("test", 2)
    data.write()
    trained.json("pretrain", *words_of(trained, kind), "--out", tmp_path / "after")
    result = trained.run("compare", kind, tmp_path / "after", "--json")
    assert result.exit_code == 0, result.stderr
    note = f"{kind} and after: their test had other rows: {kind} 12, after 14; both are scored on the present ones"
    assert note in result.stderr.splitlines()
    assert json.loads(result.stdout)["n_images"] == 14
    page = trained.json("report", kind, tmp_path / "after", "--out", tmp_path / "page.html")
    assert page["n_images"] == 14


@KINDS
def test_rows_of_any_run_are_left_out_of_a_comparison(trained: Sandbox, edit: Edit, kind: str, tmp_path: Path) -> None:
    """Two rows of test were train for the second run alone: neither run is scored on them."""
    data = edit(kind)
    before = data.file.read_bytes()
    data.move("test", "train", 2)
    data.write()
    trained.json("pretrain", *words_of(trained, kind), "--out", tmp_path / "after")
    data.file.write_bytes(before)
    result = trained.run("compare", kind, tmp_path / "after", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["n_images"] == 10
    assert re.search(r"2 of 12 rows of test are left out: .*after was trained on them", result.stderr)
    page = trained.json("report", kind, tmp_path / "after", "--out", tmp_path / "page.html")
    assert page["n_images"] == 10 and trained.json("eval", kind)["n_images"] == 12


def test_runs_on_both_places_of_a_data_set_that_was_copied(trained: Sandbox, tmp_path: Path) -> None:
    """Its name is another one there, its rows are the same."""
    shutil.copytree(trained.folder / "ready", tmp_path / "copy")
    trained.json("pretrain", "--dataset", tmp_path / "copy" / "x.npz", "--steps", 3, "--out", tmp_path / "there")
    assert trained.json("compare", "ready", tmp_path / "there")["n_images"] == 12
    copy = Ready(tmp_path / "copy" / "x.npz")
    copy.flip("test")
    copy.write()
    result = trained.run("compare", "ready", tmp_path / "there")
    assert result.exit_code == 1
    assert re.search("the data sets of .* differ now: other labels of test", result.stderr)
    assert trained.json("compare", "ready", tmp_path / "there", "--dataset", copy.file)["n_images"] == 12


@KINDS
def test_a_start_on_a_data_set_that_changed(trained: Sandbox, edit: Edit, kind: str, tmp_path: Path) -> None:
    words = ("adversarial", *words_of(trained, kind), "--critic", "none", "--from", kind, "--out", tmp_path / "next")
    data = edit(kind)
    data.flip("train")
    data.write()
    result = trained.run(*words)
    assert result.exit_code == 0, result.stderr
    assert re.search(rf"has changed since .*{kind} was trained: train: 1 label of 1 row differs", result.stderr)
    data.move("train", "val", 2)
    data.write()
    result = trained.run(*words, "--fresh")
    assert result.exit_code == 1
    assert "it was trained on 2 of the 14 rows that are val here, such as " in result.stderr


@KINDS
def test_the_same_command_after_a_correction(trained: Sandbox, edit: Edit, kind: str) -> None:
    """It would be another run: what has changed is said in words."""
    words = ("pretrain", *words_of(trained, kind), "--out", trained.folder / "runs" / kind)
    data = edit(kind)
    data.flip("train", 3)
    data.add("val", 1)
    data.write()
    result = trained.run(*words)
    assert result.exit_code == 1
    told = "other settings: the data have changed (train: 3 labels of 3 rows differ; val: 1 row more)"
    assert told in result.stderr and "--out" in result.stderr and "--fresh" in result.stderr


# Runs from before


@pytest.fixture
def old(trained: Sandbox, tmp_path: Path) -> Path:
    """A run that does not say which rows it was trained on."""
    shutil.copytree(trained.folder / "runs" / "ready", tmp_path / "old")
    (tmp_path / "old" / "rows.safetensors").unlink()
    return tmp_path / "old"


def test_a_run_from_before(trained: Sandbox, edit: Edit, old: Path, tmp_path: Path) -> None:
    result = trained.run("eval", old, "--json")
    assert result.exit_code == 0 and "does not say" not in result.stderr
    assert json.loads(result.stdout)["provenance"]["labels_changed"] == {}
    data = edit("ready")
    data.flip("test")
    data.write()
    result = trained.run("eval", old, "--json")
    assert result.exit_code == 0
    assert re.search(
        "old was trained by an older version that did not record its rows.* "
        "test has changed since: the run may have been trained on",
        result.stderr,
    )
    assert json.loads(result.stdout)["provenance"]["labels_changed"] is None
    assert "does not say" not in trained.run("eval", old, "--split", "val").stderr
    trained.json("pretrain", *words_of(trained, "ready"), "--out", tmp_path / "after")
    result = trained.run("compare", old, tmp_path / "after")
    assert result.exit_code == 1 and re.search("another protocol: test rows '[0-9a-f]{12}' there", result.stderr)
    words = ("adversarial", *words_of(trained, "ready"), "--critic", "none", "--from", old, "--out", tmp_path / "next")
    result = trained.run(*words)
    assert result.exit_code == 0 and "old does not say which rows it was trained on" in result.stderr


def test_a_run_from_before_learns_its_rows_when_it_is_called_again(trained: Sandbox, old: Path) -> None:
    trained.json("pretrain", *words_of(trained, "ready"), "--out", old)
    kept = only(old, "rows.safetensors").read_bytes()
    assert kept == only(trained.folder / "runs" / "ready", "rows.safetensors").read_bytes()


def test_clean_and_fresh_take_the_rows_along(trained: Sandbox, edit: Edit, tmp_path: Path) -> None:
    words = ("pretrain", *words_of(trained, "ready"), "--out", trained.folder / "runs" / "short")
    trained.json(*words)
    data = edit("ready")
    data.flip("train")
    data.write()
    trained.json(*words, "--fresh")
    assert trained.json("eval", "short")["provenance"]["labels_changed"] == {}
    trained.json("runs", "clean", "short", "--yes")
    assert not (trained.folder / "runs" / "short").exists()


def test_runs_that_share_nothing_but_their_test_rows(trained: Sandbox, edit: Edit, tmp_path: Path) -> None:
    """What they were trained on may differ in any way."""
    data = edit("ready")
    held = data.split != "train"
    x = np.random.default_rng(5).normal(size=(90, 4)).astype(np.float32)
    np.savez(
        tmp_path / "other.npz",
        X=np.concatenate([x, data.x[held]]),
        Y=np.concatenate([(x[:, :3] > 0).astype(np.int8), data.y[held]]),
        split=np.concatenate([np.array(["train"] * 90), data.split[held]]),
        label_names=np.array(LABELS),
    )
    trained.json("pretrain", "--dataset", tmp_path / "other.npz", "--steps", 3, "--out", tmp_path / "other")
    result = trained.run("compare", "ready", tmp_path / "other")
    assert result.exit_code == 0, result.stderr
    assert "ready and other: trained on other rows: ready 36, other 90\n" in result.stderr
    named = trained.run("compare", "ready", tmp_path / "other", "--dataset", data.file)
    assert named.exit_code == 0 and "trained on other rows: ready 36, other 90" in named.stderr


# Photos of a camera: a folder without splits


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A run on 40 photos in a folder, with splits that were drawn by name."""
    sandbox = Sandbox(tmp_path_factory.mktemp("camera"))
    write_photos(sandbox.folder / "ph", range(40))
    sandbox.json("extract", "--dataset", sandbox.folder / "ph", *BACKBONE)
    sandbox.json("pretrain", "--dataset", sandbox.folder / "ph", *BACKBONE, "--steps", 3, "--out", photos_run(sandbox))
    return sandbox


def photos_run(sandbox: Sandbox) -> Path:
    return sandbox.folder / "runs" / "photos"


def write_photos(folder: Path, seeds: range) -> None:
    """Photos IMG_0.png, IMG_1.png, ... with labels that depend on their position; a minute old, as photos are.

    A file that was written a moment ago may still change within its time stamp, so it is read again.
    """
    lines = ["path," + ",".join(LABELS)]
    for row, seed in enumerate(seeds):
        photo = draw_image(folder / f"IMG_{row}.png", seed)
        os.utime(photo, (photo.stat().st_mtime - 60,) * 2)
        lines.append(f"IMG_{row}.png,{row % 2},{row // 2 % 2},{row // 4 % 2}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def splits_of(sandbox: Sandbox, run: Path) -> dict[str, set[str]]:
    """The names of the photos in each split of a run."""
    rows = read_rows(run)
    assert rows is not None
    name_of = {int(row_ids(split_of("x", (f"IMG_{k}.png",), [[0, 0]])).names[0]): f"IMG_{k}.png" for k in range(40)}
    return {name: {name_of[int(k)] for k in split.ids.names} for name, split in rows.splits.items()}


@pytest.mark.parametrize("form", ["one folder up", "absolute", "tar"])
def test_the_same_photos_under_other_names(camera: Sandbox, tmp_path: Path, form: str) -> None:
    """They are the run's own data set: its test rows are scored, and its training rows are not scored as test."""
    header, *lines = (camera.folder / "ph" / "labels.csv").read_text().splitlines()
    splits = splits_of(camera, photos_run(camera))
    split_of_name = {photo: name for name, photos in splits.items() for photo in photos}
    cells = [line.partition(",") for line in lines]
    if form == "tar":
        file = tmp_path / "photos.tar"
        with tarfile.open(file, "w") as tar:
            for photo, _, labels in cells:
                present = [label for label, cell in zip(LABELS, labels.split(","), strict=True) if cell == "1"]
                facts = json.dumps({"labels": present, "split": split_of_name[photo]}).encode()
                info = tarfile.TarInfo(f"key-{photo.removesuffix('.png')}.json")
                info.size = len(facts)
                tar.add(camera.folder / "ph" / photo, f"key-{photo}")
                tar.addfile(info, io.BytesIO(facts))
    else:
        folder = "ph/" if form == "one folder up" else f"{camera.folder}/ph/"
        file = camera.folder / f"{form.replace(' ', '-')}.csv"
        rows = [f"{folder}{photo},{split_of_name[photo]},{labels}" for photo, _, labels in cells]
        file.write_text("\n".join([header.replace("path,", "path,split,"), *rows]))
    result = camera.run("eval", "photos", "--dataset", file, "--json")
    assert result.exit_code == 0, result.stderr
    assert f"is the data set that {photos_run(camera)} was trained on" in result.stderr
    scored = json.loads(result.stdout)
    assert scored["n_images"] == len(splits["test"])
    assert scored["provenance"]["labels_changed"] == {}


def test_training_photos_under_other_names_are_no_test_rows(camera: Sandbox) -> None:
    header, *lines = (camera.folder / "ph" / "labels.csv").read_text().splitlines()
    train = splits_of(camera, photos_run(camera))["train"]
    rows = [f"ph/{line}" for line in lines if line.partition(",")[0] in train]
    (camera.folder / "train.csv").write_text("\n".join([header, *rows]))
    for command in (
        ("eval", "photos", "--dataset", camera.folder / "train.csv"),
        ("adversarial", "--dataset", camera.folder / "train.csv", *BACKBONE, "--from", "photos", "--steps", 1),
    ):
        result = camera.run(*command)
        assert result.exit_code == 1 and "trained on" in result.stderr, result.stderr


@pytest.mark.parametrize("with_splits", [False, True])
def test_other_photos_with_the_same_names(camera: Sandbox, tmp_path: Path, with_splits: bool) -> None:
    """Camera names are no identity: these are other photos, and all of them, or their own test rows, are scored."""
    write_photos(tmp_path / "other", range(100, 160))
    if with_splits:
        header, *lines = (tmp_path / "other" / "labels.csv").read_text().splitlines()
        rows = [
            line.replace(",", f",{'train' if k < 30 else 'val' if k < 40 else 'test'},", 1)
            for k, line in enumerate(lines)
        ]
        (tmp_path / "other" / "labels.csv").write_text("\n".join([header.replace("path,", "path,split,"), *rows]))
    result = camera.run("eval", "photos", "--dataset", tmp_path / "other", "--json")
    assert result.exit_code == 0, result.stderr
    assert "is not the data set that" in result.stderr and "left out" not in result.stderr
    assert json.loads(result.stdout)["n_images"] == (20 if with_splits else 60)
    again = camera.run("eval", "photos", "--dataset", tmp_path / "other")
    assert "reading them" not in again.stderr


def test_files_of_another_data_set_are_read_once(camera: Sandbox, tmp_path: Path) -> None:
    write_photos(tmp_path / "other", range(200, 230))
    result = camera.run("eval", "photos", "--dataset", tmp_path / "other")
    counts = [int(n) for n in re.findall(r"(\d+) of \d+ \w+ files are new", result.stderr)]
    assert sum(counts) == 30, result.stderr


def test_training_reads_no_test_images(tmp_path: Path) -> None:
    """Not even for the check of the rows that a start was trained on, as long as their names are the same."""
    sandbox = Sandbox(tmp_path)
    write_photos(tmp_path / "ph", range(30))
    words = ("--dataset", tmp_path / "ph", *BACKBONE, "--steps", 2)
    assert "reading them" not in sandbox.run("pretrain", *words).stderr
    started = sandbox.run("adversarial", *words, "--critic", "none")
    assert started.exit_code == 0 and "reading them" not in started.stderr, started.stderr


def test_full_mode_reads_few_files_and_says_where_it_goes_by_name(
    camera: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(tmp_path / "other", range(600, 620))
    out = camera.folder / "runs" / "full"
    camera.json("pretrain", "--full", "--dataset", camera.folder / "ph", *BACKBONE, "--steps", 1, "--out", out)
    monkeypatch.setattr("labeldep_cli.projects.rows.CHEAP", 19)
    result = camera.run("eval", "full", "--dataset", tmp_path / "other", "--split", "train")
    assert "20 images of other-" in result.stderr and "recognised by name, not by content" in result.stderr
    monkeypatch.setattr("labeldep_cli.projects.rows.CHEAP", 20)
    result = camera.run("eval", "full", "--dataset", tmp_path / "other", "--json")
    assert "recognised by name" not in result.stderr and json.loads(result.stdout)["n_images"] == 20


def test_a_photo_that_was_replaced_is_another_row(camera: Sandbox) -> None:
    photo = camera.folder / "ph" / sorted(splits_of(camera, photos_run(camera))["train"])[0]
    before = photo.read_bytes()
    try:
        draw_image(photo, 999)
        changed = camera.json("eval", "photos")["provenance"]["labels_changed"]
    finally:
        photo.write_bytes(before)
    assert changed == {"train": {"rows": 0, "cells": 0, "added": 1, "removed": 1}}


def test_runs_with_other_draws_on_a_third_data_set(camera: Sandbox, tmp_path: Path) -> None:
    """It has no splits. Its rows have one order, whatever the splits are that each run would draw."""
    camera.json(
        *("pretrain", "--dataset", camera.folder / "ph", *BACKBONE, "--steps", 3),
        *("--split-seed", 1, "--out", tmp_path / "seed"),
    )
    write_photos(tmp_path / "third", range(300, 330))
    compared = camera.json("compare", "photos", tmp_path / "seed", "--dataset", tmp_path / "third")
    assert compared["n_images"] == 30
    result = camera.run("compare", "photos", tmp_path / "seed")
    assert result.exit_code == 1 and "--split-seed" in result.stderr, result.stderr


# Ready features: leaks that a run inherits, and part of the rows under another name


def write_features(file: Path, rows: slice, n_labels: int = 3, turned: bool = False) -> Path:
    """Some of 400 rows, without splits."""
    x = np.random.default_rng(3).normal(size=(400, 4)).astype(np.float32)[rows]
    order = slice(None, None, -1) if turned else slice(None)
    y = (x[:, :n_labels] > 0).astype(np.int8)[:, order]
    file.parent.mkdir(exist_ok=True, parents=True)
    np.savez(file, X=x, Y=y, label_names=np.array(LABELS[:n_labels])[order])
    return file


@pytest.fixture
def features(tmp_path: Path) -> Sandbox:
    """A run A on rows 0 to 199."""
    sandbox = Sandbox(tmp_path)
    write_features(tmp_path / "a.npz", slice(0, 200))
    sandbox.json("pretrain", "--dataset", tmp_path / "a.npz", "--steps", 3, "--out", tmp_path / "runs" / "A")
    return sandbox


def test_part_of_the_training_rows_in_another_data_set(features: Sandbox) -> None:
    """They are certainly the same rows; they are left out, and JSON says how many."""
    write_features(features.folder / "p.npz", slice(170, 310))
    rows = read_rows(features.folder / "runs" / "A")
    assert rows is not None
    x = np.load(features.folder / "a.npz")["X"][170:]
    shared = row_ids(Split("x", ("",) * 30, np.zeros((30, 1), np.int8), LabelSpace(("a",)), Path(), x))
    n = int(shared.among(rows.splits["train"].ids).sum())
    scored = features.json("eval", "A", "--dataset", features.folder / "p.npz")
    assert n > 10 and scored["n_images"] == 140 - n
    assert scored["provenance"]["labels_changed"] == {"test": {"trained_on": n}}


def test_leaks_are_inherited_from_the_start(features: Sandbox) -> None:
    """B starts from A on other rows. Rows of its test that A was trained on are left out, also one stage later."""
    write_features(features.folder / "b.npz", slice(110, 400))
    runs = features.folder / "runs"
    words = ("--dataset", features.folder / "b.npz", "--steps", 3, "--critic", "none")
    started = features.run("adversarial", *words, "--from", "A", "--out", runs / "B")
    assert started.exit_code == 0, started.stderr
    assert re.search(r"A was trained on \d+ of the \d+ rows that are test here.*left out when", started.stderr)
    features.json("adversarial", *words, "--from", runs / "B", "--out", runs / "C")
    a, b = read_rows(runs / "A"), read_rows(runs / "B")
    assert a is not None and b is not None and not b.inherits_unknown
    n = int(b.splits["test"].ids.among(a.splits["train"].ids).sum())
    assert n > 0
    for run in ("B", "C"):
        scored = features.json("eval", run)
        assert scored["n_images"] == len(b.splits["test"].ids) - n
        assert scored["provenance"]["labels_changed"]["test"]["trained_on"] == n


def test_an_automatic_start_that_leaks_is_not_taken(features: Sandbox) -> None:
    """The pretrained run of the default folder was trained on rows that are test now."""
    file = write_features(features.folder / "d.npz", slice(0, 60))
    features.json("pretrain", "--dataset", file, "--steps", 3)
    folder = only(features.folder / "runs", "d-*-pretrain")
    words = ("adversarial", "--dataset", file, "--steps", 3, "--critic", "none")
    x, y = (np.load(file)[key] for key in ("X", "Y"))
    rows = read_rows(folder)
    assert rows is not None
    mine = row_ids(Split("x", ("",) * 60, np.zeros((60, 1), np.int8), LabelSpace(("a",)), Path(), x))
    train = np.flatnonzero(mine.among(rows.splits["train"].ids))
    split = np.array(["test"] * 60, dtype="<U5")
    split[train], split[train[:2]], split[train[2:5]] = "train", "test", "val"
    np.savez(file, X=x, Y=y, split=split, label_names=np.array(LABELS))
    result = features.run(*words)
    assert result.exit_code == 1
    assert re.search(
        r"was trained on 3 of the 3 rows that are val here.* and 2 of the \d+ rows that are test", result.stderr
    )
    for remedy in ("labeldep pretrain --dataset", "--fresh", "--out", "--from"):
        assert remedy in result.stderr
    (folder / "rows.safetensors").unlink()
    result = features.run(*words)
    assert result.exit_code == 1 and "does not say which rows it was trained on" in result.stderr
    assert features.run("pretrain", "--dataset", file, "--steps", 3, "--fresh").exit_code == 0
    assert features.run(*words).exit_code == 0


def test_a_start_without_a_record_is_remembered(features: Sandbox) -> None:
    """A named start of an older version, on data that have changed since: scores come with a warning."""
    runs = features.folder / "runs"
    (runs / "A" / "rows.safetensors").unlink()
    words = ("--dataset", features.folder / "a.npz", "--steps", 3, "--critic", "none", "--from", "A")
    features.json("adversarial", *words, "--out", runs / "same")
    assert "did not record" not in features.run("eval", "same").stderr
    write_features(features.folder / "a.npz", slice(0, 210))
    features.json("adversarial", *words, "--out", runs / "grown")
    result = features.run("eval", "grown")
    assert result.exit_code == 0 and "grown started from a run of an older version that did not record" in result.stderr


def test_labels_in_another_order(features: Sandbox) -> None:
    """Columns are aligned by name in a comparison and for a start; a page, which lists labels, is refused."""
    runs = features.folder / "runs"
    plain = features.json("compare", "A", "A")
    file = write_features(features.folder / "a.npz", slice(0, 200), turned=True)
    features.json("pretrain", "--dataset", file, "--steps", 3, "--out", runs / "turned")
    compared = features.run("compare", "A", "turned", "--json")
    assert compared.exit_code == 0, compared.stderr
    assert json.loads(compared.stdout)["n_images"] == plain["n_images"]
    page = features.run("report", "A", "turned", "--out", features.folder / "page.html")
    assert page.exit_code == 1 and "label 0 is 'cat' in A and 'mat' in turned" in page.stderr
    assert "labeldep compare" in page.stderr
    started = features.run(
        *("adversarial", "--dataset", file, "--steps", 3, "--critic", "none", "--from", "A", "--out", runs / "next")
    )
    assert started.exit_code == 0, started.stderr
    assert "are taken in the order of" in started.stderr
    scores = [features.json("eval", run)["per_label"] for run in ("A", "next")]
    assert [[label["label"] for label in labels] for labels in scores] == [list(LABELS)] * 2
    first, second = ([label["count"] for label in labels] for labels in scores)
    assert first == second


def test_other_labels_are_named(features: Sandbox) -> None:
    file = write_features(features.folder / "a.npz", slice(0, 200), n_labels=2)
    features.json("pretrain", "--dataset", file, "--steps", 3, "--out", features.folder / "runs" / "two")
    result = features.run("compare", "A", "two")
    assert result.exit_code == 1 and "have other labels: A alone has mat" in result.stderr


def test_the_projects_data_set_is_tried_where_the_runs_own_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder was renamed, and labeldep.toml with it: short words for runs still mean the runs of before."""
    sandbox = Sandbox(tmp_path)
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "before", range(40))
    write_photos(tmp_path / "other", range(100, 140))
    sandbox.json("pretrain", "--dataset", tmp_path / "before", *BACKBONE, "--steps", 2)
    first = sandbox.json("eval", "pretrain")
    (tmp_path / "before").rename(tmp_path / "after")
    Path("labeldep.toml").write_text('[defaults]\ndataset = "after/labels.csv"\nbackbone = "squeezenet1_1"\n')
    result = sandbox.run("eval", "pretrain", "--json")
    assert result.exit_code == 0, result.stderr
    assert "is the data set that" in result.stderr
    assert {name: json.loads(result.stdout)[name] for name in ("mAP", "n_images")} == {
        name: first[name] for name in ("mAP", "n_images")
    }
    Path("labeldep.toml").write_text('[defaults]\ndataset = "other/labels.csv"\nbackbone = "squeezenet1_1"\n')
    refused = sandbox.run("eval", "pretrain")
    assert refused.exit_code == 1
    assert "is gone, and other/labels.csv is another one" in refused.stderr and "--dataset NEW" in refused.stderr
