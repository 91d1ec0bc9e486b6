"""Ready features that leave a question open, and the `.npz` without one that `labeldep import` writes of them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from labeldep_cli.cli import app
from labeldep_cli.config import ImportConfig
from labeldep_cli.datasets import ready_features, table
from labeldep_cli.errors import DatasetError
from labeldep_cli.ingest import ready

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 3))
Y = np.array([[k % 2, 1, 0] for k in range(12)])


def save(folder, **changes):
    arrays = {"X": X, "Y": Y, "label_names": np.array(["sea", "sky", "dog"])} | changes
    np.savez(folder / "a.npz", **{key: value for key, value in arrays.items() if value is not None})
    return folder / "a.npz"


def changed(row, column, value, array=Y):
    array = array.astype(type(value)) if isinstance(value, float) else array.copy()
    array[row, column] = value
    return array


@pytest.mark.parametrize(
    ("changes", "asks", "flags", "read"),
    [
        ({"Y": changed(0, 1, -1)}, "'sky' is 1 or -1, never 0", {"minus_one": "unknown"}, [0, -1, 0]),
        ({"Y": changed(0, 1, -1)}, "'sky' is 1 or -1, never 0", {"minus_one": "absent"}, [0, 0, 0]),
        ({"Y": changed(0, 1, 255).astype(np.uint8)}, r"Y\[0, 1\] is 255", {"minus_one": "unknown"}, [0, -1, 0]),
        ({"Y": changed(0, 0, float("nan"))}, r"Y\[0, 0\] is nan", {"blank": "absent"}, [0, 1, 0]),
        ({"label_names": None}, "no label_names", {"label_names": ("a", "b", "c")}, [0, 1, 0]),
        ({"label_names": np.arange(3)}, "label_names is int64", {}, [0, 1, 0]),
        ({"split": np.arange(12) % 2}, "split is int64", {"ignore_columns": ("split",)}, [0, 1, 0]),
        ({"X": changed(0, 0, 1e300, X)}, "NaN or infinite", {"standardize": True}, [0, 1, 0]),
        ({"X": changed(0, 0, float("inf"), X)}, "NaN or infinite", {"drop_broken": True}, [1, 1, 0]),
        ({"Y": np.c_[Y[:, :2], np.full(12, -1)]}, "'dog' is -1, never 1 or 0", {"ignore_columns": ("dog",)}, [0, 1]),
    ],
)
def test_a_question_is_asked_once(tmp_path, draw, changes, asks, flags, read):
    file = save(tmp_path, **changes)
    with pytest.raises(DatasetError, match=asks) as caught:
        table.load(file, draw)
    assert "labeldep import" in caught.value.remedy
    ready.write(ready.read(file, ImportConfig(**flags)).rows, tmp_path / "b.npz")
    written = ready_features.read(tmp_path / "b.npz")
    assert written.labels[0].tolist() == read
    table.load(tmp_path / "b.npz", draw)


def test_what_is_left_open_is_asked_by_import_too(tmp_path):
    file = save(tmp_path, Y=changed(0, 1, -1), X=changed(0, 0, float("inf"), X))
    with pytest.raises(DatasetError, match="never 0") as caught:
        ready.read(file, ImportConfig(standardize=True))
    assert all("--standardize" in line for line in caught.value.remedy.splitlines() if line.startswith("labeldep"))
    with pytest.raises(DatasetError, match="NaN or infinite values in 1 of 12 rows"):
        ready.read(file, ImportConfig(minus_one="unknown"))


def test_features_are_standardized_over_train_and_far_values_become_the_median():
    x = np.array([[1.0, 7.0], [3.0, 7.0], [5.0, 7.0], [1e9, 7.0], [9.0, 8.0]])
    scaled, sentence = ready.standardized(x, np.array([True, True, True, True, False]))
    # The median of train is 4, and 1e9 becomes 4. The mean of 1, 3, 5, 4 is 3.25, their variance 2.1875.
    assert scaled[:, 0] == pytest.approx((np.array([1, 3, 5, 4, 9]) - 3.25) / 2.1875**0.5)
    assert scaled[:, 1].tolist() == [0, 0, 0, 0, 1]  # constant over train: only centred
    assert (
        sentence == "each feature has mean 0 and deviation 1 over train; 1 values were far out, and became the median"
    )


def test_groups_folds_and_further_arrays(tmp_path, draw):
    file = save(tmp_path, group=np.arange(12) // 2, fold=np.arange(12) % 3, ids=np.arange(12))
    dataset = table.load(file, replace(draw, fold=0))
    assert dataset.ignored == ("ids",)
    rows = ready_features.read_rows(file)
    assert rows.groups == tuple(str(k // 2) for k in range(12)) and rows.folds == tuple(k % 3 for k in range(12))


def test_the_command(tmp_path):
    file = save(tmp_path, X=(X * 1e6).astype(np.float32), split=np.array(["train"] * 8 + ["valid"] * 2 + ["test"] * 2))
    out = tmp_path / "b.npz"
    words = ["import", str(file), "--standardize", "--out", str(out)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    assert "mean 0 and deviation 1 over train" in result.stdout and "splits: train 8, val 2, test 2" in result.stdout
    assert ready_features.read(out).features[:8].std(axis=0) == pytest.approx(1.0, abs=1e-6)
    told = json.loads(CliRunner().invoke(app, ["data", str(out), "--json"]).stdout)
    assert told["labels"] == ["sea", "sky", "dog"] and told["constant_labels"] == ["sky"]
    assert (told["splits"]["train"]["known"], told["splits"]["train"]["present"]) == (24, 12)
    refused = CliRunner().invoke(app, [*words[:-1], str(tmp_path / "c.csv")])
    assert refused.exit_code == 1 and "does not end in .npz" in refused.stderr


def test_data_names_labels_and_ignored_columns(tmp_path):
    from conftest import draw_image

    rows = "".join(f"{k}.png,sea{';sky' if k % 2 else ''},Ann\n" for k in range(8))
    (tmp_path / "labels.csv").write_text(f"path,labels,photographer\n{rows}")
    for k in range(8):
        draw_image(tmp_path / f"{k}.png", k)
    result = CliRunner().invoke(app, ["data", str(tmp_path), "--workers", "0"])
    assert result.exit_code == 0, result.stderr
    assert "labels: sea, sky (2); ignored columns: photographer" in result.stdout.splitlines()
    assert "labels that are never absent: sea" in result.stdout.splitlines()
    table_rows = {line.split("  ")[0].strip(): line.split() for line in result.stdout.splitlines()}
    assert sum(int(n) for n in table_rows["labels known"][2:]) == 16
    assert sum(int(n) for n in table_rows["labels present"][2:]) == 12
