"""A command that ends tells the next useful one, with what nobody says already."""

from __future__ import annotations

import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from sandbox import BACKBONE, Sandbox, make_table, only

from labeldep_cli.cli import next_command, predict


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if stderr were a terminal."""
    monkeypatch.setattr(next_command, "_is_interactive", lambda: True)


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    make_table(tmp_path / "pets", rows=20)
    monkeypatch.chdir(tmp_path)
    return Sandbox(tmp_path)


def told(sandbox: Sandbox, *words: object) -> list[str]:
    """The words of the next command."""
    result = sandbox.run(*words)
    assert result.exit_code == 0, result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("next: ")
    return shlex.split(last.removeprefix("next: "))


@pytest.mark.usefixtures("looked_at")
def test_each_can_be_pasted_until_the_report(sandbox: Sandbox) -> None:
    """From the first command on, each is the one that was told before, with a few steps for a training."""
    assert told(sandbox, "data", "pets/labels.csv") == ["labeldep", "extract", "--dataset", "pets/labels.csv"]
    data = ["--dataset", "pets/labels.csv", *BACKBONE]
    found = told(sandbox, "extract", *data)
    assert found == ["labeldep", "pretrain", *data]
    found = told(sandbox, *found[1:], "--steps", 2)
    assert found == ["labeldep", "adversarial", *data]
    found = told(sandbox, *found[1:], "--steps", 2, "--critic", "none")
    names = [only(sandbox.folder / "runs", f"*-{stage}").name for stage in ("pretrain", "control")]
    assert found == ["labeldep", "compare", *names]
    found = told(sandbox, *found[1:])
    assert found == ["labeldep", "report", *names]
    found = told(sandbox, *found[1:])
    assert found == ["labeldep", "audit", names[0]]
    assert Path("report.html").is_file()


@pytest.mark.usefixtures("looked_at")
def test_it_leaves_out_what_the_project_file_says(sandbox: Sandbox) -> None:
    file = Path("labeldep.toml")
    file.write_text('[defaults]\ndataset = "pets/labels.csv"\nbackbone = "squeezenet1_1"\nweights = "none"\n')
    assert told(sandbox, "data") == ["labeldep", "extract"]
    assert told(sandbox, "data", "--split-seed", 3) == ["labeldep", "extract", "--split-seed", "3"]
    assert told(sandbox, "extract") == ["labeldep", "pretrain"]
    file.rename("other.toml")
    assert told(sandbox, "--project", "other.toml", "data") == ["labeldep", "--project", "other.toml", "extract"]


@pytest.mark.usefixtures("looked_at")
def test_it_takes_a_folder_of_its_own_along(sandbox: Sandbox) -> None:
    words = ("--dataset", "pets/labels.csv", *BACKBONE)
    found = told(sandbox, "pretrain", *words, "--steps", 2, "--out", "first", "--seed", 1, "--max-memory", "1GB")
    assert found[:2] == ["labeldep", "adversarial"]
    assert {("--from", "first"), ("--seed", "1"), ("--max-memory", "1000000000")} <= {*pairwise(found)}
    assert told(sandbox, "eval", "first") == ["labeldep", "report", "first"]
    assert told(sandbox, "eval", "first", "--split", "val") == ["labeldep", "report", "first", "--split", "val"]
    assert told(sandbox, "dependency", "first") == ["labeldep", "report", "first"]
    assert told(sandbox, "runs", "--runs-dir", ".") == ["labeldep", "eval", "first", "--runs-dir", "."]


@pytest.mark.usefixtures("looked_at")
def test_ready_features_are_not_extracted(sandbox: Sandbox) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    np.savez("x.npz", X=rng.normal(size=(20, 3)), Y=rng.integers(0, 2, (20, 2)), label_names=["a", "b"])
    assert told(sandbox, "data", "x.npz") == ["labeldep", "pretrain", "--dataset", "x.npz"]


@pytest.mark.usefixtures("looked_at")
def test_after_predictions_only_where_they_are_shown(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sandbox.run("pretrain", "--dataset", "pets/labels.csv", *BACKBONE, "--steps", 2).exit_code == 0
    assert "next:" not in sandbox.run("predict", "pets/img/0.png").stderr
    monkeypatch.setattr(predict, "_is_terminal", lambda: True)
    assert told(sandbox, "predict", "pets/img/0.png") == ["labeldep", "export"]
    name = only(sandbox.folder / "runs", "*-pretrain").name
    assert told(sandbox, "predict", "pets/img/0.png", "--run", name) == ["labeldep", "export", name]
    assert "next:" not in sandbox.run("predict", "pets/img/0.png", "--json").stderr
    assert told(sandbox, "eval") == ["labeldep", "report", name], "the newest, by its name"


@pytest.mark.usefixtures("looked_at")
def test_from_an_empty_folder_on_it_leads_to_init(sandbox: Sandbox) -> None:
    assert told(sandbox, "doctor") == ["labeldep", "init"]
    Path("labeldep.toml").write_text('[defaults]\ndataset = "scenes"\n')
    assert told(sandbox, "doctor") == ["labeldep", "data"]


@pytest.mark.usefixtures("looked_at")
def test_beside_json_nothing_is_told(sandbox: Sandbox) -> None:
    result = sandbox.run("data", "pets/labels.csv", "--json")
    assert result.exit_code == 0
    assert "next:" not in result.stderr + result.stdout


def test_in_a_log_nothing_is_told(sandbox: Sandbox) -> None:
    assert "next:" not in sandbox.run("data", "pets/labels.csv").stderr


@pytest.mark.usefixtures("looked_at")
def test_after_runs_it_scores_a_finished_one_and_goes_on_with_an_unfinished_one(sandbox: Sandbox) -> None:
    pretrain = (
        "pretrain",
        "--dataset",
        sandbox.table,
        *BACKBONE,
        "--steps",
        2,
        "--out",
        sandbox.folder / "runs" / "own",
    )
    assert sandbox.run(*pretrain).exit_code == 0
    assert told(sandbox, "runs")[:3] == ["labeldep", "eval", "own"]
    run = sandbox.folder / "runs" / "own"
    result = (run / "result.json").read_bytes()
    (run / "result.json").unlink()
    found = told(sandbox, "runs")
    assert found == ["labeldep", "pretrain", "--config", str(run / "config.json"), "--out", str(run)]
    again = sandbox.run(*found[1:])
    assert again.exit_code == 0 and "resuming at step 2" in again.stderr, again.stderr
    assert (run / "result.json").read_bytes() == result


@pytest.mark.usefixtures("looked_at")
def test_after_a_fresh_baseline_its_critic_is_trained_again(sandbox: Sandbox) -> None:
    """The critic of before started from a baseline that is no longer there."""
    data = ("--dataset", sandbox.table, *BACKBONE)
    assert sandbox.run("adversarial", *data, "--steps", 2, "--critic", "none").exit_code == 0
    found = told(sandbox, "pretrain", *data, "--steps", 3, "--fresh")
    assert found[:2] == ["labeldep", "adversarial"] and "--fresh" in found
    assert sandbox.run(*found[1:], "--steps", 2, "--critic", "none").exit_code == 0
