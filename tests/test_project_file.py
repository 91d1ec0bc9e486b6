"""labeldep.toml: which value counts, what its paths are relative to, and what is said where it is wrong."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sandbox import make_table
from typer.testing import CliRunner, Result

import labeldep_cli.experiments.train
import labeldep_cli.pipelines.audit
import labeldep_cli.pipelines.data
import labeldep_cli.pipelines.evaluate
import labeldep_cli.pipelines.extract
from labeldep_cli import cli
from labeldep_cli.cli import app, project_file
from labeldep_cli.cli.codes import ExitCode
from labeldep_cli.config import AdversarialConfig, Machine, RunWorkspace, Scope, Source, Workspace
from labeldep_cli.errors import LabeldepError


class Reached(LabeldepError):
    """Raised in place of a command's work."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no variable that sets a flag."""
    monkeypatch.chdir(tmp_path)
    for name in ("LABELDEP_DATA", "LABELDEP_RUNS", "LABELDEP_FEATURES", project_file.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the commands' work was given last; none of it is done."""
    values: list[Any] = []

    def work(*args: object, **kwargs: object) -> None:
        values[:] = args
        raise Reached("reached")

    for module, name in (
        (labeldep_cli.experiments.train, "pretrain"),
        (labeldep_cli.experiments.train, "adversarial"),
        (labeldep_cli.pipelines.extract, "extract"),
        (labeldep_cli.pipelines.data, "data"),
        (labeldep_cli.pipelines.evaluate, "evaluate_run"),
        (labeldep_cli.pipelines.audit, "audit_dataset"),
    ):
        monkeypatch.setattr(module, name, work)
    return values


def write(text: str, path: str = "labeldep.toml") -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    return Path(path)


def run(*words: object, **env: str) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={**env, "COLUMNS": "200"})


def reach(given: list[Any], kind: type, *words: object, **env: str) -> Any:
    """The config of a kind that a command's work is given."""
    result = run(*words, **env)
    assert "reached" in result.stderr, result.stderr
    return next(value for value in given if isinstance(value, kind))


class TestWhichValueCounts:
    """Flags before the environment, the environment before the file, the file before the defaults."""

    def test_of_a_path_with_a_variable(self, given: list[Any]) -> None:
        def runs_dir(*words: str, **env: str) -> Path:
            return reach(given, Workspace, "pretrain", *words, **env).runs_dir

        assert runs_dir() == Path("runs")
        write('[defaults]\nruns-dir = "of-the-file"\n')
        assert runs_dir() == Path("of-the-file")
        assert runs_dir(LABELDEP_RUNS="of-the-variable") == Path("of-the-variable")
        assert runs_dir("--runs-dir", "of-the-flag", LABELDEP_RUNS="of-the-variable") == Path("of-the-flag")

    @pytest.mark.parametrize(
        ("key", "value", "words", "found", "of_the_flag"),
        [
            ("critic-steps", "2", ("--critic-steps", "5"), 2, 5),
            ("critic_steps", "2", ("--critic-steps", "5"), 2, 5),
            ("alpha", "3", ("--alpha", "0.5"), 3.0, 0.5),
            ("critic", '"nce"', ("--critic", "none"), "nce", "none"),
            ("negatives", "false", ("--negatives",), False, True),
            ("no-negatives", "true", ("--negatives",), False, True),
            ("unconditional", "true", ("--conditional",), False, True),
            ("conditional", "false", ("--conditional",), False, True),
            ("freeze-generator", "true", ("--freeze-generator",), True, True),
        ],
    )
    def test_of_each_kind_of_flag(
        self, given: list[Any], key: str, value: str, words: tuple[str, ...], found: object, of_the_flag: object
    ) -> None:
        name = {"unconditional": "conditional", "no-negatives": "negatives"}.get(key, key).replace("-", "_")
        for table in ("defaults", "adversarial"):
            write(f"[{table}]\n{key} = {value}\n")
            assert getattr(reach(given, AdversarialConfig, "adversarial"), name) == found
            assert getattr(reach(given, AdversarialConfig, "adversarial", *words), name) == of_the_flag

    def test_a_commands_own_table_goes_before_the_defaults_and_is_its_alone(self, given: list[Any]) -> None:
        write("[defaults]\nval-fraction = 0.2\n[extract]\nval-fraction = 0.3\n")
        assert reach(given, Source, "extract").val_fraction == 0.3
        assert reach(given, Source, "pretrain").val_fraction == 0.2

    def test_a_config_json_goes_before_the_file_and_behind_flags(self, given: list[Any]) -> None:
        write("[defaults]\nval-fraction = 0.2\nsplit-seed = 3\n[pretrain]\nseed = 4\n")
        settings = {"val_fraction": 0.4, "seed": 5}
        Path("config.json").write_text(json.dumps({"command": "pretrain", "settings": settings}))
        assert reach(given, Source, "pretrain").val_fraction == 0.2
        source = reach(given, Source, "pretrain", "--config", "config.json")
        assert (source.val_fraction, source.split_seed) == (0.4, 3)
        assert reach(given, Source, "pretrain", "--config", "config.json", "--val-fraction", "0.1").val_fraction == 0.1

    def test_sizes_lists_and_choices_of_numbers(self, given: list[Any]) -> None:
        write('[defaults]\nmax-memory = "300MB"\n[extract]\nviews = 21\n')
        assert reach(given, Machine, "pretrain").max_memory == 300_000_000
        assert "reached" in run("extract").stderr
        assert any(getattr(value, "views", None) == 21 for value in given)

    def test_the_argument_of_data_is_the_projects_data_set(self, given: list[Any]) -> None:
        write('[defaults]\ndataset = "scenes"\nsplit-seed = 3\n')
        assert reach(given, Source, "data") == Source("scenes", split_seed=3)
        assert reach(given, Source, "data", "nuswide").dataset == "nuswide"

    def test_from_is_called_as_the_flag_is(self) -> None:
        write('[adversarial]\nfrom = "some-run"\n')
        assert "there is no run 'some-run'" in run("adversarial").stderr


class TestARunKnowsItsOwnData:
    def test_defaults_are_no_flags_of_a_command_that_names_a_run(self, given: list[Any]) -> None:
        write('[defaults]\ndataset = "scenes"\nweights = "none"\ndata-dir = "d"\nruns-dir = "r"\nfeatures-dir = "f"\n')
        workspace = reach(given, RunWorkspace, "eval", "x")
        assert workspace == RunWorkspace(runs_dir=Path("r"), features_dir=Path("f"), scope=Scope("scenes"))
        assert "none" not in given

    def test_its_own_table_says_where_things_are_now(self, given: list[Any]) -> None:
        write('[eval]\nweights = "w.pth"\ndata-dir = "d"\n')
        assert reach(given, RunWorkspace, "eval", "x").data_dir == Path("d")
        assert "w.pth" in given

    def test_all_commands_that_name_a_run_are_listed(self) -> None:
        kept_out = {
            name: project_file.KEPT_OUT.get(name, frozenset())
            for name, function in (
                (info.name, getattr(vars(cli)[_module_of(info.callback)], info.callback.__name__))
                for info in app.registered_commands
            )
            if "RunWorkspace" in str(inspect.signature(function))
        }
        assert {*kept_out} >= {"eval", "compare", "report", "predict"}
        assert all("dataset" in names for names in kept_out.values()), kept_out
        of_runs_alone = {name: names for name, names in kept_out.items() if name != "audit"}
        assert all({"backbone", "weights", "data_dir"} <= names for names in of_runs_alone.values()), of_runs_alone

    @pytest.mark.parametrize(
        "words",
        [
            ("eval", "pretrain"),
            ("dependency", "pretrain"),
            ("compare", "pretrain", "control"),
            ("report", "pretrain"),
            ("export", "pretrain"),
            ("predict", "a.jpg", "--run", "pretrain"),
            ("audit", "pretrain"),
        ],
    )
    def test_a_word_for_a_run_is_looked_up_within_the_projects_data_set(self, words: tuple[str, ...]) -> None:
        write('[defaults]\ndataset = "scenes"\nbackbone = "scenesnet"\n')
        message = run(*words).stderr.replace("\n", " ")
        assert "there is no run 'pretrain' of scenes, scenesnet" in message

    def test_an_audit_takes_the_projects_backbone_and_draw_but_its_own_data_set(self, given: list[Any]) -> None:
        write('[defaults]\ndataset = "scenes"\nbackbone = "resnet18"\nval-fraction = 0.2\n')
        source = reach(given, Source, "audit", "x.csv")
        assert (source.dataset, source.backbone, source.val_fraction) == ("x.csv", "resnet18", 0.2)

    def test_they_are_the_current_ones_of_the_project(self) -> None:
        path = write('[defaults]\ndataset = "photos/labels.csv"\nbackbone = "resnet18"\n', "x/labeldep.toml")
        file = project_file.load(path, cli._flags())
        assert file.defaults == {"dataset": "x/photos/labels.csv", "backbone": "resnet18"}
        assert file.scope == Scope("x/photos/labels.csv", "resnet18")


def _module_of(function: object) -> str:
    return str(getattr(function, "__module__", "")).rsplit(".", 1)[-1]


class TestWhichFile:
    def test_one_that_is_named_goes_before_the_one_here(self, given: list[Any]) -> None:
        write("[defaults]\nval-fraction = 0.1\n")
        write("[defaults]\nval-fraction = 0.2\n", "x/labeldep.toml")
        write("[defaults]\nval-fraction = 0.3\n", "y.toml")
        assert reach(given, Source, "pretrain").val_fraction == 0.1
        assert reach(given, Source, "--project", "x/labeldep.toml", "pretrain").val_fraction == 0.2
        assert reach(given, Source, "--project", "x", "pretrain").val_fraction == 0.2
        assert reach(given, Source, "pretrain", LABELDEP_PROJECT="y.toml").val_fraction == 0.3
        assert reach(given, Source, "--project", "x", "pretrain", LABELDEP_PROJECT="y.toml").val_fraction == 0.2

    def test_paths_are_relative_to_its_folder(self, given: list[Any]) -> None:
        write("", "x/photos/labels.csv")
        write("", "x/w.pth")
        write("", "x/bare")
        lines = {
            "dataset": "photos/labels.csv",
            "weights": "w.pth",
            "data-dir": "d",
            "runs-dir": "../r",
            "features-dir": "/f",
        }
        file = write(
            "[defaults]\n"
            + "".join(f'{key} = "{value}"\n' for key, value in lines.items())
            + '[pretrain]\nout = "o"\n',
            "x/labeldep.toml",
        )
        source = reach(given, Source, "--project", file, "pretrain")
        assert (source.dataset, source.weights) == ("x/photos/labels.csv", "x/w.pth")
        workspace = next(value for value in given if isinstance(value, Workspace))
        assert workspace == Workspace(Path("x/d"), Path("x/../r"), Path("/f"))
        assert any(getattr(value, "out", None) == Path("x/o") for value in given)

    @pytest.mark.parametrize(
        ("dataset", "found"),
        [
            ("scenes", "scenes"),
            ("bare", "x/bare"),
            ("new.csv", "x/new.csv"),
            ("shards-{000..009}.tar", "x/shards-{000..009}.tar"),
            ("/abs/a.csv", "/abs/a.csv"),
            ("~/a.csv", "/home/me/a.csv"),
            ("cocoo", "cocoo"),
        ],
    )
    def test_a_name_stays_a_name(
        self, given: list[Any], monkeypatch: pytest.MonkeyPatch, dataset: str, found: str
    ) -> None:
        monkeypatch.setenv("HOME", "/home/me")
        Path("x/bare").mkdir(parents=True)
        Path("x/scenes").mkdir()
        file = write(f'[defaults]\ndataset = "{dataset}"\nweights = "IMAGENET1K_V1"\n', "x/labeldep.toml")
        source = reach(given, Source, "--project", file, "pretrain")
        assert (source.dataset, source.weights) == (found, "IMAGENET1K_V1")

    def test_the_help_of_a_command_shows_its_values(self) -> None:
        write('[defaults]\nruns-dir = "of-the-file"\n')
        assert "of-the-file" in run("pretrain", "--help").stdout

    def test_doctor_tells_which_and_what(self) -> None:
        assert "no labeldep.toml here" in run("doctor").stdout
        assert json.loads(run("doctor", "--json").stdout)["project_file"] is None
        write('[defaults]\ndataset = "scenes"\n[adversarial]\ncritic = "nce"\n')
        told = run("doctor").stdout
        assert str(Path("labeldep.toml").absolute()) in told
        assert "[defaults] dataset = scenes" in told
        assert "[adversarial] critic = nce" in told
        found = json.loads(run("doctor", "--json").stdout)["project_file"]
        assert found["tables"] == {"defaults": {"dataset": "scenes"}, "adversarial": {"critic": "nce"}}


@pytest.mark.parametrize(
    ("text", "error", "remedy"),
    [
        ("[defaults\n", "labeldep.toml is not valid TOML: ", "KEY = VALUE"),
        (
            "[adversrial]\nsteps = 3\n",
            "labeldep.toml: the table [adversrial] is not the name of a command",
            "'adversarial'",
        ),
        ("steps = 3\n", "labeldep.toml: steps is not in a table", "[defaults]"),
        ("defaults = 3\n", "labeldep.toml: defaults is not in a table", "[defaults]"),
        (
            "[adversarial]\nstep = 3\n",
            "labeldep.toml, [adversarial] step: labeldep adversarial has no flag",
            "Did you mean 'steps'",
        ),
        ("[data]\nsteps = 3\n", "labeldep.toml, [data] steps: labeldep data has no flag", "Known: "),
        ("[defaults]\nval-fractoin = 0.2\n", "[defaults] val-fractoin: no command has", "Did you mean 'val-fraction'"),
        (
            "[defaults]\nval-fraction = 0.2\nval_fraction = 0.3\n",
            "[defaults] val_fraction: this flag is set twice",
            "",
        ),
        ("[defaults]\nout = 'o'\n", "[defaults] out: this cannot be the same for all commands", "table of one command"),
        ("[adversarial]\nsteps = 'many'\n", "error: labeldep.toml, [adversarial] steps: 'many' is not an integer", ""),
        ("[adversarial]\nsteps = 2.5\n", "[adversarial] steps: 2.5 is not an integer", ""),
        ("[adversarial]\nsteps = true\n", "[adversarial] steps: True is not an integer", ""),
        ("[adversarial]\nsteps = 0\n", "[adversarial] steps: 0 is not 1 or more", ""),
        ("[adversarial]\nbeta1 = 2\n", "[adversarial] beta1: 2 is not between 0 and 0.999999", ""),
        ("[adversarial]\nalpha = 'x'\n", "[adversarial] alpha: 'x' is not a number", ""),
        ("[adversarial]\nfull = 'yes'\n", "[adversarial] full: 'yes' is neither true nor false", ""),
        (
            "[adversarial]\ncritic = 'wgan'\n",
            "[adversarial] critic: 'wgan' is not one of wgan-gp, nce, kernel, none",
            "wgan-gp",
        ),
        ("[adversarial]\nmax-memory = 'much'\n", "[adversarial] max-memory: 'much' is no size", ""),
        ("[defaults]\ndataset = 5\n", "[defaults] dataset: 5 is not text", ""),
        ("[defaults]\nruns-dir = 5\n", "[defaults] runs-dir: 5 is not text", ""),
        ("[adversarial]\nfrom = ['a']\n", "[adversarial] from: ['a'] is not text", ""),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(given: list[Any], text: str, error: str, remedy: str) -> None:
    write(text)
    result = run("pretrain", "--dataset", "scenes")
    assert result.exit_code == ExitCode.ERROR
    assert error in result.stderr
    assert remedy in result.stderr
    assert not given, "nothing was begun"


def test_a_value_that_fits_another_command_only_is_told_to_the_one_that_it_does_not_fit(given: list[Any]) -> None:
    write("[defaults]\nviews = 5\n")
    assert "reached" in run("pretrain").stderr
    result = run("extract")
    assert result.exit_code == ExitCode.ERROR
    assert "labeldep.toml, [defaults] views: 5 is not one of 1, 21" in result.stderr


def test_a_file_that_is_named_has_to_be_there() -> None:
    result = run("--project", "x.toml", "pretrain")
    assert result.exit_code == ExitCode.ERROR
    assert "the project file x.toml cannot be read: No such file" in result.stderr
    assert "labeldep init" in result.stderr


def test_a_file_that_is_no_text_is_named() -> None:
    Path("labeldep.toml").write_bytes(b"\xff\xfe")
    assert "labeldep.toml is not UTF-8" in run("pretrain").stderr


class TestCompletion:
    """A shell's Tab goes by the file too, and a file with a mistake does not stop it."""

    def complete(self, line: str) -> str:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        environment = {"_LABELDEP_COMPLETE": "complete_bash", **words}
        return CliRunner().invoke(app, [], env=environment, prog_name="labeldep").stdout

    def test_runs_are_those_of_its_folder(self) -> None:
        write("", "moved/some-run/best.safetensors")
        assert "some-run" not in self.complete("labeldep eval so")
        write('[defaults]\nruns-dir = "moved"\n')
        assert "some-run" in self.complete("labeldep eval so")

    def test_a_mistake_in_it_is_told_when_a_command_runs(self) -> None:
        write("[defaults\n")
        assert "eval" in self.complete("labeldep ev")
        assert "is not valid TOML" in run("eval").stderr


class TestFlagsThatMayBeRepeated:
    """A list in the file, or one text; the data set that commands have in common is none that `features` searches."""

    def test_a_common_data_set_is_not_one_to_search(self) -> None:
        write('[defaults]\ndataset = "pets/labels.csv"\n')
        for words in (("features",), ("features", "clean")):
            result = run(*words)
            assert result.exit_code == 0, result.stderr
        assert "nothing to clean" in run("features", "clean").stderr

    @pytest.mark.parametrize("value", ['"one"', '["one"]'])
    def test_text_and_list_mean_the_same(self, value: str) -> None:
        write(f"[features]\nstore = {value}\n")
        result = run("features", "clean")
        assert result.exit_code == 1 and "one" in result.stderr
        assert "must be an iterable" not in result.stderr

    def test_what_is_no_text_is_named(self) -> None:
        write("[features]\nstore = [1]\n")
        assert "labeldep.toml, [features] store: 1 is not text in quotes" in run("features").stderr


class TestAFaultyFile:
    """It stops the commands that go by it, and nothing that helps to mend it."""

    FAULTS = ("[defaults\n", "[from-a-newer-version]\nx = 1\n", "[defaults]\nviews = 5\n")

    @pytest.mark.parametrize("text", FAULTS)
    def test_help_of_every_command_works(self, text: str) -> None:
        write(text)
        assert run("--help").exit_code == 0
        for info in app.registered_commands:
            assert run(info.name, "--help").exit_code == 0, info.name

    @pytest.mark.parametrize("text", FAULTS)
    def test_doctor_shows_the_fault_and_the_file(self, text: str) -> None:
        write(text)
        result = run("doctor")
        assert result.exit_code == 0, result.stderr
        assert f"{Path('labeldep.toml').absolute()} (with a fault: see the warning below)" in result.stdout
        assert "\nwarning: labeldep.toml" in result.stdout
        found = json.loads(run("doctor", "--json").stdout)
        assert found["project_file"]["path"] == "labeldep.toml"
        (warning,) = [one for one in found["warnings"] if one["what"].startswith("labeldep.toml")]
        assert warning["what"] in result.stdout

    def test_doctor_shows_a_missing_file(self) -> None:
        result = run("--project", "x.toml", "doctor")
        assert result.exit_code == 0, result.stderr
        assert "warning: the project file x.toml cannot be read" in result.stdout

    def test_init_writes_it_again(self) -> None:
        make_table(Path("pets"), rows=8)  # what init suggests; otherwise it would draw the scenes
        write("[defaults\n")
        assert "labeldep.toml exists already" in run("init", "--yes").stderr
        assert run("init", "--yes", "--fresh").exit_code == 0
        assert not run("doctor").stdout.count("with a fault")

    def test_no_other_command_runs(self) -> None:
        write("[defaults\n")
        for words in (("runs",), ("features",), ("data", "scenes"), ("audit", "x.npz"), ("demo",), ("report", "x")):
            result = run(*words)
            assert result.exit_code == ExitCode.ERROR, words
            assert "labeldep.toml is not valid TOML" in result.stderr


class TestReadyFeatures:
    """They take no backbone: what all commands have in common is left out for them, what is said for them refused."""

    COMMON = '[defaults]\nbackbone = "resnet18"\nweights = "none"\n'
    NOTE = "labeldep.toml, [defaults]: backbone and weights left out, since x.npz holds ready features"

    @pytest.mark.parametrize(
        "words", [("pretrain", "--dataset", "x.npz"), ("adversarial", "--dataset", "x.npz"), ("audit", "x.npz")]
    )
    def test_the_common_backbone_is_left_out_with_a_note(self, given: list[Any], words: tuple[str, ...]) -> None:
        write(self.COMMON)
        source = reach(given, Source, *words)
        assert (source.dataset, source.backbone, source.weights) == ("x.npz", None, None)
        assert self.NOTE in run(*words).stderr

    def test_so_it_is_where_the_data_set_is_in_the_file_too(self, given: list[Any]) -> None:
        write(self.COMMON + 'dataset = "X.H5"\n')
        assert reach(given, Source, "pretrain").backbone is None

    def test_images_keep_it(self, given: list[Any]) -> None:
        write(self.COMMON)
        assert reach(given, Source, "pretrain", "--dataset", "x.csv").backbone == "resnet18"
        assert "left out" not in run("pretrain", "--dataset", "x.csv").stderr

    def test_a_backbone_that_is_said_for_them_stays(self, given: list[Any]) -> None:
        write(self.COMMON)
        words = ("pretrain", "--dataset", "x.npz")
        source = reach(given, Source, *words, "--backbone", "vgg16")
        assert (source.backbone, source.weights) == ("vgg16", None)
        write('[defaults]\nweights = "none"\n[pretrain]\nbackbone = "vgg16"\n')
        source = reach(given, Source, *words)
        assert (source.backbone, source.weights) == ("vgg16", None)

    @pytest.mark.slow
    def test_they_are_trained_on(self) -> None:
        write(self.COMMON)
        rng = np.random.default_rng(0)
        np.savez("x.npz", X=rng.normal(size=(20, 3)), Y=rng.integers(0, 2, (20, 2)), label_names=["a", "b"])
        result = run("pretrain", "--dataset", "x.npz", "--steps", 2)
        assert result.exit_code == 0, result.stderr
        assert (
            "ready features, which need no backbone"
            in run("pretrain", "--dataset", "x.npz", "--backbone", "vgg16").stderr
        )
