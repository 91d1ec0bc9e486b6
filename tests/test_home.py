"""`~` is the home folder wherever a path is given: flags, arguments, environment, labeldep.toml, config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import typer
from sandbox import only
from typer.testing import CliRunner, Result

from labeldep_cli.cli import app, flags
from labeldep_cli.cli.commands import command
from labeldep_cli.cli.project_file import VARIABLE
from labeldep_cli.config import AuditConfig, RunWorkspace, Source, Workspace
from labeldep_cli.files import expand_home


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder; the working directory is another one."""
    folder, work = tmp_path / "home", tmp_path / "work"
    folder.mkdir()
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(folder))
    for name in ("LABELDEP_DATA", "LABELDEP_RUNS", "LABELDEP_FEATURES", VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return folder


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def features(path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (40, 3))
    np.savez(path, X=rng.normal(size=(40, 4)).astype(np.float32), Y=y, label_names=np.array(["a", "b", "c"]))


def test_every_kind_of_flag_and_argument(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got: dict[str, Any] = {}

    def some(
        runs: list[str],
        *,
        source: Source,
        moved: Annotated[RunWorkspace, command_takes("features_dir")],
        workspace: Annotated[Workspace, command_takes("data_dir", "runs_dir")],
        audit: AuditConfig,
        start: Annotated[str | None, typer.Option("--from")] = None,
    ) -> None:
        got.update(runs=runs, source=source, moved=moved, workspace=workspace, audit=audit, start=start)

    monkeypatch.setenv("LABELDEP_DATA", "~/d")
    app_of_one = typer.Typer()
    app_of_one.command()(command(some))
    words = ["~/one", "two", "--dataset", "~/a.csv", "--weights", "~/w.pth", "--runs-dir", "~/r", "--from", "~/start"]
    result = CliRunner().invoke(app_of_one, [*words, "--features-dir", "~/f", "--out", "~/o"])
    assert result.exit_code == 0, result.output
    assert got["runs"] == [str(home / "one"), "two"]
    assert (got["source"].dataset, got["source"].weights) == (str(home / "a.csv"), str(home / "w.pth"))
    assert got["workspace"] == Workspace(home / "d", home / "r")
    assert got["moved"].features_dir == home / "f"
    assert (got["audit"].out, got["start"]) == (home / "o", str(home / "start"))


def command_takes(*names: str) -> Any:
    from labeldep_cli.cli.commands import Take

    return Take(*names)


def test_an_unknown_user_is_a_part_of_the_name() -> None:
    assert expand_home("~no-such-user/a.csv") == "~no-such-user/a.csv"
    result = run("data", "~no-such-user/a.csv")
    assert "there is no file ~no-such-user/a.csv" in result.stderr


def test_a_config_json_that_is_named(home: Path) -> None:
    (home / "run.json").write_text(json.dumps({"command": "some", "settings": {"dataset": "~/a.csv"}}))
    got = []

    def some(*, source: Source, config: flags.Config = None) -> None:
        got.append((source.dataset, config))

    app_of_one = typer.Typer()
    app_of_one.command()(command(some))
    assert CliRunner().invoke(app_of_one, ["--config", "~/run.json"]).exit_code == 0
    assert got == [(str(home / "a.csv"), home / "run.json")]


def test_the_project_file_and_its_values(home: Path) -> None:
    (home / "runs" / "some").mkdir(parents=True)
    (home / "runs" / "some" / "config.json").write_text("{")
    (home / "labeldep.toml").write_text('[defaults]\nruns-dir = "~/runs"\ndataset = "~/a.npz"\n')
    for named in ("~/labeldep.toml", "~"):
        assert "some" in run("--project", named, "runs").output
    assert f"there is no file {home / 'a.npz'}" in run("--project", "~", "data").stderr
    assert not any(Path().iterdir()), "no folder named ~"


@pytest.mark.slow
def test_a_run_of_a_data_set_in_the_home_folder_is_scored(home: Path) -> None:
    features(home / "a.npz")
    Path("labeldep.toml").write_text('[defaults]\ndataset = "~/a.npz"\nruns-dir = "~/runs"\n')
    assert run("pretrain", "--steps", 2).exit_code == 0
    record = json.loads((only(home / "runs", "*-pretrain") / "config.json").read_text())
    assert record["settings"]["dataset"] == str(home / "a.npz")
    scored = run("eval", "pretrain", "--json")
    assert scored.exit_code == 0, scored.stderr
    assert sorted(path.name for path in Path().iterdir()) == ["labeldep.toml"]
