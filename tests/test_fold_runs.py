"""Runs on folds and on stratified draws: their folders, their identity, the data that they are scored on."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sandbox import Sandbox

from labeldep_cli.datasets import coco, csv_file
from labeldep_cli.datasets.draw import Draw

N_FOLDS = 3
WORDS = ("--backbone", "squeezenet1_1", "--weights", "none")


@pytest.fixture
def features(tmp_path):
    """A workspace with a CSV without splits; ready features are quick, but a table of folds is a CSV."""
    from conftest import draw_image

    rng = np.random.default_rng(0)
    lines = ["path,cat,dog,mat"]
    for row in range(45):
        draw_image(tmp_path / "pets" / "img" / f"{row}.png", row)
        lines.append(f"img/{row}.png,{','.join(map(str, rng.integers(0, 2, 3)))}")
    (tmp_path / "pets" / "labels.csv").write_text("\n".join(lines) + "\n")
    return Sandbox(tmp_path)


@pytest.fixture
def folded(features, monkeypatch):
    """The same with folds; a table is without them if it is called plain.csv."""
    read = csv_file.read

    def read_with_folds(file):
        rows = read(file)
        return rows if file.name == "plain.csv" else replace(rows, folds=[row % N_FOLDS for row in range(45)])

    monkeypatch.setattr(csv_file, "read", read_with_folds)
    return features


def train(sandbox, *words, command="pretrain", code=0):
    return sandbox.json(command, "--dataset", sandbox.table, *WORDS, "--steps", 2, *words, code=code)


class TestFolds:
    def test_each_fold_has_its_own_run_and_its_own_test_rows(self, folded):
        runs = [train(folded, "--fold", fold)["run"] for fold in range(N_FOLDS)]
        assert [run.rsplit("-", 2)[1:] for run in runs] == [["pretrain", f"fold{k}"] for k in range(N_FOLDS)]
        scored = [folded.json("eval", run) for run in runs]
        assert [found["n_images"] for found in scored] == [15] * N_FOLDS
        assert [found["provenance"]["fold"] for found in scored] == list(range(N_FOLDS))
        assert len({found["provenance"]["ids_sha256"] for found in scored}) == N_FOLDS

    def test_the_fold_comes_before_the_seed(self, folded):
        assert train(folded, "--fold", 0, "--seed", 2)["run"].endswith("-pretrain-fold0-seed2")

    def test_a_critic_starts_from_the_run_of_its_fold(self, folded):
        train(folded, "--fold", 0)
        result = folded.run(
            "adversarial", "--dataset", folded.table, *WORDS, "--steps", 2, "--fold", 1, "--critic-layers", 1
        )
        assert result.exit_code == 0 and "pretrain-fold1 yet: pretraining first" in result.stderr, result.stderr

    def test_another_fold_in_the_same_folder_is_refused(self, folded, tmp_path):
        train(folded, "--fold", 0, "--out", tmp_path / "run")
        result = folded.run(
            "pretrain", "--dataset", folded.table, *WORDS, "--steps", 2, "--fold", 1, "--out", tmp_path / "run"
        )
        assert result.exit_code == 1 and "--fold 0 there, 1 here" in result.stderr

    def test_a_table_with_folds_needs_one(self, folded):
        result = folded.run("data", folded.table)
        assert result.exit_code == 1
        command = next(line for line in result.stderr.splitlines() if "labeldep data" in line).strip()
        assert folded.run(*command.split()[1:]).exit_code == 0

    def test_another_data_set_need_not_have_them(self, folded):
        run = train(folded, "--fold", 2)["run"]
        plain = folded.folder / "pets" / "plain.csv"
        plain.write_text(folded.table.read_text())
        result = folded.run("eval", run, "--dataset", plain)
        assert "no folds" not in result.stderr

    def test_a_published_data_set_has_none(self, folded):
        result = folded.run("data", "coco", "--fold", 0)
        assert result.exit_code == 1 and "coco has no folds" in result.stderr


class TestStratified:
    def test_a_draw_says_that_it_is_and_is_part_of_the_run(self, features, tmp_path):
        record = features.json("data", features.table, "--stratify")
        assert "stratified by name" in record["notes"][0] and "added rows may move some" in record["notes"][0]
        train(features, "--out", tmp_path / "run", "--stratify")
        assert features.json("eval", tmp_path / "run")["provenance"]["stratify"] is True
        result = features.run(
            "pretrain", "--dataset", features.table, *WORDS, "--steps", 2, "--no-stratify", "--out", tmp_path / "run"
        )
        assert result.exit_code == 1 and "--stratify True there, False here" in result.stderr

    def test_a_run_of_an_older_version_had_neither(self, features, tmp_path):
        train(features, "--out", tmp_path / "run")
        config = tmp_path / "run" / "config.json"
        record = json.loads(config.read_text())
        del record["checksum"]
        for name in ("stratify", "fold"):
            del record["settings"][name]
        config.write_text(json.dumps(record))
        result = features.run("pretrain", "--dataset", features.table, *WORDS, "--steps", 2, "--out", tmp_path / "run")
        assert result.exit_code == 0 and "is finished already" in result.stderr, result.stderr

    def test_coco(self, shared_data):
        dataset = coco.load(shared_data, Draw(0.2, 0.25, 0, stratify=True))
        assert dataset.notes[-1].endswith("(--val-fraction 0.2, --split-seed 0, --stratify)")
        n_rows = [len(dataset.splits[name]) for name in ("train", "val")]
        assert sum(n_rows) == 60 and 8 <= n_rows[1] <= 16
        person = [dataset.splits[name].labels[:, 0].mean() for name in ("train", "val")]
        assert abs(person[0] - person[1]) < 0.05
