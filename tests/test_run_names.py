"""Which run a word means."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from labeldep_cli.config import EVERYWHERE, AdversarialConfig, PretrainConfig, Scope
from labeldep_cli.errors import CheckpointError
from labeldep_cli.progress import SilentReporter
from labeldep_cli.runs.layout import BEST, CONFIG, METRICS
from labeldep_cli.runs.listing import list_runs
from labeldep_cli.runs.names import find_run, is_run, known_runs

COCO, PETS = ("coco", "coco", "resnet101"), ("pets-ab12cd", "/photos/pets/labels.csv", "vgg16")
STAGES = {
    "pretrain": PretrainConfig(),
    "adversarial": AdversarialConfig(),
    "control": AdversarialConfig(critic="none"),
    "critic": AdversarialConfig(freeze_generator=True),
}


def make_run(
    runs_dir: Path,
    name: str,
    stage: str = "pretrain",
    source: tuple[str, str, str | None] = COCO,
    started: str | None = "2026-11-01T10:00:00+00:00",
    usable: bool = True,
) -> Path:
    folder = runs_dir / name
    folder.mkdir(parents=True)
    dataset, path, backbone = source
    record = {
        "command": "pretrain" if stage == "pretrain" else "adversarial",
        "settings": {**STAGES[stage].settings(), "dataset": path, "backbone": backbone},
        "data_dir": "/data",
        "features_dir": "/data/features",
        "dataset": {"name": dataset, "fingerprints": {}},
        "labels": ["sea", "sky"],
        "weights": None,
        "start": None,
        "steps": 10,
        "started": started,
    }
    (folder / CONFIG).write_text(json.dumps(record))
    if usable:
        (folder / BEST).write_bytes(b"")
        scores = dict.fromkeys(("mAP", "CF1", "OF1", "exact_match"), 61.25)
        (folder / METRICS).write_text(json.dumps({"step": 5, "val": scores}) + "\n")
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """One run of each stage of either data set, two of them in full mode."""
    runs_dir = tmp_path / "runs"
    for day, stage in enumerate(STAGES, start=1):
        make_run(runs_dir, f"coco-resnet101-{stage}", stage, COCO, f"2026-11-0{day}T10:00:00+00:00")
        make_run(runs_dir, f"pets-ab12cd-vgg16-{stage}", stage, PETS, f"2026-10-0{day}T10:00:00+00:00")
    make_run(runs_dir, "pets-ab12cd-vgg16-full-adversarial", "adversarial", PETS, "2026-09-01T10:00:00+00:00")
    return runs_dir


def refused(name: str | None, runs_dir: Path, scope: Scope = EVERYWHERE) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        find_run(name, runs_dir, scope)
    return caught.value


class TestOrder:
    def test_a_folder_goes_before_a_name(self, runs, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        elsewhere = make_run(tmp_path, "coco-resnet101-pretrain")
        assert find_run("coco-resnet101-pretrain", runs).absolute() == elsewhere
        shutil.rmtree(elsewhere)
        assert find_run("coco-resnet101-pretrain", runs) == runs / "coco-resnet101-pretrain"
        assert find_run(str(runs / "coco-resnet101-pretrain"), tmp_path) == runs / "coco-resnet101-pretrain"

    def test_a_name_goes_before_a_stage(self, runs):
        mine = make_run(runs, "critic", "pretrain")
        assert find_run("critic", runs, Scope("coco")) == mine

    def test_a_stage_goes_before_a_part(self, runs):
        make_run(runs, "my-control-of-coco", "pretrain")
        assert find_run("control", runs, Scope("coco")) == runs / "coco-resnet101-control"

    def test_a_word_for_a_stage_that_no_run_has_may_be_a_part(self, tmp_path):
        mine = make_run(tmp_path, "my-control-of-coco", "pretrain")
        assert find_run("control", tmp_path) == mine

    @pytest.mark.parametrize("part", ["coco-resnet101-cr", "101-critic", "o-resnet101-critic"])
    def test_a_part(self, runs, part):
        assert find_run(part, runs) == runs / "coco-resnet101-critic"

    def test_a_part_of_a_run_one_level_below(self, runs):
        nested = make_run(runs, "paper/warp-seed-0")
        assert find_run("paper/warp-seed-0", runs) == find_run("warp", runs) == nested

    def test_no_word_at_all_is_no_part(self, runs):
        assert "there is no run ''" in refused("", runs).what


class TestScope:
    @pytest.mark.parametrize("stage", STAGES)
    @pytest.mark.parametrize("scope", [Scope("coco"), Scope("coco", "resnet101"), Scope(backbone="resnet101")])
    def test_a_stage_is_of_the_data_set_and_backbone(self, runs, stage, scope):
        assert find_run(stage, runs, scope) == runs / f"coco-resnet101-{stage}"

    @pytest.mark.parametrize("dataset", ["pets-ab12cd", "/photos/pets/labels.csv", "/photos/pets", "/photos/x/../pets"])
    def test_a_data_set_goes_by_name_table_or_folder(self, runs, dataset):
        assert find_run("control", runs, Scope(dataset)) == runs / "pets-ab12cd-vgg16-control"

    def test_a_path_may_be_relative_or_of_home(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        run = make_run(tmp_path / "runs", "a", source=("genes-1", str(tmp_path / "genes.npz"), None))
        for dataset in ("genes.npz", "./genes.npz", "~/genes.npz"):
            assert find_run("pretrain", tmp_path / "runs", Scope(dataset)) == run
        (tmp_path / "genes.npz").touch()
        assert "there is no run" in refused("pretrain", tmp_path / "runs", Scope("other.npz")).what

    def test_a_run_whose_data_set_is_gone_may_be_of_any(self, tmp_path):
        """It may have moved; the command that opens it knows."""
        run = make_run(tmp_path / "runs", "a", source=("genes-1", str(tmp_path / "genes.npz"), "vgg16"))
        other = str(tmp_path / "other.npz")
        Path(other).touch()
        for name in ("pretrain", None):
            assert find_run(name, tmp_path / "runs", Scope(other, "vgg16")) == run
            refused(name, tmp_path / "runs", Scope(other, "resnet101"))
            refused(name, tmp_path / "runs", Scope("coco", "vgg16"))

    def test_ready_features_have_no_backbone(self, tmp_path):
        run = make_run(tmp_path, "genes", source=("genes-1", "/genes.npz", None))
        assert find_run("pretrain", tmp_path, Scope("/genes.npz", "resnet101")) == run

    def test_an_exact_name_is_found_outside_it(self, runs):
        assert find_run("pets-ab12cd-vgg16-pretrain", runs, Scope("coco")) == runs / "pets-ab12cd-vgg16-pretrain"

    def test_what_lies_outside_is_named(self, runs):
        error = refused("full-adv", runs, Scope("coco", "resnet101"))
        assert "there is no run 'full-adv' of coco, resnet101: " in error.what
        assert error.remedy.endswith("name one of them in full: pets-ab12cd-vgg16-full-adversarial")

    def test_the_newest_is_of_it_too(self, runs):
        assert find_run(None, runs, Scope("pets-ab12cd")) == runs / "pets-ab12cd-vgg16-critic"
        assert find_run("@newest", runs, Scope(backbone="resnet101")) == runs / "coco-resnet101-critic"
        error = refused("@newest", runs, Scope("nuswide"))
        assert "there is no trained run of nuswide in" in error.what
        assert "--dataset nuswide" in error.remedy and "coco-resnet101-critic" in error.remedy


class TestAmbiguous:
    def test_the_candidates_are_listed(self, runs):
        error = refused("adversarial", runs)
        assert error.what == f"'adversarial' may mean any of 3 runs in {runs}"
        first, *lines = error.remedy.splitlines()
        assert first == "Name one of them in full:"
        assert [line.split()[0] for line in lines] == [
            "coco-resnet101-adversarial",
            "pets-ab12cd-vgg16-adversarial",
            "pets-ab12cd-vgg16-full-adversarial",
        ], "the newest first"
        assert all(re.search(r"  adversarial  2026-\d\d-\d\d \d\d:00  val mAP 61.2$", line) for line in lines)

    def test_within_the_scope_alone(self, runs):
        error = refused("adversarial", runs, Scope("pets-ab12cd", "vgg16"))
        assert "may mean any of 2 runs of pets-ab12cd, vgg16" in error.what and "coco" not in error.remedy

    def test_runs_put_aside_by_fresh_give_way(self, runs):
        kept = make_run(runs, "coco-resnet101-pretrain-2026-11-01T1000", "pretrain")
        again = make_run(runs, "coco-resnet101-pretrain-2026-11-01T1000-2", "pretrain")
        assert find_run("pretrain", runs, Scope("coco")) == runs / "coco-resnet101-pretrain"
        assert find_run("coco-resnet101-pre", runs) == runs / "coco-resnet101-pretrain"
        assert find_run("T1000-2", runs) == again
        shutil.rmtree(runs / "coco-resnet101-pretrain")
        assert "2 runs" in refused("coco-resnet101-pretrain-2", runs).what
        assert find_run(kept.name, runs) == kept

    def test_runs_without_a_checkpoint_give_way(self, runs):
        begun = make_run(runs, "coco-resnet101-pretrain-seed1", usable=False)
        assert find_run("pretrain", runs, Scope("coco")) == runs / "coco-resnet101-pretrain"
        assert "seed1 has no checkpoint yet" in refused("seed1", runs).what
        assert f"the run {begun} has no checkpoint yet" in refused(begun.name, runs).what


class TestNewest:
    def test_it_goes_by_the_time_in_config_json(self, runs):
        """As after `cp -r`, which gives all files the time of the copy, in any order."""
        for second, name in enumerate(sorted((path.name for path in runs.iterdir()), reverse=True)):
            for file in (runs / name).iterdir():
                os.utime(file, (10**9 + second, 10**9 + second))
        assert find_run(None, runs) == find_run("@newest", runs) == runs / "coco-resnet101-critic"
        assert [run.name for run in known_runs(runs)][:2] == ["coco-resnet101-critic", "coco-resnet101-control"]
        rows = list_runs(runs, SilentReporter())
        assert [row.name for row in rows] == [run.name for run in known_runs(runs)]
        assert rows[0].started == "2026-11-04T10:00:00.000000+00:00"

    def test_other_offsets_from_utc(self, tmp_path):
        make_run(tmp_path, "earlier", started="2026-11-01T10:30:00+02:00")
        later = make_run(tmp_path, "later", started="2026-11-01T09:00:00+00:00")
        assert find_run(None, tmp_path) == later

    @pytest.mark.parametrize("started", [None, "yesterday", 5])
    def test_an_older_run_goes_by_its_file(self, runs, started):
        old = make_run(runs, "old", started=started)
        os.utime(old / CONFIG, (10**9, 10**9))  # 2001
        assert find_run(None, runs) == runs / "coco-resnet101-critic"
        os.utime(old / CONFIG, (4 * 10**9, 4 * 10**9))  # 2096
        assert find_run(None, runs) == old

    def test_it_has_a_checkpoint_and_lies_in_the_runs_dir_itself(self, runs):
        make_run(runs, "begun", started="2026-12-01T10:00:00+00:00", usable=False)
        make_run(runs, "paper/warp-seed-0", started="2026-12-02T10:00:00+00:00")
        assert find_run("@newest", runs) == runs / "coco-resnet101-critic"

    def test_what_is_no_run_s_is_passed_over(self, runs):
        for name, text in (("broken", "{"), ("foreign", '{"model_type": "bert"}'), ("list", "[]")):
            (runs / name).mkdir()
            (runs / name / CONFIG).write_text(text)
            os.utime(runs / name / CONFIG, (4 * 10**9, 4 * 10**9))
        assert find_run("@newest", runs) == runs / "coco-resnet101-critic"
        assert "there is no run 'foreign'" not in refused("foreign", runs).what, "a folder with a config.json"


def test_the_words_that_audit_takes_for_a_run(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert all(is_run(word, runs) for word in ("pretrain", "@newest", "coco-resnet101-critic"))
    assert not is_run("coco", runs)
    (tmp_path / "control").mkdir()
    assert not is_run("control", runs), "the user's own folder of that name"
