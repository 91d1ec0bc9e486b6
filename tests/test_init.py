"""`labeldep init`: what it offers, what it asks, and the file that it writes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sandbox import make_table
from typer.testing import CliRunner, Result

from labeldep_cli import cli
from labeldep_cli.cli import app, init, next_command, project_file
from labeldep_cli.cli.codes import ExitCode
from labeldep_cli.config import DEFAULT_BACKBONE
from labeldep_cli.models.backbones import find_backbone
from labeldep_cli.models.weights import published_file


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory on a machine without weights."""
    monkeypatch.chdir(tmp_path)
    for name in ("LABELDEP_DATA", "LABELDEP_RUNS", "LABELDEP_FEATURES", project_file.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / ".hub"))
    return tmp_path


def run(*words: object, answers: str = "") -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], input=answers)


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if stdin were a terminal."""
    monkeypatch.setattr(init, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))


def written(path: str = "labeldep.toml") -> dict[str, object]:
    """[defaults] of the file, which has to be sound."""
    return dict(project_file.load(Path(path), cli._flags()).common)


def table(path: str, split: str | None = None, rows: int = 8) -> None:
    """A table of images that nobody has to read."""
    header, cell = ("path,split,labels", f",{split}") if split else ("path,labels", "")
    lines = [header, *(f"{row}.jpg{cell},{'a;b' if row % 2 else 'b'}" for row in range(rows))]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("\n".join(lines) + "\n")


class TestYes:
    def test_takes_the_table_here_and_the_default_backbone(self) -> None:
        make_table(Path("photos"))
        result = run("init", "--yes")
        assert result.exit_code == 0, result.stderr
        assert result.stdout == "written: labeldep.toml\n"
        assert "photos/labels.csv: 60 rows, 3 labels (train 36, val 12, test 12)" in result.stderr
        assert written() == {"dataset": "photos/labels.csv", "backbone": DEFAULT_BACKBONE}

    @pytest.mark.parametrize(
        ("tables", "offered"),
        [
            (("labels.csv", "a.csv", "photos/labels.csv"), "labels.csv"),
            (("a.csv", "photos/labels.csv"), "photos/labels.csv"),
            (("a.csv", "b.csv"), "a.csv"),
        ],
    )
    def test_the_likeliest_table_is_offered_first(self, tables: tuple[str, ...], offered: str) -> None:
        for path in tables:
            table(path)
        assert run("init", "--yes").exit_code == 0
        assert written()["dataset"] == offered

    def test_what_is_no_data_set_is_not_offered(self) -> None:
        Path("a.csv").write_text("x,y\n1,2\n")
        Path("a.json").write_text("{}")
        Path(".hidden").mkdir()
        table("z.csv")
        assert run("init", "--yes").exit_code == 0
        assert written()["dataset"] == "z.csv"

    def test_where_nothing_lies_here_it_is_scenes(self) -> None:
        assert run("init", "--yes").exit_code == 0
        assert written() == {"dataset": "scenes", "backbone": "scenesnet"}

    @pytest.mark.parametrize(("rows", "share"), [(8, 0.2), (4000, 0.05), (1600, 0.1), (700, 0.2)])
    def test_a_val_split_that_has_to_be_drawn_is_not_too_small(self, rows: int, share: float) -> None:
        table("labels.csv", rows=rows)
        assert run("init", "--yes").exit_code == 0
        assert written()["val-fraction"] == share

    def test_ready_features_have_no_backbone(self) -> None:
        rng = np.random.default_rng(0)
        np.savez("x.npz", X=rng.normal(size=(20, 3)), Y=rng.integers(0, 2, (20, 2)), label_names=["a", "b"])
        result = run("init", "--yes")
        assert "20 rows of ready features, 2 labels" in result.stderr
        assert written() == {"dataset": "x.npz", "val-fraction": 0.2}

    def test_a_prepared_backbone_is_offered_before_the_default(self) -> None:
        make_table(Path("photos"), rows=20)
        words = ("--dataset", "photos/labels.csv", "--backbone", "squeezenet1_1", "--weights", "none")
        assert run("extract", *words).exit_code == 0
        assert run("init", "--yes").exit_code == 0
        assert written() == {"dataset": "photos/labels.csv", "backbone": "squeezenet1_1", "weights": "none"}

    def test_json(self) -> None:
        table("labels.csv")
        result = run("init", "--yes", "--json", "--runs-dir", "r")
        assert json.loads(result.stdout) == {
            "file": "labeldep.toml",
            "settings": {
                "dataset": "labels.csv",
                "backbone": DEFAULT_BACKBONE,
                "val-fraction": 0.2,
                "runs-dir": "r",
            },
        }
        assert written()["runs-dir"] == "r"


class TestFlagsAnswerBeforehand:
    def test_all_of_them_leave_nothing_to_ask(self) -> None:
        table("labels.csv")
        words = ("--dataset", "labels.csv", "--backbone", "resnet18", "--weights", "none", "--val-fraction", 0.3)
        assert run("init", *words).exit_code == 0
        expected = {"dataset": "labels.csv", "backbone": "resnet18", "weights": "none", "val-fraction": 0.3}
        assert written() == expected

    @pytest.mark.parametrize(
        ("words", "error"),
        [
            (("--dataset", "gone.csv"), "there is no file gone.csv"),
            (("--backbone", "resnet11"), "there is no backbone 'resnet11'"),
            (("--weights", "gone.pth"), "there is no weights file"),
        ],
    )
    def test_a_wrong_one_is_refused_and_nothing_written(self, words: tuple[str, ...], error: str) -> None:
        table("labels.csv")
        result = run("init", "--yes", *words)
        assert result.exit_code == ExitCode.ERROR
        assert error in result.stderr
        assert not Path("labeldep.toml").exists()


@pytest.mark.usefixtures("person")
class TestAsked:
    def test_an_empty_answer_takes_what_is_offered(self) -> None:
        table("labels.csv")
        result = run("init", answers="\n\n\n")
        assert result.exit_code == 0, result.stderr
        assert "  1  labels.csv: 8 rows, 2 labels" in result.stderr
        assert f"  1  {DEFAULT_BACKBONE}: 171 MB are downloaded when needed" in result.stderr
        assert written() == {"dataset": "labels.csv", "backbone": DEFAULT_BACKBONE, "val-fraction": 0.2}

    def test_numbers_and_names(self) -> None:
        table("a.csv")
        table("b.csv")
        file = published_file(find_backbone("resnet18")).path
        file.parent.mkdir(parents=True)
        file.write_bytes(b"")
        result = run("init", answers="2\n2\n0.1\n")
        assert "  2  resnet18: its weights are on this disk" in result.stderr
        assert written() == {"dataset": "b.csv", "backbone": "resnet18", "val-fraction": 0.1}
        assert run("init", "--fresh", answers="a.csv\nresnet34\nnone\n0.3\n").exit_code == 0
        assert written() == {"dataset": "a.csv", "backbone": "resnet34", "weights": "none", "val-fraction": 0.3}

    def test_a_wrong_answer_is_told_and_asked_again(self) -> None:
        table("a.csv")
        result = run("init", answers="gone.csv\n7\n1\nresnet11\nresnet34\ngone.pth\nnone\n2\nmany\n0.2\n")
        assert result.exit_code == 0, result.stderr
        for error in (
            "there is no file gone.csv",
            "there is no data set '7'",
            "there is no backbone 'resnet11'",
            "there is no weights file",
            "'2' is not a share",
            "'many' is not a share",
        ):
            assert error in result.stderr
        assert written() == {"dataset": "a.csv", "backbone": "resnet34", "weights": "none", "val-fraction": 0.2}


def test_without_a_terminal_it_names_yes_and_the_flags() -> None:
    table("labels.csv")
    result = run("init")
    assert result.exit_code == ExitCode.ERROR
    for word in ("--yes", "--dataset", "--backbone", "--weights", "--val-fraction"):
        assert word in result.stderr
    assert not Path("labeldep.toml").exists()


class TestWhatTheDataSetDoesNotTake:
    """A flag that would do nothing is refused, or a note says that it is left out."""

    @pytest.mark.parametrize("words", [("--backbone", "resnet18"), ("--weights", "none")])
    def test_ready_features(self, words: tuple[str, str]) -> None:
        rng = np.random.default_rng(0)
        np.savez("x.npz", X=rng.normal(size=(20, 3)), Y=rng.integers(0, 2, (20, 2)), label_names=["a", "b"])
        result = run("init", "--yes", *words)
        assert result.exit_code == ExitCode.ERROR
        assert f"x.npz holds ready features: they take no {words[0][2:]}" in result.stderr
        assert f"Leave {words[0]} out." in result.stderr
        assert not Path("labeldep.toml").exists()

    def test_a_val_split_of_its_own(self) -> None:
        make_table(Path("photos"), rows=20)
        words = ("--dataset", "photos/labels.csv", "--backbone", "resnet18", "--weights", "none", "--val-fraction", 0.3)
        result = run("init", "--yes", *words)
        assert "--val-fraction left out: photos/labels.csv has a val split of its own" in result.stderr
        assert "val-fraction" not in written()


class TestTheFile:
    def test_one_that_is_there_stays_unless_fresh(self) -> None:
        table("labels.csv")
        Path("labeldep.toml").write_text("[broken")
        result = run("init", "--yes")
        assert result.exit_code == ExitCode.ERROR
        assert "labeldep.toml exists already" in result.stderr
        assert "--fresh" in result.stderr
        assert Path("labeldep.toml").read_text() == "[broken"
        assert run("init", "--yes", "--fresh").exit_code == 0
        assert written()["dataset"] == "labels.csv"

    def test_it_goes_where_project_says_with_paths_as_seen_from_there(self) -> None:
        table("photos/labels.csv")
        Path("w.pth").write_bytes(b"")
        Path("sub").mkdir()
        words = ("--dataset", "photos/labels.csv", "--backbone", "resnet18", "--weights", "w.pth", "--data-dir", "d")
        assert run("--project", "sub", "init", "--yes", *words).exit_code == 0
        found = written("sub/labeldep.toml")
        assert (found["dataset"], found["weights"], found["data-dir"]) == ("../photos/labels.csv", "../w.pth", "../d")
        file = project_file.load(Path("sub/labeldep.toml"), cli._flags())
        assert Path(str(file.scope.dataset)).resolve() == Path("photos/labels.csv").resolve()

    @pytest.mark.parametrize("dataset", ["photos/labels.csv", "../photos/labels.csv", "there/../photos/labels.csv"])
    def test_its_paths_lead_back_through_links(
        self, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The project's folder, and one on the way to the data, are links to folders elsewhere and deeper."""
        table("photos/labels.csv")
        table("deep/er/photos/labels.csv")
        Path("a/b/c").mkdir(parents=True)
        Path("link").symlink_to("a/b/c")
        Path("there").symlink_to("deep/er/photos")
        Path("sub").mkdir()
        if dataset.startswith(".."):
            monkeypatch.chdir("sub")
        project = tmp_path / "link" if dataset.startswith("..") else Path("link/labeldep.toml")
        result = run("--project", project, "init", "--yes", "--dataset", dataset, "--backbone", "resnet18")
        assert result.exit_code == 0, result.stderr
        file = project_file.load(tmp_path / "link" / "labeldep.toml", cli._flags())
        assert Path(str(file.scope.dataset)).resolve() == Path(dataset).resolve()
        result = run("--project", project, "data", "--json")
        assert result.exit_code == ExitCode.ERROR
        assert "no image is there" in result.stderr, "the table is found; only its images are not there"

    def test_it_is_short_and_says_what_its_lines_mean(self) -> None:
        table("labels.csv")
        run("init", "--yes")
        lines = Path("labeldep.toml").read_text().splitlines()
        assert len(lines) < 20
        assert all(len(line) <= 120 for line in lines)
        assert any(line.startswith("val-fraction = 0.2  # ") for line in lines)

    def test_a_name_with_quotes_is_written_as_toml(self) -> None:
        table('a "b" é.csv')
        assert run("init", "--yes").exit_code == 0
        assert written()["dataset"] == 'a "b" é.csv'

    def test_it_ends_with_the_next_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(next_command, "_is_interactive", lambda: True)
        table("labels.csv")
        assert run("init", "--yes").stderr.splitlines()[-1] == "next: labeldep extract"
